//! Networks that come apart between hosts, and what clients may see of it.

use std::time::Duration;

use chronik_e2e::broker::{Broker, Setup};
use chronik_e2e::hosts::{Network, part};
use chronik_e2e::ledger::{Ledger, Shape};
use chronik_e2e::load::Load;
use chronik_e2e::pair::CATCH_UP_BOUND;
use chronik_e2e::place::Place;
use chronik_e2e::raw::{Connection, assert_code};
use chronik_e2e::seed::Random;
use chronik_e2e::status::{Status, promote, wait_until_streaming};
use chronik_e2e::switch::{Cable, Switch};
use chronik_e2e::{clients, segments, view, wait};
use chronik_wire::ErrorCode;
use chronik_wire::messages::InitProducerIdRequest;
use tempfile::TempDir;

use super::sync::sync;
use super::{BOUND, produce, produce_code};
use crate::walk::produce_by_name;

/// What a broken link logs after a minute.
const SILENCE: &str = "No data received for 60s, closing connection";
/// A minute, and time to notice on a slow machine.
const SILENCE_BOUND: Duration = Duration::from_secs(100);

fn brisk(setup: Setup) -> Setup {
    setup.set("replication.heartbeat.interval.ms", "500").set("replica.lag.time.max.ms", "2000")
}

fn shape(random: &mut Random) -> Shape {
    Shape { seed: random.draw(), partitions: 3, value_bytes_max: 500 }
}

fn reach(load: &Load, records: usize) {
    let goal = load.acknowledged() + records;
    wait::until_true("records acknowledged", BOUND, || {
        assert!(!load.is_stuck(), "a producer cannot go on: {:?}", load.problems());
        load.acknowledged() >= goal
    });
}

fn finished(load: Load) -> Ledger {
    let problems = load.problems();
    let ledger = load.finish();
    assert!(problems.is_empty(), "{problems:?}");
    ledger
}

fn caught_up(leader: &Broker, followers: &[(&Broker, &Place)]) {
    for (follower, place) in followers {
        wait_until_streaming(leader, &place.receiver, CATCH_UP_BOUND);
        segments::wait_until_same(leader.data(), follower.data(), CATCH_UP_BOUND);
    }
}

/// A leader and two followers on three hosts; a follower is cut off for more than a minute.
///
/// Clients may see: on the leader and the other follower nothing at all; on the one that is cut off what it had, for as long as it
/// lasts, never less; no write there. Afterwards everything is everywhere.
#[test]
fn follower_that_is_cut_off_is_read_meanwhile_and_catches_up() {
    let mut random = Random::for_test("full partition");
    let network = Network::of(3);
    let folder = TempDir::new().unwrap();
    let places = [0, 1, 2].map(|number| network.host(number).place(folder.path()));
    let leader = brisk(places[0].leading(&[&places[1].receiver, &places[2].receiver])).start();
    let cut_off = brisk(places[1].following()).start();
    let near = brisk(places[2].following()).start();
    let shape = shape(&mut random);
    clients::create_topic(&places[0].kafka, "load", shape.partitions, &[("segment.bytes", "1048576")]);
    let watch = view::Watch::start(&places[1].kafka, "load", shape.partitions);
    let load = Load::start(&places[0].kafka, "load", 2, shape);
    reach(&load, 1_000);
    wait::until_true("some records there", BOUND, || {
        view::bounds(&places[1].kafka, "load", 0).is_ok_and(|(_, end)| end > 0)
    });
    part(network.host(0), network.host(1));
    reach(&load, 2_000);
    // A burst is enough: the minute that follows is for the link.
    let ledger = finished(load);
    caught_up(&leader, &[(&near, &places[2])]);
    let (_, had) = view::bounds(&places[1].kafka, "load", 0).unwrap();
    assert!(had < view::bounds(&places[0].kafka, "load", 0).unwrap().1, "it lacks what came after the cut");
    assert_eq!(view::end_of(&view::read_all(&places[1].kafka, "load", 0)), had, "what it had is read");
    assert_code(produce_code(&places[1].kafka, "load", 0, 1), ErrorCode::NotLeaderOrFollower, "a write there");
    segments::assert_prefix(cut_off.data(), leader.data());
    // Nobody says that the other end is gone; both find out.
    for broker in [&leader, &cut_off] {
        wait::until_true("a half-open link noticed", SILENCE_BOUND, || broker.log_text().contains(SILENCE));
    }
    assert_ne!(Status::of(&leader).follower(&places[1].receiver).state(), "streaming");
    assert!(!near.log_text().contains(SILENCE), "an idle link with heartbeats stays");
    let cut_off_id = Status::of(&cut_off).node_id();
    wait::until_true("the follower to name itself", BOUND, || {
        view::partition(&places[1].kafka, "load", 0).leader_id == cut_off_id
    });
    assert_eq!(view::bounds(&places[1].kafka, "load", 0), Ok((0, had)));
    network.heal();
    clients::create_topic(&places[0].kafka, "more", shape.partitions, &[]);
    let load = Load::start(&places[0].kafka, "more", 1, shape);
    reach(&load, 100);
    let more = finished(load);
    caught_up(&leader, &[(&cut_off, &places[1]), (&near, &places[2])]);
    watch.finish();
    ledger.check(&places[0].kafka, "load", shape);
    more.check(&places[0].kafka, "more", shape);
}

/// A producer begins at a follower that does not reach its leader.
///
/// Clients may see: the connection to the follower is closed where an answer needs the leader, so that they ask another broker.
#[test]
fn producer_that_knows_only_a_follower_that_is_cut_off_finds_the_leader() {
    let mut random = Random::for_test("begin at a follower");
    let network = Network::of(2);
    let folder = TempDir::new().unwrap();
    let places = [0, 1].map(|number| network.host(number).place(folder.path()));
    let leader = brisk(places[0].leading(&[&places[1].receiver])).start();
    let follower = brisk(places[1].following()).start();
    let shape = shape(&mut random);
    clients::create_topic(&places[0].kafka, "load", shape.partitions, &[]);
    for partition in 0..shape.partitions {
        view::wait_for_bounds(&places[1].kafka, "load", partition, (0, 0), BOUND);
    }
    part(network.host(0), network.host(1));
    let mut connection = Connection::open(&places[1].kafka);
    let identity =
        InitProducerIdRequest { transactional_id: None, transaction_timeout_ms: 60_000, ..Default::default() };
    assert_eq!(connection.try_ask(4, &identity).unwrap(), None, "an id that only the leader has");
    // Clients choose by chance whom they ask.
    for producer in 0..4 {
        let load = Load::start(&places[1].kafka, "load", 1, Shape { seed: shape.seed + producer, ..shape });
        reach(&load, 100);
        finished(load);
    }
    network.heal();
    caught_up(&leader, &[(&follower, &places[1])]);
}

/// One direction of a link fails, then the other one, in sync mode.
///
/// Clients may see: `acks=all` waits until the follower has left the ISR, then goes on; nothing acknowledged is ever missing.
#[test]
fn link_that_fails_one_way_takes_the_follower_out_of_the_isr_and_loses_nothing() {
    let mut random = Random::for_test("one way");
    let network = Network::of(2);
    let folder = TempDir::new().unwrap();
    let places = [0, 1].map(|number| network.host(number).place(folder.path()));
    let mut leader = sync(places[0].leading(&[&places[1].receiver])).start();
    let follower = sync(places[1].following()).start();
    let shape = shape(&mut random);
    clients::create_topic(&places[0].kafka, "load", shape.partitions, &[("segment.bytes", "1048576")]);
    let load = Load::start(&places[0].kafka, "load", 2, shape);
    let isr = |replicas: usize| {
        wait::until_true("the ISR", BOUND, || {
            let told = view::metadata(&places[0].kafka, Some("load"));
            told.topics[0].partitions.iter().all(|partition| partition.isr_nodes.len() == replicas)
        });
    };
    for (from, to) in [(0, 1), (1, 0)] {
        reach(&load, 300);
        isr(2);
        network.host(to).drop_from(network.host(from));
        isr(1);
        reach(&load, 300);
        segments::assert_prefix(follower.data(), leader.data());
        network.heal();
        // An open stream goes on where it stood, or a new one is made.
        isr(2);
    }
    let ledger = finished(load);
    caught_up(&leader, &[(&follower, &places[1])]);
    ledger.check(&places[0].kafka, "load", shape);
    leader.kill();
    ledger.check(&places[1].kafka, "load", shape);
}

/// A cable that comes and goes, and resets of every connection.
///
/// Clients of the leader may see nothing of it; the follower's high watermark never goes back.
#[test]
fn link_that_flaps_leaves_identical_logs() {
    let mut random = Random::for_test("flapping");
    let network = Network::of(2);
    let folder = TempDir::new().unwrap();
    let places = [0, 1].map(|number| network.host(number).place(folder.path()));
    let mut leader = brisk(places[0].leading(&[&places[1].receiver])).start();
    let follower = brisk(places[1].following()).start();
    let shape = shape(&mut random);
    clients::create_topic(&places[0].kafka, "load", shape.partitions, &[("segment.bytes", "1048576")]);
    let load = Load::start(&places[0].kafka, "load", 2, shape);
    let watch = view::Watch::start(&places[0].kafka, "load", shape.partitions);
    let told = || view::bounds(&places[1].kafka, "load", 0).map_or(0, |(_, end)| end);
    let dialled = || Status::of(&leader).follower(&places[1].receiver).number("reconnects");
    for round in 0..7 {
        // The follower's cable is pulled; this process reaches the leader all the same.
        network.host(1).unplug();
        wait::window(Duration::from_millis(random.between(50, 350)));
        network.host(1).plug_in();
        if round % 3 == 0 {
            let (before, end) = (dialled(), told());
            wait::until_true("the stream to go on", BOUND, || told() > end);
            network.host(1).reset_from(network.host(0));
            wait::until_true("the reset noticed", BOUND, || {
                Status::of(&leader).follower(&places[1].receiver).state() != "streaming" || dialled() > before
            });
            network.heal();
        }
        wait::window(Duration::from_millis(random.between(50, 350)));
    }
    reach(&load, 100);
    let ledger = finished(load);
    caught_up(&leader, &[(&follower, &places[1])]);
    watch.finish();
    ledger.check(&places[0].kafka, "load", shape);
    eprintln!("{} reconnects", Status::of(&leader).follower(&places[1].receiver).number("reconnects"));
    leader.kill();
    ledger.check(&places[1].kafka, "load", shape);
}

/// A twentieth of the packets is lost both ways, in sync mode.
///
/// Clients may see slower acknowledgements, and nothing else.
#[test]
fn link_that_loses_a_twentieth_of_its_packets_only_becomes_slower() {
    let mut random = Random::for_test("packet loss");
    let network = Network::of(2);
    let folder = TempDir::new().unwrap();
    let places = [0, 1].map(|number| network.host(number).place(folder.path()));
    let mut leader = sync(places[0].leading(&[&places[1].receiver])).start();
    let follower = sync(places[1].following()).start();
    let shape = shape(&mut random);
    clients::create_topic(&places[0].kafka, "load", shape.partitions, &[("segment.bytes", "1048576")]);
    network.host(0).lose_from(network.host(1), 0.05);
    network.host(1).lose_from(network.host(0), 0.05);
    let load = Load::start(&places[0].kafka, "load", 2, shape);
    load.watch_pauses();
    reach(&load, 3_000);
    eprintln!("the longest pause with packets lost was {:?}", load.longest_pause());
    let ledger = finished(load);
    caught_up(&leader, &[(&follower, &places[1])]);
    network.heal();
    leader.kill();
    ledger.check(&places[1].kafka, "load", shape);
}

/// The old leader is cut off from everybody else, and a follower is promoted meanwhile. Sync mode, min.insync.replicas 2, so
/// that a leader without followers acknowledges nothing.
///
/// Clients may see: beside the old leader no acknowledgement of `acks=all` and no record that was not committed before the cut;
/// beside the new one everything that was ever acknowledged, and new records. When the network is whole again the old leader is
/// fenced, and what only it had is cut.
#[test]
fn old_leader_that_is_hidden_while_a_follower_is_promoted_acknowledges_nothing() {
    let mut random = Random::for_test("hidden leader");
    let network = Network::of(3);
    let folder = TempDir::new().unwrap();
    let places = [0, 1, 2].map(|number| network.host(number).place(folder.path()));
    let mut old = sync(places[0].leading(&[&places[1].receiver])).start();
    let new = sync(places[1].following())
        .env("CHRONIK_REPLICATION_FOLLOWERS", &format!("{},{}", places[2].receiver, places[0].receiver))
        .start();
    let third = sync(places[2].following()).start();
    let shape = shape(&mut random);
    let settings = [("segment.bytes", "1048576"), ("min.insync.replicas", "2")];
    clients::create_topic(&places[0].kafka, "load", shape.partitions, &settings);
    let everybody = format!("{},{},{}", places[0].kafka, places[1].kafka, places[2].kafka);
    // A request to a host that is gone is given up soon.
    let load = Load::start_with(&everybody, "load", 2, shape, &[("socket.timeout.ms", "3000")]);
    reach(&load, 1_000);
    // From now on the old leader has only its own host, and whoever is on it. This process' clients are with the others.
    for other in [1, 2] {
        part(network.host(0), network.host(other));
    }
    network.host(0).drop_from_here();
    let beside_the_old = |acks: i16| {
        let request = chronik_wire::messages::ProduceRequest {
            timeout_ms: 2_000,
            ..produce_by_name("load", 0, acks, &[b"beside the old leader"])
        };
        network.host(0).within(|| {
            let mut connection = Connection::open(&places[0].kafka);
            connection.set_read_bound(BOUND);
            connection.ask(9, &request).responses[0].partition_responses[0].error_code
        })
    };
    let told_by_the_old = || network.host(0).within(|| view::bounds(&places[0].kafka, "load", 0).unwrap().1);
    assert_ne!(beside_the_old(-1), 0, "an acknowledgement that nobody else confirms");
    wait::until_true("the old leader alone in its ISR", BOUND, || {
        network.host(0).within(|| view::partition(&places[0].kafka, "load", 0).isr_nodes.len() == 1)
    });
    assert_code(beside_the_old(-1), ErrorCode::NotEnoughReplicas, "acks=all beside the old leader");
    // acks=1 says what it says.
    assert_eq!(beside_the_old(1), 0);
    let seen = told_by_the_old();
    load.watch_pauses();
    let promotion = promote(&new);
    reach(&load, 1_000);
    eprintln!("promoted in {:?} with the old leader hidden; pause {:?}", promotion.took(), load.longest_pause());
    assert!(promotion.took() < Duration::from_secs(1), "{promotion:?}");
    assert_eq!(told_by_the_old(), seen, "no record that is not committed");
    assert_ne!(beside_the_old(-1), 0, "two leaders, and the old one acknowledges nothing");
    network.heal();
    wait::until_true("the old leader to know", BOUND, || Status::of(&old).role() == "fenced");
    assert_code(beside_the_old(1), ErrorCode::NotLeaderOrFollower, "a fenced leader");
    reach(&load, 300);
    let ledger = finished(load);
    ledger.check(&places[1].kafka, "load", shape);
    assert!(old.stop().success());
    old.change(|_| sync(places[0].following()));
    old.start();
    caught_up(&new, &[(&old, &places[0]), (&third, &places[2])]);
    let kept = segments::cut_files(old.data());
    assert!(!kept.is_empty(), "what was told by acks=1 is kept aside");
}

/// A link of 200 ms each way that carries 1 Mbit/s.
///
/// Clients of an async leader may see nothing of it; lag, round trip and an estimate are told, and it catches up.
#[test]
fn slow_and_distant_follower_is_followed_by_numbers_and_catches_up() {
    let mut random = Random::for_test("slow link");
    let switch = Switch::of(2, random.draw());
    let folder = TempDir::new().unwrap();
    let places = [0, 1].map(|number| switch.host(number).place(folder.path()));
    let leader = brisk(places[0].leading(&[&places[1].receiver])).start();
    let follower = brisk(places[1].following()).start();
    clients::create_topic(&places[0].kafka, "far", 1, &[]);
    produce(&places[0].kafka, "far", 0, -1, &[b"before"]);
    caught_up(&leader, &[(&follower, &places[1])]);
    let delay = Duration::from_millis(200);
    let jitter = Duration::from_millis(20);
    switch.between_hosts(Cable { delay, jitter, bits_per_second: Some(1_000_000), loss: 0.0 });
    let value = random.bytes(20_000);
    let started = std::time::Instant::now();
    for _ in 0..30 {
        produce(&places[0].kafka, "far", 0, -1, &[&value]);
    }
    let took = started.elapsed();
    eprintln!("600 kB acknowledged in {took:?} beside a link of 1 Mbit/s");
    assert!(took < Duration::from_secs(3), "{took:?}: the link would have taken five seconds");
    let link = wait::until("a lag", BOUND, || {
        let link = Status::of(&leader).follower(&places[1].receiver);
        (link.lag_records() > 0 && link.number("lag_bytes") > 0).then_some(link)
    });
    eprintln!("{link:?}");
    segments::assert_prefix(follower.data(), leader.data());
    view::wait_for_bounds(&places[1].kafka, "far", 0, (0, 31), BOUND);
    caught_up(&leader, &[(&follower, &places[1])]);
    wait::until_true("a round trip", BOUND, || {
        let trip = Status::of(&leader).follower(&places[1].receiver).round_trip();
        trip.is_some_and(|trip| (2 * delay..10 * delay).contains(&trip))
    });
    // What arrives out of order or not at all is the kernel's business.
    switch.between_hosts(Cable { delay, jitter, bits_per_second: None, loss: 0.01 });
    for _ in 0..10 {
        produce(&places[0].kafka, "far", 0, -1, &[&value]);
    }
    view::wait_for_bounds(&places[1].kafka, "far", 0, (0, 41), BOUND);
    caught_up(&leader, &[(&follower, &places[1])]);
}

/// The name of a follower stands for another address when the leader dials again.
#[test]
fn follower_that_moves_to_another_address_is_found_by_its_name() {
    let network = Network::of(3);
    let folder = TempDir::new().unwrap();
    let places = [0, 1, 2].map(|number| network.host(number).place(folder.path()));
    let names = network.host(0).own_names(&[("follower.test", &network.host(1).address)]);
    let mut leader = brisk(places[0].leading(&["follower.test:15432"])).start();
    let mut follower = brisk(places[1].following()).start();
    clients::create_topic(&places[0].kafka, "moves", 1, &[]);
    produce(&places[0].kafka, "moves", 0, -1, &[b"here"]);
    view::wait_for_bounds(&places[1].kafka, "moves", 0, (0, 1), BOUND);
    assert!(follower.stop().success());
    names.change(&[("follower.test", &network.host(2).address)]);
    // The same node, on another host.
    let moved = Place { data: places[1].data.clone(), ..places[2].clone() };
    follower.change(|_| brisk(moved.following()));
    follower.start();
    produce(&places[0].kafka, "moves", 0, -1, &[b"there"]);
    view::wait_for_bounds(&moved.kafka, "moves", 0, (0, 2), BOUND);
    segments::wait_until_same(leader.data(), follower.data(), CATCH_UP_BOUND);
    assert!(leader.runs());
}
