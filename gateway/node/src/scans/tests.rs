//! Scans over a log in memory: what was recovered and what was written since, and nothing behind `to`.

use super::*;
use crate::segments::Segments;
use tidegate_ids::{Sequence, StreamId, UserId};
use tidegate_storage_log::{
    Appender, AppenderConfig, AppenderStart, DamageKind, Guard, MemoryMedium, NewRecord, RecordView,
};

const SEGMENT_BYTES: u32 = 64 * 1024;

/// A log of one record a batch, in segments 1, 2, ….
struct Log {
    appender: Appender,
    medium: MemoryMedium,
    segments: Segments,
    spare: u32,
}

impl Log {
    fn new() -> Self {
        let config = AppenderConfig {
            segment_bytes: SEGMENT_BYTES,
            staging_bytes: 4 << 20,
            batch_bytes_max: 64 * 1024,
            ..AppenderConfig::default()
        };
        let appender = Appender::new(&config, AppenderStart::default()).unwrap();
        let guard = Guard::new(&AppenderStart::default().identity.directory);
        let segments = Segments::new(config.block_bytes, guard);
        let mut log = Self { appender, medium: MemoryMedium::new(), segments, spare: 0 };
        log.add_spare();
        log.add_spare();
        log
    }

    fn add_spare(&mut self) {
        self.spare += 1;
        self.medium.add(self.spare, SEGMENT_BYTES);
        self.appender.add_segment(self.spare);
    }

    fn append(&mut self, sequence: u64) {
        let body = [sequence as u8; 4000];
        let record = NewRecord {
            stream: StreamId::user(UserId(1)),
            sequence: Sequence(sequence),
            body_parts: &[&body],
            ..NewRecord::default()
        };
        self.appender.append(&record).unwrap();
        while self.appender.spare_segments() < 2 {
            self.add_spare();
        }
    }

    /// Writes everything; a batch counts as synced only then.
    fn sync(&mut self) {
        while let Some(batch) = self.appender.take_batch() {
            self.medium.write(batch.segment, u64::from(batch.offset), &batch.bytes);
            self.segments.begin(batch.segment, batch.offset, batch.bytes.len(), None);
            self.segments.written(true);
            self.appender.synced(batch.number);
        }
    }
}

fn read_all(log: &mut Log, from: Position, to: Position, bytes_max: usize) -> Vec<u64> {
    let mut sequences = Vec::new();
    let mut at = from;
    for _ in 0..1000 {
        let mut request = ScanRequest {
            shard: ShardIndex(0),
            token: 1,
            log: LogId::default(),
            from: at,
            to,
            bytes_max,
            written: log.segments.extents_from(at),
            records: vec![1, 2, 3],
        };
        let (end, damage) = scan(&mut log.medium, &[], &mut request);
        assert_eq!((end.damaged, damage), (0, None));
        let sequence = |record: RecordView<'_>| record.head.sequence.0;
        let before = sequences.len();
        sequences.extend(PackedRecords(&request.records).iter().map(sequence));
        assert_eq!(sequences.len() - before, end.records as usize);
        if end.complete {
            assert_eq!(end.next, to.max(from));
            return sequences;
        }
        assert!(end.next > at, "a scan that is not complete goes on");
        at = end.next;
    }
    panic!("a scan ends");
}

#[test]
fn a_scan_gives_every_synced_record_once_across_rolls() {
    let mut log = Log::new();
    for sequence in 1..=40 {
        log.append(sequence);
        log.sync();
    }
    let to = log.appender.committed_end();
    assert!(to.segment > 2, "the log has rolled");
    let all: Vec<u64> = (1..=40).collect();
    assert_eq!(read_all(&mut log, Position::default(), to, 1 << 20), all);
    assert_eq!(read_all(&mut log, Position::default(), to, 1), all, "in the smallest pieces too");
}

#[test]
fn nothing_behind_its_end_is_given() {
    let mut log = Log::new();
    log.append(1);
    log.sync();
    let (middle, one) = (log.appender.committed_end(), Position::default());
    log.append(2);
    log.sync();
    assert_eq!(read_all(&mut log, one, middle, 1 << 20), [1]);
    let to = log.appender.committed_end();
    assert_eq!(read_all(&mut log, middle, to, 1 << 20), [2]);
    assert_eq!(read_all(&mut log, to, to, 1 << 20), [0; 0]);
}

#[test]
fn a_batch_that_failed_is_not_synced() {
    let mut segments = Segments::new(512, Guard::default());
    segments.begin(7, 0, 1024, None);
    segments.written(true);
    segments.begin(7, 1024, 512, None);
    segments.written(false);
    let extents = segments.extents_from(Position::default());
    assert_eq!(extents.iter().map(|extent| (extent.segment, extent.end)).collect::<Vec<_>>(), [(7, 1024)]);
}

/// A segment that was gone was an error, which a cursor asked about once a second, and a refeed in every turn, for ever.
#[test]
fn a_segment_that_is_gone_is_gone_round_and_told() {
    let mut log = Log::new();
    for sequence in 1..=40 {
        log.append(sequence);
        log.sync();
    }
    let to = log.appender.committed_end();
    let mut request = ScanRequest {
        shard: ShardIndex(0),
        token: 1,
        log: LogId::default(),
        from: Position::default(),
        to,
        bytes_max: 1 << 20,
        written: log.segments.extents_from(Position::default()),
        records: Vec::new(),
    };
    let (whole, _) = scan(&mut log.medium, &[], &mut request);
    log.medium.segments.remove(&2);
    let (end, damage) = scan(&mut log.medium, &[], &mut request);
    assert_eq!((end.next, end.complete, end.damaged), (to, true, 1));
    assert_eq!(damage.map(|damage| (damage.kind, damage.segment)), Some((DamageKind::Segment, 2)));
    let lost = |record: &RecordView<'_>| record.location.segment == 2;
    assert!(!PackedRecords(&request.records).iter().any(|record| lost(&record)));
    assert!(0 < end.records && end.records < whole.records, "{end:?} {whole:?}");
}
