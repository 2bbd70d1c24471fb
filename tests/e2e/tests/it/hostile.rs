//! Hostile input: the broker stays up, its memory stays bounded, and nobody else notices.

use std::io::Write as _;
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use chronik_e2e::broker::Broker;
use chronik_e2e::raw::{self, Connection, assert_code, assert_none};
use chronik_e2e::seed::Random;
use chronik_e2e::{batch, clients, process, wait};
use chronik_wire::messages::join_group_request::JoinGroupRequestProtocol;
use chronik_wire::messages::{FetchRequest, FindCoordinatorRequest, JoinGroupRequest, MetadataRequest, ProduceRequest};
use chronik_wire::{ApiKey, ErrorCode};

use crate::walk::{fetch_by_name, produce_by_name, produce_records};

const MIB: u64 = 1 << 20;

/// Somebody else's connection: it gets answers whatever the others do.
struct Bystander {
    connection: Connection,
    slowest: Duration,
}

impl Bystander {
    fn on(broker: &Broker) -> Self {
        Self { connection: Connection::open(broker.bootstrap()), slowest: Duration::ZERO }
    }

    fn is_served(&mut self) {
        let started = Instant::now();
        assert_none(self.connection.ask(3, &raw::hello()).error_code, "the bystander");
        self.slowest = self.slowest.max(started.elapsed());
    }
}

#[test]
fn garbage_closes_its_own_connection_only() {
    let mut random = Random::for_test("garbage");
    let mut broker = Broker::fresh();
    clients::create_topic(broker.bootstrap(), "untouched", 1, &[]);
    let mut bystander = Bystander::on(&broker);
    let before = process::resident_bytes(broker.pid());
    for _ in 0..2_000 {
        let mut connection = Connection::open(broker.bootstrap());
        let length = usize::try_from(random.between(1, 300)).unwrap();
        let mut bytes = random.bytes(length);
        // Half of them get past the size, a quarter past the API key as well.
        if random.draw().is_multiple_of(2) {
            let size = i32::try_from(bytes.len()).unwrap().to_be_bytes();
            if random.draw().is_multiple_of(2) && bytes.len() > 4 {
                let key = ApiKey::ALL[usize::try_from(random.draw() % 40).unwrap()];
                bytes[..2].copy_from_slice(&key.as_i16().to_be_bytes());
                bytes[2..4].copy_from_slice(&key.valid_versions().start().to_be_bytes());
            }
            bytes.splice(..0, size);
        }
        connection.send(&bytes).ok();
        connection.stream().shutdown(Shutdown::Write).ok();
        assert!(connection.is_closed(), "still open after {bytes:?}");
        if random.draw().is_multiple_of(64) {
            bystander.is_served();
        }
    }
    bystander.is_served();
    assert!(broker.runs());
    assert_eq!(clients::watermarks(broker.bootstrap(), "untouched", 0), (0, 0));
    let grown = process::resident_bytes(broker.pid()).saturating_sub(before);
    assert!(grown < 64 * MIB, "memory grew by {} MiB", grown / MIB);
}

#[test]
fn requests_with_flipped_bytes_never_end_the_broker() {
    let mut random = Random::for_test("flips");
    let mut broker = Broker::fresh();
    for words in ["corrupt", "invalid", "damage"] {
        broker.expect_log(words);
    }
    clients::create_topic(broker.bootstrap(), "flips", 1, &[]);
    let before = process::resident_bytes(broker.pid());
    let mut bystander = Bystander::on(&broker);
    let encode =
        |key: ApiKey, version: i16, body: &dyn Fn(&mut chronik_wire::Writer)| raw::frame(key, version, 1, |w| body(w));
    let frames = [
        encode(ApiKey::Produce, 9, &|w| {
            chronik_wire::Message::encode(&produce_by_name("flips", 0, 1, &[b"some value", b"another"]), w, 9).unwrap();
        }),
        encode(ApiKey::Fetch, 12, &|w| chronik_wire::Message::encode(&fetch_by_name("flips", 0, 0), w, 12).unwrap()),
        encode(ApiKey::Metadata, 9, &|w| chronik_wire::Message::encode(&MetadataRequest::default(), w, 9).unwrap()),
    ];
    for _ in 0..3_000 {
        let mut bytes = frames[usize::try_from(random.between(0, 3)).unwrap()].clone();
        for _ in 0..random.between(1, 4) {
            // The size stays: what is behind it is what matters here.
            let at = usize::try_from(random.between(4, u64::try_from(bytes.len()).unwrap())).unwrap();
            bytes[at] ^= 1 << (random.draw() % 8);
        }
        let mut connection = Connection::open(broker.bootstrap());
        connection.send(&bytes).ok();
        connection.stream().shutdown(Shutdown::Write).ok();
        // A flipped fetch may ask to wait for weeks, which is its right.
        connection.set_read_bound(Duration::from_millis(100));
        connection.is_closed();
    }
    bystander.is_served();
    assert!(broker.runs());
    let grown = process::resident_bytes(broker.pid()).saturating_sub(before);
    assert!(grown < 64 * MIB, "memory grew by {} MiB", grown / MIB);
    // Whatever got in is whole: a consumer reads it with checksums on.
    clients::read_all(broker.bootstrap(), "flips", 1);
}

#[test]
fn announced_sizes_cost_no_memory_and_bad_ones_close_the_connection() {
    let broker = Broker::fresh();
    let mut bystander = Bystander::on(&broker);
    let before = process::resident_bytes(broker.pid());
    for size in [-1, 0, i32::MIN, i32::MAX, 100 * 1024 * 1024 + 1] {
        let mut connection = Connection::open(broker.bootstrap());
        connection.send(&size.to_be_bytes()).unwrap();
        connection.send(&[0; 64]).ok();
        assert!(connection.is_closed(), "size {size}");
    }
    // As large as Kafka's `socket.request.max.bytes` allows, from many, and next to nothing behind it.
    let waiting: Vec<Connection> = (0..200)
        .map(|_| {
            let mut connection = Connection::open(broker.bootstrap());
            connection.send(&(100 * 1024 * 1024_i32).to_be_bytes()).unwrap();
            connection.send(&[0; 100]).unwrap();
            connection
        })
        .collect();
    bystander.is_served();
    let grown = process::resident_bytes(broker.pid()).saturating_sub(before);
    eprintln!("200 announcements of 100 MiB: {} KiB", grown / 1024);
    assert!(grown < 200 * 64 * 1024 + 4 * MIB, "memory grew by {} KiB", grown / 1024);
    drop(waiting);
}

#[test]
fn thousands_of_half_sent_requests_are_closed_in_time_and_cost_little() {
    process::raise_descriptor_limit(16_384);
    let broker = Broker::fresh_with(|setup| setup.under(&["prlimit", "--nofile=16384:16384"]));
    let mut bystander = Bystander::on(&broker);
    let before = process::resident_bytes(broker.pid());
    clients::create_topic(broker.bootstrap(), "honest", 1, &[]);
    let mut half: Vec<(Connection, Instant)> = Vec::new();
    for number in 0..5_000 {
        // An address may be limited; what is refused at once is closed, too.
        let Ok(mut connection) = Connection::try_open(broker.bootstrap()) else { continue };
        connection.send(&1_000_000_i32.to_be_bytes()).ok();
        connection.send(&[0; 100]).ok();
        half.push((connection, Instant::now()));
        if number % 500 == 0 {
            bystander.is_served();
        }
    }
    // An honest producer whose request is larger than what a connection may read without asking for memory.
    let mut honest = Connection::open(broker.bootstrap());
    let produced = honest.ask(9, &produce_by_name("honest", 0, 1, &[&[7; 500_000]]));
    assert_none(produced.responses[0].partition_responses[0].error_code, "the honest producer");
    let grown = process::resident_bytes_peak(broker.pid()).saturating_sub(before);
    eprintln!("{} half-sent requests: {} MiB", half.len(), grown / MIB);
    assert!(grown < 5_000 * (64 * 1024 + 100), "memory grew by {} MiB", grown / MIB);
    let bound = Duration::from_secs(45);
    for (number, (connection, opened)) in half.iter_mut().enumerate() {
        connection.set_read_bound(bound.saturating_sub(opened.elapsed()).max(Duration::from_millis(10)));
        assert!(connection.is_closed(), "number {number} is open after {:?}", opened.elapsed());
    }
    eprintln!("all closed; slowest answer to a bystander {:?}", bystander.slowest);
    bystander.is_served();
    wait::until_true("descriptors given back", Duration::from_secs(30), || process::descriptors(broker.pid()) < 500);
}

#[test]
fn large_requests_that_are_never_complete_stay_within_the_memory_budget() {
    let budget = 32 * MIB;
    // The budget is never below one request of the largest size, or that could never be served.
    let broker = Broker::fresh_with(|setup| {
        setup
            .set("queued.max.request.bytes", &budget.to_string())
            .set("socket.request.max.bytes", &(16 * MIB).to_string())
    });
    let before = process::resident_bytes(broker.pid());
    let chunk = vec![0; 1 << 20];
    let attackers: Vec<_> = (0..64)
        .map(|_| {
            let mut stream = TcpStream::connect(broker.bootstrap()).unwrap();
            stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
            let chunk = chunk.clone();
            std::thread::spawn(move || {
                stream.write_all(&(15 * 1024 * 1024_i32).to_be_bytes()).ok();
                // Eight of the fifteen MiB, as far as the broker takes them.
                (0..8).take_while(|_| stream.write_all(&chunk).is_ok()).count();
                stream
            })
        })
        .collect();
    let streams: Vec<TcpStream> = attackers.into_iter().map(|attacker| attacker.join().unwrap()).collect();
    let grown = process::resident_bytes_peak(broker.pid()).saturating_sub(before);
    eprintln!("64 requests of 15 MiB, 8 MiB sent of each: {} MiB", grown / MIB);
    assert!(grown < budget + budget / 2 + 64 * MIB / 4, "memory grew by {} MiB", grown / MIB);
    drop(streams);
    let mut bystander = Bystander::on(&broker);
    bystander.is_served();
}

#[test]
fn joins_that_wait_for_others_leave_the_request_memory_to_who_has_work() {
    let budget = 32 * MIB;
    let broker = Broker::fresh_with(|setup| {
        setup
            .set("queued.max.request.bytes", &budget.to_string())
            .set("socket.request.max.bytes", &(16 * MIB).to_string())
            .set("group.initial.rebalance.delay.ms", "300000")
    });
    clients::create_topic(broker.bootstrap(), "honest", 1, &[]);
    let mut honest = Connection::open(broker.bootstrap());
    let found = honest.ask(0, &FindCoordinatorRequest { key: "any".to_owned(), ..Default::default() });
    assert_none(found.error_code, "the coordinator");
    let join = |group: usize, protocols: usize, bytes: usize| JoinGroupRequest {
        group_id: format!("group-{group}"),
        session_timeout_ms: 300_000,
        rebalance_timeout_ms: 300_000,
        protocol_type: "consumer".to_owned(),
        protocols: (0..protocols)
            .map(|number| JoinGroupRequestProtocol { name: format!("p{number}"), metadata: vec![0; bytes].into() })
            .collect(),
        ..Default::default()
    };
    // More than the budget, from clients that wait for others to join.
    let waiting: Vec<Connection> = (0..12)
        .map(|group| {
            let mut connection = Connection::open(broker.bootstrap());
            connection.request(3, &join(group, 4, 950_000));
            connection
        })
        .collect();
    let produced = honest.ask(9, &produce_by_name("honest", 0, 1, &[&[7; 900_000]]));
    assert_none(produced.responses[0].partition_responses[0].error_code, "the honest producer");
    // More than a group could ever store is not kept at all.
    for (protocols, bytes) in [(1, 1_000_000), (5, 900_000)] {
        let refused = honest.ask(3, &join(100, protocols, bytes));
        assert_code(refused.error_code, ErrorCode::InvalidRequest, "a join of too many bytes");
    }
    drop(waiting);
}

#[test]
fn clients_that_go_away_while_their_fetch_waits_are_forgotten() {
    process::raise_descriptor_limit(4_096);
    let broker = Broker::fresh();
    clients::create_topic(broker.bootstrap(), "abandoned", 1, &[]);
    let before = process::descriptors(broker.pid());
    for _ in 0..300 {
        let mut connection = Connection::open(broker.bootstrap());
        connection.request(12, &FetchRequest { max_wait_ms: 3_600_000, ..fetch_by_name("abandoned", 0, 0) });
    }
    wait::until_true("descriptors given back", Duration::from_secs(30), || {
        process::descriptors(broker.pid()) < before + 50
    });
}

#[test]
fn a_fetch_of_more_partitions_than_anybody_has_does_not_wait() {
    let broker = Broker::fresh();
    clients::create_topic(broker.bootstrap(), "one", 1, &[]);
    let mut connection = Connection::open(broker.bootstrap());
    let mut fetch = FetchRequest { max_wait_ms: 3_600_000, ..fetch_by_name("one", 0, 0) };
    let partition = fetch.topics[0].partitions[0].clone();
    fetch.topics[0].partitions = vec![partition; 100_001];
    let fetched = connection.ask(12, &fetch);
    assert_eq!((fetched.session_id, fetched.responses[0].partitions.len()), (0, 100_001));
}

#[test]
fn running_out_of_descriptors_is_survived() {
    process::raise_descriptor_limit(4_096);
    let mut broker = Broker::fresh_with(|setup| setup.under(&["prlimit", "--nofile=256:256"]));
    broker.expect_log("accept");
    broker.expect_log("descriptor");
    broker.expect_log("open files");
    broker.expect_log("connections");
    clients::create_topic(broker.bootstrap(), "before", 1, &[]);
    let mut bystander = Bystander::on(&broker);
    let crowd: Vec<Connection> = (0..600).filter_map(|_| Connection::try_open(broker.bootstrap()).ok()).collect();
    bystander.is_served();
    let mut producing = Connection::try_open(broker.bootstrap()).ok();
    if let Some(connection) = &mut producing {
        connection.set_read_bound(Duration::from_millis(200));
    }
    let cpu = process::cpu_time(broker.pid());
    wait::window(Duration::from_secs(1));
    let used = process::cpu_time(broker.pid()) - cpu;
    assert!(used < Duration::from_millis(500), "spins while out of descriptors: {used:?} of CPU in 1 s");
    bystander.is_served();
    drop((crowd, producing));
    // Room again: who comes now is served.
    wait::until_true("a new connection served", Duration::from_secs(30), || {
        let Ok(mut connection) = Connection::try_open(broker.bootstrap()) else { return false };
        connection.set_read_bound(Duration::from_secs(1));
        let asked = connection.request(9, &MetadataRequest::default());
        matches!(connection.frame(), Ok(Some(_))) && asked > 0
    });
    let produced = Connection::open(broker.bootstrap()).ask(9, &produce_by_name("before", 0, -1, &[b"x"]));
    assert_none(produced.responses[0].partition_responses[0].error_code, "produce afterwards");
    assert!(broker.runs());
}

#[test]
fn malformed_batches_get_their_error_and_leave_nothing_behind() {
    let broker = Broker::fresh();
    clients::create_topic(broker.bootstrap(), "clean", 1, &[("max.message.bytes", "1048588")]);
    let mut connection = Connection::open(broker.bootstrap());
    let good = batch::of(&[b"one", b"two"]);
    let change = |change: &dyn Fn(&mut Vec<u8>), seal: bool| {
        let mut batch = good.clone();
        change(&mut batch);
        if seal {
            batch::seal(&mut batch);
        }
        batch
    };
    let cases: [(&str, Vec<u8>, ErrorCode); 11] = [
        ("a flipped bit", change(&|batch| batch[70] ^= 1, false), ErrorCode::CorruptMessage),
        (
            "a length below the header",
            change(&|batch| batch[8..12].copy_from_slice(&10_i32.to_be_bytes()), false),
            ErrorCode::CorruptMessage,
        ),
        ("magic 1", change(&|batch| batch[16] = 1, true), ErrorCode::InvalidRecord),
        ("magic 5", change(&|batch| batch[16] = 5, true), ErrorCode::CorruptMessage),
        ("two batches", [good.clone(), good.clone()].concat(), ErrorCode::InvalidRecord),
        (
            "a count that disagrees",
            change(&|batch| batch[57..61].copy_from_slice(&9_i32.to_be_bytes()), true),
            ErrorCode::InvalidRecord,
        ),
        (
            "a control batch",
            batch::with(batch::Header { attributes: 0x20, ..Default::default() }, &[b"x"]),
            ErrorCode::InvalidRecord,
        ),
        ("a cut batch", good[..good.len() - 1].to_vec(), ErrorCode::InvalidRecord),
        (
            "a count beyond the payload",
            change(
                &|batch| {
                    batch[23..27].copy_from_slice(&(i32::MAX - 1).to_be_bytes());
                    batch[57..61].copy_from_slice(&i32::MAX.to_be_bytes());
                },
                true,
            ),
            ErrorCode::InvalidRecord,
        ),
        (
            "a transaction that the request does not name",
            batch::with(batch::Header { attributes: 0x10, ..Default::default() }, &[b"x"]),
            ErrorCode::TransactionalIdAuthorizationFailed,
        ),
        ("too large", batch::of(&[&vec![7; 1_048_600]]), ErrorCode::MessageTooLarge),
    ];
    for (what, batch, expected) in cases {
        let produced = connection.ask(9, &produce_records("clean", 0, 1, batch));
        assert_code(produced.responses[0].partition_responses[0].error_code, expected, what);
    }
    assert_eq!(clients::watermarks(broker.bootstrap(), "clean", 0), (0, 0));
    let produced: <ProduceRequest as chronik_wire::Request>::Response =
        connection.ask(9, &produce_records("clean", 0, 1, good));
    assert_eq!(produced.responses[0].partition_responses[0].base_offset, 0);
    let fetched = connection.ask(12, &FetchRequest { max_wait_ms: 100, ..fetch_by_name("clean", 0, 0) });
    assert_none(fetched.responses[0].partitions[0].error_code, "fetch");
}
