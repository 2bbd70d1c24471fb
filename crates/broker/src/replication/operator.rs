//! What an operator asks of a running node: its status, and to lead in place of whoever does.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use chronik_log::ReadBound;
use chronik_metadata::{ReplicationMode, Role};
use chronik_model::{NodeId, Offset, PartitionIndex, Uuid};
use chronik_net::host_and_port;
use chronik_replication::message::TopicIdPartition;

use super::links::Links;
use super::metrics::{PartitionLabel, PeerLabel};
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
        if is_receiver && !peer.is_open() {
            // What the leader has done since then is not known.
            lag_ms = Some(lag_ms.unwrap_or(0).max(status.last_heard_ms.unwrap_or(status.state_ms)));
        }
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
        let image = self.controller.image();
        if role.leads() {
            answer.refused = Some("this node leads already".to_owned());
            (answer.generation, answer.leader_epoch) = (image.generation().get(), image.leader_epoch().get());
            return answer;
        }
        let ends = self.old_leader_ends();
        self.compare(&ends, &mut answer);
        let patience = self.settings.heartbeat.saturating_mul(2);
        let is_fresh = self.current_leader().is_some_and(|peer| peer.is_fresh(patience));
        answer.caught_up &= is_fresh;
        answer.generation = self.controller.journal().generation.get();
        let unusable = self.unusable();
        if image.cluster_id() == Uuid::ZERO {
            answer.refused =
                Some("this node has not yet been sent what its leader knows, it has nothing to lead".to_owned());
        } else if !unusable.is_empty() && !asked.accept_damage {
            answer.refused = Some(format!("damaged, offline or missing here: {}", unusable.join(", ")));
        } else if asked.require_caught_up && !answer.caught_up {
            answer.refused = Some("it is not known that everything the leader has is here".to_owned());
        }
        if asked.dry_run || answer.refused.is_some() {
            return answer;
        }
        match self.controller.promote().await {
            Ok(leadership) => {
                // Frames that came between the first look and the promotion are here as well.
                self.compare(&ends, &mut answer);
                answer.caught_up &= is_fresh;
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

    /// Partitions of the metadata that this node cannot serve whole.
    fn unusable(&self) -> Vec<String> {
        let mut names = Vec::new();
        for topic in self.controller.image().topics() {
            let partitions = self.replicas.of_topic(&topic.name);
            for index in 0..topic.partitions.len() {
                let is_whole = partitions
                    .get(index)
                    .and_then(Option::as_ref)
                    .is_some_and(|partition| partition.reader().damage().is_empty() && !partition.is_offline());
                if !is_whole {
                    names.push(format!("{}-{index}", topic.name));
                }
            }
        }
        names
    }

    /// How far the old leader is known to have gone, by what it told last.
    fn old_leader_ends(&self) -> HashMap<TopicIdPartition, Offset> {
        let mut ends: HashMap<TopicIdPartition, Offset> =
            self.current_leader().iter().flat_map(|peer| peer.lags()).map(|(id, lag, _)| (id, lag.end)).collect();
        for (id, end) in &mut ends {
            if let Some(partition) = self.replicas.find(*id) {
                *end = partition.told_high_watermark().max(*end);
            }
        }
        ends
    }

    /// What the old leader is known to have had beyond what is here.
    fn compare(&self, ends: &HashMap<TopicIdPartition, Offset>, answer: &mut PromotionAnswer) {
        let image = self.controller.image();
        answer.partitions.clear();
        answer.caught_up = true;
        for topic in image.topics() {
            let partitions = self.replicas.of_topic(&topic.name);
            for (index, _) in (0..).zip(&topic.partitions) {
                let partition = usize::try_from(index).ok().and_then(|at| partitions.get(at)?.as_ref());
                let log_end = partition.map_or(Offset::ZERO, |partition| partition.led_from());
                let old_leader_end = ends.get(&TopicIdPartition::new(topic.id, PartitionIndex::new(index))).copied();
                let lost_records = old_leader_end.map_or(0, |end| unsigned(end.get().saturating_sub(log_end.get())));
                answer.caught_up &= partition.is_some() && old_leader_end.is_some() && lost_records == 0;
                answer.partitions.push(PromotedPartition {
                    topic: topic.name.to_string(),
                    partition: index,
                    log_end: log_end.get(),
                    old_leader_end: old_leader_end.map(Offset::get),
                    lost_records,
                });
            }
        }
    }

    /// Brings the gauges up to date.
    pub(super) fn read_gauges(&self) {
        let metrics = &self.metrics;
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let mut shown = HashSet::new();
        for (peer, is_receiver) in
            self.followers().into_iter().map(|peer| (peer, false)).chain(self.current_leader().map(|peer| (peer, true)))
        {
            // A leader dials from another port each time.
            let name = if is_receiver { "leader".to_owned() } else { peer.address.to_string() };
            let label = PeerLabel { peer: name.clone() };
            metrics.connected.get_or_create(&label).set(i64::from(peer.is_open()));
            metrics.reconnects.get_or_create(&label).set(gauge(peer.reconnects()));
            let (sent, received) = peer.bytes();
            metrics.sent_bytes.get_or_create(&label).set(gauge(sent));
            metrics.received_bytes.get_or_create(&label).set(gauge(received));
            if let Some(round_trip) = peer.round_trip() {
                metrics.round_trip_seconds.get_or_create(&label).set(round_trip.as_secs_f64());
            }
            for partition in self.link_status(&peer, is_receiver).partitions {
                let label =
                    PartitionLabel { peer: name.clone(), topic: partition.topic, partition: partition.partition };
                metrics.lag_records.get_or_create(&label).set(partition.end.saturating_sub(partition.log_end).max(0));
                metrics.lag_bytes.get_or_create(&label).set(gauge(partition.lag_bytes));
                let lag = Duration::from_millis(partition.lag_ms);
                metrics.lag_seconds.get_or_create(&label).set(lag.as_secs_f64());
                shown.insert(label);
            }
        }
        let mut before = metrics.shown.lock();
        for gone in before.difference(&shown) {
            metrics.lag_records.remove(gone);
            metrics.lag_bytes.remove(gone);
            metrics.lag_seconds.remove(gone);
        }
        *before = shown;
    }
}
