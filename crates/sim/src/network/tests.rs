//! Streams keep their order, stall without loss, and end for whoever is left.

use super::*;
use crate::schedule::Schedule;

const A: NodeId = NodeId::new(1);
const B: NodeId = NodeId::new(2);

struct Wire {
    network: Network,
    schedule: Schedule<End>,
    arrived: Vec<Arrival>,
}

impl Wire {
    fn new(seed: u64) -> Self {
        let behaviour = Behaviour { delay_ms: (0, 20), capacity_bytes: 1 << 16, pieces_max: 5 };
        let mut network = Network::new(behaviour, Random::new(seed, "network"));
        network.listen(B, true);
        Self { network, schedule: Schedule::new(), arrived: Vec::new() }
    }

    fn act<T>(&mut self, act: impl FnOnce(&mut Network, Instant, &mut Vec<Due>) -> T) -> T {
        let mut due = Vec::new();
        let result = act(&mut self.network, self.schedule.now(), &mut due);
        for due in due {
            self.schedule.at(due.at, due.to);
        }
        result
    }

    fn run(&mut self, ms: u64) {
        let end = self.schedule.now() + Duration::from_millis(ms);
        while let Some(to) = self.schedule.take_before(end) {
            let arrival = self.act(|network, now, due| network.deliver(to, now, due));
            self.arrived.extend(arrival);
        }
    }

    fn open(&mut self) -> End {
        let end = self.act(|network, now, due| network.dial(A, B, now, due));
        self.run(100);
        let across = End { connection: end.connection, side: Side::Acceptor };
        assert_eq!(std::mem::take(&mut self.arrived), [Arrival::Accepted(across, A), Arrival::Connected(end)]);
        end
    }

    fn bytes(&self) -> Vec<u8> {
        let pieces = self.arrived.iter().filter_map(|arrival| match arrival {
            Arrival::Bytes(_, bytes) => Some(bytes.clone()),
            _ => None,
        });
        pieces.flatten().collect()
    }
}

#[test]
fn bytes_arrive_in_order_and_in_pieces() {
    for seed in 0..50 {
        let mut wire = Wire::new(seed);
        let end = wire.open();
        for part in 0..10_u8 {
            wire.act(|network, now, due| network.send(end, vec![part; 10], now, due));
            wire.run(3);
        }
        wire.run(1_000);
        let sent: Vec<u8> = (0..10_u8).flat_map(|part| [part; 10]).collect();
        assert_eq!(wire.bytes(), sent);
    }
}

#[test]
fn a_cut_way_stalls_and_then_delivers_everything() {
    let mut wire = Wire::new(1);
    let end = wire.open();
    wire.network.cut(A, B);
    wire.act(|network, now, due| network.send(end, vec![7; 100], now, due));
    wire.run(10_000);
    assert!(wire.arrived.is_empty() && wire.network.room(end) == (1 << 16) - 100);
    wire.act(Network::heal);
    wire.run(100);
    assert_eq!((wire.bytes(), wire.network.room(end)), (vec![7; 100], 1 << 16));
}

#[test]
fn a_reset_loses_what_is_on_the_way_and_ends_both_sides() {
    let mut wire = Wire::new(2);
    let end = wire.open();
    wire.act(|network, now, due| network.send(end, vec![7; 100], now, due));
    wire.act(|network, now, due| network.reset(end.connection, now, due));
    wire.run(100);
    assert_eq!(wire.arrived.iter().filter(|arrival| matches!(arrival, Arrival::Closed(_))).count(), 2);
    assert_eq!((wire.bytes(), wire.network.len()), (vec![], 0));
}

#[test]
fn a_dead_machine_is_silent_until_it_is_back_and_then_resets() {
    let mut wire = Wire::new(3);
    let end = wire.open();
    wire.act(|network, now, due| network.stop(B, true, now, due));
    wire.act(|network, now, due| network.send(end, vec![7; 100], now, due));
    wire.run(60_000);
    assert!(wire.arrived.is_empty(), "half-open: {:?}", wire.arrived);
    wire.act(|network, now, due| network.start(B, now, due));
    wire.run(100);
    assert_eq!(wire.arrived, [Arrival::Closed(end)]);
}

#[test]
fn a_killed_process_closes_its_streams_and_nobody_accepts_there() {
    let mut wire = Wire::new(4);
    let end = wire.open();
    wire.act(|network, now, due| network.stop(B, false, now, due));
    wire.run(100);
    let again = wire.act(|network, now, due| network.dial(A, B, now, due));
    wire.run(100);
    assert_eq!(wire.arrived, [Arrival::Closed(end), Arrival::Refused(again)]);
}
