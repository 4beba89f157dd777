//! `repair`: a sound copy of a directory that is damaged, then a verification of the copy.

use crate::cli::RepairOptions;
use crate::faults::Faults;
use crate::limits::PROGRESS_RECORDS;
use crate::losses::{Loss, Losses};
use crate::mend::{Mender, Mending};
use crate::pass;
use crate::snapshots::{self, Ends, Needed, holds, note_needed};
use crate::verify::{bar, count};
use anyhow::{Context as _, bail};
use indicatif::ProgressBar;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use tidegate_ids::LogId;
use tidegate_storage_files::{
    Copied, CopyError, CopyPlan, DirView, Problem, RepairSource, SnapshotFile, load_erasures, withdraw_copy,
    write_copy,
};
use tidegate_storage_log::{JudgedLog, Lost, Medium, RecordView, SegmentState, Witness, judge};

pub(crate) fn run(options: &RepairOptions) -> ExitCode {
    match attempt(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tidegate-log: {}", crate::sentence(&error));
            ExitCode::FAILURE
        }
    }
}

/// What is to be copied.
struct Judged {
    logs: Vec<(LogId, JudgedLog)>,
    found: Mending,
    snapshots: Snapshots,
}

/// The snapshots that go along.
#[derive(Default)]
struct Snapshots {
    kept: Vec<Arc<SnapshotFile>>,
    /// Sentences about the others.
    left_out: Vec<String>,
    /// Entries of streams that are lost from the one that is not whole.
    entries_lost: u64,
}

/// Where the copy goes.
struct Target {
    path: PathBuf,
    /// Before this run: then only what lies in it is to be removed.
    was_there: bool,
}

impl Target {
    fn removal(&self) -> &'static str {
        if self.was_there { "remove what is in it" } else { "remove it" }
    }
}

/// A mender, and a bar that counts bytes of segments.
struct Watching<'a> {
    mender: Mender,
    bar: &'a ProgressBar,
    /// What lies before each segment.
    starts: BTreeMap<u32, u64>,
    records: u64,
}

impl<'a> Watching<'a> {
    fn new(source: &RepairSource, bar: &'a ProgressBar) -> Self {
        let (reader, mut starts, mut bytes) = (source.reader(), BTreeMap::new(), 0);
        for &segment in source.logs().iter().flat_map(|log| &log.segments) {
            starts.insert(segment, bytes);
            bytes += reader.segment_len(segment).unwrap_or(0);
        }
        bar.set_length(bytes);
        Self { mender: Mender::new(source), bar, starts, records: 0 }
    }
}

impl Witness for Watching<'_> {
    fn record(&mut self, record: &RecordView<'_>, has_links: bool) {
        if self.records.is_multiple_of(PROGRESS_RECORDS) {
            let start = self.starts.get(&record.location.segment).copied().unwrap_or_default();
            self.bar.set_position(start + u64::from(record.location.offset));
        }
        self.records += 1;
        self.mender.record(record, has_links);
    }

    fn lost(&mut self, lost: &Lost) {
        self.mender.lost(lost);
    }
}

fn attempt(options: &RepairOptions) -> anyhow::Result<()> {
    let source = RepairSource::open(&options.dir)?;
    // A gateway on a copy without the list would give out what was erased.
    load_erasures(source.path())?;
    let judged = judge_all(&source)?;
    tell(&source, &judged, &mut io::stdout().lock())?;
    let Some(to) = options.to.as_deref().filter(|_| !options.dry_run) else {
        println!("repair: {}; nothing was written", summary(&judged, None));
        return Ok(());
    };
    let target = Target { was_there: to.exists(), path: to.to_path_buf() };
    let copied = copy(&source, &target, &judged)?;
    for (path, error) in &copied.left_behind {
        eprintln!("tidegate-log: {} is not in the copy: {error}", path.display());
    }
    verify(&target)?;
    println!(
        "repair: {}; the next start on {} takes a new incarnation",
        summary(&judged, Some(&copied)),
        to.display()
    );
    Ok(())
}

/// Reads everything there is.
fn judge_all(source: &RepairSource) -> anyhow::Result<Judged> {
    let bar = bar("reading {bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
    let there = source.snapshots()?;
    let mut watching = Watching::new(source, &bar);
    let mut logs = Vec::new();
    for listed in source.logs() {
        let covered = there.good.iter().flat_map(|file| &file.header().covered);
        let ends =
            covered.filter(|covered| covered.log == listed.log).map(|covered| covered.previous).collect();
        watching.mender.begin(listed.log);
        let facts = source.facts(listed.log, ends);
        let judged = judge(&mut source.reader(), &listed.segments, facts, &mut watching)
            .with_context(|| format!("log {}", listed.log))?;
        watching.mender.end(&judged);
        logs.push((listed.log, judged));
    }
    let mut found = watching.mender.found;
    for (log, judged) in &mut logs {
        let used =
            found.linked.iter().copied().filter(|segment| judged.missing_behind.contains(segment)).max();
        if let Some(last) = used {
            judged.keep_missing_behind(last).with_context(|| format!("log {log}"))?;
        }
        let missing = judged.segments.iter().filter(|one| one.state == SegmentState::Missing);
        missing.for_each(|one| {
            found.losses.add(Loss::Segment { log: *log, segment: one.header.segment, is_used: true });
        });
        for &segment in &judged.missing_behind {
            found.losses.add(Loss::Segment { log: *log, segment, is_used: false });
        }
    }
    bar.finish_and_clear();
    let snapshots = choose(source, &there.good, &logs, &found)?;
    let bad = there.bad.iter().map(ToString::to_string);
    let foreign = there.foreign.iter().map(|path| format!("{}: of another data directory", path.display()));
    let left_out = bad.chain(foreign).chain(snapshots.left_out).collect();
    Ok(Judged { logs, found, snapshots: Snapshots { left_out, ..snapshots } })
}

/// Which snapshots go along: those that are whole and fit the logs. If none of them holds what retention let go of, what is
/// left of one that does.
fn choose(
    source: &RepairSource,
    good: &[Arc<SnapshotFile>],
    logs: &[(LogId, JudgedLog)],
    found: &Mending,
) -> anyhow::Result<Snapshots> {
    let segments = logs.iter().flat_map(|(log, judged)| judged.segments.iter().map(|one| (*log, one)));
    let ends: Ends = segments.map(|(log, one)| ((log, one.header.segment), one.end)).collect();
    let needed = needed(source, logs, found);
    let mut chosen = Snapshots::default();
    let mut partial = None;
    for file in good {
        let mut faults = Faults::default();
        snapshots::check_one(file, &ends, &mut faults);
        if faults.count() == 0 {
            chosen.kept.push(Arc::clone(file));
            continue;
        }
        let (entries, fits) = snapshots::sound_entries(file, &ends);
        if fits && holds(Some(file), &needed) && partial.is_none() {
            partial = Some((Arc::clone(file), file.entry_count() - entries));
        }
        chosen.left_out.extend(faults.lines());
    }
    if holds(chosen.kept.first().map(|file| &**file), &needed) {
        return Ok(chosen);
    }
    let Some((file, entries_lost)) = partial else {
        bail!(
            "{}: retention has let go of what only its snapshots hold, and none of these can be read: put a backup back",
            source.path().display()
        )
    };
    chosen.kept.retain(|older| older.number() < file.number());
    chosen.kept.insert(0, file);
    Ok(Snapshots { entries_lost, ..chosen })
}

/// For each log, up to which segment a snapshot must hold it.
fn needed(source: &RepairSource, logs: &[(LogId, JudgedLog)], found: &Mending) -> Needed {
    let mut needed = found.let_go.clone();
    for (log, judged) in logs {
        let before = judged.segments.first().map_or(0, |first| first.header.previous.end.segment);
        if before > 0 && !source.missing().contains(&before) {
            note_needed(&mut needed, *log, before);
        }
    }
    needed
}

fn copy(source: &RepairSource, to: &Target, judged: &Judged) -> anyhow::Result<Copied> {
    let bar = bar("writing {bar:40} {pos}/{len} segments {eta}");
    let plan = CopyPlan {
        logs: judged.logs.iter().map(|(log, judged)| (*log, &judged.segments[..])).collect(),
        relinks: &judged.found.relinks,
        snapshots: judged.snapshots.kept.clone(),
        highest_segment: judged.found.highest_segment,
    };
    let copied = write_copy(source, &to.path, &plan, |step| {
        bar.set_length(step.of as u64);
        bar.set_position(step.done as u64);
    });
    bar.finish_and_clear();
    copied.map_err(|error| match error {
        // Nothing was written there: what lies there is somebody else's.
        CopyError::Target(_) => error.into(),
        error => {
            let not_whole = format!("the copy in {} is not whole, {}", to.path.display(), to.removal());
            anyhow::Error::new(error).context(not_whole)
        }
    })
}

/// The copy is believed only if it is verified.
fn verify(to: &Target) -> anyhow::Result<()> {
    let bar = bar("verifying {bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
    let faults = verify_with(&to.path, &bar)?;
    bar.finish_and_clear();
    if faults.count() == 0 {
        return Ok(());
    }
    withdraw_copy(&to.path)?;
    faults.lines().for_each(|line| eprintln!("damage: {line}"));
    bail!(
        "the copy in {} has {} and no MANIFEST, so that no gateway starts on it: {}, and put a backup back",
        to.path.display(),
        count(faults.count(), "fault"),
        to.removal()
    )
}

fn verify_with(to: &Path, bar: &ProgressBar) -> anyhow::Result<Faults> {
    Ok(pass::run(&DirView::open(to)?, bar).faults)
}

fn tell(source: &RepairSource, judged: &Judged, out: &mut impl Write) -> io::Result<()> {
    if let Some(why) = source.manifest_loss() {
        writeln!(out, "made again from the segments: the MANIFEST ({why})")?;
    }
    for problem in source.problems() {
        match problem.problem {
            // Told as a loss.
            Problem::Missing => {}
            Problem::Unlisted => writeln!(out, "added to the MANIFEST: {}", problem.path.display())?,
            _ => writeln!(out, "left out: {problem}")?,
        }
    }
    for (log, judged) in &judged.logs {
        if let Some(cut) = judged.recovered.cut {
            writeln!(
                out,
                "cut: log {log}: segment {}, bytes {} to {}: a tail that was never acknowledged",
                cut.segment, cut.from, cut.to
            )?;
        }
    }
    let Snapshots { left_out, entries_lost, .. } = &judged.snapshots;
    left_out.iter().try_for_each(|line| writeln!(out, "left out: {line}"))?;
    if *entries_lost > 0 {
        let streams = count(*entries_lost, "stream");
        writeln!(
            out,
            "lost: the folded state of {streams}: no snapshot that is whole holds what retention let go of"
        )?;
    }
    lines(&judged.found.losses, out)
}

fn lines(losses: &Losses, out: &mut impl Write) -> io::Result<()> {
    losses.lines().try_for_each(|line| writeln!(out, "lost: {line}"))
}

fn summary(judged: &Judged, copied: Option<&Copied>) -> String {
    let found = &judged.found;
    let segments: usize = judged.logs.iter().map(|(_, judged)| judged.segments.len()).sum();
    let rewritten = copied.map_or_else(String::new, |copied| format!(" ({} written anew)", copied.rewritten));
    format!(
        "{}, {}{rewritten}, {} kept, {}, {} missing, {}",
        count(judged.logs.len() as u64, "log"),
        count(segments as u64, "segment"),
        count(found.records, "record"),
        match found.losses.count() {
            1 => String::from("1 loss"),
            losses => format!("{losses} losses"),
        },
        count(found.sequences_missing, "sequence"),
        count(judged.snapshots.kept.len() as u64, "snapshot"),
    )
}
