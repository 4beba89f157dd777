//! One pass over a directory: every log, every segment, every record.

use crate::faults::Faults;
use crate::limits::PROGRESS_RECORDS;
use crate::links::Links;
use crate::snapshots::{self, Ends, Needed, is_let_go, note_needed};
use crate::streams::Streams;
use indicatif::ProgressBar;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use tidegate_ids::{LogId, StreamId};
use tidegate_storage_files::{DirView, LogSegments, load_erasures};
use tidegate_storage_log::{
    Cut, Damage, DamageKind, FooterEntry, Lost, Medium, RecordView, Recovered, SegmentExtent, Witness,
    read_footer, recover_telling, segment_header,
};

/// What a pass found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) faults: Faults,
    /// Tails that were never acknowledged.
    pub(crate) cuts: Vec<(LogId, Cut)>,
    pub(crate) logs: usize,
    pub(crate) segments: usize,
    pub(crate) records: u64,
    /// Of these, what expired or was erased.
    pub(crate) holes: u64,
    pub(crate) streams: usize,
    pub(crate) snapshots: usize,
    /// Where the segments end.
    ends: Ends,
    /// What only snapshots hold.
    needed: Needed,
}

/// A sum over the footer entries of a segment, whatever their order: comparing two needs no copy of either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct FooterSum {
    streams: usize,
    sum: u64,
}

/// What the segments of one log hold, by their records.
struct Tally {
    segment: u32,
    entries: HashMap<StreamId, FooterEntry>,
    sums: HashMap<u32, FooterSum>,
}

/// Checks everything in `view`. The bar counts bytes of segments.
pub(crate) fn run(view: &DirView, bar: &ProgressBar) -> Found {
    let mut found = Found::default();
    view.problems().iter().for_each(|problem| found.faults.add(|| problem.to_string()));
    let mut streams = Streams::new(Links::new(view));
    let mut starts = HashMap::new();
    let reader = view.reader();
    let mut bytes = 0;
    for &segment in view.logs().iter().flat_map(|log| &log.segments) {
        starts.insert(segment, bytes);
        bytes += reader.segment_len(segment).unwrap_or(0);
    }
    bar.set_length(bytes);
    for listed in view.logs() {
        check_log(view, listed, &mut streams, &mut found, |record| {
            let start = starts.get(&record.location.segment).copied().unwrap_or_default();
            bar.set_position(start + u64::from(record.location.offset));
        });
    }
    bar.set_position(bytes);
    found.streams = streams.count();
    found.snapshots = snapshots::check(view, &found.ends, &found.needed, &mut found.faults);
    if let Err(error) = load_erasures(view.path()) {
        found.faults.add(|| error.to_string());
    }
    found
}

/// Takes in the records of a log.
struct Taking<'a, F> {
    streams: &'a mut Streams,
    faults: &'a mut Faults,
    tally: Tally,
    records: u64,
    holes: u64,
    /// The last segment in which retention let go of what only a snapshot holds.
    let_go: Option<u32>,
    moved: F,
}

impl<F: Fn(&RecordView<'_>)> Witness for Taking<'_, F> {
    fn record(&mut self, record: &RecordView<'_>, _has_links: bool) {
        if self.records.is_multiple_of(PROGRESS_RECORDS) {
            (self.moved)(record);
        }
        self.records += 1;
        self.holes += u64::from(record.is_hole());
        if is_let_go(record) {
            self.let_go = Some(record.location.segment);
        }
        self.tally.take(record);
        self.streams.take(record, self.faults);
    }

    fn lost(&mut self, lost: &Lost) {
        self.streams.take_lost(lost);
    }
}

fn check_log(
    view: &DirView,
    listed: &LogSegments,
    streams: &mut Streams,
    found: &mut Found,
    moved: impl Fn(&RecordView<'_>),
) {
    found.logs += 1;
    found.segments += listed.segments.len();
    let faults = &mut found.faults;
    let mut taking =
        Taking { streams, faults, tally: Tally::new(), records: 0, holes: 0, let_go: None, moved };
    let directory = Some(view.directory());
    let recovered = recover_telling(&mut view.reader(), &listed.segments, directory, &mut taking);
    let Taking { mut tally, records, holes, let_go, .. } = taking;
    (found.records, found.holes) = (found.records + records, found.holes + holes);
    tally.finish_segment();
    let_go.into_iter().chain(dropped_before(view, listed)).for_each(|segment| {
        note_needed(&mut found.needed, listed.log, segment);
    });
    match recovered {
        Ok(recovered) => {
            note_recovered(listed.log, &recovered, found);
            found.ends.extend(recovered.ends.iter().map(|end| ((listed.log, end.end.segment), *end)));
            for extent in recovered.extents.iter().filter(|extent| extent.footer_offset.is_some()) {
                let is_damaged = recovered.damage.iter().any(|damage| damage.segment == extent.segment);
                if !is_damaged {
                    check_footer(view, listed.log, extent, &tally, &mut found.faults);
                }
            }
        }
        Err(error) => found.faults.add(|| format!("log {}: {error}", listed.log)),
    }
    check_copies(view, listed, &mut found.faults);
}

/// The segment before the first one of a log, if retention removed it.
fn dropped_before(view: &DirView, listed: &LogSegments) -> Option<u32> {
    let header = segment_header(&mut view.reader(), *listed.segments.first()?).ok().flatten()?;
    let before = header.previous.end.segment;
    (before > 0 && view.named().all(|named| named != before)).then_some(before)
}

/// Rewritten segments have headers and tables twice: recovery needs one of each, and does not say that the other is bad.
fn check_copies(view: &DirView, listed: &LogSegments, faults: &mut Faults) {
    let mut reader = view.reader();
    for &segment in &listed.segments {
        let Ok(Some(damage)) = reader.check_rewritten(segment) else { continue };
        let copies = damage.iter().filter(|damage| damage.kind == DamageKind::Copy);
        copies.for_each(|damage| faults.add(|| format!("log {}: {}", listed.log, describe(damage))));
    }
}

fn note_recovered(log: LogId, recovered: &Recovered, found: &mut Found) {
    recovered
        .damage
        .iter()
        .for_each(|damage| found.faults.add(|| format!("log {log}: {}", describe(damage))));
    found.faults.add_unnamed(recovered.damage_count - recovered.damage.len() as u64);
    found.cuts.extend(recovered.cut.map(|cut| (log, cut)));
}

fn describe(damage: &Damage) -> String {
    let what = match damage.kind {
        DamageKind::SegmentHeader => String::from("the segment's header is damaged"),
        DamageKind::Batch => String::from("a batch is damaged"),
        DamageKind::Record => format!("{} is lost", damage.record_name()),
        DamageKind::Links => format!("the links of {} are damaged", damage.record_name()),
        DamageKind::Batches { first, last } => format!("batches {first} to {last} are lost"),
        DamageKind::Footer => String::from("the index or the footer is damaged"),
        DamageKind::Unreadable => String::from("the device refuses to read, or a block fails its checksum"),
        DamageKind::Copy => String::from("a copy of the header or the table is damaged"),
        DamageKind::Segment => return format!("segment {} is gone", damage.segment),
    };
    format!("segment {}, bytes {} to {}: {what}", damage.segment, damage.from, damage.to)
}

/// A sealed segment's footer lists exactly the streams whose records are in it.
fn check_footer(view: &DirView, log: LogId, extent: &SegmentExtent, tally: &Tally, faults: &mut Faults) {
    let held = tally.sums.get(&extent.segment).copied().unwrap_or_default();
    let segment = extent.segment;
    match read_footer(&mut view.reader(), extent) {
        Ok(Some(entries)) => {
            let listed = FooterSum::of(entries.iter());
            if listed != held {
                let (streams, expected) = (listed.streams, held.streams);
                faults.add(|| {
                    format!("log {log}: the footer of segment {segment} lists {streams} streams, not the {expected} in it")
                });
            }
        }
        Ok(None) => faults.add(|| format!("log {log}: the footer of segment {segment} is damaged")),
        Err(error) => faults.add(|| format!("log {log}: {error}")),
    }
}

impl FooterSum {
    fn of<'a>(entries: impl Iterator<Item = &'a FooterEntry>) -> Self {
        let mut all = Self::default();
        for entry in entries {
            let mut hasher = DefaultHasher::new();
            (entry.stream, entry.last_sequence, entry.last_offset, entry.count).hash(&mut hasher);
            all.streams += 1;
            all.sum = all.sum.wrapping_add(hasher.finish());
        }
        all
    }
}

impl Tally {
    fn new() -> Self {
        Self { segment: 0, entries: HashMap::new(), sums: HashMap::new() }
    }

    fn take(&mut self, record: &RecordView<'_>) {
        if record.location.segment != self.segment {
            self.finish_segment();
            self.segment = record.location.segment;
        }
        let head = &record.head;
        let fresh = FooterEntry { stream: head.stream, ..FooterEntry::default() };
        let entry = self.entries.entry(head.stream).or_insert(fresh);
        entry.last_sequence = entry.last_sequence.max(head.sequence);
        entry.last_offset = record.location.offset;
        entry.count += 1;
    }

    fn finish_segment(&mut self) {
        self.sums.insert(self.segment, FooterSum::of(self.entries.values()));
        self.entries.clear();
    }
}
