//! Appending to the log, without writing it.

use super::Repeat;
use anyhow::{Result, anyhow};
use std::hint::black_box;
use tidegate_ids::{ConversationId, Sequence, StreamId, UserId};
use tidegate_storage_log::{Appender, AppenderConfig, AppenderStart, NewRecord, Spine, crc32c, stored_len};

/// Bytes of a record's body.
const BODY_BYTES: usize = 128;
/// Records of a batch: what gathers while one batch is synced at a few hundred thousand messages a second.
const RECORDS_PER_BATCH: u64 = 64;
/// Memory that the copy walks through, as staging does.
const STAGING_BYTES: usize = 1 << 20;

/// The floor: a body goes from one place to another, and a record's length is walked.
pub(super) fn copy() -> Result<Repeat> {
    let body = [7; BODY_BYTES];
    let stored = stored_len(BODY_BYTES);
    let mut staging = vec![0; STAGING_BYTES];
    let mut at = 0;
    Ok(Box::new(move |repetitions| {
        for _ in 0..repetitions {
            if at + stored > staging.len() {
                at = 0;
            }
            staging[at..at + BODY_BYTES].copy_from_slice(black_box(&body));
            at += stored;
            black_box(&staging);
        }
    }))
}

pub(super) fn checksum() -> Result<Repeat> {
    let body = [7; BODY_BYTES];
    Ok(Box::new(move |repetitions| {
        for _ in 0..repetitions {
            black_box(crc32c(black_box(&body)));
        }
    }))
}

pub(super) fn to_a_thousand_streams() -> Result<Repeat> {
    append(1000)
}

pub(super) fn to_many_streams() -> Result<Repeat> {
    append(100_000)
}

/// Checksums, links, the segment's index, batches closed and recycled, segments rolled; nothing is written.
fn append(streams: u64) -> Result<Repeat> {
    let mut appender = Appender::new(&AppenderConfig::default(), AppenderStart::default())
        .map_err(|error| anyhow!("{error:?}"))?;
    let stream = |number| {
        StreamId::conversation(ConversationId::direct(UserId(number + 1), UserId(number + 1_000_000)))
    };
    let mut folds: Vec<(StreamId, Spine)> =
        (0..streams).map(|number| (stream(number), Spine::new())).collect();
    let body = [7; BODY_BYTES];
    let (mut next_segment, mut count) = (1, 0_u64);
    Ok(Box::new(move |repetitions| {
        for _ in 0..repetitions {
            while appender.spare_segments() < 2 {
                appender.add_segment(next_segment);
                next_segment += 1;
            }
            // A prime step: neighbours in time are none in memory.
            let (stream, spine) = &mut folds[(count * 7919 % streams) as usize];
            let record = NewRecord {
                stream: *stream,
                sequence: Sequence(spine.count() + 1),
                links: spine.links(),
                body_parts: &[black_box(&body)],
                ..NewRecord::default()
            };
            let Ok(location) = appender.append(&record) else {
                unreachable!("staging is released with every batch");
            };
            spine.push(location);
            count += 1;
            if count.is_multiple_of(RECORDS_PER_BATCH) {
                commit(&mut appender);
            }
        }
    }))
}

/// As if the batches had been synced and everybody had read them.
fn commit(appender: &mut Appender) {
    while let Some(batch) = appender.take_batch() {
        black_box(&batch.bytes);
        let number = batch.number;
        drop(batch);
        appender.synced(number);
    }
    appender.release(appender.committed_end());
}
