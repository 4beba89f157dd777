//! From the appender through files and back: recovery, reads, the reader thread.

#![allow(clippy::unwrap_used, reason = "a test may end by a panic")]

mod journal;

use journal::{Journal, Kept};
use std::os::unix::fs::FileExt;
use std::sync::mpsc;
use tidegate_ids::{ConversationId, Location, Sequence, StreamId, UserId};
use tidegate_storage_files::{ReadPool, ReadReply, ReadRequest, ReadWhat, Wake, recover_all};
use tidegate_storage_log::{DamageKind, Direction, PackedRecords, ReadError, ReadSpec};

fn stream(number: u64) -> StreamId {
    StreamId::conversation(ConversationId::direct(UserId(number), UserId(number + 1000)))
}

/// A journal of `count` records over a few streams, on two shards, with rolls.
fn fill(journal: &mut Journal, count: u64) -> Vec<Kept> {
    let mut kept = Vec::new();
    for at in 0..count {
        let (shard, of) = ((at % 2) as u16, at % 6);
        let body = vec![at as u8; 100 + (at as usize * 37) % 1500];
        kept.push(journal.append(shard, stream(of), &body));
        if at % 7 == 0 {
            journal.commit();
        }
    }
    journal.commit();
    kept.sort_by_key(|record| (record.log, record.location));
    kept
}

#[test]
fn everything_committed_comes_back_whether_stopped_or_killed() {
    for is_sealed in [true, false] {
        let temp = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(temp.path(), 2);
        let mut kept = fill(&mut journal, 300);
        if is_sealed {
            journal.seal();
        } else {
            // Appended, never written.
            journal.append(0, stream(0), b"lost");
            drop(journal);
        }
        let mut journal = Journal::open(temp.path(), 2);
        assert_eq!(journal.recovered, kept);
        for log in &journal.logs {
            assert!(log.segments.len() > 1, "it rolled");
            assert_eq!(log.recovered.unclean, !is_sealed);
            assert_eq!((log.recovered.cut, log.recovered.damage_count), (None, 0));
        }
        kept.extend(fill(&mut journal, 100));
        kept.sort_by_key(|record| (record.log, record.location));
        drop(journal);
        assert_eq!(Journal::open(temp.path(), 2).recovered, kept);
    }
}

#[test]
fn a_torn_tail_is_cut_and_never_comes_back() {
    let temp = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(temp.path(), 1);
    let mut kept: Vec<Kept> = (0..5).map(|_| journal.append(0, stream(0), b"kept")).collect();
    journal.commit();
    let torn = journal.append(0, stream(0), &[9; 3000]);
    journal.commit();
    drop(journal);
    let path = temp.path().join(format!("log/1/0/{}.seg", torn.location.segment));
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(&[0; 512], u64::from(torn.location.offset) + 1024).unwrap();
    let mut journal = Journal::open(temp.path(), 1);
    assert_eq!(journal.recovered, kept);
    assert!(journal.logs[0].recovered.cut.is_some());
    kept.push(journal.append(0, stream(0), b"in its place"));
    journal.commit();
    drop(journal);
    let journal = Journal::open(temp.path(), 1);
    assert_eq!(journal.recovered, kept);
}

#[test]
fn damage_costs_its_records_only_and_is_reported() {
    let temp = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(temp.path(), 1);
    let kept: Vec<Kept> = (0..100).map(|at| journal.append(0, stream(0), &[at; 2000])).collect();
    journal.seal();
    let hit = &kept[40];
    let path = temp.path().join(format!("log/1/0/{}.seg", hit.location.segment));
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(b"rot", u64::from(hit.location.offset) + 500).unwrap();
    let journal = Journal::open(temp.path(), 1);
    let expected: Vec<Kept> = kept.iter().filter(|record| *record != hit).cloned().collect();
    assert_eq!(journal.recovered, expected);
    let damage = &journal.logs[0].recovered.damage;
    assert!(damage.iter().any(|damage| damage.kind == DamageKind::Record), "{damage:?}");
}

/// The header of the newest segment was lost, its batches were not: they were acknowledged, and it is no spare.
#[test]
fn a_zeroed_header_costs_no_record() {
    let temp = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(temp.path(), 1);
    let kept: Vec<Kept> = (0..8)
        .map(|at| {
            let kept = journal.append(0, stream(0), &[at; 500]);
            journal.commit();
            kept
        })
        .collect();
    drop(journal);
    let path = temp.path().join(format!("log/1/0/{}.seg", kept[0].location.segment));
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(&[0; 512], 0).unwrap();
    let journal = Journal::open(temp.path(), 1);
    assert_eq!(journal.recovered, kept);
    let damage = &journal.logs[0].recovered.damage;
    assert!(damage.iter().any(|damage| damage.kind == DamageKind::SegmentHeader), "{damage:?}");
}

#[test]
fn progress_rises_to_the_end() {
    let temp = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(temp.path(), 2);
    let kept = fill(&mut journal, 300);
    let dir = {
        drop(journal);
        tidegate_storage_files::DataDir::open(temp.path(), &journal::options(2)).unwrap()
    };
    let mut seen = Vec::new();
    recover_all(&dir, |progress| seen.push(progress), |_, _| {}).unwrap();
    let total: usize = dir.logs().iter().map(|log| log.segments.len()).sum();
    assert!(seen.iter().is_sorted_by_key(|progress| (progress.segments_done, progress.records)));
    assert_eq!(seen.len(), total + dir.logs().len(), "once a segment, and once a log");
    let last = seen[seen.len() - 1];
    assert_eq!((last.segments_done, last.segments, last.records), (total, total, kept.len() as u64));
}

fn next_reply(pool: &mut ReadPool, wakes: &mpsc::Receiver<()>) -> ReadReply {
    wakes.recv().unwrap();
    pool.take().unwrap()
}

fn page(journal: &Journal, of: StreamId, from: u64, to: u64) -> ReadSpec {
    let (last, last_sequence) = journal.last(of);
    let (from, to, direction) = (Sequence(from), Sequence(to), Direction::Ascending);
    ReadSpec::Range { stream: of, last, last_sequence, from, to, limit: 100, bytes_max: 1 << 20, direction }
}

#[test]
fn a_pool_answers_in_order_from_sealed_and_active_segments() {
    let temp = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(temp.path(), 2);
    let (woken, wakes) = mpsc::channel();
    let wake: Wake = Box::new(move || _ = woken.send(()));
    // Started first: it must see segments that are made later.
    let mut pool = ReadPool::start(&journal.dir, 2, wake).unwrap();
    let kept = fill(&mut journal, 300);
    let of =
        |number| -> Vec<&Kept> { kept.iter().filter(|record| record.stream == stream(number)).collect() };
    let request =
        |token, spec| ReadRequest { token, what: ReadWhat::Page(spec, None), records: b"old bytes".to_vec() };
    pool.try_read(request(1, page(&journal, stream(0), 3, 40))).unwrap();
    pool.try_read(request(2, page(&journal, stream(1), 49, 50))).unwrap();
    let refused = pool.try_read(request(3, page(&journal, stream(2), 1, 1))).unwrap_err();
    assert_eq!((refused.token, pool.in_flight()), (3, 2));

    let check = |reply: &ReadReply, token: u64, expected: &[&Kept]| {
        assert_eq!(reply.token, token);
        let end = reply.result.unwrap();
        assert_eq!(end.records as usize, expected.len());
        let records: Vec<_> = PackedRecords(&reply.records).iter().collect();
        assert_eq!(records.len(), expected.len());
        for (record, kept) in records.iter().zip(expected) {
            assert_eq!((record.location, record.head.sequence.0), (kept.location, kept.sequence));
            assert_eq!(record.body, kept.body);
        }
    };
    let first = next_reply(&mut pool, &wakes);
    check(&first, 1, &of(0)[2..40]);
    pool.try_read(ReadRequest { records: first.records, ..refused }).unwrap();
    check(&next_reply(&mut pool, &wakes), 2, &of(1)[48..50]);
    check(&next_reply(&mut pool, &wakes), 3, &of(2)[..1]);
    assert_eq!(pool.in_flight(), 0);

    let nowhere = Location::new(77_777, 512);
    pool.try_read(request(4, ReadSpec::At { location: nowhere })).unwrap();
    let reply = next_reply(&mut pool, &wakes);
    assert_eq!(reply.result, Err(ReadError::Dropped(nowhere)));
    assert!(reply.records.is_empty());
}

#[test]
fn a_pool_stops_with_answers_not_taken() {
    let temp = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(temp.path(), 1);
    let kept = journal.append(0, stream(0), b"x");
    journal.commit();
    let mut pool = ReadPool::start(&journal.dir, 8, Box::new(|| {})).unwrap();
    for token in 0..8 {
        let spec = ReadSpec::At { location: kept.location };
        pool.try_read(ReadRequest { token, what: ReadWhat::Page(spec, None), records: Vec::new() }).unwrap();
    }
    drop(pool);
}
