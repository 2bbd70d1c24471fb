//! A seed means the same run, in this process and in another one.

use std::process::Command;

use chronik_sim::run::run;

#[test]
fn a_seed_run_twice_is_the_same_run() {
    for seed in [1, 7, 42, 99] {
        let (first, second) = (run(seed, false), run(seed, false));
        assert!(first.counts.events > 100, "seed {seed} has become too quiet");
        assert_eq!((first.hash, first.counts), (second.hash, second.counts), "seed {seed}");
    }
}

#[test]
fn two_processes_run_a_seed_alike() {
    let told = || {
        let output = Command::new(env!("CARGO_BIN_EXE_chronik-sim")).args(["run", "--seed", "42"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let here = format!("hash {:016x}", run(42, false).hash);
    let there = told();
    assert!(there.contains(&here), "{here} is not in {there}");
    assert_eq!(there, told());
}
