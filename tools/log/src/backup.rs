//! `backup` and `mark-restored`.

use crate::cli::{BackupOptions, MarkRestoredOptions};
use crate::verify::{bar, count};
use indicatif::HumanBytes;
use std::process::ExitCode;
use tidegate_storage_files::{BackupStep, backup};

pub(crate) fn run(options: &BackupOptions) -> anyhow::Result<ExitCode> {
    let bar = bar("{bar:40} {pos}/{len} segments {eta}");
    let done = backup(&options.dir, &options.to, !options.without_secret, |step| match step {
        BackupStep::Segments { done, of } => {
            bar.set_length(of as u64);
            bar.set_position(done as u64);
        }
        BackupStep::Again => bar.suspend(|| eprintln!("the gateway changed the directory: looking again")),
    })?;
    bar.finish_and_clear();
    let moved = done.transferred;
    println!(
        "backup: {}, {} ({} written to), {}; {} linked ({}), {} copied ({})",
        count(done.logs as u64, "log"),
        count(done.segments as u64, "segment"),
        done.tails,
        count(done.snapshots as u64, "snapshot"),
        count(moved.linked, "file"),
        HumanBytes(moved.linked_bytes),
        count(moved.copied, "file"),
        HumanBytes(moved.copied_bytes),
    );
    if done.erasures > 0 {
        let ranges = count(done.erasures as u64, "range");
        println!(
            "backup: {ranges} of records may be in it and are erased by the first gateway that starts on it"
        );
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn mark_restored(options: &MarkRestoredOptions) -> anyhow::Result<ExitCode> {
    tidegate_storage_files::mark_restored(&options.dir)?;
    println!("{}: the next start takes a new incarnation", options.dir.display());
    Ok(ExitCode::SUCCESS)
}
