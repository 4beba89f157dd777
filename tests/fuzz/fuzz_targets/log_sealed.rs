//! A sealed segment with an index and a footer of several batches, whose bytes are wrong: no record is made up, its footer is the
//! one that was written, or none, and a page that is led by a wrong index gives nothing that was not written. With checksums made
//! right again it ends and does not panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use tidegate_ids::{ConversationId, Sequence, StreamId, UserId, WallMs};
use tidegate_storage_log::descriptor::{BATCH_HEADER_BYTES, BATCH_TRAILER_BYTES, PLACEMENT_BYTES, batch};
use tidegate_storage_log::{
    Appender, AppenderConfig, AppenderStart, BatchHeader, BatchKind, Direction, FooterEntry, Guard,
    IndexPlace, Lead, Links, MemoryMedium, NewRecord, PackedRecords, PageReader, ReadSpec, RecordView,
    SegmentExtent, Spine, crc32c, read_footer, read_page, recover,
};

const SEGMENT: u32 = 1;
const STREAMS: u64 = 300;
const RECORDS: u64 = 400;

/// The segment as it was written.
struct Sound {
    bytes: Vec<u8>,
    /// Where each batch is, and its length.
    batches: Vec<(usize, usize)>,
    records: Vec<Vec<u8>>,
    extent: SegmentExtent,
    footer: Vec<FooterEntry>,
    index: IndexPlace,
    /// A conversation, and its newest record.
    long: (StreamId, Spine),
}

static SOUND: LazyLock<Sound> = LazyLock::new(written);

fuzz_target!(|data: &[u8]| {
    let sound = &*SOUND;
    // Patches of four bytes: where, and what. The batch that it hits may get right checksums again.
    let mut bytes = sound.bytes.clone();
    let mut is_resealed = false;
    for [low, high, more, value] in data.as_chunks::<4>().0 {
        let at = usize::from(u16::from_le_bytes([*low, *high])) + usize::from(more & 1) * 65_536;
        let mut at = at % bytes.len();
        if more & 2 == 2 {
            // Into the index or the footer.
            let (from, _) = sound.batches[sound.batches.len() - 1 - usize::from(more >> 2 & 3)];
            at = from + at % (bytes.len() - from);
        }
        bytes[at] = *value;
        if *more >= 128 {
            is_resealed = true;
            reseal(&mut bytes, sound, at);
        }
    }
    let is_sound = bytes == sound.bytes;
    let page = led(&bytes, sound);
    let (records, footer) = given(bytes, &sound.extent);
    if is_sound {
        assert_eq!((&records, footer.as_ref()), (&sound.records, Some(&sound.footer)));
    } else if !is_resealed {
        let mut left = sound.records.iter();
        assert!(records.iter().all(|one| left.any(|other| other == one)), "a record was made up");
        assert!(footer.is_none_or(|footer| footer == sound.footer), "a footer was made up");
        assert!(page.iter().all(|one| sound.records.contains(one)), "a page was made up");
    }
});

/// Makes the checksums of the batch that holds a byte right again, as far as its own header lets that be.
fn reseal(bytes: &mut [u8], sound: &Sound, at: usize) {
    let found = sound.batches.iter().find(|(from, length)| (*from..from + length).contains(&at));
    let Some(&(from, length)) = found else { return };
    let bytes = &mut bytes[from..from + length];
    let trailer = length - BATCH_TRAILER_BYTES;
    let u32_at = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four"));
    let sum = crc32c(&bytes[BATCH_HEADER_BYTES..trailer]);
    bytes[batch::PAYLOAD_CHECKSUM_AT..][..4].copy_from_slice(&sum.to_le_bytes());
    let (used, count) = (u32_at(bytes, batch::USED_AT) as usize, u32_at(bytes, batch::COUNT_AT) as usize);
    let table = used.checked_add(count.saturating_mul(4)).and_then(|end| bytes.get(used..end));
    if let (1, Some(table)) = (bytes[batch::KIND_AT], table) {
        let sum = crc32c(table);
        bytes[batch::TABLE_CHECKSUM_AT..][..4].copy_from_slice(&sum.to_le_bytes());
    }
    let sum = crc32c(&bytes[batch::NUMBER_AT..BATCH_HEADER_BYTES]) ^ crc32c(&[0; 16]);
    bytes[batch::HEADER_CHECKSUM_AT..][..4].copy_from_slice(&sum.to_le_bytes());
    bytes.copy_within(..BATCH_HEADER_BYTES, trailer);
}

/// What a record is wherever it lies, and whatever became of its links.
fn logical(record: &RecordView<'_>) -> Vec<u8> {
    let mut one = record.location.to_u64().to_le_bytes().to_vec();
    record.write_stored(&mut one);
    one[8..8 + PLACEMENT_BYTES].fill(0);
    one
}

/// A page of the long conversation, led by what the index says of it.
fn led(bytes: &[u8], sound: &Sound) -> Vec<Vec<u8>> {
    let mut medium = MemoryMedium::new();
    medium.segments.insert(SEGMENT, bytes.to_vec());
    let (stream, spine) = &sound.long;
    let entry = sound.index.entry(&mut medium, SEGMENT, stream, &mut Vec::new()).expect("it is there");
    let lead = entry.map(|entry| Lead { segment: SEGMENT, entry });
    let spec = ReadSpec::Range {
        stream: *stream,
        last: spine.last(),
        last_sequence: Sequence(spine.count()),
        from: Sequence(1),
        to: Sequence(u64::MAX),
        limit: 50,
        bytes_max: 1 << 20,
        direction: Direction::Descending,
    };
    let mut page = Vec::new();
    let _ = PageReader::new().read_led(&mut medium, &spec, lead.as_ref(), &mut page);
    PackedRecords(&page).iter().map(|record| logical(&record)).collect()
}

/// What recovery and the footer give.
fn given(bytes: Vec<u8>, extent: &SegmentExtent) -> (Vec<Vec<u8>>, Option<Vec<FooterEntry>>) {
    let most = bytes.len();
    let mut medium = MemoryMedium::new();
    medium.segments.insert(SEGMENT, bytes);
    let (mut records, mut locations) = (Vec::new(), Vec::new());
    // An error is an answer, too; a panic is not.
    let _ = recover(&mut medium, &[SEGMENT], None, |record| {
        records.push(logical(&record));
        locations.push(record.location);
    });
    for location in locations.into_iter().step_by(50) {
        let mut page = Vec::new();
        if read_page(&mut medium, &ReadSpec::At { location }, &mut page).is_ok() {
            assert!(PackedRecords(&page).iter().count() == 1);
        }
    }
    let footer = read_footer(&mut medium, extent).expect("it is there");
    assert!(footer.as_ref().is_none_or(|entries| entries.len() * 32 <= most));
    (records, footer)
}

fn written() -> Sound {
    let config = AppenderConfig {
        segment_bytes: 1 << 20,
        block_bytes: 512,
        staging_bytes: 1 << 20,
        batch_bytes_max: 8 << 10,
    };
    let mut medium = MemoryMedium::new();
    medium.add(SEGMENT, config.segment_bytes);
    let mut appender = Appender::new(&config, AppenderStart::default()).expect("a valid configuration");
    appender.add_segment(SEGMENT);
    let mut batches = Vec::new();
    let mut write = |appender: &mut Appender, medium: &mut MemoryMedium, place: &mut IndexPlace| {
        while let Some(batch) = appender.take_batch() {
            // The first one of a segment has the segment's header before it.
            let header = if batch.offset == 0 { 512 } else { 0 };
            batches.push((batch.offset as usize + header, batch.bytes.len() - header));
            medium.write(batch.segment, u64::from(batch.offset), &batch.bytes);
            appender.synced(batch.number);
            if batch.seals {
                *place = batch.index;
            }
        }
    };
    let mut index_place = IndexPlace::default();
    let mut long = (StreamId::conversation(ConversationId::direct(UserId(1), UserId(2))), Spine::new());
    for index in 0..RECORDS {
        let body = vec![index as u8; index as usize % 90];
        let of_long = index % 4 == 0;
        let (stream, sequence, links) = match of_long {
            true => (long.0, Sequence(long.1.count() + 1), long.1.links()),
            false => (StreamId::user(UserId(index % STREAMS + 1)), Sequence(0), Links::default()),
        };
        let time = WallMs(index);
        let record = NewRecord {
            stream,
            sequence,
            links,
            time,
            kind: 1,
            body_parts: &[&body],
            ..NewRecord::default()
        };
        let location = appender.append(&record).expect("small records fit");
        if of_long {
            long.1.push(location);
        }
        if index % 40 == 0 {
            write(&mut appender, &mut medium, &mut index_place);
        }
    }
    appender.seal();
    write(&mut appender, &mut medium, &mut index_place);
    let end = batches.last().map_or(0, |(at, length)| at + length);
    let footers = batches.iter().filter(|(at, _)| is_footer(&medium.segments[&SEGMENT][*at..])).count();
    assert!(footers >= 2, "the footer has several batches");
    let mut bytes = medium.segments[&SEGMENT].clone();
    bytes.truncate(end);
    let found = recover(&mut medium, &[SEGMENT], None, |_| {}).expect("sound");
    let extent = found.extents[0];
    let (records, footer) = given(bytes.clone(), &extent);
    assert_eq!(
        (records.len() as u64, footer.as_ref().map(Vec::len)),
        (RECORDS, Some(footer.as_ref().map_or(0, Vec::len)))
    );
    assert!(footer.as_ref().map_or(0, Vec::len) > 200 && !index_place.is_none());
    Sound { bytes, batches, records, extent, footer: footer.expect("sealed"), index: index_place, long }
}

fn is_footer(bytes: &[u8]) -> bool {
    let header = bytes.first_chunk().and_then(|bytes| BatchHeader::decode(bytes, Guard::new(&[0; 16])));
    header.is_some_and(|header| header.kind != BatchKind::Records)
}
