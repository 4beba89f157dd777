//! Readers know where the index of every sealed segment lies without looking for it, whoever sealed it and when.

#![allow(clippy::unwrap_used, reason = "a test may end by a panic")]

mod journal;

use journal::{Journal, Kept};
use std::path::Path;
use tidegate_ids::{ConversationId, Sequence, StreamId, UserId};
use tidegate_storage_files::{DataDir, DirView, SegmentReader, recover_all};
use tidegate_storage_log::{Direction, Medium, PageReader, ReadSpec};

fn stream(number: u64) -> StreamId {
    StreamId::conversation(ConversationId::direct(UserId(number), UserId(number + 1)))
}

fn fill(journal: &mut Journal, records: u64) -> Vec<Kept> {
    let kept = (0..records).map(|i| journal.append(0, stream(i % 7), &[i as u8; 900])).collect();
    journal.commit();
    kept
}

fn segments(dir: &DataDir) -> Vec<u32> {
    dir.logs().iter().flat_map(|log| log.segments.clone()).collect()
}

/// What a reader does not know of these segments.
fn unknown(reader: &mut SegmentReader, segments: &[u32]) -> Vec<u32> {
    segments.iter().copied().filter(|segment| reader.index(*segment).is_none()).collect()
}

/// Reads the latest page, and says in how many rounds, and how many segments its records lie in at least.
fn latest(journal: &Journal, of: StreamId) -> (u32, u32) {
    let (last, last_sequence) = journal.last(of);
    let (from, to, direction) = (Sequence(1), last_sequence, Direction::Descending);
    let spec = ReadSpec::Range {
        stream: of,
        last,
        last_sequence,
        from,
        to,
        limit: 50,
        bytes_max: 1 << 20,
        direction,
    };
    let mut page = Vec::new();
    let end = PageReader::new().read(&mut journal.dir.reader(), &spec, &mut page).unwrap();
    assert_eq!((end.records, end.damaged), (50, 0));
    let records = tidegate_storage_log::PackedRecords(&page);
    let mut all: Vec<u32> = records.iter().map(|record| record.location.segment).collect();
    all.dedup();
    (end.rounds, all.len() as u32)
}

fn recover(path: &Path) -> DataDir {
    let dir = DataDir::open(path, &journal::options(1)).unwrap();
    recover_all(&dir, |_| {}, |_, _| {}).unwrap();
    dir
}

#[test]
fn every_sealed_segment_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(folder.path(), 1);
    fill(&mut journal, 300);
    let open = journal.last(stream(0)).0.segment;
    let mut reader = journal.dir.reader();
    let sealed: Vec<u32> = (1..open).collect();
    assert!(sealed.len() >= 4, "{sealed:?}");
    assert_eq!(unknown(&mut reader, &sealed), [0; 0], "the one who writes tells");
    assert_eq!(reader.index(open), None, "nothing is known of the one that is written");
    journal.seal();

    let dir = DataDir::open(folder.path(), &journal::options(1)).unwrap();
    let last = *segments(&dir).last().unwrap();
    assert_eq!(unknown(&mut dir.reader(), &segments(&dir)), [last], "headers say it of those before");
    recover_all(&dir, |_| {}, |_, _| {}).unwrap();
    assert_eq!(unknown(&mut dir.reader(), &segments(&dir)), [0; 0], "recovery knows where the log ends");
    drop(dir);

    // No header says it of the one that a stop has sealed: its seal does.
    let mut journal = Journal::open(folder.path(), 1);
    fill(&mut journal, 300);
    let (rounds, in_segments) = latest(&journal, stream(3));
    journal.seal();
    let mut view = DirView::open(folder.path()).unwrap().reader();
    assert!(view.index(last).is_some());
    let dir = recover(folder.path());
    assert_eq!(unknown(&mut dir.reader(), &segments(&dir)), [0; 0]);
    drop(dir);
    // The segment that was open when the page was read was read by links.
    let journal = Journal::open(folder.path(), 1);
    let (sealed_rounds, _) = latest(&journal, stream(3));
    assert!(
        in_segments > 5 && sealed_rounds <= in_segments + 1,
        "{sealed_rounds} rounds, {in_segments} segments"
    );
    assert!(sealed_rounds <= rounds, "{sealed_rounds} and {rounds} rounds");
}

/// One that a crash left without a seal has no index, and those around it have theirs.
#[test]
fn a_segment_without_a_seal_is_read_by_links() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(folder.path(), 1);
    fill(&mut journal, 220);
    let unsealed = journal.last(stream(0)).0.segment;
    drop(journal);
    let mut journal = Journal::open(folder.path(), 1);
    fill(&mut journal, 220);
    journal.seal();
    let dir = recover(folder.path());
    assert_eq!(unknown(&mut dir.reader(), &segments(&dir)), [unsealed]);
    drop(dir);
    let journal = Journal::open(folder.path(), 1);
    let (rounds, in_segments) = latest(&journal, stream(3));
    assert!(in_segments > 5 && rounds <= 20, "{rounds} rounds, {in_segments} segments");
}
