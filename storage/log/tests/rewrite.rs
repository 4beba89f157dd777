//! Rewritten segments: everything that lives reads as before, what is over is a hole, and no byte can change unseen.

mod harness;

use harness::{DIRECTORY, Log, body, small, stream};
use proptest::prelude::*;
use std::path::PathBuf;
use tidegate_ids::{CommandNumber, Location, Position, Sequence};
use tidegate_storage_log::{
    AppenderConfig, Direction, IndexPlace, Inflated, Keep, Medium, MediumError, MemoryMedium, PackedRecords,
    PageEnd, PreviousEnd, ReadError, ReadSpec, RecordHead, RecordState, RecoverError, Recovered,
    RewriteError, Rewrote, SegmentHeader, check_rewritten, closed_segment, read_footer, read_page, recover,
    rewrite, scan_chunk, tally,
};
use tidegate_tests_support::noise;

/// A record as a reader gives it out.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    location: Location,
    prev: Location,
    jump: Location,
    head: RecordHead,
    state: RecordState,
    body: Vec<u8>,
}

impl Seen {
    fn of(record: &tidegate_storage_log::RecordView<'_>) -> Self {
        let placement = record.placement;
        Self {
            location: record.location,
            prev: placement.prev,
            jump: placement.jump,
            head: record.head,
            state: placement.state,
            body: record.body.to_vec(),
        }
    }

    /// What it must be after a decision.
    fn after(&self, keep: Keep) -> Self {
        let state = match keep {
            _ if self.state != RecordState::Live => self.state,
            Keep::Live => return self.clone(),
            Keep::Expired => RecordState::Expired,
            Keep::Erased => RecordState::Erased,
        };
        Self { state, body: Vec::new(), ..self.clone() }
    }
}

fn recovered(medium: &MemoryMedium) -> (Recovered, Vec<Seen>) {
    let mut seen = Vec::new();
    let numbers = medium.numbers();
    let mut medium = Inflated::new(medium.clone());
    let recovered = recover(&mut medium, &numbers, Some(DIRECTORY), |record| seen.push(Seen::of(&record)));
    (recovered.expect("this version's"), seen)
}

fn rewritten(
    medium: &MemoryMedium,
    segment: u32,
    decide: impl FnMut(&RecordHead) -> Keep,
) -> Option<(Rewrote, Vec<u8>)> {
    let later: Vec<u32> = medium.numbers().into_iter().filter(|number| *number > segment).collect();
    let mut view = Inflated::new(medium.clone());
    let closed = closed_segment(&mut view, segment, &later, PreviousEnd::default()).expect("there")?;
    let mut bytes = Vec::new();
    let rewrote = rewrite(&mut view, &closed, decide, &mut bytes).expect("sound");
    assert_eq!(rewrote.file_bytes, bytes.len() as u64);
    Some((rewrote, bytes))
}

fn all(stream: tidegate_ids::StreamId, last: Location, last_sequence: u64, limit: u32) -> ReadSpec {
    ReadSpec::Range {
        stream,
        last,
        last_sequence: Sequence(last_sequence),
        from: Sequence(1),
        to: Sequence(u64::MAX),
        limit,
        bytes_max: usize::MAX,
        direction: Direction::Descending,
    }
}

fn page<M: Medium>(medium: &mut M, spec: &ReadSpec) -> (Result<PageEnd, ReadError>, Vec<Seen>) {
    let mut out = Vec::new();
    let end = read_page(medium, spec, &mut out);
    (end, PackedRecords(&out).iter().map(|record| Seen::of(&record)).collect())
}

fn config(block_bytes: u32) -> AppenderConfig {
    // Several blocks of 64 KiB to a segment.
    AppenderConfig {
        segment_bytes: 192 * 1024,
        block_bytes,
        staging_bytes: 256 * 1024,
        batch_bytes_max: 16 * 1024,
    }
}

/// Bodies as people write them, some of them as random as sealed ones.
fn text(seed: u64, len: usize) -> Vec<u8> {
    if seed.is_multiple_of(7) {
        return noise(seed, len);
    }
    format!("message {seed}, see you tomorrow at the harbour. ").bytes().cycle().take(len).collect()
}

fn keep_of(choice: u8) -> Keep {
    match choice % 4 {
        0 => Keep::Expired,
        1 => Keep::Erased,
        _ => Keep::Live,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Two rewrites of any segments with any decisions: everything that reads a log gives the same as before, less the
    /// bodies that were to go.
    #[test]
    fn what_lives_reads_as_before(
        large_block in any::<bool>(),
        lengths in proptest::collection::vec((0_u64..5, 0_usize..3000), 100..500),
        choices in proptest::collection::vec(any::<u8>(), 64),
        rounds in proptest::collection::vec(any::<u8>(), 2),
        clean in any::<bool>(),
    ) {
        let mut log = Log::new(config(if large_block { 4096 } else { 512 }));
        for (index, (number, len)) in lengths.iter().enumerate() {
            let body = text(index as u64, *len);
            if log.append(stream(*number), &body).is_err() {
                log.flush();
                log.append(stream(*number), &body).expect("room after a flush");
            }
            if index % 9 == 8 {
                log.flush();
            }
        }
        if clean {
            log.appender.seal();
        }
        log.flush();
        let mut medium = log.medium.clone();
        let (before, mut expected) = recovered(&medium);
        prop_assert_eq!(before.damage_count, 0);
        for round in rounds {
            for segment in medium.numbers() {
                let decide = |location: Location| {
                    keep_of(choices[(location.offset as usize / 8 + usize::from(round)) % choices.len()])
                };
                // `decide` is told heads; here they are matched to locations by the order.
                let mut here = expected.iter().filter(|one| one.location.segment == segment && one.state == RecordState::Live);
                let asked = |head: &RecordHead| {
                    let one = here.next().expect("asked for what is there");
                    assert_eq!(one.head, *head);
                    decide(one.location)
                };
                let Some((rewrote, bytes)) = rewritten(&medium, segment, asked) else { continue };
                let mut live = 0;
                for one in expected.iter_mut().filter(|one| one.location.segment == segment) {
                    *one = one.after(decide(one.location));
                    live += u64::from(one.state == RecordState::Live);
                }
                prop_assert_eq!(rewrote.tally.live, live);
                medium.segments.insert(segment, bytes);
                prop_assert_eq!(check_rewritten(&mut medium, segment), Ok(Some(Vec::new())));
            }
            let (after, seen) = recovered(&medium);
            prop_assert_eq!(&seen, &expected);
            prop_assert_eq!(&after.extents, &before.extents);
            prop_assert_eq!((after.damage_count, after.cut, after.previous), (0, before.cut, before.previous));
        }
        let mut view = Inflated::new(medium);
        let mut plain = log.medium.clone();
        for extent in &before.extents {
            prop_assert_eq!(read_footer(&mut view, extent), read_footer(&mut plain, extent));
        }
        let mut out = Vec::new();
        let scanned = scan_chunk(&mut view, &before.extents, Position::NONE, usize::MAX / 2, &mut out);
        prop_assert_eq!((scanned.next, scanned.damage_count), (before.end(), 0));
        let scanned: Vec<Seen> = PackedRecords(&out).iter().map(|record| Seen::of(&record)).collect();
        prop_assert_eq!(&scanned, &expected);
        for (stream, spine) in &log.spines {
            let (end, seen) = page(&mut view, &all(*stream, spine.last(), spine.count(), 4096));
            let wanted: Vec<Seen> = expected.iter().filter(|one| one.head.stream == *stream).cloned().collect();
            prop_assert_eq!(end.map(|end| (end.damaged, end.complete)), Ok((0, true)));
            prop_assert_eq!(&seen, &wanted);
            let number = CommandNumber(spine.count() / 2 + 1);
            let (end, seen) = page(&mut view, &ReadSpec::Number { stream: *stream, last: spine.last(), number });
            prop_assert_eq!(end.map(|end| end.records), Ok(1));
            prop_assert_eq!(&seen[0], &wanted[number.0 as usize - 1]);
        }
    }
}

/// A small log whose first segment is rewritten, with holes, and what it held before.
fn small_rewritten() -> (Log, MemoryMedium, Vec<Seen>) {
    let config = AppenderConfig { segment_bytes: 8192, batch_bytes_max: 4096, ..small() };
    let mut log = Log::new(config);
    for i in 0..40_u64 {
        log.append(stream(i % 3), &body(i, (i * 11 % 90) as usize)).expect("room");
        if i % 5 == 4 {
            log.flush();
        }
    }
    let decide = |head: &RecordHead| match head.sequence.0 % 3 {
        0 => Keep::Erased,
        1 => Keep::Expired,
        _ => Keep::Live,
    };
    let (rewrote, bytes) = rewritten(&log.medium, 1, decide).expect("closed");
    assert!(rewrote.tally.live > 3 && rewrote.tally.erased > 3 && rewrote.tally.expired > 3);
    let mut medium = log.medium.clone();
    medium.segments.insert(1, bytes);
    let (_, seen) = recovered(&medium);
    (log, medium, seen)
}

#[test]
fn every_byte_flipped_is_detected_and_makes_nothing_up() {
    let (_, mut medium, _) = small_rewritten();
    medium.segments.retain(|segment, _| *segment <= 2);
    let (_, seen) = recovered(&medium);
    let whole = medium.segments[&1].clone();
    let numbers = medium.numbers();
    for at in 0..whole.len() {
        let mut hit = medium.clone();
        hit.segments.get_mut(&1).expect("there")[at] ^= 1 << (at % 8);
        let damage = check_rewritten(&mut hit, 1).expect("there").expect("still rewritten");
        assert_eq!(damage.len(), 1, "byte {at}: {damage:?}");
        let mut given = Vec::new();
        let mut view = Inflated::new(hit);
        let recovered = recover(&mut view, &numbers, Some(DIRECTORY), |record| given.push(Seen::of(&record)))
            .expect("this version's");
        let mut rest = seen.iter();
        assert!(given.iter().all(|one| rest.any(|other| other == one)), "byte {at}: made up");
        assert!(recovered.cut.is_none(), "byte {at}: what was acknowledged is never a tail");
        assert!(given.len() == seen.len() || recovered.damage_count > 0, "byte {at}: lost unseen");
    }
}

#[test]
fn cut_off_anywhere_it_makes_nothing_up() {
    let (_, mut medium, _) = small_rewritten();
    medium.segments.retain(|segment, _| *segment <= 2);
    let (_, seen) = recovered(&medium);
    let whole = medium.segments[&1].clone();
    for len in (0..whole.len()).step_by(3) {
        let mut hit = medium.clone();
        hit.segments.insert(1, whole[..len].to_vec());
        let (recovered, given) = recovered(&hit);
        let mut rest = seen.iter();
        assert!(given.iter().all(|one| rest.any(|other| other == one)), "{len} bytes: made up");
        assert!(given.len() == seen.len() || recovered.damage_count > 0, "{len} bytes: lost unseen");
    }
}

/// A medium that does not inflate must not take compressed bytes for damage of a plain segment.
#[test]
fn it_is_refused_where_nobody_inflates() {
    let (_, mut medium, _) = small_rewritten();
    let numbers = medium.numbers();
    let refused = recover(&mut medium, &numbers, None, |_| {});
    assert_eq!(refused, Err(RecoverError::Encoding { segment: 1, encoding: 1 }));
}

#[test]
fn a_damaged_segment_is_not_rewritten() {
    let (log, ..) = small_rewritten();
    let len = log.medium.segments[&1].len();
    for at in (512..len).step_by(97) {
        let mut hit = log.medium.clone();
        hit.segments.get_mut(&1).expect("there")[at] ^= 1;
        let mut view = Inflated::new(hit);
        let closed =
            closed_segment(&mut view, 1, &[2], PreviousEnd::default()).expect("there").expect("closed");
        if at >= closed.end.end.offset as usize {
            continue;
        }
        let mut sink = Vec::new();
        let refused = rewrite(&mut view, &closed, |_| Keep::Live, &mut sink);
        assert!(
            matches!(refused, Err(RewriteError::Damaged(at)) if at.segment == 1),
            "byte {at}: {refused:?}"
        );
    }
}

#[test]
fn only_what_is_over_and_known_to_end_is_closed() {
    let (log, medium, _) = small_rewritten();
    let numbers = log.medium.numbers();
    let newest = log.appender.appended_end().segment;
    let mut view = Inflated::new(log.medium);
    let mut check = |segment: u32, later: &[u32], expected: bool| {
        let found = closed_segment(&mut view, segment, later, PreviousEnd::default()).expect("there");
        assert_eq!(found.is_some(), expected, "segment {segment} before {later:?}");
    };
    check(1, &numbers[1..], true);
    check(newest, &[], false);
    check(newest, &[newest + 1], false);
    // A spare was never written; and without the one behind it, nobody knows where a plain segment ends.
    check(newest + 1, &[], false);
    check(1, &[3, 4], false);
    let mut view = Inflated::new(medium);
    assert!(
        closed_segment(&mut view, 1, &[], PreviousEnd::default()).expect("there").is_some(),
        "a rewritten one knows its end"
    );
    assert_eq!(closed_segment(&mut view, 99, &[], PreviousEnd::default()), Err(MediumError::Missing(99)));
}

#[test]
fn a_tally_counts_what_a_rewrite_does() {
    let (log, medium, seen) = small_rewritten();
    let mut view = Inflated::new(log.medium);
    let closed = closed_segment(&mut view, 1, &[2], PreviousEnd::default()).expect("there").expect("closed");
    let expire = |head: &RecordHead| if head.sequence.0 < 3 { Keep::Expired } else { Keep::Live };
    let counted = tally(&mut view, &closed, expire).expect("sound");
    let rewrote = rewrite(&mut view, &closed, expire, &mut Vec::new()).expect("sound");
    assert_eq!(counted, rewrote.tally);
    let mut view = Inflated::new(medium);
    let closed = closed_segment(&mut view, 1, &[], PreviousEnd::default()).expect("there").expect("closed");
    let counted = tally(&mut view, &closed, |_| Keep::Live).expect("sound");
    let holes = seen.iter().filter(|one| one.state != RecordState::Live).count();
    assert_eq!((counted.holes, counted.expired), (holes as u64, 0));
    let known = closed.header.rewritten.expect("it says so");
    assert_eq!((u64::from(known.holes), known.oldest_live), (counted.holes, counted.oldest_live));
}

/// A page of holes has no bodies, so a limit of bytes leaves room for what lives.
#[test]
fn a_page_says_which_records_are_holes_and_why() {
    let (log, medium, seen) = small_rewritten();
    let mut view = Inflated::new(medium);
    let spine = &log.spines[&stream(1)];
    let (end, records) = page(&mut view, &all(stream(1), spine.last(), spine.count(), 100));
    assert_eq!(end.expect("sound").damaged, 0);
    let wanted: Vec<&Seen> = seen.iter().filter(|one| one.head.stream == stream(1)).collect();
    assert!(records.iter().eq(wanted));
    assert!(records.iter().any(|one| one.state == RecordState::Expired));
    assert!(records.iter().any(|one| one.state == RecordState::Erased));
    assert!(records.iter().all(|one| one.state == RecordState::Live || one.body.is_empty()));
    let hole =
        records.iter().find(|one| one.state == RecordState::Erased && one.head.body_len > 20).expect("one");
    let mut out = Vec::new();
    read_page(&mut view, &ReadSpec::At { location: hole.location }, &mut out).expect("there");
    assert_eq!(out.len(), 8 + 96);
}

#[test]
fn a_walk_ends_at_a_segment_that_was_dropped() {
    let (log, mut medium, seen) = small_rewritten();
    medium.segments.remove(&1);
    let (recovered, rest) = recovered(&medium);
    assert_eq!((recovered.damage_count, recovered.cut), (0, None));
    assert!(rest.iter().eq(seen.iter().filter(|one| one.location.segment > 1)));
    let mut view = Inflated::new(medium);
    let spine = &log.spines[&stream(1)];
    let (end, records) = page(&mut view, &all(stream(1), spine.last(), spine.count(), 100));
    let first = rest.iter().find(|one| one.head.stream == stream(1)).expect("some are left");
    assert_eq!(end.expect("sound").first_available, Some(first.head.sequence));
    assert_eq!(records[0].head.sequence, first.head.sequence);
}

/// Counts what is read of the files, and notes what is to be read soon.
struct Counting {
    inner: MemoryMedium,
    bytes: usize,
    generation: u64,
    told: Vec<(u64, usize)>,
}

impl Medium for Counting {
    fn segment_len(&self, segment: u32) -> Result<u64, MediumError> {
        self.inner.segment_len(segment)
    }

    fn read(&mut self, segment: u32, offset: u64, into: &mut [u8]) -> Result<usize, MediumError> {
        let count = self.inner.read(segment, offset, into)?;
        self.bytes += count;
        Ok(count)
    }

    fn will_need(&mut self, _: u32, offset: u64, bytes: usize) {
        self.told.push((offset, bytes));
    }

    fn generation(&mut self, _: u32) -> Result<u64, MediumError> {
        Ok(self.generation)
    }
}

#[test]
fn a_read_inflates_the_blocks_it_touches_and_no_more() {
    let config = AppenderConfig {
        segment_bytes: 4 << 20,
        staging_bytes: 8 << 20,
        batch_bytes_max: 64 << 10,
        ..small()
    };
    let mut log = Log::new(config);
    // Sealed bodies do not get smaller, so bytes read are blocks touched.
    (0..3000_u64).for_each(|i| _ = log.append(stream(i % 2), &text(i * 7, 1000)).map(|_| log.flush()));
    log.appender.seal();
    log.flush();
    let (_, bytes) = rewritten(&log.medium, 1, |_| Keep::Live).expect("closed");
    assert!(bytes.len() > 2 << 20);
    let mut medium = log.medium.clone();
    medium.segments.insert(1, bytes);
    let mut view = Inflated::new(Counting { inner: medium, bytes: 0, generation: 0, told: Vec::new() });
    let location = log.kept[1500].location;
    let spec = ReadSpec::At { location };
    let (_, records) = page(&mut view, &spec);
    assert_eq!(records[0].body, log.kept[1500].body);
    let cold = view.raw().bytes;
    assert!(cold < 3 * 65_536, "{cold} bytes for one record");
    assert!(page(&mut view, &spec).0.is_ok());
    assert_eq!(view.raw().bytes, cold, "the second time it is held");
    view.raw().generation += 1;
    assert!(page(&mut view, &spec).0.is_ok());
    assert_eq!(view.raw().bytes, 2 * cold, "after a replacement it is not");
    // What is needed soon are the same bytes of the file, and none of what is held.
    view.will_need(1, location.offset.into(), 1);
    assert_eq!(view.raw().told, []);
    view.will_need(1, 65_536, 65_536 + 1);
    let (told, before) = (view.raw().told.clone(), view.raw().bytes);
    view.read(1, 65_536, &mut vec![0; 65_536 + 1]).expect("sound");
    assert_eq!(told.iter().map(|(_, bytes)| bytes).sum::<usize>(), view.raw().bytes - before);
    assert_eq!((told.len(), told[0].0 + told[0].1 as u64), (2, told[1].0), "one behind the other");
    view.will_need(1, u64::from(u32::MAX), 9);
    assert_eq!(view.raw().told.len(), 2, "nothing lies there");
    // Whatever is read, a bounded number of blocks is held, and the right ones are given.
    for one in log.kept.iter().filter(|one| one.location.segment == 1).step_by(13) {
        let (_, records) = page(&mut view, &ReadSpec::At { location: one.location });
        assert_eq!(records[0].body, one.body);
    }
}

fn golden(version: u16) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/v{version}-rewritten.seg"))
}

/// What another version of the compressor writes may differ; what was written once must be read.
#[test]
fn every_version_is_read() {
    let (_, medium, seen) = small_rewritten();
    if std::env::var_os("TIDEGATE_WRITE_GOLDEN").is_some() {
        std::fs::write(golden(2), &medium.segments[&1]).expect("written");
    }
    for version in [1, 2] {
        let bytes = std::fs::read(golden(version)).expect("the golden file is in the repository");
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four"));
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight"));
        // The numbers of `docs/formats/log.md`: header and table at both ends, one block between.
        assert_eq!((&bytes[..8], u16::from(bytes[12]), bytes[34]), (&b"TIDESEG1"[..], version, 1));
        let (end, file, batch, holes) = (u32_at(80) as usize, u32_at(84) as usize, u64_at(88), u32_at(104));
        assert_eq!((file, end % 512, end <= 8192), (bytes.len(), 0, true));
        assert_eq!(u32_at(108), tidegate_storage_log::crc32c(&bytes[512..524]));
        assert_eq!(u32_at(512) as usize, file - 2 * 524);
        assert_eq!(u32_at(516), tidegate_storage_log::crc32c(&bytes[524..file - 524]));
        assert_eq!((&bytes[file - 524..file - 512], &bytes[file - 512..]), (&bytes[512..524], &bytes[..512]));
        let header = SegmentHeader::decode(bytes.first_chunk().expect("a header")).expect("sound");
        let known = header.rewritten.expect("rewritten");
        assert_eq!((known.end as usize, known.last_batch.0, known.holes), (end, batch, holes));
        // Byte 112 came later: an old file says nothing of gaps, which is not that there are none.
        assert_eq!((u16::from(bytes[112]), known.is_gapless), (version - 1, version == 2));
        let place = IndexPlace { offset: u32_at(124), bytes: u32_at(128) };
        assert_eq!((known.index, place.is_none()), (place, version == 1));
        let mut alone = MemoryMedium::new();
        alone.segments.insert(1, bytes);
        let found = recovered(&alone).1;
        // An index leaves less room for records, which lie where they lay.
        let common = seen.iter().take_while(|one| one.location.segment == 1).count();
        assert!(common > 30 && (version == 1 || found.len() == common), "{common} of {}", found.len());
        assert!(found[..common] == seen[..common], "version {version}");
    }
}
