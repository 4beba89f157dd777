//! The parts of the log's format, each read from any bytes: as they come, when only right checksums may be believed, and with
//! checksums made right, when whatever is believed must at least fit together.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_storage_log::descriptor::{
    BATCH_HEADER_BYTES, BATCH_TRAILER_BYTES, FORMAT_VERSION, SEGMENT_HEADER_BYTES, batch, segment,
};
use tidegate_storage_log::limits::{
    BATCH_BYTES_MAX, BLOCK_BYTES_MAX, BLOCK_BYTES_MIN, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN,
};
use tidegate_storage_log::{
    BatchHeader, BatchKind, Guard, PackedRecords, RecordView, SegmentHeader, Spine, crc32c,
};

const DIRECTORY: [u8; 16] = *b"directory of one";

fuzz_target!(|data: &[u8]| {
    segment_header(front(data));
    batch_header(front(data));
    if let Some((spine, consumed)) = Spine::decode(data) {
        assert!(consumed <= data.len());
        let mut out = Vec::new();
        spine.encode(&mut out);
        assert_eq!(out.len(), spine.encoded_len());
        assert_eq!(Spine::decode(&out).map(|(again, _)| again.count()), Some(spine.count()));
    }
    let packed = |record: RecordView<'_>| if record.is_hole() { 96 } else { record.stored_len() };
    assert!(PackedRecords(data).iter().map(packed).sum::<usize>() <= data.len());
});

/// As many bytes as a header has; what is missing is zero, as most of one is.
fn front<const N: usize>(data: &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    let count = data.len().min(N);
    bytes[..count].copy_from_slice(&data[..count]);
    bytes
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four"))
}

fn segment_header(mut bytes: [u8; SEGMENT_HEADER_BYTES]) {
    let sum = crc32c(&bytes[segment::VERSION_AT..]);
    let is_right = bytes[..8] == segment::MAGIC && u32_at(&bytes, segment::CHECKSUM_AT) == sum;
    assert!(
        SegmentHeader::decode(&bytes).is_none() || is_right,
        "a header with a wrong checksum is believed"
    );
    bytes[..8].copy_from_slice(&segment::MAGIC);
    bytes[segment::VERSION_AT..segment::VERSION_AT + 2].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    let sum = crc32c(&bytes[segment::VERSION_AT..]);
    bytes[segment::CHECKSUM_AT..segment::CHECKSUM_AT + 4].copy_from_slice(&sum.to_le_bytes());
    let Some(header) = SegmentHeader::decode(&bytes) else { return };
    let block = header.block_bytes;
    assert!(block.is_power_of_two() && (BLOCK_BYTES_MIN..=BLOCK_BYTES_MAX).contains(&block));
    assert!((SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&header.segment_bytes));
    assert_eq!(header.segment, u32_at(&bytes, segment::SEGMENT_AT));
    if let Some(own) = header.rewritten {
        assert!(own.end <= header.segment_bytes && own.end.is_multiple_of(block));
        assert!(own.file_bytes as usize >= 2 * SEGMENT_HEADER_BYTES, "there is a header at both ends");
    }
}

fn batch_header(mut bytes: [u8; BATCH_HEADER_BYTES]) {
    let guard = Guard::new(&DIRECTORY);
    let sum = |bytes: &[u8]| crc32c(&bytes[batch::NUMBER_AT..]) ^ crc32c(&DIRECTORY);
    let is_right =
        u32_at(&bytes, 0) == batch::MAGIC && u32_at(&bytes, batch::HEADER_CHECKSUM_AT) == sum(&bytes);
    assert!(
        BatchHeader::decode(&bytes, guard).is_none() || is_right,
        "a header with a wrong checksum is believed"
    );
    bytes[..4].copy_from_slice(&batch::MAGIC.to_le_bytes());
    let right = sum(&bytes);
    bytes[batch::HEADER_CHECKSUM_AT..batch::HEADER_CHECKSUM_AT + 4].copy_from_slice(&right.to_le_bytes());
    let Some(header) = BatchHeader::decode(&bytes, guard) else { return };
    let table = if header.kind == BatchKind::Records { u64::from(header.count) * 4 } else { 0 };
    let needed = u64::from(header.used) + table + BATCH_TRAILER_BYTES as u64;
    assert!(header.used as usize >= BATCH_HEADER_BYTES && needed <= u64::from(header.length));
    assert!(header.length <= BATCH_BYTES_MAX && header.synced_through < header.number);
    // Another directory's batch, such as one inside a message, is none.
    assert!(BatchHeader::decode(&bytes, Guard::new(b"another's sixtee")).is_none());
}
