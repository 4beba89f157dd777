//! The parts of the log's format, each read from any bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_storage_log::descriptor::{BATCH_HEADER_BYTES, SEGMENT_HEADER_BYTES};
use tidegate_storage_log::{BatchHeader, Guard, PackedRecords, RecordView, SegmentHeader, Spine};

fuzz_target!(|data: &[u8]| {
    if let Some((bytes, _)) = data.split_first_chunk::<SEGMENT_HEADER_BYTES>() {
        let _ = SegmentHeader::decode(bytes);
    }
    if let Some((bytes, _)) = data.split_first_chunk::<BATCH_HEADER_BYTES>() {
        let _ = BatchHeader::decode(bytes, Guard::new(&[0; 16]));
    }
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
