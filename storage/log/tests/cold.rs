//! What a page waits for when nothing of it is in memory.

mod harness;

use harness::{Log, body, range, small, stream};
use std::collections::BTreeSet;
use tidegate_storage_log::{
    AppenderConfig, Direction, IndexPlace, Lead, Medium, MediumError, MemoryMedium, PackedRecords,
    PageReader, read_page,
};

/// A medium that counts the reads of bytes it was not told of beforehand: those somebody waits for, one after the other.
struct Cold {
    medium: MemoryMedium,
    /// Whether it tells where indexes lie.
    has_indexes: bool,
    told: Vec<(u32, std::ops::Range<u64>)>,
    waited: u32,
    reads: u32,
}

impl Cold {
    const fn new(medium: MemoryMedium, has_indexes: bool) -> Self {
        Self { medium, has_indexes, told: Vec::new(), waited: 0, reads: 0 }
    }
}

impl Medium for Cold {
    fn segment_len(&self, segment: u32) -> Result<u64, MediumError> {
        self.medium.segment_len(segment)
    }

    fn read(&mut self, segment: u32, offset: u64, into: &mut [u8]) -> Result<usize, MediumError> {
        self.reads += 1;
        let end = (offset + into.len() as u64).min(self.medium.segment_len(segment)?);
        let covers = |told: &std::ops::Range<u64>| told.start <= offset && end <= told.end;
        let is_told = self.told.iter().any(|(of, told)| *of == segment && covers(told));
        self.waited += u32::from(!is_told);
        self.medium.read(segment, offset, into)
    }

    fn index(&mut self, segment: u32) -> Option<IndexPlace> {
        self.medium.index(segment).filter(|_| self.has_indexes)
    }

    fn will_need(&mut self, segment: u32, offset: u64, bytes: usize) {
        let end = (offset + bytes as u64).min(self.medium.segment_len(segment).unwrap_or(0));
        self.told.push((segment, offset..end));
    }
}

/// A log with a stream whose records lie 9 KiB apart and more, so that no read brings a second one. Some share a segment, some
/// do not. All segments that hold it are sealed.
fn sparse() -> Log {
    let config = AppenderConfig { segment_bytes: 1 << 18, ..small() };
    let mut log = Log::new(config);
    for i in 0..1500_u64 {
        let sparse = if i < 600 { 10 } else { 100 };
        log.append(stream(if i < 1200 && i % sparse == 0 { 1 } else { 2 }), &body(i, 1000)).expect("room");
        log.flush();
    }
    assert_eq!(log.spines[&stream(1)].count(), 66);
    log
}

/// Segments of which nothing says where their index lies, or that have none, as those of version 1.
#[test]
fn a_cold_page_without_indexes_is_read_once_in_few_rounds() {
    let log = sparse();
    let mut most = 0;
    for to in 50..=66_u64 {
        let spec = range(&log, stream(1), to - 49, to, 50, Direction::Descending);
        let mut cold = Cold::new(log.medium.clone(), false);
        let end = read_page(&mut cold, &spec, &mut Vec::new()).expect("sound");
        assert_eq!((end.records, end.damaged), (50, 0));
        assert_eq!(cold.reads, end.steps, "each record is read once, those on the way to the first too");
        // A round of one is waited for without having been announced; the others are announced before the first is read.
        assert!(cold.waited <= end.rounds, "{to}: {} waited, {end:?}", cold.waited);
        most = most.max(end.rounds);
        if to == 66 {
            assert_eq!((end.steps, cold.reads), (50, 50), "the latest page is one pass");
        }
    }
    assert!((6..=20).contains(&most), "{most} rounds");
}

/// The segments that a page's records lie in.
fn segments_of(page: &[u8]) -> usize {
    let all: BTreeSet<u32> = PackedRecords(page).iter().map(|record| record.location.segment).collect();
    all.len()
}

/// One dependent read for each segment: the first round needs nothing, and every other one another segment.
#[test]
fn a_cold_page_waits_once_for_each_segment() {
    let log = sparse();
    let mut seen = BTreeSet::new();
    for count in 1..=50_u64 {
        let spec = range(&log, stream(1), 67 - count, 66, 50, Direction::Descending);
        let (mut cold, mut page) = (Cold::new(log.medium.clone(), true), Vec::new());
        let end = read_page(&mut cold, &spec, &mut page).expect("sound");
        let segments = segments_of(&page);
        assert_eq!(
            (u64::from(end.records), end.damaged, u64::from(end.steps)),
            (count, 0, count),
            "one pass"
        );
        assert!(end.rounds as usize <= segments + 1, "{count} in {segments} segments: {end:?}");
        // All that a round reads was announced, unless it is one alone.
        assert!(cold.waited <= end.rounds, "{count}: {} waited, {end:?}", cold.waited);
        // What was read beside the records: of each segment its index, once.
        assert!(cold.reads as usize <= count as usize + segments, "{count}: {} reads", cold.reads);
        seen.insert((segments, end.rounds));
    }
    assert!(seen.iter().any(|(segments, _)| *segments >= 5), "{seen:?}");
    assert!(
        seen.iter().all(|(segments, rounds)| *segments < 2 || *rounds as usize > *segments / 2),
        "{seen:?}"
    );
}

/// The writer knows where the records of its open segment lie, and of one whose end is being written: then the first round reads all
/// of them.
#[test]
fn the_segment_that_is_written_costs_no_wait() {
    let mut log = sparse();
    for i in 0..120_u64 {
        log.append(stream(if i % 10 == 0 { 1 } else { 2 }), &body(i, 1000)).expect("room");
        log.flush();
    }
    let lead = log.appender.lead(&stream(1)).expect("it is in the open segment");
    assert_eq!(lead.segment, log.spines[&stream(1)].last().segment);
    let latest = range(&log, stream(1), 1, 78, 50, Direction::Descending);
    let read = |log: &Log, lead: Option<&Lead>| {
        let (mut cold, mut page) = (Cold::new(log.medium.clone(), true), Vec::new());
        let end = PageReader::new().read_led(&mut cold, &latest, lead, &mut page).expect("sound");
        assert_eq!((end.records, end.damaged, end.steps), (50, 0, 50), "one pass");
        assert!(cold.waited <= end.rounds);
        (end.rounds as usize, page)
    };
    let (rounds, page) = read(&log, Some(&lead));
    let segments = segments_of(&page);
    assert!(segments > 3 && rounds <= segments, "{rounds} rounds, {segments} segments");
    let (without, same) = read(&log, None);
    assert!(without > rounds && same == page, "{without} rounds without");
    // One that is led wrong goes by links.
    let wrong = Lead { segment: lead.segment, entry: log.appender.lead(&stream(2)).expect("it is").entry };
    assert!(read(&log, Some(&wrong)).1 == page);
    // Its records are in the log, and neither index nor seal are.
    log.appender.seal();
    assert_eq!(log.appender.lead(&stream(1)), Some(lead));
    log.flush();
    assert_eq!(log.appender.lead(&stream(1)), None);
}

/// Further back, the way to the page is by links, and from there on it is one read for each segment again.
#[test]
fn an_older_cold_page_waits_for_the_way_to_it_and_once_for_each_segment() {
    let log = sparse();
    for to in 50..66_u64 {
        let steps_to = |from| {
            let spec = range(&log, stream(1), from, to, 50, Direction::Descending);
            let (mut cold, mut page) = (Cold::new(log.medium.clone(), true), Vec::new());
            let end = read_page(&mut cold, &spec, &mut page).expect("sound");
            (end.rounds as usize, segments_of(&page), end.records)
        };
        let ((way, ..), (rounds, segments, records)) = (steps_to(to), steps_to(to - 49));
        assert_eq!(records, 50);
        assert!(rounds <= way + segments, "{to}: {rounds} rounds, {way} to one record, {segments} segments");
    }
}
