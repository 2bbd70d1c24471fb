//! What a leader sent: its word that it leads, parts of its journal, and images in place of it.
//!
//! Everything is checked and applied to a copy before a byte is written, so that what makes no sense changes nothing;
//! everything is durable before it is published and answered.

use std::path::Path;
use std::sync::Arc;

use chronik_metadata::{
    ApplyError, Builder, Delta, FollowError, Image, JournalBatches, JournalPosition, KnownLeader, Record, Role,
    SnapshotPart,
};
use chronik_model::{Generation, NodeId, Offset, Uuid};
use chronik_record::{BatchHeader, Caps};

use crate::error::JournalError;
use crate::journal::epoch_of;
use crate::snapshot::{self, SNAPSHOT_BYTES_MAX};
use crate::worker::Worker;

/// The parts of a snapshot that came so far.
pub(crate) struct Incoming {
    generation: Generation,
    position: JournalPosition,
    next_part: u32,
    bytes: Vec<u8>,
}

impl Worker {
    pub(crate) fn follow(&mut self, cluster_id: Uuid, leader: KnownLeader) -> Result<(), FollowError> {
        self.open_again();
        self.may_follow()?;
        if cluster_id != self.cluster_id {
            return Err(FollowError::OtherCluster { expected: self.cluster_id, found: cluster_id });
        }
        if leader.node_id == self.shared.node_id || leader.node_id == NodeId::NONE {
            return Err(FollowError::Invalid(format!("node {} cannot be followed", leader.node_id).into()));
        }
        if let Some(known) = self.known() {
            if leader.generation < known.generation {
                return Err(FollowError::Stale { leader: known, found: leader.generation });
            }
            if leader.generation == known.generation && leader.node_id != known.node_id {
                return Err(FollowError::OtherLeader { leader: known });
            }
        }
        let noted = self.note(&leader);
        self.written(noted)?;
        // A snapshot that was under way came over a link that is no more.
        self.incoming = None;
        let role = Role::Following { leader: Some(leader) };
        if *self.shared.role() != role {
            self.take_role(role);
        }
        Ok(())
    }

    pub(crate) fn append_journal(
        &mut self,
        generation: Generation,
        sent: &JournalBatches,
    ) -> Result<Offset, FollowError> {
        self.may_take(generation)?;
        let end = self.journal.end();
        if sent.base != end {
            return Err(FollowError::NotContiguous { end, found: sent.base });
        }
        let mut builder = Builder::new(&self.shared.image());
        let found = apply(&sent.bytes, end, generation, &mut builder)?;
        if found != sent.end {
            return Err(invalid(format!("batches up to {found} said to end at {}", sent.end)));
        }
        self.same_cluster(builder.image())?;
        if found == end {
            return Ok(end);
        }
        let now = (self.shared.clock)();
        let written = self.journal.append_raw(&sent.bytes, generation, now);
        self.written(written)?;
        let synced = self.journal.sync();
        self.written(synced).inspect_err(|_| self.was_full = false)?;
        self.publish(builder);
        self.compact(now);
        Ok(found)
    }

    pub(crate) fn install_snapshot(
        &mut self,
        generation: Generation,
        part: SnapshotPart,
    ) -> Result<Option<Offset>, FollowError> {
        self.may_take(generation)?;
        let SnapshotPart { position, part: number, is_last, bytes } = part;
        let mut incoming = match self.incoming.take() {
            _ if number == 0 => Incoming { generation, position, next_part: 0, bytes: Vec::new() },
            Some(begun)
                if begun.next_part == number && begun.position == position && begun.generation == generation =>
            {
                begun
            }
            _ => return Err(invalid(format!("part {number} of a snapshot has no place here"))),
        };
        if incoming.bytes.len().saturating_add(bytes.len()) > SNAPSHOT_BYTES_MAX {
            return Err(invalid(format!("a snapshot of more than {SNAPSHOT_BYTES_MAX} bytes")));
        }
        incoming.bytes.extend_from_slice(&bytes);
        incoming.next_part = number.saturating_add(1);
        if !is_last {
            self.incoming = Some(incoming);
            return Ok(None);
        }
        self.replace(incoming).map(Some)
    }

    /// Puts a whole snapshot in place of image and journal.
    fn replace(&mut self, incoming: Incoming) -> Result<Offset, FollowError> {
        let Incoming { generation, position, bytes, .. } = incoming;
        let mut builder = Builder::new(&Image::default());
        let stands = snapshot::decode(&bytes, Path::new("of the leader"), &mut builder)
            .map_err(|error| invalid(error.to_string()))?;
        let found = JournalPosition { end: stands.offset, generations: stands.generations.clone() };
        if found != position {
            return Err(invalid(format!("a snapshot up to {} said to be up to {}", found.end, position.end)));
        }
        let latest = builder.image().generation();
        if latest > generation {
            return Err(invalid(format!("a snapshot of generation {latest} from one of {generation}")));
        }
        self.same_cluster(builder.image())?;
        let image = Arc::new(builder.finish(position.end).0);
        let replaced = self.journal.replace(&bytes, stands, (self.shared.clock)());
        self.written(replaced)?;
        let delta = Delta::between(&self.shared.image(), &image);
        self.listener.apply(&image, &delta);
        self.shared.publish(Arc::clone(&image), &self.journal, self.highest_with(&image));
        Ok(position.end)
    }

    /// Opens a follower's journal again after a full disk, and goes on from what it holds. A sync that failed is never
    /// forgiven: what the disk holds is not known then.
    fn open_again(&mut self) {
        if self.failed.is_none() || !self.was_full || !matches!(*self.shared.role(), Role::Following { .. }) {
            return;
        }
        let now = (self.shared.clock)();
        match self.journal.open_again(now) {
            Ok(image) => {
                tracing::info!(end = %self.journal.end(), "metadata journal opened again");
                (self.failed, self.was_full) = (None, false);
                let (old, image) = (self.shared.image(), Arc::new(image));
                if old.offset() != image.offset() {
                    self.listener.apply(&image, &Delta::between(&old, &image));
                }
                self.shared.publish(Arc::clone(&image), &self.journal, self.highest_with(&image));
            }
            Err(error) => self.fail(&error),
        }
    }

    /// Whether this node takes anything of others.
    fn may_follow(&self) -> Result<(), FollowError> {
        match &*self.shared.role() {
            Role::Leading => Err(FollowError::Leads { generation: self.highest() }),
            Role::Fenced { by } => Err(FollowError::Fenced { by: by.clone() }),
            Role::Following { .. } => match &self.failed {
                Some(reason) => Err(FollowError::JournalFailed(Arc::clone(reason))),
                None => Ok(()),
            },
        }
    }

    /// Whether it takes anything from a link of that generation.
    fn may_take(&self, generation: Generation) -> Result<(), FollowError> {
        self.may_follow()?;
        match self.shared.role().leader_elsewhere() {
            Some(leader) if generation < leader.generation => {
                Err(FollowError::Stale { leader: leader.clone(), found: generation })
            }
            Some(leader) if generation == leader.generation => Ok(()),
            _ => Err(invalid(format!("nobody said to lead in generation {generation}"))),
        }
    }

    fn same_cluster(&self, image: &Image) -> Result<(), FollowError> {
        let found = image.cluster_id();
        if found == self.cluster_id {
            Ok(())
        } else {
            Err(FollowError::OtherCluster { expected: self.cluster_id, found })
        }
    }

    /// A failed write is the end: nobody knows what the journal holds.
    fn written(&mut self, result: Result<(), JournalError>) -> Result<(), FollowError> {
        result.map_err(|error| {
            if !error.is_refusal() {
                self.fail(&error);
            }
            FollowError::JournalFailed(error.to_string().into())
        })
    }
}

/// Applies whole batches from the offset `from` on, each of which says the generation that holds after it; that of the
/// link at the most. Gives their end, exclusive.
fn apply(bytes: &[u8], from: Offset, generation: Generation, builder: &mut Builder) -> Result<Offset, FollowError> {
    let mut end = from;
    let mut rest = bytes;
    while !rest.is_empty() {
        let at = |reason: &dyn ToString| invalid(format!("batch at offset {end}: {}", reason.to_string()));
        let header = BatchHeader::read(rest).map_err(|error| at(&error))?;
        let (batch, behind) = rest.split_at_checked(header.size_bytes()).ok_or_else(|| at(&"it is cut"))?;
        if !chronik_record::crc_is_valid(batch) {
            return Err(at(&"a checksum is wrong"));
        }
        if header.base_offset != end || header.next_offset() <= end {
            return Err(at(&"it does not continue the journal"));
        }
        let mut records = chronik_record::records(batch, &Caps::default()).map_err(|error| at(&error))?;
        while let Some(record) = records.next_record().map_err(|error| at(&error))? {
            let record = Record::from_json(record.value.bytes().unwrap_or_default()).map_err(|error| at(&error))?;
            builder.apply(&record).map_err(|error| match error {
                ApplyError::OtherCluster { expected, found } => FollowError::OtherCluster { expected, found },
                error => at(&error),
            })?;
        }
        let latest = builder.image().generation();
        if latest > generation || header.partition_leader_epoch != epoch_of(latest) {
            return Err(at(&"it is of another generation"));
        }
        end = header.next_offset();
        rest = behind;
    }
    Ok(end)
}

fn invalid(reason: String) -> FollowError {
    FollowError::Invalid(reason.into())
}
