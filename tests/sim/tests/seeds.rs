//! A few seeds with every test run; CI and `cargo xtask sim` run more in a release build.

use tidegate_tests_sim::{Plan, Planted, run};

fn plan(seed: u64) -> Plan {
    Plan { seed, ticks: 250, planted: None, tiny_tables: seed.is_multiple_of(2) }
}

#[test]
fn seeds_hold() {
    for seed in 1000..1006 {
        if let Err(failure) = run(&plan(seed)) {
            panic!("seed {seed}: {}; repeat: cargo xtask sim --seeds {seed}..{}", failure.what, seed + 1);
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let trace = |seed| run(&plan(seed)).map(|report| report.trace).map_err(|failure| failure.what);
    assert_eq!(trace(7), trace(7));
    assert_ne!(trace(7), trace(8));
}

/// Acknowledged means synced: without the sync, what was acknowledged does not come back after a power cut.
#[test]
fn a_missing_sync_is_found() {
    let found = (0..6).any(|seed| run(&Plan { planted: Some(Planted::NoSync), ..plan(seed) }).is_err());
    assert!(found, "six seeds without a sync, and nothing was missed");
}
