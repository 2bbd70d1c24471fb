//! The wiring of a node: what is started in which order, and stopped in the opposite one.
//!
//! Addresses are bound first, so that a busy port changes nothing; clients that connect early wait in the listen queue
//! until the logs are open. What each part does is its own room's.

use std::error::Error;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use chronik_broker::{Clock, Metrics, Parts, ReplicaHost, ThisNode};
use chronik_console::{Console, Readiness, Reply, State};
use chronik_controller::{Advertised, Controller, Setup};
use chronik_log::dir::DataDir;
use chronik_log::fs::{Fs, RealFs};
use chronik_metadata::config::{BrokerSettings, StaticConfig};
use chronik_metadata::{Command, ControllerClient, Image, ImageListener};
use chronik_model::Uuid;
use chronik_net::{ConnectionLimits, SocketOptions};
use prometheus_client::registry::Registry;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tracing::{error, info};

use crate::config::{HostPort, NodeConfig};
use crate::problem::Problem;
use crate::signals::Signals;
use crate::{data_dir, listeners, open_files};

/// Runs a node until a signal stops it. `started` is when the process began.
pub(crate) async fn run(config: NodeConfig, started: Instant) -> Result<(), Problem> {
    let signals = Signals::catch().map_err(|error| {
        Problem::new(format!("cannot catch signals: {error}"), "the system may be out of memory or open files")
    })?;
    let given = static_config(&config, config.broker.clone())?;
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
    let listener = listeners::bind_kafka(&config.listen, limits, options).await?;
    let console = listeners::bind_http(&config.http).await?;
    let local = listener
        .local_addr()
        .map_err(|error| Problem::new(format!("the listening socket has no address: {error}"), "try again"))?;
    let advertised = config.advertise.address(local.port());
    let http = console.as_ref().map_or_else(|| "off".to_owned(), |console| console.local_addr().to_string());

    let fs: Arc<dyn Fs> = Arc::new(RealFs);
    let dir = Arc::new(data_dir::open(Arc::clone(&fs), config.data_dir.clone(), config.node_id)?);
    let bound = HostPort::new(config.listen.host.clone(), local.port());
    let given = Arc::new(static_config(&config, config.broker_with_places(&bound, &advertised))?);

    let mut registry = Registry::default();
    let metrics = Arc::new(Metrics::register(&mut registry));
    let (readiness, door) = open_door(console, registry);

    let clock = Clock::new();
    let host = ReplicaHost::start(Arc::clone(&fs), Arc::clone(&dir), Arc::clone(&given), clock, Arc::clone(&metrics));
    let (replicas, flusher) = host.map_err(|error| {
        Problem::new(
            format!("cannot start the flusher's thread: {error}"),
            "the system may be out of memory or threads",
        )
    })?;
    let controller = open_controller(fs, &dir, given, clock, Arc::clone(&replicas) as Arc<dyn ImageListener>)?;
    let opened = open_partitions(&dir, &replicas, &controller.image())?;
    register(&controller, &config, &advertised, settings.rack).await?;

    let broker = chronik_broker::start(Parts {
        node: ThisNode { node_id: config.node_id, host: advertised.host.clone(), port: advertised.port },
        listener,
        replicas: Arc::clone(&replicas),
        controller: Arc::new(controller),
        clock,
        metrics,
    });
    readiness.send_replace(Readiness::Ready);
    let took = started.elapsed().as_millis();
    let (topics, partitions) = (opened.topics, opened.partitions);
    info!(kafka = %advertised, http, topics, partitions, scanned_bytes = opened.scanned_bytes, took, "ready");
    announce(&format!(
        "chronik ready: kafka={advertised} http={http} data={} topics={topics} partitions={partitions} took={took}ms",
        dir.root().display(),
    ));

    signals.first().await;
    readiness.send_replace(Readiness::NotReady("stopping".to_owned()));
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

fn static_config(
    config: &NodeConfig,
    values: std::collections::BTreeMap<String, String>,
) -> Result<StaticConfig, Problem> {
    StaticConfig::new(config.node_id, values)
        .map_err(|error| Problem::new(error.to_string(), "correct the setting and start again"))
}

/// The console while it runs.
struct Door {
    stop: oneshot::Sender<()>,
    serving: Option<JoinHandle<io::Result<()>>>,
}

/// Serves metrics and health from here on; the node is not ready yet.
fn open_door(console: Option<Console>, registry: Registry) -> (watch::Sender<Readiness>, Door) {
    let (readiness, current) = watch::channel(Readiness::NotReady("starting".to_owned()));
    let (stop, stopped) = oneshot::channel();
    let state = State {
        readiness: Arc::new(move || current.borrow().clone()),
        metrics: Arc::new(registry),
        replication: Arc::new(|| Reply::error(503, "starting")),
        promote: Arc::new(|_| Box::pin(async { Reply::error(503, "starting") })),
    };
    let serving = console.map(|console| {
        tokio::spawn(console.serve(state, async {
            // That nobody can ask for the stop any more is a stop as well.
            let _ = stopped.await;
        }))
    });
    (readiness, Door { stop, serving })
}

impl Door {
    async fn close(self) {
        drop(self.stop);
        if let Some(serving) = self.serving {
            match serving.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => error!(%error, "console failed"),
                Err(error) => error!(%error, "console's task failed"),
            }
        }
    }
}

fn open_controller(
    fs: Arc<dyn Fs>,
    dir: &DataDir,
    static_config: Arc<StaticConfig>,
    clock: Clock,
    listener: Arc<dyn ImageListener>,
) -> Result<Controller, Problem> {
    let setup = Setup {
        fs,
        dir: dir.metadata_dir(),
        node_id: dir.node_id(),
        cluster_id: dir.cluster_id(),
        follows: false,
        advertised: Advertised::default(),
        static_config,
        clock: Box::new(move || clock.wall()),
        ids: Box::new(random_id),
        listener,
    };
    Controller::open(setup).map_err(|error| unusable("the metadata", &error, &dir.metadata_dir()))
}

fn random_id() -> Uuid {
    match data_dir::random_id() {
        Ok(id) => id,
        // The system gave random numbers at the start; without them no topic can be made, and the command fails.
        Err(error) => panic!("the system gives no random numbers: {error}"),
    }
}

fn open_partitions(dir: &DataDir, replicas: &ReplicaHost, image: &Image) -> Result<chronik_broker::Opened, Problem> {
    let checkpoints = dir.read_checkpoint().map_err(|error| data_dir::explain(&error))?;
    let clean = dir.take_clean_stop().map_err(|error| data_dir::explain(&error))?;
    replicas.open_all(image, &checkpoints, clean).map_err(|error| unusable("the partitions", &error, dir.root()))
}

async fn register(
    controller: &Controller,
    config: &NodeConfig,
    advertised: &HostPort,
    rack: Option<String>,
) -> Result<(), Problem> {
    let HostPort { host, port } = advertised.clone();
    let command = Command::RegisterBroker { node_id: config.node_id, host, port, rack };
    match controller.submit(command).await {
        Ok(_) => Ok(()),
        Err(error) => Err(unusable("the metadata", &error, &config.data_dir)),
    }
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
