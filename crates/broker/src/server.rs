//! The broker: what all connections share, and its start and stop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chronik_coordinator::{Config as GroupConfig, Effect, GroupError, GroupShard, Now, ReplyToken, Response};
use chronik_metadata::config::BrokerSettings;
use chronik_metadata::{
    Command, ControllerClient, ControllerError, Image, NewTopic, Outcome, ReplicatedController, Role, TopicRef,
};
use chronik_model::{LeaderEpoch, NodeId, TopicId};
use chronik_net::{FrameLimits, Listener, MemoryBudget, ServerTls, TlsFiles};
use chronik_wire::ErrorCode;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::connection;
use crate::coordinator_host::{CoordinatorHost, OFFSETS_TOPIC};
use crate::error_code;
use crate::fetch_session::FetchSessions;
use crate::forward;
use crate::look_ups::LookUps;
use crate::metrics::Metrics;
use crate::producer_ids::ProducerIds;
use crate::replica::{self, ReplicaHost};
use crate::replication::{self, LinkSettings, Links, Promotion, PromotionAnswer, ReplicationStatus};
use crate::tasks::{self, Shutdown, ShutdownSignal};

/// How long a stop waits for answers under way.
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// Bytes of requests in flight where nothing is set (`queued.max.request.bytes`).
const REQUEST_MEMORY_BYTES: usize = 256 * 1024 * 1024;
/// How often gauges that nobody pushes are read.
const GAUGE_INTERVAL: Duration = Duration::from_secs(5);

/// This broker as clients reach it.
#[derive(Clone, Debug)]
pub struct ThisNode {
    /// `node.id`.
    pub node_id: NodeId,
    /// Advertised host.
    pub host: String,
    /// Advertised port.
    pub port: u16,
}

/// What a broker is put together from.
pub struct Parts {
    /// How clients reach this broker.
    pub node: ThisNode,
    /// The bound listener; its backlog fills until the broker is started.
    pub listener: Listener,
    /// What its connections are encrypted with; none where they are plain.
    pub tls: Option<Arc<ServerTls>>,
    /// How this broker, as a client, reaches the listener of another one; none where that is plain.
    pub tls_to_brokers: Option<TlsFiles>,
    /// The partitions, opened.
    pub replicas: Arc<ReplicaHost>,
    /// The controller.
    pub controller: Arc<dyn ReplicatedController>,
    /// How this broker replicates.
    pub links: LinkSettings,
    /// Where leaders dial, bound; none where this broker is sent nothing.
    pub receiver: Option<Listener>,
    /// The clock that `replicas` has.
    pub clock: Clock,
    /// The counters that `replicas` has.
    pub metrics: Arc<Metrics>,
}

/// What the connections share.
pub(crate) struct Broker {
    node: ThisNode,
    pub(crate) replicas: Arc<ReplicaHost>,
    pub(crate) controller: Arc<dyn ControllerClient>,
    pub(crate) clock: Clock,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) sessions: FetchSessions,
    pub(crate) groups: Arc<CoordinatorHost>,
    pub(crate) links: Arc<Links>,
    pub(crate) producer_ids: ProducerIds,
    budget: Arc<MemoryBudget>,
    pub(crate) tls: Option<Arc<ServerTls>>,
    pub(crate) tls_to_brokers: Option<TlsFiles>,
    /// Ends waits that would outlast a stop.
    pub(crate) shutdown: Shutdown,
    /// Held while the offsets topic is made, so that it is made once.
    offsets_topic: Mutex<()>,
    pub(crate) look_ups: LookUps,
}

/// A broker that serves clients.
pub struct RunningBroker {
    broker: Arc<Broker>,
    signal: ShutdownSignal,
    accepting: tokio::task::JoinHandle<()>,
    links: Vec<tokio::task::JoinHandle<()>>,
    ready: Arc<AtomicBool>,
}

/// Serves clients on the listener from here on.
pub fn start(parts: Parts) -> RunningBroker {
    let settings = parts.replicas.settings();
    let (signal, shutdown) = tasks::shutdown();
    let controller: Arc<dyn ControllerClient> = Arc::clone(&parts.controller) as _;
    let links = Arc::new(Links::new(
        parts.links,
        Arc::clone(&parts.replicas),
        parts.controller,
        parts.clock,
        Arc::clone(&parts.metrics),
    ));
    let broker = Arc::new(Broker {
        node: parts.node,
        sessions: FetchSessions::new(settings.max_incremental_fetch_session_cache_slots),
        groups: Arc::new(CoordinatorHost::new(parts.clock, Arc::clone(&controller), Arc::clone(&parts.metrics))),
        links: Arc::clone(&links),
        producer_ids: ProducerIds::default(),
        budget: MemoryBudget::new(request_memory(&settings)),
        tls: parts.tls,
        tls_to_brokers: parts.tls_to_brokers,
        shutdown: shutdown.clone(),
        offsets_topic: Mutex::new(()),
        look_ups: LookUps::default(),
        replicas: parts.replicas,
        controller,
        clock: parts.clock,
        metrics: parts.metrics,
    });
    if broker.leads() && broker.image().topic(OFFSETS_TOPIC).is_some() {
        broker.take_over_groups();
    }
    tasks::spawn_essential("role", keep_role(Arc::clone(&broker), shutdown.clone()));
    let proposals = replica::propose(
        Arc::clone(broker.replicas.isr_queue()),
        Arc::clone(&broker.controller),
        broker.node.node_id,
        broker.clock,
        shutdown.clone(),
    );
    tasks::spawn_essential("changes of in-sync replicas", proposals);
    let isr_time = replica::keep_time(
        Arc::clone(&broker.replicas),
        Arc::clone(&broker.controller),
        broker.clock,
        shutdown.clone(),
    );
    tasks::spawn_essential("time of in-sync replicas", isr_time);
    let links = replication::start(&links, parts.receiver, &shutdown);
    tasks::spawn_essential("group timers", Arc::clone(&broker.groups).keep_time(shutdown.clone()));
    let (replicas, metrics) = (Arc::clone(&broker.replicas), Arc::clone(&broker.metrics));
    tasks::spawn_essential("maintenance", replica::keep(replicas, broker.clock, metrics, shutdown.clone()));
    let deletion =
        replica::delete_removed(Arc::clone(&broker.replicas), Arc::clone(&broker.controller), shutdown.clone());
    tasks::spawn_essential("deletion of topics", deletion);
    let accepting = tokio::spawn(accept(Arc::clone(&broker), parts.listener, shutdown));
    RunningBroker { broker, signal, accepting, links, ready: Arc::new(AtomicBool::new(true)) }
}

/// Bytes that requests in flight may hold: as set, else room for a few of the largest.
fn request_memory(settings: &BrokerSettings) -> usize {
    let set = settings.queued_max_request_bytes.and_then(|bytes| usize::try_from(bytes).ok());
    set.unwrap_or_else(|| REQUEST_MEMORY_BYTES.max(settings.socket_request_max_bytes))
}

/// Gives the groups to whom the partitions have been given.
async fn keep_role(broker: Arc<Broker>, mut shutdown: Shutdown) {
    let mut role = broker.replicas.role();
    loop {
        tokio::select! {
            changed = role.changed() => if changed.is_err() { return },
            () = shutdown.raised() => return,
        }
        let leads = role.borrow_and_update().leads();
        // A block of ids that an earlier leader gave is not this node's to hand out.
        broker.producer_ids.forget().await;
        if leads && broker.image().topic(OFFSETS_TOPIC).is_some() {
            broker.take_over_groups();
        } else if matches!(*broker.role(), Role::Fenced { .. }) {
            broker.groups.give_up();
        }
    }
}

async fn accept(broker: Arc<Broker>, listener: Listener, mut shutdown: Shutdown) {
    let mut connections = JoinSet::new();
    let mut gauges = tokio::time::interval(GAUGE_INTERVAL);
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let serve = connection::serve(
                    Arc::clone(&broker), accepted.stream, accepted.peer, accepted.permit, shutdown.clone(),
                );
                connections.spawn(serve);
            }
            Some(ended) = connections.join_next(), if !connections.is_empty() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a connection's task failed");
                }
            }
            _ = gauges.tick() => broker.read_gauges(&listener),
            () = shutdown.raised() => break,
        }
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_MAX, drained).await.is_err() {
        tracing::warn!(connections = connections.len(), "connections still waited when the broker stopped");
        connections.shutdown().await;
    }
}

/// What an operator asks of a running broker.
#[derive(Clone)]
pub struct Operator {
    links: Arc<Links>,
}

impl Operator {
    /// Replication of this node now.
    pub fn replication(&self) -> ReplicationStatus {
        self.links.status()
    }

    /// Makes this node the leader in place of whoever is, or says why not.
    pub async fn promote(&self, asked: Promotion) -> PromotionAnswer {
        self.links.promote(asked).await
    }
}

impl RunningBroker {
    /// Whether clients are served.
    pub fn readiness(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.ready)
    }

    /// What an operator may ask of it.
    pub fn operator(&self) -> Operator {
        Operator { links: Arc::clone(&self.broker.links) }
    }

    /// Stops accepting, answers what is in flight, and ends all connections. The logs are still open afterwards.
    pub async fn stop(self) {
        self.ready.store(false, Ordering::SeqCst);
        // Whoever waits in a group is told to look for another coordinator, so that no connection waits for ever.
        self.broker.groups.stop();
        self.signal.raise();
        if let Err(error) = self.accepting.await {
            tracing::error!(%error, "the listener's task failed");
        }
        let ended = async {
            for link in self.links {
                // Whoever watches it has said what went wrong.
                let _ = link.await;
            }
        };
        if tokio::time::timeout(DRAIN_MAX, ended).await.is_err() {
            tracing::warn!("links to other nodes still stood when the broker stopped");
        }
    }
}

impl Broker {
    pub(crate) fn image(&self) -> Arc<Image> {
        self.controller.image()
    }

    pub(crate) fn settings(&self) -> Arc<BrokerSettings> {
        self.replicas.settings()
    }

    pub(crate) fn this_node(&self) -> &ThisNode {
        &self.node
    }

    pub(crate) fn role(&self) -> Arc<Role> {
        self.controller.role()
    }

    /// Whether this broker leads the partitions of its topics.
    pub(crate) fn leads(&self) -> bool {
        self.role().leads()
    }

    /// Whether another broker has taken this one's place.
    pub(crate) fn is_fenced(&self) -> bool {
        matches!(&*self.role(), Role::Fenced { .. })
    }

    /// Followers in a consumer's rack (KIP-392); none where this broker stands in it itself, or follows.
    pub(crate) fn followers_in_rack(&self, rack: &str) -> Vec<NodeId> {
        if rack.is_empty() || !self.leads() {
            return Vec::new();
        }
        let image = self.image();
        let in_rack = |node_id: NodeId| {
            image
                .brokers()
                .get(&node_id)
                .is_some_and(|broker| !broker.is_fenced && broker.rack.as_deref() == Some(rack))
        };
        if in_rack(self.node.node_id) {
            return Vec::new();
        }
        image.brokers().keys().copied().filter(|node_id| in_rack(*node_id)).collect()
    }

    /// Whom clients are told to be the leader of a partition that the metadata says `leader` leads. A follower that does not
    /// hear of its leader names itself: consumers may read what it has, and writes are refused either way.
    pub(crate) fn leader_for_clients(&self, leader: NodeId) -> NodeId {
        match &*self.role() {
            Role::Leading => leader,
            Role::Following { leader: Some(known) } if self.links.hears_leader() => known.node_id,
            Role::Following { .. } => self.node.node_id,
            Role::Fenced { by } => by.node_id,
        }
    }

    /// The leader epoch that goes with [`Broker::leader_for_clients`]: none where another node leads, in an epoch that is not
    /// known here. A client that has heard of that one would not believe the older one, nor the leader with it.
    pub(crate) fn leader_epoch_for_clients(&self, leader_epoch: LeaderEpoch) -> LeaderEpoch {
        let is_known = match &*self.role() {
            Role::Leading | Role::Following { leader: None } => true,
            Role::Following { leader: Some(leader) } => leader.generation == self.image().generation(),
            Role::Fenced { .. } => false,
        };
        if is_known { leader_epoch } else { LeaderEpoch::NONE }
    }

    /// The node that decides on changes of the metadata, and coordinates groups.
    pub(crate) fn controller_id(&self) -> NodeId {
        self.leader_for_clients(self.node.node_id)
    }

    /// Brokers that clients may connect to: number, host, port and rack.
    pub(crate) fn brokers_for_clients(&self) -> Vec<(NodeId, String, u16, Option<String>)> {
        let (image, role) = (self.image(), self.role());
        let mut brokers: BTreeMap<NodeId, (String, u16, Option<String>)> = image
            .brokers()
            .values()
            .filter(|broker| !broker.is_fenced && broker.node_id != self.node.node_id)
            .map(|broker| (broker.node_id, (broker.host.clone(), broker.port, broker.rack.clone())))
            .collect();
        let by_known_leader = matches!(&*role, Role::Fenced { by } if !by.host.is_empty());
        // What this node knows is of another time once it is fenced: clients are sent where they hear what is.
        if !by_known_leader {
            let known = image.brokers().get(&self.node.node_id);
            // Before the metadata says so, or where it never will.
            let this = known.map(|this| (this.host.clone(), this.port, this.rack.clone()));
            let this = this.unwrap_or_else(|| (self.node.host.clone(), self.node.port, None));
            brokers.insert(self.node.node_id, this);
        }
        if let Some(leader) = role.leader_elsewhere().filter(|leader| !leader.host.is_empty()) {
            let known = brokers.entry(leader.node_id).or_insert_with(|| (String::new(), 0, None));
            (known.0, known.1) = (leader.host.to_string(), leader.port);
        }
        brokers.into_iter().map(|(node_id, (host, port, rack))| (node_id, host, port, rack)).collect()
    }

    pub(crate) fn frame_limits(&self) -> FrameLimits {
        let settings = self.settings();
        FrameLimits {
            frame_bytes_max: settings.socket_request_max_bytes,
            idle_max: settings.connections_max_idle,
            budget: Arc::clone(&self.budget),
        }
    }

    /// Creates topics for a client that asked for their metadata, and tells what was wrong with those that could not.
    pub(crate) async fn create_automatically(
        &self,
        names: Vec<String>,
        client_id: &str,
    ) -> BTreeMap<String, ErrorCode> {
        if !self.leads() && client_id != forward::FORWARDED {
            forward::create_automatically(self, &names).await;
            return names.into_iter().map(|name| (name, ErrorCode::LeaderNotAvailable)).collect();
        }
        let topics = names
            .iter()
            .map(|name| match name.as_str() {
                OFFSETS_TOPIC => self.offsets_topic(),
                name => NewTopic::with_defaults(name),
            })
            .collect();
        match self.controller.submit(Command::CreateTopics { topics, validate_only: false }).await {
            Ok(Outcome::TopicsCreated(results)) => results
                .into_iter()
                .filter_map(|created| Some((created.name, error_code::rule(created.result.as_ref().err()?))))
                // Another client was quicker.
                .filter(|(_, code)| *code != ErrorCode::TopicAlreadyExists)
                .collect(),
            other => {
                tracing::warn!(?other, "topics cannot be created automatically");
                names.into_iter().map(|name| (name, ErrorCode::LeaderNotAvailable)).collect()
            }
        }
    }

    /// Deletes topics and lets the groups forget them, to the end also when the client that asked is gone.
    pub(crate) async fn delete_topics(self: &Arc<Self>, topics: Vec<TopicRef>) -> Result<Outcome, ControllerError> {
        let broker = Arc::clone(self);
        let deletion = tokio::spawn(async move {
            let outcome = broker.controller.submit(Command::DeleteTopics { topics }).await?;
            if let Outcome::TopicsDeleted(deleted) = &outcome {
                let gone = deleted.iter().filter(|topic| topic.result.is_ok());
                let gone: Vec<(String, TopicId)> =
                    gone.filter_map(|topic| Some((topic.name.clone()?, topic.id))).collect();
                if gone.iter().any(|(topic, _)| topic == OFFSETS_TOPIC) {
                    broker.groups.give_up();
                }
                if !gone.is_empty() {
                    broker.groups.topics_deleted(&gone);
                    broker.replicas.look_for_removed();
                }
            }
            Ok(outcome)
        });
        deletion.await.unwrap_or(Err(ControllerError::Stopped))
    }

    /// Makes sure that groups have their topic and are coordinated.
    pub(crate) async fn ensure_offsets_topic(&self) -> Result<(), ErrorCode> {
        match &*self.role() {
            Role::Leading => {}
            Role::Following { .. } if self.image().topic(OFFSETS_TOPIC).is_some() => {
                self.groups.follow(self.replicas.of_topic(OFFSETS_TOPIC), &self.group_config());
                return Ok(());
            }
            Role::Following { .. } => return Err(ErrorCode::CoordinatorNotAvailable),
            Role::Fenced { .. } => return Err(ErrorCode::NotCoordinator),
        }
        if self.groups.is_ready() {
            return Ok(());
        }
        let _one_at_a_time = self.offsets_topic.lock().await;
        if self.groups.is_ready() {
            return Ok(());
        }
        if self.image().topic(OFFSETS_TOPIC).is_none() {
            let topics = vec![self.offsets_topic()];
            match self.controller.submit(Command::CreateTopics { topics, validate_only: false }).await {
                Ok(_) if self.image().topic(OFFSETS_TOPIC).is_some() => {}
                other => {
                    tracing::error!(?other, "the topic of the groups cannot be created");
                    return Err(ErrorCode::CoordinatorNotAvailable);
                }
            }
        }
        self.take_over_groups();
        Ok(())
    }

    /// Runs a group's request that may be the first one of all groups: a client that did not look for a coordinator has
    /// found it nevertheless.
    pub(crate) async fn group_call(
        &self,
        group_id: &str,
        input: impl FnOnce(&mut GroupShard, Now, ReplyToken, &mut Vec<Effect>),
    ) -> Result<Response, GroupError> {
        self.ready_groups().await?;
        self.groups.call(group_id, input).await
    }

    /// Makes sure that groups can be asked.
    pub(crate) async fn ready_groups(&self) -> Result<(), GroupError> {
        if self.leads() && self.groups.is_ready() {
            return Ok(());
        }
        self.ensure_offsets_topic().await.map_err(|code| match code {
            ErrorCode::NotCoordinator => GroupError::NotCoordinator,
            _ => GroupError::CoordinatorNotAvailable,
        })
    }

    /// As [`Broker::ready_groups`], without making anything: where there is no topic there are no groups.
    pub(crate) fn look_at_groups(&self) {
        if matches!(&*self.role(), Role::Following { .. }) && self.image().topic(OFFSETS_TOPIC).is_some() {
            self.groups.follow(self.replicas.of_topic(OFFSETS_TOPIC), &self.group_config());
        }
    }

    fn offsets_topic(&self) -> NewTopic {
        let settings = self.settings();
        NewTopic {
            num_partitions: settings.offsets_topic_partitions,
            configs: vec![
                ("cleanup.policy".to_owned(), Some("compact".to_owned())),
                ("compression.type".to_owned(), Some("producer".to_owned())),
                ("segment.bytes".to_owned(), Some(settings.offsets_topic_segment_bytes.to_string())),
            ],
            ..NewTopic::with_defaults(OFFSETS_TOPIC)
        }
    }

    fn take_over_groups(&self) {
        self.groups.take_over(self.replicas.of_topic(OFFSETS_TOPIC), &self.group_config());
    }

    fn group_config(&self) -> GroupConfig {
        let settings = self.settings();
        GroupConfig {
            session_timeout_min: settings.group_min_session_timeout,
            session_timeout_max: settings.group_max_session_timeout,
            initial_rebalance_delay: settings.group_initial_rebalance_delay,
            group_size_max: settings.group_max_size,
            offset_metadata_max: settings.offset_metadata_max_bytes,
            offsets_retention: settings.offsets_retention,
            offsets_retention_check_interval: settings.offsets_retention_check_interval,
            ..GroupConfig::default()
        }
    }

    /// Takes broker settings that were changed while running.
    pub(crate) fn settings_changed(&self) {
        self.groups.reconfigure(&self.group_config());
    }

    fn read_gauges(&self, listener: &Listener) {
        let gauge = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        self.metrics.connections.set(gauge(listener.connections()));
        self.metrics.connections_refused.set(i64::try_from(listener.refused()).unwrap_or(i64::MAX));
        self.metrics.request_memory_bytes.set(gauge(self.budget.bytes_in_use()));
        self.metrics.fetch_sessions.set(gauge(self.sessions.len()));
        // Those of a follower are its leader's to count.
        let groups: usize = if !self.leads() {
            0
        } else {
            self.groups.look_at_all(|shard| shard.stats().groups.values().sum::<usize>()).into_iter().sum()
        };
        self.metrics.groups.set(gauge(groups));
    }
}
