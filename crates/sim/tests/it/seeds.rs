//! Seeds hold, and enough happens in them. Many more run from the command line.

use chronik_sim::run::run;

#[test]
fn the_first_seeds_hold_and_are_lively() {
    let (mut promotions, mut acknowledged, mut polled) = (0, 0, 0);
    for seed in 0..60 {
        let report = run(seed, false);
        assert!(report.violation.is_none(), "{report}");
        promotions += report.counts.promotions;
        acknowledged += report.counts.acknowledged;
        polled += report.counts.polled;
    }
    assert!(promotions > 50 && acknowledged > 3_000 && polled > 5_000, "{promotions} {acknowledged} {polled}");
}
