//! What a batch did, for people.

use crate::batch::Batch;
use std::fmt::Write;
use tidegate_tests_sim::{Fault, REQUIRED, Report};

/// One line.
pub(crate) fn summary(batch: &Batch) -> String {
    let hours = batch.sum.virtual_ms as f64 / 3_600_000.0;
    let seconds = batch.took.as_secs_f64();
    format!(
        "sim: {} seeds, {} failed, {hours:.1} simulated hours in {seconds:.1} s of one core ({:.2} hours a second), \
         {} records, {} restarts",
        batch.seeds,
        batch.failed,
        hours / seconds.max(0.001),
        batch.sum.records,
        batch.sum.restarts
    )
}

pub(crate) fn faults(sum: &Report) -> String {
    let all: Vec<String> =
        sum.faults.iter().map(|(fault, count)| format!("{} {count}", fault.name())).collect();
    all.join(", ")
}

pub(crate) fn marks(sum: &Report) -> String {
    let all: Vec<String> = sum.marks.iter().map(|(mark, count)| format!("{mark} {count}")).collect();
    all.join(", ")
}

/// The tables of docs/simulator.md.
pub(crate) fn markdown(batch: &Batch) -> String {
    let mut out = String::new();
    let seeds = batch.seeds.max(1) as f64;
    out.push_str("\n| fault | times | a seed |\n|---|---|---|\n");
    for fault in Fault::ALL {
        let count = batch.sum.faults.get(&fault).copied().unwrap_or(0);
        // Writing to a string cannot fail.
        let _ = writeln!(out, "| {} | {count} | {:.1} |", fault.name(), count as f64 / seeds);
    }
    out.push_str("\n| mark | times |\n|---|---|\n");
    for mark in REQUIRED {
        let _ = writeln!(out, "| `{mark}` | {} |", batch.sum.marks.get(mark).copied().unwrap_or(0));
    }
    out
}
