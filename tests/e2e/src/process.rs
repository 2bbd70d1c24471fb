//! What the kernel tells about a process: memory, CPU time, descriptors; and this process' own descriptor limit.

use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The unit of CPU times in `/proc` (`USER_HZ`), which the kernel keeps at this value for programs.
const TICKS_PER_SECOND: u64 = 100;

fn file(pid: u32, name: &str) -> String {
    let path = PathBuf::from(format!("/proc/{pid}/{name}"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn status_bytes(pid: u32, field: &str) -> u64 {
    let status = file(pid, "status");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("the kernel tells memory");
    let kib: u64 = line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().expect("a number of KiB");
    kib * 1024
}

/// Memory that is resident now, in bytes.
pub fn resident_bytes(pid: u32) -> u64 {
    status_bytes(pid, "VmRSS")
}

/// The most memory that was resident at any time, in bytes.
pub fn resident_bytes_peak(pid: u32) -> u64 {
    status_bytes(pid, "VmHWM")
}

/// CPU time used so far, user and system.
pub fn cpu_time(pid: u32) -> Duration {
    let stat = file(pid, "stat");
    let (_, after_name) = stat.rsplit_once(')').expect("the name stands in parentheses");
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks: u64 = [fields[11], fields[12]].iter().map(|field| field.parse::<u64>().expect("ticks")).sum();
    Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
}

/// Whether every thread has been stopped by a signal.
pub fn stands_still(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the process lives");
    threads.flatten().all(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with(['T', 't']))
    })
}

/// Number of open descriptors.
pub fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).expect("the process lives").count()
}

/// Makes room for `wanted` descriptors in this process and the brokers it starts.
pub fn raise_descriptor_limit(wanted: u64) {
    let limit = getrlimit(Resource::Nofile);
    let allowed = limit.maximum.unwrap_or(u64::MAX);
    assert!(allowed >= wanted, "this test needs {wanted} open files, the hard limit is {allowed}");
    if limit.current.is_some_and(|current| current < wanted) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit }).expect("below the hard limit");
    }
}
