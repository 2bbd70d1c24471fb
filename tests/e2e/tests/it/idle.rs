//! A broker that has nothing to do does nothing.

use std::time::Duration;

use chronik_e2e::broker::Broker;
use chronik_e2e::raw::Connection;
use chronik_e2e::{clients, process, wait};
use chronik_wire::messages::{FetchRequest, ProduceRequest};

use crate::walk::{fetch_by_name, produce_by_name};

const WINDOW: Duration = Duration::from_secs(4);

#[test]
fn thousand_waiting_consumers_cost_no_cpu_and_all_wake() {
    process::raise_descriptor_limit(8_192);
    let broker = Broker::fresh();
    clients::create_topic(broker.bootstrap(), "idle", 10, &[]);
    let mut waiting: Vec<(Connection, i32)> = (0..1_000)
        .map(|number| {
            let mut connection = Connection::open(broker.bootstrap());
            let fetch = FetchRequest { max_wait_ms: 300_000, min_bytes: 1, ..fetch_by_name("idle", number % 10, 0) };
            let asked = connection.request(12, &fetch);
            (connection, asked)
        })
        .collect();
    // An answer here says that the broker has come round to everything sent before.
    clients::watermarks(broker.bootstrap(), "idle", 0);
    let resident = process::resident_bytes(broker.pid());
    let before = process::cpu_time(broker.pid());
    wait::window(WINDOW);
    let used = process::cpu_time(broker.pid()) - before;
    eprintln!("1,000 waiting consumers: {used:?} of CPU in {WINDOW:?}, {} MiB resident", resident >> 20);
    assert!(used < WINDOW / 40, "{used:?} of CPU in {WINDOW:?}");
    let mut producing = Connection::open(broker.bootstrap());
    for partition in 0..10 {
        let asked = producing.request(9, &produce_by_name("idle", partition, 1, &[b"wake"]));
        producing.response::<ProduceRequest>(9, asked);
    }
    for (connection, asked) in &mut waiting {
        let fetched = connection.response::<FetchRequest>(12, *asked);
        assert!(fetched.responses[0].partitions[0].records.is_some());
    }
}
