//! A follower that stands still, or whose disk is full, changes neither its leader's throughput nor its memory.

use std::time::{Duration, Instant};

use chronik_e2e::disk::Disk;
use chronik_e2e::pair::{CATCH_UP_BOUND, Pair};
use chronik_e2e::place::Place;
use chronik_e2e::status::{Status, wait_until_streaming};
use chronik_e2e::{clients, process, segments, view, wait};
use rustix::process::Signal;
use tempfile::TempDir;

use super::{BOUND, produce};
use crate::recovery::fill;

const MIB: u64 = 1 << 20;

/// What is written with the follower streaming, and again with it standing still.
const WRITTEN: u64 = 192 * MIB;

#[test]
fn stopped_follower_changes_neither_throughput_nor_memory_of_its_leader() {
    let pair = Pair::start();
    let leader = pair.leaders.kafka.as_str();
    let settings = [("chronik.durability", "page-cache"), ("segment.bytes", "67108864")];
    clients::create_topic(leader, "fast", 1, &settings);
    let timed = || {
        let started = Instant::now();
        fill(leader, "fast", 0, WRITTEN);
        started.elapsed()
    };
    fill(leader, "fast", 0, 32 * MIB);
    let with = timed();
    pair.catch_up();
    pair.follower.signal(Signal::STOP);
    wait::until_true("the process to stand still", BOUND, || process::stands_still(pair.follower.pid()));
    // What the kernel's buffers take is over soon.
    fill(leader, "fast", 0, 32 * MIB);
    let before = process::resident_bytes(pair.leader.pid());
    let without = timed();
    let grown = process::resident_bytes_peak(pair.leader.pid()).saturating_sub(before);
    let lag = Status::of(&pair.leader).follower(&pair.followers.receiver).number("lag_bytes");
    eprintln!(
        "{} MiB with a follower in {with:?}, with a stopped one in {without:?}; memory grew by {} MiB, lag {} MiB",
        WRITTEN / MIB,
        grown / MIB,
        lag / MIB
    );
    assert!(without < 3 * with + Duration::from_secs(2), "{without:?} with a stopped follower, {with:?} before");
    assert!(grown < 32 * MIB, "memory grew by {} MiB", grown / MIB);
    assert!(lag > WRITTEN, "the leader knows what its follower lacks: {lag}");
    // In async mode nobody waits for it.
    let started = Instant::now();
    produce(leader, "fast", 0, -1, &[b"waits for nobody"]);
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    pair.follower.signal(Signal::CONT);
    wait_until_streaming(&pair.leader, &pair.followers.receiver, CATCH_UP_BOUND);
    pair.catch_up();
}

#[test]
fn follower_whose_disk_was_full_goes_on_when_there_is_room() {
    let folder = TempDir::new().unwrap();
    let disk = Disk::of_mib(256);
    let leaders = Place::below(folder.path(), "leader");
    let followers = Place::below(&disk.path(), "data");
    let leader = leaders.leading(&[&followers.receiver]).start();
    let follower =
        followers.following().expect_log(&["space", "offline", "append", "flush", "failed", "checkpoint"]).start();
    clients::create_topic(&leaders.kafka, "filling", 2, &[("segment.bytes", "16777216")]);
    fill(&leaders.kafka, "filling", 0, 8 * MIB);
    segments::wait_until_same(leader.data(), follower.data(), CATCH_UP_BOUND);
    let (_, before) = view::bounds(&followers.kafka, "filling", 0).unwrap();
    disk.fill("ballast");
    let end = fill(&leaders.kafka, "filling", 0, 32 * MIB);
    fill(&leaders.kafka, "filling", 1, 8 * MIB);
    wait::until_true("the follower to notice", BOUND, || follower.log_text().to_lowercase().contains("space"));
    segments::assert_prefix(follower.data(), leader.data());
    assert!(Status::of(&leader).follower(&followers.receiver).lag_records() > 0, "the leader knows it");
    // What it had can still be read there.
    let (start, now) = view::bounds(&followers.kafka, "filling", 0).unwrap();
    assert!(start == 0 && now >= before, "{start} to {now}, {before} before");
    std::fs::remove_file(disk.path().join("ballast")).unwrap();
    // By itself: it opens again what has failed, and the leader tries again.
    view::wait_for_bounds(&followers.kafka, "filling", 0, (0, end), BOUND);
    segments::wait_until_same(leader.data(), follower.data(), CATCH_UP_BOUND);
    drop(follower);
}
