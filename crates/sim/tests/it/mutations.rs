//! Every bug put back on purpose is found within its number of seeds.

use chronik_sim::mutation::Mutation;
use chronik_sim::run::run_mutated;

#[test]
fn every_mutation_is_found() {
    let mut missed = Vec::new();
    for (mutation, name, within) in Mutation::ALL {
        let found = (0..*within).any(|seed| run_mutated(seed, *mutation).violation.is_some());
        if !found {
            missed.push(format!("{name} {mutation:?} within {within}"));
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}
