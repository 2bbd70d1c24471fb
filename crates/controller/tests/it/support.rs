//! A controller in a directory, and what a listener heard of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use chronik_controller::{Advertised, Controller, OpenError, Setup};
use chronik_log::fs::Fs;
use chronik_metadata::config::StaticConfig;
use chronik_metadata::{
    Command, ControllerClient as _, ControllerError, Delta, Image, ImageListener, NewTopic, Outcome,
};
use chronik_model::{NodeId, Timestamp, Uuid};

pub(crate) const NODE: NodeId = NodeId::new(1);
pub(crate) const CLUSTER: Uuid = Uuid::from_bytes([7; 16]);

pub(crate) fn dir() -> PathBuf {
    Path::new("/data/metadata").to_owned()
}

/// Remembers the topics of every image it hears of.
#[derive(Default)]
pub(crate) struct Heard(pub(crate) Mutex<Vec<Vec<String>>>);

impl ImageListener for Heard {
    fn apply(&self, image: &Arc<Image>, delta: &Delta) {
        assert!(!delta.is_empty() || image.next_producer_id() > 0);
        self.0.lock().unwrap().push(names(image));
    }
}

pub(crate) fn names(image: &Image) -> Vec<String> {
    image.topics().map(|topic| topic.name.to_string()).collect()
}

pub(crate) fn open_in(fs: Arc<dyn Fs>, dir: PathBuf, listener: Arc<Heard>) -> Result<Controller, OpenError> {
    let mut next = 0_u64;
    // Ids that differ between openings, as random ones do.
    let salt = fs.file_len(&dir.join("wal_0_0.log")).unwrap_or_default();
    Controller::open(Setup {
        fs,
        dir,
        node_id: NODE,
        cluster_id: CLUSTER,
        follows: false,
        advertised: Advertised::default(),
        static_config: Arc::new(StaticConfig::new(NODE, BTreeMap::new()).unwrap()),
        clock: Box::new(|| Timestamp::from_millis(1_000)),
        ids: Box::new(move || {
            next += 1;
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&salt.to_be_bytes());
            bytes[8..].copy_from_slice(&next.to_be_bytes());
            Uuid::from_random(bytes)
        }),
        listener,
    })
}

pub(crate) fn open(fs: &Arc<dyn Fs>) -> Result<Controller, OpenError> {
    open_in(Arc::clone(fs), dir(), Arc::default())
}

/// Submits from outside of any runtime.
pub(crate) fn submit(controller: &Controller, command: Command) -> Result<Outcome, ControllerError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(controller.submit(command))
}

pub(crate) fn register() -> Command {
    Command::RegisterBroker { node_id: NODE, host: "localhost".to_owned(), port: 9092, rack: None }
}

pub(crate) fn create(name: &str) -> Command {
    Command::CreateTopics { topics: vec![NewTopic::with_defaults(name)], validate_only: false }
}

/// Whether the only topic asked for was created.
pub(crate) fn is_created(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::TopicsCreated(topics) if topics.iter().all(|topic| topic.result.is_ok()))
}

pub(crate) fn message(error: OpenError) -> String {
    error.to_string()
}
