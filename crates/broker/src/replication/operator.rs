//! What an operator asks of a running node: its status, and to lead in place of whoever does.

use std::sync::Arc;
use std::time::Duration;

use chronik_log::ReadBound;
use chronik_metadata::{ReplicationMode, Role};
use chronik_model::{NodeId, Offset};

use super::links::{Links, host_and_port};
use super::peer::{Lag, Peer};
use super::status::{LeaderStatus, LinkStatus, PartitionStatus, PromotedPartition, PromotionAnswer, ReplicationStatus};

/// How a promotion is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Promotion {
    /// Only where nothing of the old leader is missing.
    pub require_caught_up: bool,
    /// Only say what would happen.
    pub dry_run: bool,
    /// Also where a partition is damaged here.
    pub accept_damage: bool,
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn unsigned(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

impl Links {
    /// Replication of this node now.
    pub(crate) fn status(&self) -> ReplicationStatus {
        let (image, role) = (self.controller.image(), self.controller.role());
        ReplicationStatus {
            node_id: self.node_id().get(),
            cluster_id: self.cluster_id.to_string(),
            role: match &*role {
                Role::Leading => "leader",
                Role::Following { .. } => "follower",
                Role::Fenced { .. } => "fenced",
            }
            .to_owned(),
            mode: match image.mode() {
                ReplicationMode::Async => "async",
                ReplicationMode::Sync => "sync",
            }
            .to_owned(),
            generation: self.controller.journal().generation.get(),
            leader_epoch: image.leader_epoch().get(),
            leader: role.leader_elsewhere().map(|leader| {
                let broker = image.brokers().get(&leader.node_id);
                let address = match broker {
                    Some(broker) if leader.host.is_empty() => host_and_port(&broker.host, broker.port),
                    _ => host_and_port(&leader.host, leader.port),
                };
                LeaderStatus { node_id: leader.node_id.get(), generation: leader.generation.get(), address }
            }),
            receiver: self.current_leader().map(|peer| self.link_status(&peer, true)),
            followers: self.followers().iter().map(|peer| self.link_status(peer, false)).collect(),
        }
    }

    fn link_status(&self, peer: &Peer, is_receiver: bool) -> LinkStatus {
        let mut status = peer.status();
        let follower = status.node_id.map(NodeId::new);
        if !is_receiver {
            // Also of a follower that is away, and is told of nothing.
            for partition in self.replicas.all() {
                peer.end_moved(partition.id(), partition.bounds().1.end);
            }
        }
        let mut lag_ms = None;
        for (id, Lag { end, sent, log_end, .. }, lag) in peer.lags() {
            let Some(partition) = self.replicas.find(id) else { continue };
            let position = partition.position();
            let reader = partition.reader();
            let (durable_end, attached, in_sync) = match follower {
                Some(node_id) if !is_receiver => {
                    partition.follower(node_id).map_or((log_end, false, false), |follower| {
                        (follower.durable_end, follower.attached, follower.in_sync)
                    })
                }
                _ => (position.durable_end, peer.is_open(), false),
            };
            let lag_records = unsigned(end.get().saturating_sub(log_end.get()));
            let lag_bytes = match is_receiver {
                false if lag_records > 0 => reader.bytes_available(log_end, ReadBound::LogEnd),
                _ => 0,
            };
            status.lag_records += lag_records;
            status.lag_bytes += lag_bytes;
            lag_ms = Some(lag_ms.unwrap_or(0).max(millis(lag)));
            status.partitions.push(PartitionStatus {
                topic: partition.name().topic.to_string(),
                partition: id.partition.get(),
                attached,
                in_sync,
                end: end.get(),
                sent: sent.max(log_end).get(),
                log_end: log_end.get(),
                durable_end: durable_end.get(),
                high_watermark: reader.bounds().high_watermark.get(),
                lag_bytes,
                lag_ms: millis(lag),
            });
        }
        if !is_receiver {
            let met: std::collections::HashSet<_> = peer.lags().into_iter().map(|(id, ..)| id).collect();
            for partition in self.replicas.all().iter().filter(|partition| !met.contains(&partition.id())) {
                let bounds = partition.reader().bounds();
                let records = unsigned(partition.bounds().1.end.get().saturating_sub(bounds.log_start.get()));
                if records > 0 {
                    status.lag_records += records;
                    status.lag_bytes += partition.reader().bytes_available(bounds.log_start, ReadBound::LogEnd);
                    lag_ms = None;
                }
            }
        }
        status.partitions.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        status.lag_ms = lag_ms;
        status.catch_up_bytes = peer.lacks(status.lag_bytes);
        if status.lag_records > 0 && status.state == "streaming" {
            status.state = "catching up".to_owned();
            if status.bytes_per_second > 0 && status.lag_bytes > 0 {
                status.caught_up_in_ms = Some(status.lag_bytes.saturating_mul(1000) / status.bytes_per_second);
            }
        }
        status
    }

    /// Makes this node the leader, or says why not, or what would be lost.
    pub(crate) async fn promote(&self, asked: Promotion) -> PromotionAnswer {
        let began = self.clock.now();
        let role = self.controller.role();
        let mut answer = PromotionAnswer { dry_run: asked.dry_run, ..PromotionAnswer::default() };
        let leading = self.controller.image();
        if role.leads() {
            answer.refused = Some("this node leads already".to_owned());
            (answer.generation, answer.leader_epoch) = (leading.generation().get(), leading.leader_epoch().get());
            return answer;
        }
        self.compare_with_leader(&mut answer);
        answer.generation = self.controller.journal().generation.get();
        let damaged: Vec<String> = self
            .replicas
            .all()
            .iter()
            .filter(|partition| !partition.reader().damage().is_empty() || partition.is_offline())
            .map(|partition| partition.name().to_string())
            .collect();
        if matches!(*role, Role::Following { leader: None }) && leading.topics_count() == 0 {
            answer.refused = Some("this node has never met a leader, it has nothing to lead".to_owned());
        } else if !damaged.is_empty() && !asked.accept_damage {
            answer.refused = Some(format!("damaged or offline here: {}", damaged.join(", ")));
        } else if asked.require_caught_up && !answer.caught_up {
            answer.refused = Some("it is not known that everything the leader has is here".to_owned());
        }
        if asked.dry_run || answer.refused.is_some() {
            return answer;
        }
        match self.controller.promote().await {
            Ok(leadership) => {
                // Frames that came between the first look and the promotion are here as well.
                self.compare_with_leader(&mut answer);
                answer.promoted = true;
                answer.generation = leadership.generation.get();
                answer.leader_epoch = leadership.leader_epoch.get();
                tracing::warn!(
                    generation = answer.generation,
                    leader_epoch = answer.leader_epoch,
                    "this node was promoted and leads"
                );
            }
            Err(error) => answer.refused = Some(error.to_string()),
        }
        answer.took_ms = millis(self.clock.now().saturating_since(began));
        answer
    }

    /// What the old leader is known to have had beyond what is here.
    fn compare_with_leader(&self, answer: &mut PromotionAnswer) {
        let peer: Option<Arc<Peer>> = self.current_leader();
        let ends: std::collections::HashMap<_, Offset> =
            peer.iter().flat_map(|peer| peer.lags()).map(|(id, lag, _)| (id, lag.end)).collect();
        answer.partitions = self
            .replicas
            .all()
            .iter()
            .map(|partition| {
                let log_end = partition.position().log_end;
                let told = partition.told_high_watermark();
                let old_leader_end = ends.get(&partition.id()).copied().map(|end| end.max(told));
                PromotedPartition {
                    topic: partition.name().topic.to_string(),
                    partition: partition.index().get(),
                    log_end: log_end.get(),
                    old_leader_end: old_leader_end.map(Offset::get),
                    lost_records: old_leader_end.map_or(0, |end| unsigned(end.get().saturating_sub(log_end.get()))),
                }
            })
            .collect();
        let is_open = peer.is_some_and(|peer| peer.is_open());
        answer.caught_up = is_open
            && answer
                .partitions
                .iter()
                .all(|partition| partition.old_leader_end.is_some() && partition.lost_records == 0);
    }

    /// Brings the gauges up to date.
    pub(super) fn read_gauges(&self) {
        use super::metrics::{PartitionLabel, PeerLabel};
        let metrics = &self.metrics;
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        metrics.lag_records.clear();
        metrics.lag_bytes.clear();
        metrics.lag_seconds.clear();
        for (peer, is_receiver) in
            self.followers().into_iter().map(|peer| (peer, false)).chain(self.current_leader().map(|peer| (peer, true)))
        {
            let label = PeerLabel { peer: peer.address.to_string() };
            metrics.connected.get_or_create(&label).set(i64::from(peer.is_open()));
            metrics.reconnects.get_or_create(&label).set(gauge(peer.reconnects()));
            let (sent, received) = peer.bytes();
            metrics.sent_bytes.get_or_create(&label).set(gauge(sent));
            metrics.received_bytes.get_or_create(&label).set(gauge(received));
            if let Some(round_trip) = peer.round_trip() {
                metrics.round_trip_seconds.get_or_create(&label).set(round_trip.as_secs_f64());
            }
            for partition in self.link_status(&peer, is_receiver).partitions {
                let label = PartitionLabel {
                    peer: peer.address.to_string(),
                    topic: partition.topic,
                    partition: partition.partition,
                };
                metrics.lag_records.get_or_create(&label).set(partition.end.saturating_sub(partition.log_end).max(0));
                metrics.lag_bytes.get_or_create(&label).set(gauge(partition.lag_bytes));
                let lag = Duration::from_millis(partition.lag_ms);
                metrics.lag_seconds.get_or_create(&label).set(lag.as_secs_f64());
            }
        }
    }
}
