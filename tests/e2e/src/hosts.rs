//! Hosts of their own on one machine: network namespaces on a bridge, whose packets can be dropped. Needs root.
//!
//! Names and addresses are this process' own, and everything is removed when the network goes out of scope: declare it before
//! the brokers that run on it. This process is on the network as well, so its clients reach every host.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::place::Place;
use crate::seed::Random;

/// A host on a network.
#[derive(Debug)]
pub struct Host {
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its address.
    pub address: String,
    /// The address of this process on its network.
    pub(crate) here: String,
    /// Its end of the cable on the bridge; none where it hangs on a switch.
    pub(crate) plug: Option<String>,
}

impl Host {
    /// A place for a node on this host.
    pub fn place(&self, folder: &Path) -> Place {
        let at = |port: u16| format!("{}:{port}", self.address);
        let wrapper = ["ip", "netns", "exec", &self.namespace].map(str::to_owned).to_vec();
        Place { data: folder.join(&self.namespace), kafka: at(9092), http: at(6092), receiver: at(15432), wrapper }
    }

    /// Does something on this host. Threads begun meanwhile stay there, those of clients as well.
    pub fn within<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(Path::new("/var/run/netns").join(&self.namespace)).expect("its namespace");
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                let kind = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(namespace.as_fd(), kind).expect("a namespace one may enter");
                act()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Names that programs on this host resolve by themselves, until they go out of scope. To be given before they start.
    pub fn own_names(&self, names: &[(&str, &str)]) -> OwnNames {
        let folder = Path::new("/etc/netns").join(&self.namespace);
        std::fs::create_dir_all(&folder).expect("a folder for its files");
        let names_given = OwnNames { folder };
        names_given.change(names);
        names_given
    }

    /// From now on nothing from `other` arrives here. What is sent there does.
    pub fn drop_from(&self, other: &Host) {
        self.filter(&["-A", "INPUT", "-s", &other.address, "-j", "DROP"]);
    }

    /// From now on nothing from this process arrives here, its clients included.
    pub fn drop_from_here(&self) {
        self.filter(&["-A", "INPUT", "-s", &self.here, "-j", "DROP"]);
    }

    /// From now on this part of the packets from `other` is lost.
    pub fn lose_from(&self, other: &Host, probability: f64) {
        let probability = probability.to_string();
        let random = ["-m", "statistic", "--mode", "random", "--probability", &probability];
        self.filter(&[&["-A", "INPUT", "-s", &other.address][..], &random, &["-j", "DROP"]].concat());
    }

    /// From now on connections from `other` are reset.
    pub fn reset_from(&self, other: &Host) {
        self.filter(&["-A", "INPUT", "-p", "tcp", "-s", &other.address, "-j", "REJECT", "--reject-with", "tcp-reset"]);
    }

    /// From now on everything arrives.
    pub fn heal(&self) {
        self.filter(&["-F", "INPUT"]);
    }

    /// Pulls the cable.
    pub fn unplug(&self) {
        ip(&["link", "set", self.plug.as_deref().expect("it hangs on a bridge"), "down"]);
    }

    /// Puts it back.
    pub fn plug_in(&self) {
        ip(&["link", "set", self.plug.as_deref().expect("it hangs on a bridge"), "up"]);
    }

    fn filter(&self, args: &[&str]) {
        // Others may be changing rules of theirs.
        run("ip", &[&["netns", "exec", &self.namespace, "iptables", "-w"], args].concat());
    }
}

/// What stands in a host's `/etc/hosts`.
#[derive(Debug)]
pub struct OwnNames {
    folder: PathBuf,
}

impl OwnNames {
    /// From now on these names stand for these addresses.
    pub fn change(&self, names: &[(&str, &str)]) {
        let lines: String = names.iter().map(|(name, address)| format!("{address} {name}\n")).collect();
        // Written in place: programs that run have this very file.
        std::fs::write(self.folder.join("hosts"), lines).expect("its file of names");
    }
}

impl Drop for OwnNames {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.folder).ok();
    }
}

/// Cuts two hosts off from each other.
pub fn part(one: &Host, other: &Host) {
    one.drop_from(other);
    other.drop_from(one);
}

/// Names and addresses that nobody else uses.
#[derive(Debug)]
pub(crate) struct Names {
    stem: String,
    network: String,
}

impl Names {
    pub(crate) fn fresh() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (pid, number) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut random = Random::from_parts(&[pid.into(), number.into(), 3]);
        let taken = String::from_utf8(run("ip", &["-4", "route", "show"])).expect("text");
        loop {
            let network = format!("10.{}.{}", random.between(128, 255), random.between(0, 255));
            if !taken.contains(&format!("{network}.")) {
                // Names of interfaces have fifteen bytes at the most.
                return Self { stem: format!("ck{pid:x}-{number}"), network };
            }
        }
    }

    /// The address of a host, or of this process for number 254.
    pub(crate) fn address(&self, number: usize) -> String {
        format!("{}.{number}", self.network)
    }

    /// A name that ends so.
    pub(crate) fn name(&self, ending: &str) -> String {
        format!("{}{ending}", self.stem)
    }
}

/// The number of this process among the hosts.
pub(crate) const HERE: usize = 254;

/// Hosts on a bridge.
#[derive(Debug)]
pub struct Network {
    bridge: String,
    hosts: Vec<Host>,
}

impl Network {
    /// This many hosts, numbered from 0.
    pub fn of(count: usize) -> Self {
        let names = Names::fresh();
        // Complete from here on: whatever fails below, what is there by then is removed.
        let mut network = Self { bridge: names.name("b"), hosts: Vec::new() };
        let bridge = network.bridge.clone();
        ip(&["link", "add", &bridge, "type", "bridge"]);
        ip(&["address", "add", &format!("{}/24", names.address(HERE)), "dev", &bridge]);
        ip(&["link", "set", &bridge, "up"]);
        for number in 1..=count {
            let (namespace, plug) = (names.name(&format!("n{number}")), names.name(&format!("v{number}")));
            ip(&["netns", "add", &namespace]);
            let address = names.address(number);
            network.hosts.push(Host { namespace, address, here: names.address(HERE), plug: Some(plug.clone()) });
            let Host { namespace, address, .. } = &network.hosts[number - 1];
            ip(&["link", "add", &plug, "type", "veth", "peer", "name", "eth0", "netns", namespace]);
            ip(&["link", "set", &plug, "master", &bridge, "up"]);
            ip(&["-n", namespace, "address", "add", &format!("{address}/24"), "dev", "eth0"]);
            for interface in ["eth0", "lo"] {
                ip(&["-n", namespace, "link", "set", interface, "up"]);
            }
        }
        network
    }

    /// The host with this number.
    pub fn host(&self, number: usize) -> &Host {
        &self.hosts[number]
    }

    /// Everything arrives everywhere.
    pub fn heal(&self) {
        for host in &self.hosts {
            host.heal();
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for host in &self.hosts {
            remove(&["netns", "delete", &host.namespace]);
        }
        remove(&["link", "delete", &self.bridge]);
    }
}

/// Runs `ip`; panics where that fails.
pub(crate) fn ip(args: &[&str]) {
    run("ip", args);
}

/// Runs `ip` for something that may not be there.
pub(crate) fn remove(args: &[&str]) {
    Command::new("ip").args(args).output().ok();
}

fn run(program: &str, args: &[&str]) -> Vec<u8> {
    let done = Command::new(program).args(args).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(done.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&done.stderr));
    done.stdout
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    /// A connection to a host, both ends.
    fn connect(from: &Host, to: &Host) -> (TcpStream, TcpStream) {
        let listener = to.within(|| TcpListener::bind((to.address.as_str(), 0)).unwrap());
        let port = listener.local_addr().unwrap().port();
        let here = from.within(|| TcpStream::connect((to.address.as_str(), port)).unwrap());
        let there = listener.accept().unwrap().0;
        for end in [&here, &there] {
            end.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        }
        (here, there)
    }

    fn arrives(from: &mut TcpStream, to: &mut TcpStream, byte: u8) -> bool {
        from.write_all(&[byte]).unwrap();
        let mut got = [0];
        to.read(&mut got).is_ok_and(|count| count == 1 && got == [byte])
    }

    #[test]
    fn what_is_dropped_one_way_arrives_the_other_way_and_everything_does_when_healed() {
        let network = Network::of(2);
        let (one, other) = (network.host(0), network.host(1));
        let (mut here, mut there) = connect(one, other);
        assert!(arrives(&mut here, &mut there, 1) && arrives(&mut there, &mut here, 2));
        one.drop_from(other);
        assert!(!arrives(&mut there, &mut here, 3));
        network.heal();
        here.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut got = [0];
        here.read_exact(&mut got).unwrap();
        assert_eq!(got, [3], "an open stream stands still and goes on");
        other.unplug();
        assert!(!arrives(&mut here, &mut there, 4));
        other.plug_in();
        there.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        there.read_exact(&mut got).unwrap();
        assert_eq!(got, [4]);
    }

    #[test]
    fn nothing_is_left_behind_even_by_a_panic() {
        let names = std::panic::catch_unwind(|| {
            let network = Network::of(1);
            std::panic::panic_any(network.host(0).namespace.clone());
        });
        let name = names.unwrap_err().downcast::<String>().unwrap();
        let left = String::from_utf8(run("ip", &["netns", "list"])).unwrap();
        assert!(!left.contains(name.as_str()), "{left}");
    }
}
