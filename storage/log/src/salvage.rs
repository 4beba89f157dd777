//! What can still be had from a damaged stretch: each record is judged by its own checksums.

use crate::batch::{BatchHeader, BatchKind};
use crate::checksum::crc32c;
use crate::descriptor::{BATCH_HEADER_BYTES, TABLE_ENTRY_BYTES};
use crate::medium::Medium;
use crate::record::{Links, RecordView, checked_len, checked_placement, parse_head, parse_logical};
use crate::recover::{Damage, DamageKind, Loss, Recovered};
use crate::replay::{given_up, note_gone};
use crate::window::Window;
use crate::witness::{Lost, LostWhat, Observe, Remnant};
use core::ops::Range;
use tidegate_ids::{BatchNumber, Location};

/// Gives out what is sound in `range` and reports what is not. `numbers` are those of the batches that were there. They
/// are found by the header at the front and by the trailers before the end; what lies between is lost. Gives where the batches
/// end: before the end of `range` if the one at the front is the last.
pub(crate) fn salvage<M: Medium>(
    window: &mut Window<'_, M>,
    out: &mut Recovered,
    observer: &mut impl Observe,
    segment: u32,
    range: Range<u32>,
    mut numbers: Range<BatchNumber>,
) -> u32 {
    let mut lost = range.clone();
    let front = window.header(range.start, range.end).filter(|header| numbers.contains(&header.number));
    if let Some(header) = front {
        salvage_batch(window, out, observer, &header);
        lost.start += header.length;
        numbers.start = header.number.next();
        if numbers.start >= numbers.end {
            return lost.start;
        }
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
        note_gone(out, observer, segment, lost, numbers);
    }
    for header in behind.iter().rev() {
        salvage_batch(window, out, observer, header);
    }
    range.end
}

fn salvage_batch<M: Medium>(
    window: &mut Window<'_, M>,
    out: &mut Recovered,
    observer: &mut impl Observe,
    header: &BatchHeader,
) {
    let bytes = window.slice(header.offset, header.length as usize);
    let kind = if header.kind == BatchKind::Records { DamageKind::Batch } else { DamageKind::Footer };
    out.note(Damage::new(kind, header.segment, header.offset, header.end() as u32));
    observer.batch(header, bytes, false);
    if header.kind != BatchKind::Records {
        return;
    }
    for stretch in stretches(header, bytes) {
        let location = Location::new(header.segment, header.offset + stretch.start as u32);
        let to = header.offset + stretch.end as u32;
        let bytes = &bytes[stretch];
        let mut note = |kind, record| {
            out.note(Damage { record, ..Damage::new(kind, header.segment, location.offset, to) });
        };
        match whole_record(bytes, location) {
            // A repair has said so before.
            Some((record, _)) if record.is_lost() => observer.lost(&given_up(&record)),
            Some((record, has_links)) => {
                if !has_links {
                    note(DamageKind::Links, Some((record.head.stream, record.head.sequence)));
                }
                out.records += 1;
                observer.record(&record, has_links);
            }
            None => {
                let left = remnant(bytes);
                let record = left.head.map(|head| (head.stream, head.sequence));
                note(DamageKind::Record, record);
                out.lose(Loss { segment: header.segment, from: location.offset, to, record });
                let what = LostWhat::Record(left);
                observer.lost(&Lost { segment: header.segment, from: location.offset, to, what });
            }
        }
    }
}

/// The sound record that fills a stretch, and whether its links are sound too.
pub(crate) fn whole_record(stretch: &[u8], location: Location) -> Option<(RecordView<'_>, bool)> {
    let found = parse_logical(stretch, location).ok();
    found.filter(|(record, _)| record.stored_len() == stretch.len())
}

/// What is left of a record that does not hold.
pub(crate) fn remnant(stretch: &[u8]) -> Remnant {
    let head = checked_len(stretch).filter(|len| *len == stretch.len());
    let head = head.and_then(|_| stretch.first_chunk().map(parse_head));
    let placement = checked_placement(stretch);
    Remnant { head, links: placement.map(|at| Links { prev: at.prev, jump: at.jump }) }
}

/// Where the records of a batch lie: by its table, or, if that is bad too, by their lengths as far as these lead; what
/// then remains is one stretch.
pub(crate) fn stretches(header: &BatchHeader, bytes: &[u8]) -> Vec<Range<usize>> {
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
