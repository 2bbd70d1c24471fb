//! Every bug put back on purpose is found within its number of seeds, by one that holds without it.

use chronik_sim::mutation::Mutation;
use chronik_sim::run::first_to_find;

#[test]
fn every_mutation_is_found() {
    let mut missed = Vec::new();
    for (mutation, name, within) in Mutation::ALL {
        let Some(within) = within else { continue };
        if first_to_find(*mutation, 0..*within).is_none() {
            missed.push(format!("{name} {mutation:?} within {within}"));
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}
