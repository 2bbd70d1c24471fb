//! A network of ordered byte streams that does what TCP allows and nothing else: bytes of one direction arrive in order,
//! in arbitrary pieces and at any time, or the stream ends; two streams promise each other nothing.
//!
//! Which ways are cut, which machines are down and what a stream still holds lives here. When a piece is tried again and
//! what its receiver makes of it is the world's.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use chronik_model::{Instant, NodeId};

use crate::random::Random;

/// One connection between two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// Which end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The end that asked for the connection.
    Dialler,
    /// The end that was asked.
    Acceptor,
}

impl Side {
    /// The end across.
    pub fn other(self) -> Self {
        match self {
            Self::Dialler => Self::Acceptor,
            Self::Acceptor => Self::Dialler,
        }
    }
}

/// One end of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct End {
    /// The connection.
    pub connection: ConnectionId,
    /// Which end of it.
    pub side: Side,
}

/// What waits in one direction of a stream.
#[derive(Clone, Debug)]
enum Item {
    /// The connection begins for its receiver.
    Opened,
    /// Some bytes.
    Bytes(Vec<u8>),
    /// The stream ends: in order, or torn down.
    Closed,
}

/// What reached an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Somebody dialled this node.
    Accepted(End, NodeId),
    /// The other side accepted.
    Connected(End),
    /// Nobody accepts there.
    Refused(End),
    /// Bytes, one piece of the stream.
    Bytes(End, Vec<u8>),
    /// The stream ended; nothing comes any more.
    Closed(End),
}

/// Try to deliver the head of this direction's queue at this time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// When.
    pub at: Instant,
    /// The end that would receive.
    pub to: End,
}

#[derive(Debug)]
struct Direction {
    items: VecDeque<(Instant, Item)>,
    bytes: usize,
    last_at: Instant,
    /// An attempt is planned.
    due: bool,
}

#[derive(Debug)]
struct Connection {
    dialler: NodeId,
    acceptor: NodeId,
    /// Towards the acceptor, towards the dialler.
    ways: [Direction; 2],
    /// Whether the dialler's and the acceptor's process still holds its end.
    open: [bool; 2],
    accepted: bool,
}

/// How the network behaves in one run.
#[derive(Clone, Debug)]
pub struct Behaviour {
    /// Shortest and longest time on the way, in milliseconds.
    pub delay_ms: (u64, u64),
    /// Bytes that one direction holds at most: the socket buffers of both ends.
    pub capacity_bytes: usize,
    /// Into how many pieces bytes sent at once are cut at most.
    pub pieces_max: u64,
}

/// All connections.
#[derive(Debug)]
pub struct Network {
    behaviour: Behaviour,
    random: Random,
    connections: BTreeMap<ConnectionId, Connection>,
    next: u64,
    cut: BTreeSet<(NodeId, NodeId)>,
    down: BTreeSet<NodeId>,
    paused: BTreeSet<NodeId>,
    listening: BTreeSet<NodeId>,
    extra_delay: Duration,
}

impl Network {
    /// Without connections; every way is free.
    pub fn new(behaviour: Behaviour, random: Random) -> Self {
        Self {
            behaviour,
            random,
            connections: BTreeMap::new(),
            next: 0,
            cut: BTreeSet::new(),
            down: BTreeSet::new(),
            paused: BTreeSet::new(),
            listening: BTreeSet::new(),
            extra_delay: Duration::ZERO,
        }
    }

    /// Says whether a node accepts connections.
    pub fn listen(&mut self, node: NodeId, listening: bool) {
        if listening {
            self.listening.insert(node)
        } else {
            self.listening.remove(&node)
        };
    }

    /// Bytes that can be sent from this end now without passing the capacity.
    pub fn room(&self, from: End) -> usize {
        let Some(connection) = self.connections.get(&from.connection) else { return 0 };
        self.behaviour.capacity_bytes.saturating_sub(connection.way_to(from.side.other()).bytes)
    }

    /// Whether this end still belongs to a process.
    pub fn is_open(&self, end: End) -> bool {
        self.connections.get(&end.connection).is_some_and(|connection| connection.open[index(end.side)])
    }

    /// The node at this end.
    pub fn node(&self, end: End) -> Option<NodeId> {
        self.connections.get(&end.connection).map(|connection| connection.node(end.side))
    }

    /// How many connections are known, dead ones with something on the way included.
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// Begins a connection. The dialler hears `Connected` or `Refused`, or nothing at all while the way is cut.
    pub fn dial(&mut self, from: NodeId, to: NodeId, now: Instant, due: &mut Vec<Due>) -> End {
        self.next += 1;
        let id = ConnectionId(self.next);
        let way = || Direction { items: VecDeque::new(), bytes: 0, last_at: now, due: false };
        let connection =
            Connection { dialler: from, acceptor: to, ways: [way(), way()], open: [true, false], accepted: false };
        self.connections.insert(id, connection);
        self.put(End { connection: id, side: Side::Acceptor }, Item::Opened, now, due);
        End { connection: id, side: Side::Dialler }
    }

    /// Sends bytes from an end, in pieces that chance decides. The caller stays within [`Network::room`].
    pub fn send(&mut self, from: End, bytes: Vec<u8>, now: Instant, due: &mut Vec<Due>) {
        if !self.is_open(from) {
            return;
        }
        let to = End { connection: from.connection, side: from.side.other() };
        let mut rest = bytes;
        for _ in 1..self.random.between(1, self.behaviour.pieces_max) {
            let at = usize::try_from(self.random.below(rest.len() as u64)).unwrap_or(0);
            if at > 0 {
                let tail = rest.split_off(at);
                self.put(to, Item::Bytes(rest), now, due);
                rest = tail;
            }
        }
        if !rest.is_empty() {
            self.put(to, Item::Bytes(rest), now, due);
        }
    }

    /// Closes an end in order: what was sent still arrives, then the stream ends for the other side.
    pub fn close(&mut self, end: End, now: Instant, due: &mut Vec<Due>) {
        let Some(connection) = self.connections.get_mut(&end.connection) else { return };
        if std::mem::take(&mut connection.open[index(end.side)]) {
            connection.way_mut(end.side).clear();
            self.put(End { connection: end.connection, side: end.side.other() }, Item::Closed, now, due);
        }
        self.forget_dead(end.connection);
    }

    /// Tears a connection down in the middle: what is on the way is lost, both ends hear that it ended.
    pub fn reset(&mut self, id: ConnectionId, now: Instant, due: &mut Vec<Due>) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        for way in &mut connection.ways {
            way.clear();
        }
        for side in [Side::Dialler, Side::Acceptor] {
            self.put(End { connection: id, side }, Item::Closed, now, due);
        }
    }

    /// Ends every process of a node. With `machine` nothing tells its peers, as when power goes; else the system
    /// closes its streams.
    pub fn stop(&mut self, node: NodeId, machine: bool, now: Instant, due: &mut Vec<Due>) {
        self.listening.remove(&node);
        self.paused.remove(&node);
        let ends: Vec<End> = self.ends_of(node);
        for end in ends {
            if !machine {
                self.close(end, now, due);
            } else if let Some(connection) = self.connections.get_mut(&end.connection) {
                connection.open[index(end.side)] = false;
                // What its own buffers held is gone; what is on the wire already cannot be told from it.
                connection.way_mut(end.side.other()).clear();
                self.forget_dead(end.connection);
            }
        }
        if machine {
            self.down.insert(node);
        }
    }

    /// A machine is there again.
    pub fn start(&mut self, node: NodeId, now: Instant, due: &mut Vec<Due>) {
        self.down.remove(&node);
        self.retry(now, due);
    }

    /// Stops a process without ending it, or lets it go on: nothing reaches it in between.
    pub fn pause(&mut self, node: NodeId, paused: bool, now: Instant, due: &mut Vec<Due>) {
        if paused {
            self.paused.insert(node)
        } else {
            self.paused.remove(&node)
        };
        self.retry(now, due);
    }

    /// Cuts one way between two nodes: streams stall, nothing is reset.
    pub fn cut(&mut self, from: NodeId, to: NodeId) {
        self.cut.insert((from, to));
    }

    /// Makes every piece sent from now on take this much longer.
    pub fn slow(&mut self, extra: Duration) {
        self.extra_delay = extra;
    }

    /// Frees every way.
    pub fn heal(&mut self, now: Instant, due: &mut Vec<Due>) {
        self.cut.clear();
        self.extra_delay = Duration::ZERO;
        self.retry(now, due);
    }

    /// Whether two nodes can talk both ways.
    pub fn connected(&self, one: NodeId, other: NodeId) -> bool {
        !self.cut.contains(&(one, other)) && !self.cut.contains(&(other, one))
    }

    /// The ids of all connections with an open end, oldest first.
    pub fn alive(&self) -> Vec<ConnectionId> {
        self.connections.iter().filter(|(_, connection)| connection.open.contains(&true)).map(|(id, _)| *id).collect()
    }

    /// Delivers the head of a direction, if it is due and its way is free.
    pub fn deliver(&mut self, to: End, now: Instant, due: &mut Vec<Due>) -> Option<Arrival> {
        let connection = self.connections.get_mut(&to.connection)?;
        let (receiver, sender) = (connection.node(to.side), connection.node(to.side.other()));
        let way = connection.way_mut(to.side);
        way.due = false;
        let blocked = self.cut.contains(&(sender, receiver))
            || self.down.contains(&receiver)
            || self.down.contains(&sender)
            || self.paused.contains(&receiver);
        if blocked {
            // Tried again when something changes.
            return None;
        }
        let (at, item) = way.items.pop_front()?;
        if at > now {
            way.items.push_front((at, item));
            way.plan(to, now, due);
            return None;
        }
        if let Item::Bytes(bytes) = &item {
            way.bytes -= bytes.len();
        }
        way.plan(to, now, due);
        let arrival = match item {
            Item::Opened if to.side == Side::Dialler => Some(Arrival::Connected(to)),
            Item::Opened if self.listening.contains(&receiver) => {
                connection.open[index(to.side)] = true;
                connection.accepted = true;
                Some(Arrival::Accepted(to, sender))
            }
            Item::Opened => None,
            Item::Bytes(bytes) if connection.open[index(to.side)] => Some(Arrival::Bytes(to, bytes)),
            Item::Closed if connection.open[index(to.side)] => {
                connection.open[index(to.side)] = false;
                let accepted = connection.accepted;
                let refused = to.side == Side::Dialler && !accepted;
                Some(if refused { Arrival::Refused(to) } else { Arrival::Closed(to) })
            }
            // Nobody is at this end: the sender is told so below.
            Item::Bytes(_) | Item::Closed => None,
        };
        let sender_end = End { connection: to.connection, side: to.side.other() };
        match &arrival {
            Some(Arrival::Accepted(..)) => self.put(sender_end, Item::Opened, now, due),
            None if connection.open[index(sender_end.side)] => {
                connection.way_mut(sender_end.side).clear();
                self.put(sender_end, Item::Closed, now, due);
            }
            _ => {}
        }
        self.forget_dead(to.connection);
        arrival
    }

    fn ends_of(&self, node: NodeId) -> Vec<End> {
        let mut ends = Vec::new();
        for (id, connection) in &self.connections {
            for side in [Side::Dialler, Side::Acceptor] {
                if connection.node(side) == node {
                    ends.push(End { connection: *id, side });
                }
            }
        }
        ends
    }

    fn put(&mut self, to: End, item: Item, now: Instant, due: &mut Vec<Due>) {
        let (from_ms, to_ms) = self.behaviour.delay_ms;
        let delay = self.random.millis(from_ms, to_ms) + self.extra_delay;
        let Some(connection) = self.connections.get_mut(&to.connection) else { return };
        let way = connection.way_mut(to.side);
        way.last_at = way.last_at.max(now + delay);
        if let Item::Bytes(bytes) = &item {
            way.bytes += bytes.len();
        }
        way.items.push_back((way.last_at, item));
        way.plan(to, now, due);
    }

    fn retry(&mut self, now: Instant, due: &mut Vec<Due>) {
        for (id, connection) in &mut self.connections {
            for side in [Side::Dialler, Side::Acceptor] {
                connection.way_mut(side).plan(End { connection: *id, side }, now, due);
            }
        }
    }

    fn forget_dead(&mut self, id: ConnectionId) {
        let dead = self.connections.get(&id).is_some_and(|connection| connection.open == [false, false]);
        if dead {
            self.connections.remove(&id);
        }
    }
}

fn index(side: Side) -> usize {
    match side {
        Side::Dialler => 0,
        Side::Acceptor => 1,
    }
}

impl Direction {
    fn clear(&mut self) {
        self.items.clear();
        self.bytes = 0;
    }

    /// Plans one attempt for the head, where none is planned.
    fn plan(&mut self, to: End, now: Instant, due: &mut Vec<Due>) {
        if let Some((at, _)) = self.items.front().filter(|_| !self.due) {
            self.due = true;
            due.push(Due { at: (*at).max(now), to });
        }
    }
}

impl Connection {
    fn node(&self, side: Side) -> NodeId {
        match side {
            Side::Dialler => self.dialler,
            Side::Acceptor => self.acceptor,
        }
    }

    fn way_to(&self, receiver: Side) -> &Direction {
        &self.ways[index(receiver.other())]
    }

    fn way_mut(&mut self, receiver: Side) -> &mut Direction {
        &mut self.ways[index(receiver.other())]
    }
}

#[cfg(test)]
mod tests;
