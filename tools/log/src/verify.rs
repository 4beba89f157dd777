//! `verify`: passes over the directory until the result stands, then one summary line.

use crate::cli::VerifyOptions;
use crate::limits::PASSES_MAX;
use crate::pass::{self, Found};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use tidegate_storage_files::DirView;

pub(crate) fn run(options: &VerifyOptions) -> anyhow::Result<ExitCode> {
    let bar = bar("{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
    let mut passes = 0;
    let (found, holder) = loop {
        passes += 1;
        let view = DirView::open(&options.dir)?;
        let found = pass::run(&view, &bar);
        // Where a gateway writes, a batch read while it is written can look like damage: it does so once.
        let is_in_motion = view.holder().is_some() && found.faults.count() > 0;
        if !is_in_motion || passes >= PASSES_MAX {
            break (found, view.holder());
        }
    };
    bar.finish_and_clear();
    let mut out = io::stdout().lock();
    if let Some(pid) = holder {
        writeln!(out, "process {pid} writes to this directory: its newest batches are in motion")?;
    }
    report(&found, &mut out)?;
    Ok(if found.faults.count() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn report(found: &Found, out: &mut impl Write) -> io::Result<()> {
    for (log, cut) in &found.cuts {
        writeln!(
            out,
            "cut: log {log}: segment {}, bytes {} to {}, from batch {} on: a tail that was never acknowledged",
            cut.segment, cut.from, cut.to, cut.first_batch
        )?;
    }
    found.faults.lines().try_for_each(|line| writeln!(out, "damage: {line}"))?;
    let holes = match found.holes {
        0 => String::new(),
        holes => format!(", {}", count(holes, "hole")),
    };
    let snapshots = match found.snapshots {
        0 => String::new(),
        snapshots => format!(", {}", count(snapshots as u64, "snapshot")),
    };
    writeln!(
        out,
        "verify: {}, {}, {}, {}, {}, {}{holes}{snapshots}",
        count(found.logs as u64, "log"),
        count(found.segments as u64, "segment"),
        count(found.records, "record"),
        count(found.streams as u64, "stream"),
        count(found.cuts.len() as u64, "unacknowledged tail"),
        count(found.faults.count(), "fault"),
    )
}

pub(crate) fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// A bar on a terminal, nothing elsewhere.
pub(crate) fn bar(template: &str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    }
    let bar = ProgressBar::new(0);
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
