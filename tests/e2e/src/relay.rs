//! A relay between a leader and a receiver. It passes frames on both ways, and can change, drop or repeat them, stand still, or
//! break the connection.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

use crate::broker::steady_port;
use crate::link::Frame;

/// What becomes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is passed on, as it is by then.
    Pass,
    /// It is passed on twice.
    Repeat,
    /// It is not passed on.
    Drop,
    /// This many of its bytes are passed on, and the connection is closed.
    CutAfter(usize),
    /// It is passed on, and nothing after it until [`Relay::release`].
    PassAndHold,
}

/// Whose frames these are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Leader,
    Receiver,
}

type Rule = Box<dyn FnMut(&mut Frame) -> Fate + Send>;

#[derive(Default)]
struct State {
    /// Nothing passes.
    held: bool,
    /// It is over.
    ended: bool,
    /// What passes are bytes that cannot be understood, as under TLS: no rule applies.
    is_blind: bool,
    /// What decides on the leader's frames, and on the receiver's.
    rules: [Option<Rule>; 2],
    streams: Vec<TcpStream>,
    /// Every byte that passed or was asked to, both ways.
    seen: Vec<u8>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    released: Condvar,
    is_listening: AtomicBool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|error| panic!("a rule panicked: {error}"))
    }

    /// Waits while nothing may pass. Whether it goes on after that.
    fn wait(&self) -> bool {
        let state = self.released.wait_while(self.state(), |state| state.held && !state.ended);
        !state.expect("nobody panics with it").ended
    }
}

/// A relay at work, until it goes out of scope.
pub struct Relay {
    address: String,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// A relay to this receiver, with an address of its own.
    pub fn to(receiver: &str) -> Self {
        let address = format!("127.0.0.1:{}", steady_port());
        let listener = TcpListener::bind(&address).expect("a port that was free");
        let shared = Arc::new(Shared::default());
        shared.is_listening.store(true, Ordering::Relaxed);
        let thread = std::thread::spawn({
            let (shared, receiver) = (Arc::clone(&shared), receiver.to_owned());
            move || accept(&listener, &receiver, &shared)
        });
        Self { address, shared, thread: Some(thread) }
    }

    /// One that passes on whatever comes, without looking for frames.
    pub fn of_bytes(receiver: &str) -> Self {
        let relay = Self::to(receiver);
        relay.shared.state().is_blind = true;
        relay
    }

    /// Where the leader dials.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// From now on this decides on each frame of the leader's.
    pub fn rule(&self, rule: impl FnMut(&mut Frame) -> Fate + Send + 'static) {
        self.shared.state().rules[From::Leader as usize] = Some(Box::new(rule));
    }

    /// From now on this decides on each frame of the receiver's.
    pub fn rule_on_answers(&self, rule: impl FnMut(&mut Frame) -> Fate + Send + 'static) {
        self.shared.state().rules[From::Receiver as usize] = Some(Box::new(rule));
    }

    /// From now on everything passes.
    pub fn pass(&self) {
        self.shared.state().rules = [None, None];
    }

    /// From now on nothing passes, and nobody is told: as though the machine at the other end were gone.
    pub fn hold(&self) {
        self.shared.state().held = true;
    }

    /// What was held passes.
    pub fn release(&self) {
        self.shared.state().held = false;
        self.shared.released.notify_all();
    }

    /// Breaks every connection. Those that are made after it work.
    pub fn cut(&self) {
        for stream in self.shared.state().streams.drain(..) {
            stream.shutdown(Shutdown::Both).ok();
        }
    }

    /// Whether these bytes ever came by, in either direction.
    pub fn has_seen(&self, bytes: &[u8]) -> bool {
        let state = self.shared.state();
        assert!(!state.seen.is_empty(), "nothing came by");
        state.seen.windows(bytes.len()).any(|window| window == bytes)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Ok(mut state) = self.shared.state.lock() {
            state.ended = true;
        }
        self.shared.released.notify_all();
        self.shared.is_listening.store(false, Ordering::Relaxed);
        // Wakes the thread that accepts.
        TcpStream::connect(&self.address).ok();
        if let Ok(mut state) = self.shared.state.lock() {
            for stream in state.streams.drain(..) {
                stream.shutdown(Shutdown::Both).ok();
            }
        }
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn accept(listener: &TcpListener, receiver: &str, shared: &Arc<Shared>) {
    for leader in listener.incoming() {
        if !shared.is_listening.load(Ordering::Relaxed) {
            return;
        }
        let Ok(leader) = leader else { continue };
        // Where nobody listens the leader sees its connection closed.
        let Ok(follower) = TcpStream::connect(receiver) else { continue };
        connect(&leader, &follower, shared).expect("a connection");
    }
}

fn connect(leader: &TcpStream, follower: &TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    leader.set_nodelay(true)?;
    follower.set_nodelay(true)?;
    shared.state().streams.extend([leader.try_clone()?, follower.try_clone()?]);
    for (whose, from, to) in [(From::Leader, leader, follower), (From::Receiver, follower, leader)] {
        let (from, to, state) = (from.try_clone()?, to.try_clone()?, Arc::clone(shared));
        let pass = if shared.state().is_blind { pass_bytes } else { pass_frames };
        std::thread::spawn(move || close_after(|| pass(whose, &from, &to, &state), &from, &to));
    }
    Ok(())
}

fn close_after(pass: impl FnOnce() -> io::Result<()>, from: &TcpStream, to: &TcpStream) {
    // However it ends, both ends learn of it.
    pass().ok();
    from.shutdown(Shutdown::Both).ok();
    to.shutdown(Shutdown::Both).ok();
}

fn pass_bytes(_: From, mut from: &TcpStream, mut to: &TcpStream, shared: &Shared) -> io::Result<()> {
    let mut bytes = [0; 16 * 1024];
    loop {
        let read = from.read(&mut bytes)?;
        if read == 0 || !shared.wait() {
            return Ok(());
        }
        shared.state().seen.extend_from_slice(&bytes[..read]);
        to.write_all(&bytes[..read])?;
    }
}

fn pass_frames(whose: From, mut from: &TcpStream, mut to: &TcpStream, shared: &Shared) -> io::Result<()> {
    while let Some(mut frame) = Frame::read(&mut from)? {
        if !shared.wait() {
            return Ok(());
        }
        let fate = {
            let mut state = shared.state();
            state.seen.extend_from_slice(&frame.bytes);
            let fate = state.rules[whose as usize].as_mut().map_or(Fate::Pass, |rule| rule(&mut frame));
            state.held |= fate == Fate::PassAndHold;
            fate
        };
        match fate {
            Fate::Pass | Fate::PassAndHold => to.write_all(&frame.bytes)?,
            Fate::Repeat => to.write_all(&[&*frame.bytes, &*frame.bytes].concat())?,
            Fate::Drop => {}
            Fate::CutAfter(bytes) => return to.write_all(&frame.bytes[..bytes.min(frame.bytes.len())]),
        }
    }
    Ok(())
}
