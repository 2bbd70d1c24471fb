//! The wiring of a node: what is started in which order, and stopped in the opposite one.
//!
//! Addresses are bound first, so that a busy port changes nothing; clients that connect early wait in the listen queue
//! until the logs are open. What each part does is its own room's.

use std::error::Error;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use chronik_broker::replication::{Adopted, LinkSettings, meet_first_leader};
use chronik_broker::{Clock, Metrics, Parts, ReplicaHost, ThisNode};
use chronik_controller::{Advertised, Controller, Setup};
use chronik_log::dir::{DataDir, Identity};
use chronik_log::fs::{Fs, RealFs};
use chronik_metadata::config::{BrokerSettings, StaticConfig};
use chronik_metadata::{Command, ControllerClient, ControllerError, Image, Outcome, ReplicatedController, Role};
use chronik_model::{Generation, NodeId, Uuid};
use chronik_net::{ConnectionLimits, Listener, SocketOptions};
use chronik_replication::link::Secret;
use prometheus_client::registry::Registry;
use tracing::{error, info, warn};

use crate::config::{HostPort, NodeConfig};
use crate::door::Door;
use crate::problem::Problem;
use crate::signals::Signals;
use crate::{data_dir, listeners, open_files};

/// The number of a node that nobody gave one.
const FIRST_NODE: NodeId = NodeId::new(1);

/// Runs a node until a signal stops it. `started` is when the process began.
pub(crate) async fn run(config: NodeConfig, started: Instant) -> Result<(), Problem> {
    let signals = Signals::catch().map_err(|error| {
        Problem::new(format!("cannot catch signals: {error}"), "the system may be out of memory or open files")
    })?;
    let mut stop = std::pin::pin!(signals.first());
    let given = static_config(config.node_id.unwrap_or(FIRST_NODE), config.broker.clone())?;
    let settings = BrokerSettings::resolve(&Image::default(), &given);
    let limits = ConnectionLimits {
        total_max: settings.max_connections.min(open_files::for_connections()),
        per_address_max: settings.max_connections_per_ip,
        address_overrides: listeners::resolve_overrides(&settings.max_connections_per_ip_overrides).await,
        creations_per_second_max: u32::try_from(settings.max_connection_creation_rate).unwrap_or(u32::MAX),
    };
    let bytes = |set: Option<u64>| set.and_then(|bytes| usize::try_from(bytes).ok());
    let options = SocketOptions {
        send_buffer_bytes: bytes(settings.socket_send_buffer_bytes),
        receive_buffer_bytes: bytes(settings.socket_receive_buffer_bytes),
        backlog: settings.socket_listen_backlog,
    };
    let tls = listeners::open_tls(config.tls.listener.as_ref())?;
    let listener = listeners::bind_kafka(&config.listen, limits, options).await?;
    let console = listeners::bind_http(&config.http).await?;
    let receiver = listeners::bind_receiver(config.replication.receiver.as_ref()).await?;
    let local = listener
        .local_addr()
        .map_err(|error| Problem::new(format!("the listening socket has no address: {error}"), "try again"))?;
    let advertised = config.advertise.address(local.port());
    let http = console.as_ref().map_or_else(|| "off".to_owned(), |console| console.local_addr().to_string());

    let mut registry = Registry::default();
    let metrics = Arc::new(Metrics::register(&mut registry));
    let door = Door::open(console, registry, config.replication.ready_lag_max);
    let clock = Clock::new();
    let links = link_settings(&config, &advertised, settings.rack.clone());
    announce_links(&config, receiver.as_ref());

    let fs: Arc<dyn Fs> = Arc::new(RealFs);
    let identity = DataDir::identity(&*fs, &config.data_dir).map_err(|error| data_dir::explain(&error))?;
    let identity = match (identity, &receiver) {
        (None, Some(receiver)) => {
            data_dir::check(&*fs, &config.data_dir)?;
            door.not_ready("waiting for the first leader to dial the WAL receiver");
            tokio::select! {
                adopted = meet_first_leader(receiver, config.node_id, &links, clock) => Some(adopted),
                () = &mut stop => {
                    door.close().await;
                    return Ok(());
                }
            }
        }
        (identity, _) => identity.map(|Identity { cluster_id, node_id, .. }| Adopted { cluster_id, node_id }),
    };
    let node_id = config.node_id.or(identity.map(|identity| identity.node_id)).unwrap_or(FIRST_NODE);
    let cluster_id = identity.map(|identity| identity.cluster_id);
    let dir = Arc::new(data_dir::open(Arc::clone(&fs), config.data_dir.clone(), node_id, cluster_id)?);
    let bound = HostPort::new(config.listen.host.clone(), local.port());
    let given = Arc::new(static_config(node_id, config.broker_with_places(&bound, &advertised))?);

    let host = ReplicaHost::start(Arc::clone(&fs), Arc::clone(&dir), Arc::clone(&given), clock, Arc::clone(&metrics));
    let (replicas, flusher) = host.map_err(|error| {
        Problem::new(
            format!("cannot start the flusher's thread: {error}"),
            "the system may be out of memory or threads",
        )
    })?;
    let controller = Arc::new(open_controller(
        Setup {
            fs,
            dir: dir.metadata_dir(),
            node_id,
            cluster_id: dir.cluster_id(),
            follows: receiver.is_some(),
            advertised: Advertised {
                host: advertised.host.clone(),
                port: advertised.port,
                rack: settings.rack.clone(),
                mode: config.replication.mode,
            },
            static_config: given,
            clock: Box::new(move || clock.wall()),
            ids: Box::new(random_id),
            listener: Arc::clone(&replicas) as _,
        },
        &dir,
    )?);
    let clean = dir.take_clean_stop().map_err(|error| data_dir::explain(&error))?;
    let role = begin(&controller, &config, node_id, clean, &advertised, settings.rack).await?;
    let opened = open_partitions(&dir, &replicas, &controller.image(), &role, clean)?;

    let broker = chronik_broker::start(Parts {
        node: ThisNode { node_id, host: advertised.host.clone(), port: advertised.port },
        listener,
        tls,
        tls_to_brokers: config.tls.to_brokers(),
        replicas: Arc::clone(&replicas),
        controller: Arc::clone(&controller) as _,
        links,
        receiver,
        clock,
        metrics,
    });
    drop(controller);
    door.ready(broker.operator());
    let took = started.elapsed().as_millis();
    let (topics, partitions) = (opened.topics, opened.partitions);
    info!(kafka = %advertised, http, topics, partitions, scanned_bytes = opened.scanned_bytes, took, "ready");
    announce(&format!(
        "chronik ready: kafka={advertised} http={http} data={} topics={topics} partitions={partitions} took={took}ms",
        dir.root().display(),
    ));

    stop.await;
    door.not_ready("stopping");
    broker.stop().await;
    let closed = tokio::task::spawn_blocking(move || replicas.close_all()).await;
    if flusher.join().is_err() {
        error!("the flusher's thread has panicked");
    }
    door.close().await;
    match closed {
        Ok(Ok(())) => {
            info!("stopped");
            Ok(())
        }
        Ok(Err(error)) => Err(after_failed_stop(&error, dir.root())),
        Err(panic) => Err(after_failed_stop(&panic, dir.root())),
    }
}

fn static_config(node_id: NodeId, values: std::collections::BTreeMap<String, String>) -> Result<StaticConfig, Problem> {
    StaticConfig::new(node_id, values)
        .map_err(|error| Problem::new(error.to_string(), "correct the setting and start again"))
}

fn link_settings(config: &NodeConfig, advertised: &HostPort, rack: Option<String>) -> LinkSettings {
    LinkSettings {
        followers: config.replication.followers.iter().map(ToString::to_string).collect(),
        secret: config.replication.secret.as_ref().map(|secret| Secret::new(secret.0.as_bytes())),
        tls: config.replication.tls.clone(),
        heartbeat: config.replication.heartbeat,
        advertised: advertised.to_string().into(),
        rack,
    }
}

/// Says who is sent the log and who may send one.
fn announce_links(config: &NodeConfig, receiver: Option<&Listener>) {
    let followers: Vec<String> = config.replication.followers.iter().map(ToString::to_string).collect();
    if followers.is_empty() {
        info!("CHRONIK_REPLICATION_FOLLOWERS not set, WAL replication disabled");
    } else {
        info!("WAL replication enabled with {} followers: {}", followers.len(), followers.join(", "));
    }
    if let (Some(receiver), Some(asked)) = (receiver, &config.replication.receiver) {
        let port = receiver.local_addr().map_or(asked.port, |address| address.port());
        info!("WAL receiver listening on {}", HostPort::new(asked.host.clone(), port));
        if config.tls.to_brokers().is_some_and(|files| files.authorities.is_none()) {
            warn!(
                "chronik.tls.ca is not set: this follower cannot check the leader's listener, so what clients ask of it and only \
                 the leader can do is not passed on"
            );
        }
        let checks_peers = config.replication.tls.own.is_some() && config.replication.tls.authorities.is_some();
        if config.replication.secret.is_none() && !checks_peers {
            warn!(
                "the WAL receiver asks for no secret and no certificate: whoever reaches its port can lead this node, see \
                 CHRONIK_REPLICATION_SECRET"
            );
        }
    }
}

fn open_controller(setup: Setup, dir: &DataDir) -> Result<Controller, Problem> {
    Controller::open(setup).map_err(|error| unusable("the metadata", &error, &dir.metadata_dir()))
}

/// Takes the role that the node starts in. One that leads does so in a leader epoch that nobody had before, unless it led and
/// stopped cleanly: what an unclean stop lost may be on a follower.
async fn begin(
    controller: &Controller,
    config: &NodeConfig,
    node_id: NodeId,
    clean_stop: bool,
    advertised: &HostPort,
    rack: Option<String>,
) -> Result<Role, Problem> {
    let role = controller.role();
    match &*role {
        Role::Leading => {}
        Role::Fenced { by } => {
            error!(
                "this node led and was replaced by {by}: it takes no writes; start it with CHRONIK_WAL_RECEIVER_ADDR \
                 as a follower of that node, or promote it"
            );
            return Ok(Role::clone(&role));
        }
        Role::Following { .. } => {
            if controller.image().leader() == node_id {
                warn!(
                    "this node led before and follows now, since it has a WAL receiver: to lead again, promote it, or start \
                     it without CHRONIK_WAL_RECEIVER_ADDR"
                );
            }
            return Ok(Role::clone(&role));
        }
    }
    let above: Generation = controller.journal().generation;
    let lead = Command::Lead {
        node_id,
        mode: config.replication.mode,
        is_replicated: !config.replication.followers.is_empty(),
        clean_stop,
        above,
    };
    match submit(controller, config, lead).await? {
        Outcome::Leads(Err(error)) => {
            return Err(Problem::new(
                format!("this node cannot lead: {error}"),
                "its metadata has seen more changes of the leader than there are numbers; please report it",
            ));
        }
        Outcome::Leads(Ok(Some(leadership))) => {
            info!(generation = %leadership.generation, leader_epoch = %leadership.leader_epoch, "leading");
        }
        _ => {}
    }
    let HostPort { host, port } = advertised.clone();
    submit(controller, config, Command::RegisterBroker { node_id, host, port, rack }).await?;
    Ok(Role::Leading)
}

async fn submit(controller: &Controller, config: &NodeConfig, command: Command) -> Result<Outcome, Problem> {
    let outcome: Result<Outcome, ControllerError> = controller.submit(command).await;
    outcome.map_err(|error| unusable("the metadata", &error, &config.data_dir))
}

fn random_id() -> Uuid {
    match data_dir::random_id() {
        Ok(id) => id,
        // The system gave random numbers at the start; without them no topic can be made, and the command fails.
        Err(error) => panic!("the system gives no random numbers: {error}"),
    }
}

fn open_partitions(
    dir: &DataDir,
    replicas: &ReplicaHost,
    image: &Arc<Image>,
    role: &Role,
    clean: bool,
) -> Result<chronik_broker::Opened, Problem> {
    let checkpoints = dir.read_checkpoints().map_err(|error| data_dir::explain(&error))?;
    let opened = replicas.open_all(image, role, &checkpoints, clean);
    opened.map_err(|error| unusable("the partitions", &error, dir.root()))
}

/// Tells whoever started the process. That nobody reads it is no reason to stop.
fn announce(line: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}

/// A failure below the node's data directory in words.
fn unusable(what: &str, error: &(dyn Error + 'static), path: &Path) -> Problem {
    let next = match io_error_of(error) {
        Some(io_error) => data_dir::after_io_error(io_error, path),
        None => format!("restore {} from a backup, or choose another directory with --data-dir DIR", path.display()),
    };
    Problem::new(format!("{what} cannot be opened: {error}"), next)
}

fn after_failed_stop(error: &(dyn Error + 'static), path: &Path) -> Problem {
    let next = match io_error_of(error) {
        Some(io_error) => data_dir::after_io_error(io_error, path),
        None => "nothing acknowledged is lost: the next start reads what was written last".to_owned(),
    };
    Problem::new(format!("stopped, but not cleanly: {error}"), next)
}

/// The file system's refusal behind an error.
fn io_error_of<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io_error) = error.downcast_ref::<io::Error>() {
            return Some(io_error);
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use chronik_log::dir::DirError;

    use super::*;

    #[test]
    fn the_disks_refusal_is_found_behind_other_errors() {
        let full = DirError::Io { path: "/d".into(), action: "written", source: io::ErrorKind::StorageFull.into() };
        let problem = unusable("the metadata", &full, Path::new("/d")).to_string();
        assert!(problem.contains("free space on the file system of /d"), "{problem}");
        let problem = unusable("the metadata", &std::fmt::Error, Path::new("/d")).to_string();
        assert!(problem.contains("restore /d from a backup"), "{problem}");
        let problem = after_failed_stop(&std::fmt::Error, Path::new("/d")).to_string();
        assert!(problem.contains("nothing acknowledged is lost"), "{problem}");
    }
}
