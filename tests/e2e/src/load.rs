//! Producers that keep sending through kills and restarts and note every outcome in a ledger.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};

use crate::clients;
use crate::ledger::{Id, Ledger, Shape};

/// Longest wait for outstanding records once the load is told to end.
const FLUSH_BOUND: Duration = Duration::from_secs(120);

struct Notes {
    ledger: Arc<Mutex<Ledger>>,
    problems: Arc<Mutex<Vec<String>>>,
    pause: Arc<Mutex<Pause>>,
}

/// Time without any acknowledgement.
#[derive(Debug)]
struct Pause {
    last: Instant,
    longest: Duration,
}

impl Pause {
    fn acknowledged(&mut self) {
        let now = Instant::now();
        self.longest = self.longest.max(now.duration_since(self.last));
        self.last = now;
    }
}

impl Default for Pause {
    fn default() -> Self {
        Self { last: Instant::now(), longest: Duration::ZERO }
    }
}

impl ClientContext for Notes {
    fn log(&self, _: rdkafka::config::RDKafkaLogLevel, _: &str, _: &str) {}

    // Connections break in these tests; what counts is what becomes of the records.
    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
            self.problems.lock().unwrap().push(format!("fatal: {error}: {reason}"));
        }
    }
}

impl ProducerContext for Notes {
    type DeliveryOpaque = Box<Id>;

    fn delivery(&self, result: &DeliveryResult<'_>, id: Self::DeliveryOpaque) {
        let mut ledger = self.ledger.lock().unwrap();
        match result {
            Ok(message) => {
                ledger.acknowledged(*id, message.offset());
                self.pause.lock().unwrap().acknowledged();
            }
            Err((error, _)) => {
                ledger.unknown(*id);
                self.problems.lock().unwrap().push(format!("{id:?}: {error}"));
            }
        }
    }
}

/// Producers at work.
pub struct Load {
    ledger: Arc<Mutex<Ledger>>,
    problems: Arc<Mutex<Vec<String>>>,
    pause: Arc<Mutex<Pause>>,
    end: Arc<AtomicBool>,
    shape: Shape,
    workers: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts this many idempotent producers with `acks=all`.
    pub fn start(bootstrap: &str, topic: &str, producers: u32, shape: Shape) -> Self {
        Self::start_with(bootstrap, topic, producers, shape, &[])
    }

    /// Like [`Load::start`], with settings of the producers.
    pub fn start_with(bootstrap: &str, topic: &str, producers: u32, shape: Shape, settings: &[(&str, &str)]) -> Self {
        let mut load = Self {
            ledger: Arc::default(),
            problems: Arc::default(),
            pause: Arc::default(),
            end: Arc::default(),
            shape,
            workers: Vec::new(),
        };
        for producer in 0..producers {
            let notes =
                Notes { ledger: load.ledger.clone(), problems: load.problems.clone(), pause: load.pause.clone() };
            let (end, ledger) = (load.end.clone(), load.ledger.clone());
            let mut config = clients::config(bootstrap);
            config
                .set("enable.idempotence", "true")
                .set("acks", "all")
                .set("linger.ms", "2")
                .set("batch.num.messages", "50")
                .set("queue.buffering.max.messages", "400")
                .set("message.timeout.ms", "300000")
                .set("retry.backoff.ms", "20")
                .set("retry.backoff.max.ms", "100")
                // Each producer has its own codec, so that all of them go through every kill.
                .set("compression.type", ["none", "lz4", "snappy", "gzip", "zstd"][producer as usize % 5]);
            for (name, value) in settings {
                config.set(*name, *value);
            }
            let topic = topic.to_owned();
            load.workers.push(std::thread::spawn(move || {
                let client: BaseProducer<Notes> = config.create_with_context(notes).expect("a producer");
                let mut number = 0;
                while !end.load(Ordering::Relaxed) {
                    let id = Id { producer, number };
                    ledger.lock().unwrap().sent(producer, number + 1);
                    if !send(&client, &topic, id, shape) {
                        return;
                    }
                    number += 1;
                }
                client.flush(FLUSH_BOUND).expect("all outstanding records get an answer");
            }));
        }
        load
    }

    /// Number of records acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        self.ledger.lock().unwrap().count()
    }

    /// Forgets the pauses so far.
    pub fn watch_pauses(&self) {
        *self.pause.lock().unwrap() = Pause::default();
    }

    /// The longest time without any acknowledgement since [`Load::watch_pauses`], the one that lasts included.
    pub fn longest_pause(&self) -> Duration {
        let pause = self.pause.lock().unwrap();
        pause.longest.max(pause.last.elapsed())
    }

    /// The highest offset acknowledged so far in each partition.
    pub fn highest_acknowledged(&self) -> std::collections::BTreeMap<i32, i64> {
        self.ledger.lock().unwrap().highest(self.shape)
    }

    /// Whether a producer met an error after which it cannot send any more.
    pub fn is_stuck(&self) -> bool {
        self.problems.lock().unwrap().iter().any(|problem| problem.starts_with("fatal"))
    }

    /// What went wrong for producers so far.
    pub fn problems(&self) -> Vec<String> {
        self.problems.lock().unwrap().clone()
    }

    /// Ends the producers when all they sent has an outcome, and gives the ledger.
    pub fn finish(mut self) -> Ledger {
        self.end.store(true, Ordering::Relaxed);
        for worker in self.workers.drain(..) {
            worker.join().expect("a producer ends normally");
        }
        std::mem::take(&mut self.ledger.lock().unwrap())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // A failed test leaves without `finish`; its producers must not go on.
        self.end.store(true, Ordering::Relaxed);
    }
}

/// Whether the producer can go on.
fn send(client: &BaseProducer<Notes>, topic: &str, id: Id, shape: Shape) -> bool {
    let key = format!("producer-{}", id.producer);
    let value = shape.value(id);
    let mut record =
        BaseRecord::with_opaque_to(topic, Box::new(id)).partition(shape.partition(id)).key(&key).payload(&value);
    loop {
        match client.send(record) {
            Ok(()) => break,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), refused)) => {
                record = refused;
                client.poll(Duration::from_millis(20));
            }
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::Fatal), _)) => {
                let why = client.client().fatal_error();
                client.context().problems.lock().unwrap().push(format!("fatal at {id:?}: {why:?}"));
                return false;
            }
            Err((error, _)) => panic!("{id:?}: {error}"),
        }
    }
    client.poll(Duration::ZERO);
    true
}
