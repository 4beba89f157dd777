//! What can still be had from a damaged stretch: each record is judged by its own checksums.

use crate::batch::{BatchHeader, BatchKind};
use crate::checksum::crc32c;
use crate::descriptor::{BATCH_HEADER_BYTES, TABLE_ENTRY_BYTES};
use crate::medium::Medium;
use crate::record::{RecordView, checked_len, parse_logical};
use crate::recover::{Damage, DamageKind, Recovered};
use crate::window::Window;
use core::ops::Range;
use tidegate_ids::{BatchNumber, Location};

/// Gives out what is sound in `range` and reports what is not. `numbers` are those of the batches that were there. They
/// are found by the header at the front and by the trailers before the end; what lies between is lost.
pub(crate) fn salvage<M: Medium>(
    window: &mut Window<'_, M>,
    out: &mut Recovered,
    on_record: &mut impl FnMut(RecordView<'_>),
    segment: u32,
    range: Range<u32>,
    mut numbers: Range<BatchNumber>,
) {
    let mut lost = range.clone();
    let front = window.header(range.start, range.end).filter(|header| numbers.contains(&header.number));
    if let Some(header) = front {
        salvage_batch(window, out, on_record, &header);
        lost.start += header.length;
        numbers.start = header.number.next();
    }
    let mut behind = Vec::new();
    while lost.start < lost.end
        && let Some(header) = window.trailer(lost.end)
        && header.offset >= lost.start
        && numbers.contains(&header.number)
    {
        behind.push(header);
        lost.end = header.offset;
        numbers.end = header.number;
    }
    if numbers.start < numbers.end {
        let kind = DamageKind::Batches { first: numbers.start, last: BatchNumber(numbers.end.0 - 1) };
        out.note(Damage { kind, segment, from: lost.start, to: lost.end });
    }
    for header in behind.iter().rev() {
        salvage_batch(window, out, on_record, header);
    }
}

fn salvage_batch<M: Medium>(
    window: &mut Window<'_, M>,
    out: &mut Recovered,
    on_record: &mut impl FnMut(RecordView<'_>),
    header: &BatchHeader,
) {
    let bytes = window.slice(header.offset, header.length as usize);
    let kind = if header.kind == BatchKind::Records { DamageKind::Batch } else { DamageKind::Footer };
    out.note(Damage { kind, segment: header.segment, from: header.offset, to: header.end() as u32 });
    if header.kind != BatchKind::Records {
        return;
    }
    for stretch in stretches(header, bytes) {
        let location = Location::new(header.segment, header.offset + stretch.start as u32);
        let found = parse_logical(&bytes[stretch.clone()], location);
        let whole = found.ok().filter(|(record, _)| record.stored_len() == stretch.len());
        let kind = match whole {
            Some((_, true)) => None,
            Some((_, false)) => Some(DamageKind::Links),
            None => Some(DamageKind::Record),
        };
        if let Some(kind) = kind {
            let to = header.offset + stretch.end as u32;
            out.note(Damage { kind, segment: header.segment, from: location.offset, to });
        }
        if let Some((record, _)) = whole {
            out.records += 1;
            on_record(record);
        }
    }
}

/// Where the records of a batch lie: by its table, or, if that is bad too, by their lengths as far as these lead; what
/// then remains is one stretch.
fn stretches(header: &BatchHeader, bytes: &[u8]) -> Vec<Range<usize>> {
    let used = header.used as usize;
    let table = &bytes[header.table_range()];
    let mut starts = Vec::new();
    if crc32c(table) == header.table_checksum {
        let entries = table.as_chunks::<TABLE_ENTRY_BYTES>().0;
        starts.extend(entries.iter().map(|entry| u32::from_le_bytes(*entry) as usize));
    } else {
        let mut at = BATCH_HEADER_BYTES;
        while at < used {
            starts.push(at);
            let Some(len) = checked_len(&bytes[at..used]) else { break };
            at += len;
        }
    }
    let rises = starts.windows(2).all(|pair| pair[0] < pair[1]);
    let in_bounds = starts.iter().all(|start| (BATCH_HEADER_BYTES..used).contains(start));
    if !rises || !in_bounds {
        starts = vec![BATCH_HEADER_BYTES];
    }
    let ends = starts.iter().skip(1).copied().chain([used]);
    starts.iter().copied().zip(ends).map(|(start, end)| start..end).collect()
}
