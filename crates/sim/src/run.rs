//! Runs a seed: a phase in which faults happen, a phase in which everything must come to rest, then the judgement.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chronik_log::Damage;
use chronik_log::fs::MemFs;
use chronik_model::{Instant, NodeId};
use chronik_record::BatchHeader;

use crate::mutation::Mutation;
use crate::node::{Node, Wants};
use crate::plan::Plan;
use crate::sight::Violation;
use crate::world::{Counts, Event, World};

/// Nothing comes to rest, or new writes get no answer.
pub const LIVENESS: &str = "liveness";
/// Files of the same name differ.
pub const IDENTICAL: &str = "logs-byte-identical";
/// A core's own assertion.
pub const ASSERTION: &str = "assertion";

/// What became of a seed.
#[derive(Clone, Debug)]
pub struct Report {
    /// The plan.
    pub plan: Plan,
    /// What is wrong, if something is.
    pub violation: Option<Violation>,
    /// The hash of everything that happened.
    pub hash: u64,
    /// Virtual time.
    pub simulated: Duration,
    /// What happened, in numbers.
    pub counts: Counts,
    /// The last lines of what happened, or all of them.
    pub lines: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(violation) = &self.violation {
            for line in &self.lines {
                writeln!(f, "{line}")?;
            }
            writeln!(f, "{}", self.plan)?;
            return write!(f, "seed {} VIOLATES {violation}", self.plan.seed);
        }
        write!(f, "seed {} holds: hash {:016x}, {:?}", self.plan.seed, self.hash, self.counts)
    }
}

/// Runs a seed. `all` keeps every line of what happened.
pub fn run(seed: u64, all: bool) -> Report {
    let plan = Plan::of(seed);
    run_plan(plan, all)
}

/// Runs a seed with a bug put back.
pub fn run_mutated(seed: u64, mutation: Mutation) -> Report {
    run_plan(Plan { mutation: Some(mutation), ..Plan::of(seed) }, false)
}

/// The first of the seeds that finds a bug put back: it holds without the bug.
pub fn first_to_find(mutation: Mutation, seeds: std::ops::Range<u64>) -> Option<(u64, Violation)> {
    seeds.into_iter().find_map(|seed| {
        let violation = run_mutated(seed, mutation).violation?;
        run(seed, false).violation.is_none().then_some((seed, violation))
    })
}

/// Runs a plan.
pub fn run_plan(plan: Plan, all: bool) -> Report {
    let mut world = World::new(plan.clone(), all);
    let outcome = catch_unwind(AssertUnwindSafe(|| whole(&mut world)));
    let violation = match outcome {
        Ok(outcome) => outcome.err(),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Some(Violation { rule: ASSERTION, what: text.unwrap_or_default() })
        }
    };
    Report {
        plan,
        violation,
        hash: world.trace.hash(),
        simulated: world.schedule.now().elapsed(),
        counts: world.counts,
        lines: world.trace.lines(),
    }
}

fn whole(world: &mut World) -> Result<(), Violation> {
    world.run_until(Instant::since_origin(world.plan.safety))?;
    world.calm()?;
    let end = world.schedule.now() + world.plan.liveness;
    let mut settled = world.unsettled();
    while settled.is_some() && world.schedule.now() < end {
        let next = world.schedule.now() + Duration::from_millis(500);
        world.run_until(next)?;
        world.replace_damaged_leader()?;
        settled = world.unsettled();
    }
    if let Some(what) = settled {
        return Err(Violation { rule: LIVENESS, what });
    }
    world.counts.damaged = world.damaged.len() as u64;
    if world.leader().is_some_and(|leader| world.damaged.contains(&leader)) {
        return Ok(());
    }
    world.final_write()?;
    world.compare_files()?;
    world.judge()
}

impl World {
    /// No fault any more, everything that was broken is repaired.
    fn calm(&mut self) -> Result<(), Violation> {
        self.faulting = false;
        self.producing = false;
        self.note(format_args!("calm"));
        self.heal();
        let newest = self.leader();
        for id in (1..=i32::from(self.plan.nodes)).map(NodeId::new) {
            if let Some(node) = self.node(id) {
                node.disk.heal();
                let (run, up) = (node.run, node.is_up());
                if newest != Some(id) && !node.leads() {
                    node.wants = Wants::Follow;
                }
                if newest == Some(id) {
                    node.wants = Wants::Lead;
                }
                self.resume(id, run);
                if !up {
                    self.schedule.after(Duration::from_millis(10), Event::Start { node: id });
                }
            }
        }
        Ok(())
    }

    /// A leader that cannot serve a range of its log is replaced by who can; then it gets the range from there.
    fn replace_damaged_leader(&mut self) -> Result<(), Violation> {
        let damaged = self.leader().is_some_and(|leader| self.damaged.contains(&leader));
        if damaged && self.nodes.iter().all(Node::is_up) {
            self.promote(true)?;
        }
        Ok(())
    }

    /// What has not come to rest yet.
    fn unsettled(&self) -> Option<String> {
        let leader = self.leader()?;
        if self.damaged.contains(&leader) {
            let every = self.nodes.iter().all(|node| self.damaged.contains(&node.id));
            return (!every).then(|| format!("node {leader} leads and is damaged"));
        }
        let (mut leads, mut ends) = (0, Vec::new());
        for node in &self.nodes {
            let Some(process) = &node.process else { return Some(format!("node {} is down", node.id)) };
            if process.leads() {
                leads += 1;
                if node.id != leader {
                    return Some(format!("node {} still leads, not {leader}", node.id));
                }
            }
            let sights: Vec<_> = process.sights(&self.generations).map(|(_, sight)| sight).collect();
            ends.push((node.id, sights));
        }
        if leads != 1 {
            return Some(format!("{leads} leaders"));
        }
        let of_leader = ends.iter().find(|(id, _)| *id == leader).map(|(_, sights)| sights.clone())?;
        for (id, sights) in &ends {
            for (sight, wanted) in sights.iter().zip(&of_leader) {
                let same = sight.log_end == wanted.log_end
                    && sight.high_watermark == wanted.log_end
                    && sight.leader_epoch == wanted.leader_epoch
                    && sight.log_start >= wanted.log_start;
                if !same {
                    return Some(format!("node {id}: {sight}, but the leader is {wanted}"));
                }
            }
        }
        let busy = self.clients.producers.iter().position(|producer| producer.sending.is_some());
        if let Some(at) = busy {
            return Some(format!("producer {at} waits for an answer"));
        }
        if self.plan.mode == crate::plan::Mode::Sync {
            let leader = self.nodes.iter().find(|node| node.id == leader)?;
            for partition in (0..self.plan.partitions).map(chronik_model::PartitionIndex::new) {
                let isr = leader.journal.isr(partition);
                if isr.len() < ends.len() {
                    return Some(format!("partition {partition} has only {isr:?} in sync"));
                }
            }
        }
        None
    }

    /// New writes are acknowledged and replicated.
    fn final_write(&mut self) -> Result<(), Violation> {
        let before = self.counts.acknowledged;
        self.producing = true;
        for producer in 0..self.clients.producers.len() {
            self.schedule.after(Duration::from_millis(1), Event::Produce { producer });
        }
        // Producers may have to look for the leader first.
        for _ in 0..12 {
            let next = self.schedule.now() + Duration::from_secs(5);
            self.run_until(next)?;
            if self.counts.acknowledged > before {
                break;
            }
        }
        self.producing = false;
        let end = self.schedule.now() + self.plan.liveness;
        let mut settled = self.unsettled();
        while settled.is_some() && self.schedule.now() < end {
            let next = self.schedule.now() + Duration::from_millis(500);
            self.run_until(next)?;
            settled = self.unsettled();
        }
        let wants_answers = self.clients.producers.iter().any(|producer| producer.acks.is_some());
        match settled {
            Some(what) => Err(Violation { rule: LIVENESS, what: format!("after new writes: {what}") }),
            None if wants_answers && self.counts.acknowledged == before => {
                Err(Violation { rule: LIVENESS, what: "no new write was acknowledged".to_owned() })
            }
            None => Ok(()),
        }
    }

    /// Every segment of the leader is the same file on every follower, and followers have no other ones.
    fn compare_files(&mut self) -> Result<(), Violation> {
        let Some(leader) = self.leader() else { return Ok(()) };
        for id in (1..=i32::from(self.plan.nodes)).map(NodeId::new) {
            self.with_node(id, |node, cx| node.with_process(cx, |process, _, cx| process.forget(None, cx)));
        }
        let segments = |disk: &MemFs| {
            let files = disk.files().into_iter();
            // A cut can leave an empty segment, which goes with the next append.
            let is_segment =
                |path: &Path, bytes: &[u8]| !bytes.is_empty() && path.extension().is_some_and(|end| end == "log");
            files.filter(|(path, bytes)| is_segment(path, bytes)).collect::<Vec<_>>()
        };
        let wanted = self.nodes.iter().find(|node| node.id == leader).map(|node| segments(&node.disk));
        for node in &self.nodes {
            let mut found = segments(&node.disk);
            let Some(wanted) = &wanted else { continue };
            for (path, bytes) in &mut found {
                if let Some((_, of_leader)) = wanted.iter().find(|(other, _)| other == path) {
                    self.excuse_dead(node, path, of_leader, bytes);
                }
            }
            // A promoted replica may not have heard of a deletion that another follower has heard of.
            let kept: Vec<_> = wanted.iter().filter(|(path, _)| found.iter().any(|(other, _)| other == path)).collect();
            let fewer = (0..self.watches.len()).any(|at| self.log_start(at, node.id) > self.log_start(at, leader));
            if found.iter().eq(kept.iter().copied()) && (fewer || kept.len() == wanted.len()) {
                continue;
            }
            let names = |files: &[(PathBuf, Vec<u8>)]| {
                files.iter().map(|(path, bytes)| format!("{}:{}", path.display(), bytes.len())).collect::<Vec<_>>()
            };
            let differs = wanted.iter().zip(&found).find_map(|(one, other)| {
                let at = one.1.iter().zip(&other.1).position(|(one, other)| one != other)?;
                Some(format!("{} differs at {at}: {:?} and {:?}", one.0.display(), one.1.get(at), other.1.get(at)))
            });
            let what = format!("{differs:?}; leader has {:?}, node {} has {:?}", names(wanted), node.id, names(&found));
            return Err(Violation { rule: IDENTICAL, what });
        }
        Ok(())
    }

    /// Bytes below the log start are served to nobody: where they were damaged, and it is known or a flipped bit did it, they
    /// stay so. Takes the leader's there.
    fn excuse_dead(&self, node: &Node, path: &Path, of_leader: &[u8], bytes: &mut [u8]) {
        let Some(process) = &node.process else { return };
        let in_dir = |slot: &&crate::node::Slot| {
            path.parent().is_some_and(|dir| dir.ends_with(slot.partition().get().to_string()))
        };
        let Some(slot) = process.slots().iter().find(in_dir) else { return };
        let (log_start, damage) = (slot.replica.log().log_start(), slot.replica.log().damage());
        let mut from = 0;
        while let Some(Ok(header)) = of_leader.get(from..).map(BatchHeader::read) {
            let to = from + header.size_bytes();
            if header.next_offset() > log_start {
                return;
            }
            let is_known = |position: u64| {
                let in_range = |range: &Damage| (range.position..range.position_end).contains(&position);
                damage.iter().filter(|range| range.file == path).any(in_range)
                    || self.watches.iter().any(|watch| watch.is_flipped(node.id, path, position))
            };
            for position in from..to {
                if let (Some(byte), Some(wanted)) = (bytes.get_mut(position), of_leader.get(position))
                    && is_known(position as u64)
                {
                    *byte = *wanted;
                }
            }
            from = to;
        }
    }

    fn judge(&mut self) -> Result<(), Violation> {
        let Some(leader) = self.leader() else { return Ok(()) };
        for partition in 0..self.watches.len() {
            let start = self.log_start(partition, leader);
            if let Some(watch) = self.watches.get(partition) {
                watch.judge(leader, start)?;
            }
        }
        Ok(())
    }
}
