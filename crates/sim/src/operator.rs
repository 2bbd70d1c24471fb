//! Faults, and the operator who starts, promotes and repairs.
//!
//! The operator knows what a person would: which node was promoted last, and what the leader's controller says of who is
//! in sync. A promotion is clean where the mode is `sync` and the node is in sync for every partition.

use std::path::Path;
use std::time::Duration;

use chronik_log::fs::{self, Fs};
use chronik_model::{NodeId, Offset};
use chronik_record::BatchHeader;

use crate::node::{Outcome, Process, Wants};
use crate::plan::{Fault, Mode};
use crate::sight::{Sight, Violation};
use crate::world::{Event, World};

impl World {
    /// Starts what is not running. A leader that starts again leads under a new leader epoch.
    pub(crate) fn start(&mut self, id: NodeId) -> Result<(), Violation> {
        let newest = self.leader();
        let demote = self.random.one_in(2);
        let Some(node) = self.node(id).filter(|node| !node.is_up()) else { return Ok(()) };
        node.powered = true;
        if node.wants == Wants::Lead && newest.is_some_and(|newest| newest != id) && demote {
            node.wants = Wants::Follow;
        }
        let wants = node.wants;
        let peers = self.peers(id);
        self.note(format_args!("start {id} to {wants:?}"));
        self.with_node(id, |node, cx| {
            cx.on_network(|network, now, due| network.start(id, now, due));
            node.start(&peers, cx);
        });
        self.see_start(id)?;
        self.observe(id)
    }

    /// What the observer is told of a start before it looks.
    fn see_start(&mut self, id: NodeId) -> Result<(), Violation> {
        let Some(node) = usize::try_from(id.get() - 1).ok().and_then(|at| self.nodes.get(at)) else { return Ok(()) };
        let Some(process) = &node.process else { return Ok(()) };
        if process.leads() {
            let generation = u64::try_from(node.journal.generation().get()).unwrap_or(0);
            self.generations.insert(node.journal.leader_epoch(), generation);
        }
        let (leads, leader) = (process.leads(), self.leader());
        let sights: Vec<Sight> = process.sights(&self.generations).map(|(_, sight)| sight).collect();
        for sight in &sights {
            self.trace.line(self.schedule.now(), format_args!("{sight}"));
        }
        for (partition, sight) in sights.iter().enumerate() {
            let Some(watch) = self.watches.get_mut(partition) else { continue };
            if leader.is_none() && leads {
                watch.committed.begin(sight.generation, id);
            }
            if watch.last(id).is_some_and(|before| sight.log_end < before.log_end) {
                self.lost.insert(id);
            }
            if leads {
                watch.restarted(sight.generation, sight.log_end);
            }
        }
        if leads && !self.plan.fsync {
            for (partition, sight) in sights.iter().enumerate() {
                self.seek_lost(partition, sight.log_end);
            }
        }
        Ok(())
    }

    /// Ends a node's process: killed, or with the whole machine.
    pub(crate) fn stop(&mut self, id: NodeId, machine: bool) {
        let seed = self.faults_random.next();
        self.note(format_args!("{} {id}", if machine { "power cut at" } else { "kill" }));
        self.with_node(id, |node, cx| {
            node.process = None;
            node.paused = false;
            node.powered = !machine;
            if machine {
                node.disk.crash(seed);
            }
            node.disk.heal();
            cx.on_network(|network, now, due| network.stop(id, machine, now, due));
        });
    }

    fn stop_and_start(&mut self, id: NodeId, machine: bool, longest_ms: u64) {
        let up = self.node(id).is_some_and(|node| node.is_up());
        if up {
            self.stop(id, machine);
            let delay = self.faults_random.millis(50, longest_ms);
            self.schedule.after(delay, Event::Start { node: id });
        }
    }

    /// Hears what nodes have to say until nobody has anything to say.
    pub(crate) fn hear_outcomes(&mut self) -> Result<(), Violation> {
        while let Some((id, outcome)) = self.outcomes.pop_front() {
            match outcome {
                Outcome::Acknowledged(token) => {
                    self.acknowledge(id, token, true)?;
                    let delay = self.random.millis(0, 5);
                    self.schedule.after(delay, Event::Answered { token, answer: crate::clients::Answer::Done });
                }
                Outcome::Refused(token) => {
                    let answer = crate::clients::Answer::TryAgain;
                    self.schedule.after(Duration::from_millis(1), Event::Answered { token, answer });
                }
                Outcome::Fenced(generation) => {
                    self.note(format_args!("{id} is fenced by generation {generation}"));
                    if let Some(node) = self.node(id) {
                        node.wants = Wants::Follow;
                    }
                    self.stop_and_start(id, false, 2_000);
                }
                Outcome::Broken(why) => {
                    self.note(format_args!("{id} is broken: {why}"));
                    // What a failed sync left in the page cache is not to be believed: the machine starts anew.
                    self.stop(id, true);
                    let delay = self.random.millis(50, 2_000);
                    self.schedule.after(delay, Event::Start { node: id });
                }
            }
        }
        Ok(())
    }

    pub(crate) fn resume(&mut self, id: NodeId, run: u32) {
        let resumes = self.node(id).is_some_and(|node| node.run == run && std::mem::take(&mut node.paused));
        if resumes {
            self.note(format_args!("resume {id}"));
            self.with_node(id, |_, cx| cx.on_network(|network, now, due| network.pause(id, false, now, due)));
        }
    }

    pub(crate) fn heal(&mut self) {
        self.note(format_args!("heal"));
        self.with_node(NodeId::new(1), |_, cx| cx.on_network(|network, now, due| network.heal(now, due)));
    }

    fn heal_later(&mut self, longest_ms: u64) {
        let delay = self.faults_random.millis(100, longest_ms);
        self.schedule.after(delay, Event::Heal);
    }

    /// One fault of those that this run may have.
    pub(crate) fn fault(&mut self) -> Result<(), Violation> {
        if !self.faulting {
            return Ok(());
        }
        let next = self.faults_random.millis(100, self.plan.fault_ms);
        self.schedule.after(next, Event::Fault);
        let Some(fault) = self.faults_random.pick(&self.plan.faults).copied() else { return Ok(()) };
        let nodes = u64::from(self.plan.nodes);
        let id = NodeId::new(self.faults_random.between(1, nodes) as i32);
        let other = NodeId::new(self.faults_random.between(1, nodes) as i32);
        self.counts.faults += 1;
        self.note(format_args!("fault {fault:?} at {id}, {other}"));
        match fault {
            Fault::Kill => self.stop_and_start(id, false, 4_000),
            Fault::PowerCut => self.stop_and_start(id, true, 4_000),
            Fault::PowerCutAll => {
                for id in (1..=i32::from(self.plan.nodes)).map(NodeId::new) {
                    self.stop_and_start(id, true, 1_500);
                }
            }
            Fault::Pause => {
                let run = self.node(id).filter(|node| node.is_up() && !node.paused).map(|node| node.run);
                if let Some(run) = run {
                    if let Some(node) = self.node(id) {
                        node.paused = true;
                    }
                    self.with_node(id, |_, cx| cx.on_network(|network, now, due| network.pause(id, true, now, due)));
                    let delay = self.faults_random.millis(100, 8_000);
                    self.schedule.after(delay, Event::Resume { node: id, run });
                }
            }
            Fault::Reset => {
                let alive = self.network.alive();
                if let Some(connection) = self.faults_random.pick(&alive).copied() {
                    self.with_node(id, |_, cx| {
                        cx.on_network(|network, now, due| network.reset(connection, now, due));
                    });
                }
            }
            Fault::Cut => {
                self.network.cut(id, other);
                if self.faults_random.one_in(2) {
                    self.network.cut(other, id);
                }
                self.heal_later(8_000);
            }
            Fault::Isolate => {
                self.isolate(id);
                self.heal_later(10_000);
            }
            Fault::Slow => {
                let extra = self.faults_random.millis(50, 800);
                self.network.slow(extra);
                self.heal_later(5_000);
            }
            Fault::Failover => {
                if let Some(leader) = self.leader() {
                    let machine = self.faults_random.one_in(2);
                    self.stop_and_start(leader, machine, 6_000);
                    let delay = self.faults_random.millis(0, 1_500);
                    self.schedule.after(delay, Event::Promote { unclean: false });
                }
            }
            Fault::Takeover => {
                if let Some(leader) = self.leader().filter(|_| self.faults_random.one_in(2)) {
                    self.isolate(leader);
                    self.heal_later(6_000);
                }
                let delay = self.faults_random.millis(0, 1_500);
                self.schedule.after(delay, Event::Promote { unclean: false });
            }
            Fault::UncleanTakeover => self.promote(true)?,
            Fault::Retention => {
                let keep = self.faults_random.below(30) as i64;
                if let Some(leader) = self.leader() {
                    self.with_node(leader, |node, cx| {
                        if !node.paused {
                            node.with_process(cx, |process, _, cx| process.forget(Some(keep), cx));
                        }
                    });
                    self.observe(leader)?;
                }
            }
            Fault::DiskFull | Fault::IoError => {
                let calls = self.faults_random.below(12);
                let kind = if fault == Fault::DiskFull { fs::Fault::NoSpace } else { fs::Fault::Io };
                if let Some(node) = self.node(id).filter(|node| node.is_up()) {
                    node.disk.fail_at(calls, kind);
                }
            }
            Fault::SyncError => {
                let syncs = self.faults_random.below(4);
                if let Some(node) = self.node(id).filter(|node| node.is_up()) {
                    node.disk.fail_sync_at(syncs);
                }
            }
            Fault::CleanRestart => {
                let up = self.node(id).is_some_and(|node| node.is_up() && !node.paused);
                if up {
                    self.with_node(id, |node, cx| node.with_process(cx, |process, _, cx| process.stop_cleanly(cx)));
                    self.stop_and_start(id, false, 1_000);
                }
            }
            Fault::BitFlip => self.flip_a_bit(id),
        }
        Ok(())
    }

    /// Changes a bit of a dead node's log, and takes the checkpoint away, so that the next start verifies everything.
    fn flip_a_bit(&mut self, id: NodeId) {
        let random = &mut self.faults_random;
        let Some(node) = self.nodes.iter().find(|node| node.id == id && !node.is_up()) else { return };
        let files = node
            .disk
            .files()
            .into_iter()
            .filter(|(path, bytes)| !bytes.is_empty() && path.extension().is_some_and(|end| end == "log"));
        // Behind a bit of the last segment with a batch there may be nothing that tells damage from a torn tail.
        let base =
            |path: &Path| path.file_stem().and_then(|stem| stem.to_str()?.rsplit('_').next()?.parse::<i64>().ok());
        let mut files: Vec<_> = files.collect();
        let begins_with_one = |bytes: &[u8]| {
            let header = BatchHeader::read(bytes).ok();
            header.and_then(|header| bytes.get(..header.size_bytes())).is_some_and(chronik_record::crc_is_valid)
        };
        let with_batch = files.iter().filter(|(_, bytes)| begins_with_one(bytes));
        let all: Vec<_> = with_batch.map(|(path, _)| (path.parent().map(Path::to_owned), base(path))).collect();
        files.retain(|(path, _)| all.iter().any(|(dir, other)| dir.as_deref() == path.parent() && *other > base(path)));
        if let Some((path, bytes)) = random.pick(&files).cloned() {
            let position = random.below(bytes.len() as u64);
            node.disk.flip(&path, position, 3);
            self.watches.iter_mut().for_each(|watch| watch.flipped(id, path.clone(), position));
            let _ = node.disk.remove_file(Path::new("/data/checkpoint"));
            let _ = node.disk.remove_file(Path::new("/data/clean-stop"));
        }
    }

    fn isolate(&mut self, id: NodeId) {
        for peer in self.peers(id) {
            self.network.cut(id, peer);
            self.network.cut(peer, id);
        }
    }

    /// Whether a follower has everything that was committed, as far as an operator can know.
    fn in_sync(&self, id: NodeId) -> bool {
        let leader = self.leader().and_then(|leader| self.nodes.iter().find(|node| node.id == leader));
        let Some(leader) = leader else { return false };
        let parts = (0..self.plan.partitions).map(chronik_model::PartitionIndex::new);
        let in_isr = parts.into_iter().all(|partition| leader.journal.isr(partition).contains(&id));
        in_isr && self.plan.mode == Mode::Sync && (self.plan.fsync || !self.lost.contains(&id))
    }

    /// An operator promotes a follower.
    pub(crate) fn promote(&mut self, unclean: bool) -> Result<(), Violation> {
        let leader = self.leader();
        let ready = |id: NodeId, world: &Self| {
            world.nodes.iter().any(|node| node.id == id && node.is_up() && !node.paused && !node.leads())
        };
        let mut able: Vec<NodeId> = self.nodes.iter().map(|node| node.id).filter(|id| Some(*id) != leader).collect();
        // A replica with damage does not lead.
        able.retain(|id| ready(*id, self) && !self.damaged.contains(id));
        if !unclean && self.plan.mode == Mode::Sync {
            able.retain(|id| self.in_sync(*id));
        }
        let Some(id) = self.faults_random.pick(&able).copied() else { return Ok(()) };
        let clean = self.in_sync(id);
        let sights = |world: &Self| -> Vec<Sight> {
            let node = world.nodes.iter().find(|node| node.id == id);
            let process = node.and_then(|node| node.process.as_ref());
            process.map_or(Vec::new(), |process| process.sights(&world.generations).map(|(_, sight)| sight).collect())
        };
        let before = sights(self);
        let peers = self.peers(id);
        self.note(format_args!("promote {id} clean={clean}"));
        self.counts.promotions += 1;
        self.with_node(id, |node, cx| {
            node.wants = Wants::Lead;
            node.with_process(cx, |process: &mut Process, journal, cx| process.promote(&peers, journal, cx));
        });
        if let Some(node) = self.nodes.iter().find(|node| node.id == id) {
            let generation = u64::try_from(node.journal.generation().get()).unwrap_or(0);
            self.generations.insert(node.journal.leader_epoch(), generation);
        }
        let after = sights(self);
        for (partition, (before, after)) in before.iter().zip(&after).enumerate() {
            let Some(watch) = self.watches.get_mut(partition) else { continue };
            let lost = watch.promoted(before, after, clean)?;
            self.counts.lost += lost as u64;
            let generation = watch.committed.newest();
            let end: Offset = watch.committed.end(generation);
            if lost > 0 {
                self.note(format_args!("partition {partition}: {lost} committed batches from {end} on are lost"));
            }
            self.seek_lost(partition, end);
        }
        self.observe(id)
    }
}
