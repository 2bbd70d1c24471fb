//! A switch in this process: hosts of their own whose packets it delays, thins out, loses, or sends at a bounded pace. The kernel
//! of a small machine may have nothing for that. Needs root and `/dev/net/tun`.
//!
//! Each host is a network namespace with a TUN device; this process holds the other ends, and has a device for itself.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::hosts::{HERE, Host, Names, ip, remove};
use crate::seed::Random;

/// The most bytes that wait for their turn on a slow cable; more is lost, as on a real one.
const BACKLOG_BYTES_MAX: u64 = 256 << 10;
/// Bytes of the largest packet.
const PACKET_BYTES_MAX: usize = 2048;
/// How long a reader waits before it looks whether it is over.
const LOOK_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// What the switch does to packets from one host to another.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cable {
    /// How long each is on its way.
    pub delay: Duration,
    /// At most as much longer, at random: packets overtake each other.
    pub jitter: Duration,
    /// How fast they leave; none for at once.
    pub bits_per_second: Option<u64>,
    /// The part that is lost.
    pub loss: f64,
}

/// A packet on its way; the order is that of arrival.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct InFlight {
    due: Instant,
    number: u64,
    to: usize,
    bytes: Vec<u8>,
}

struct State {
    ended: bool,
    random: Random,
    /// By sender and receiver.
    cables: Vec<Vec<Cable>>,
    /// When the last packet on each has left.
    free_at: Vec<Vec<Instant>>,
    count: u64,
    in_flight: BinaryHeap<Reverse<InFlight>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    devices: Vec<File>,
    addresses: Vec<[u8; 4]>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it")
    }
}

/// Hosts on a switch.
pub struct Switch {
    hosts: Vec<Host>,
    device_here: String,
    shared: Option<Arc<Shared>>,
    threads: Vec<JoinHandle<()>>,
}

impl Switch {
    /// This many hosts, numbered from 0. What is random derives from the seed.
    pub fn of(count: usize, seed: u64) -> Self {
        let names = Names::fresh();
        // Complete from here on: whatever fails below, what is there by then is removed.
        let mut switch = Self { hosts: Vec::new(), device_here: names.name("t"), shared: None, threads: Vec::new() };
        let (mut devices, mut addresses) = (Vec::new(), Vec::new());
        for number in 1..=count {
            let (namespace, device) = (names.name(&format!("n{number}")), names.name(&format!("t{number}")));
            ip(&["netns", "add", &namespace]);
            let (address, here) = (names.address(number), names.address(HERE));
            switch.hosts.push(Host { namespace, address, here, plug: None });
            let Host { namespace, address, .. } = &switch.hosts[number - 1];
            devices.push(tun(&device));
            addresses.push(octets(address));
            ip(&["link", "set", &device, "netns", namespace]);
            ip(&["-n", namespace, "address", "add", &format!("{address}/24"), "dev", &device]);
            for interface in [&device, "lo"] {
                ip(&["-n", namespace, "link", "set", interface, "up"]);
            }
        }
        devices.push(tun(&switch.device_here));
        addresses.push(octets(&names.address(HERE)));
        ip(&["address", "add", &format!("{}/24", names.address(HERE)), "dev", &switch.device_here]);
        ip(&["link", "set", &switch.device_here, "up"]);
        let ports = devices.len();
        let state = State {
            ended: false,
            random: Random::from_parts(&[seed]),
            cables: vec![vec![Cable::default(); ports]; ports],
            free_at: vec![vec![Instant::now(); ports]; ports],
            count: 0,
            in_flight: BinaryHeap::new(),
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new(), devices, addresses });
        for port in 0..ports {
            let shared = Arc::clone(&shared);
            switch.threads.push(std::thread::spawn(move || take_packets(port, &shared)));
        }
        let delivering = Arc::clone(&shared);
        switch.threads.push(std::thread::spawn(move || deliver(&delivering)));
        switch.shared = Some(shared);
        switch
    }

    /// The host with this number.
    pub fn host(&self, number: usize) -> &Host {
        &self.hosts[number]
    }

    /// From now on this holds between the hosts, in both directions. Between them and this process it does not.
    pub fn between_hosts(&self, cable: Cable) {
        let mut state = self.shared.as_ref().expect("it runs").state();
        let hosts = self.hosts.len();
        for from in 0..hosts {
            state.cables[from][..hosts].fill(cable);
        }
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take() {
            if let Ok(mut state) = shared.state.lock() {
                state.ended = true;
            }
            shared.changed.notify_all();
        }
        for thread in self.threads.drain(..) {
            thread.join().ok();
        }
        for host in &self.hosts {
            remove(&["netns", "delete", &host.namespace]);
        }
        remove(&["link", "delete", &self.device_here]);
    }
}

/// Takes what one host sends and decides what becomes of it.
fn take_packets(port: usize, shared: &Shared) {
    let mut device = &shared.devices[port];
    let mut bytes = [0; PACKET_BYTES_MAX];
    loop {
        let mut waiting = [PollFd::new(device, PollFlags::IN)];
        let came = poll(&mut waiting, Some(&LOOK_EVERY)).is_ok_and(|count| count > 0);
        if shared.state().ended {
            return;
        }
        // A device that is down has nothing to read.
        let Some(packet) = came.then(|| device.read(&mut bytes).ok()).flatten().map(|length| &bytes[..length]) else {
            continue;
        };
        // IPv4 has its destination there; whatever else a system sends by itself is nobody's.
        let is_v4 = packet.first().is_some_and(|first| first >> 4 == 4);
        let Some(address) = packet.get(16..20).filter(|_| is_v4) else { continue };
        let Some(to) = shared.addresses.iter().position(|known| known == address) else { continue };
        send(port, to, packet, &mut shared.state());
        shared.changed.notify_all();
    }
}

fn send(from: usize, to: usize, packet: &[u8], state: &mut State) {
    let cable = state.cables[from][to];
    // Six digits of the part that is lost are enough.
    if (state.random.between(0, 1_000_000) as f64) < cable.loss * 1e6 {
        return;
    }
    let now = Instant::now();
    let mut leaves = now;
    if let Some(bits_per_second) = cable.bits_per_second {
        let free_at = state.free_at[from][to].max(now);
        let bits = u64::try_from(packet.len()).expect("a length") * 8;
        let backlog = Duration::from_micros(BACKLOG_BYTES_MAX * 8 * 1_000_000 / bits_per_second);
        if free_at > now + backlog {
            return;
        }
        leaves = free_at + Duration::from_micros(bits * 1_000_000 / bits_per_second);
        state.free_at[from][to] = leaves;
    }
    let jitter_us = u64::try_from(cable.jitter.as_micros()).expect("a short time");
    let jitter = Duration::from_micros(state.random.between(0, jitter_us + 1));
    state.count += 1;
    let number = state.count;
    state.in_flight.push(Reverse(InFlight { due: leaves + cable.delay + jitter, number, to, bytes: packet.to_vec() }));
}

/// Gives packets to their receivers when they are due.
fn deliver(shared: &Shared) {
    let mut state = shared.state();
    while !state.ended {
        let now = Instant::now();
        let due = state.in_flight.peek().map(|Reverse(next)| next.due);
        if due.is_some_and(|due| due <= now) {
            let Some(Reverse(packet)) = state.in_flight.pop() else { continue };
            drop(state);
            // A host whose device is down does not get it.
            (&shared.devices[packet.to]).write_all(&packet.bytes).ok();
            state = shared.state();
            continue;
        }
        let wait = due.map_or(Duration::from_secs(1), |due| due.duration_since(now));
        state = shared.changed.wait_timeout(state, wait).expect("nobody panics with it").0;
    }
}

fn octets(address: &str) -> [u8; 4] {
    address.parse::<std::net::Ipv4Addr>().expect("an address").octets()
}

/// A TUN device of this name, which is there as long as it is open.
fn tun(name: &str) -> File {
    /// `TUNSETIFF` of linux/if_tun.h.
    const SET_INTERFACE: rustix::ioctl::Opcode = rustix::ioctl::opcode::write::<i32>(b'T', 202);
    /// `IFF_TUN | IFF_NO_PI`: packets of IP and nothing before them.
    const PLAIN_PACKETS: i16 = 0x1001;
    let file = File::options().read(true).write(true).open("/dev/net/tun").expect("/dev/net/tun");
    // `struct ifreq`: sixteen bytes of name, then flags in a union of 24 bytes.
    let mut request = [0_u8; 40];
    assert!(name.len() < 16, "{name} is too long for an interface");
    request[..name.len()].copy_from_slice(name.as_bytes());
    request[16..18].copy_from_slice(&PLAIN_PACKETS.to_ne_bytes());
    // SAFETY: the kernel reads and writes one `struct ifreq`, which has 40 bytes, behind the pointer of this request.
    #[expect(unsafe_code, reason = "the only way to a TUN device is an ioctl, and no crate here has it")]
    let done =
        unsafe { rustix::ioctl::ioctl(&file, rustix::ioctl::Updater::<SET_INTERFACE, [u8; 40]>::new(&mut request)) };
    done.unwrap_or_else(|error| panic!("{name}: {error}"));
    file
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn bytes_take_as_long_as_the_cable_says() {
        let switch = Switch::of(2, 1);
        let (one, other) = (switch.host(0), switch.host(1));
        let listener = other.within(|| TcpListener::bind((other.address.as_str(), 0)).unwrap());
        let port = listener.local_addr().unwrap().port();
        // This process is on the switch as well.
        drop(TcpStream::connect((other.address.as_str(), port)).unwrap());
        drop(listener.accept().unwrap());
        let delay = Duration::from_millis(100);
        switch.between_hosts(Cable { delay, bits_per_second: Some(1_000_000), ..Cable::default() });
        let mut here = one.within(|| TcpStream::connect((other.address.as_str(), port)).unwrap());
        let mut there = listener.accept().unwrap().0;
        let mut round = |bytes: usize| {
            let started = Instant::now();
            let mut got = vec![0; bytes];
            here.write_all(&got).unwrap();
            there.read_exact(&mut got).unwrap();
            there.write_all(&[1]).unwrap();
            here.read_exact(&mut [0]).unwrap();
            started.elapsed()
        };
        let small = round(1);
        assert!((2 * delay..20 * delay).contains(&small), "{small:?} there and back");
        let large = round(100_000);
        assert!(large > Duration::from_millis(800), "{large:?} for 800,000 bits");
    }
}
