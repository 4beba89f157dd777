//! What travels inside a frame and is verified as a root of its own: messages, group changes, stored records.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_schema::deliver::{read_stored, stored_iter, stored_len, write_stored};
use tidegate_schema::{Encoder, GroupChange, MessageFields};

fuzz_target!(|data: &[u8]| {
    let mut encoder = Encoder::new();
    let mut out = Vec::new();
    if let Ok(message) = MessageFields::verify(data) {
        if encoder.message(&mut out, &message).is_ok() {
            assert_eq!(MessageFields::verify(&out), Ok(message));
        }
    }
    out.clear();
    if let Ok(change) = GroupChange::verify(data) {
        if encoder.group_change(&mut out, &change).is_ok() {
            assert_eq!(GroupChange::verify(&out), Ok(change));
        }
    }
    out.clear();
    if let Ok((stored, consumed)) = read_stored(data) {
        assert!(consumed <= data.len());
        write_stored(&stored.stamp, stored.message, &mut out);
        assert_eq!(out.len(), stored_len(stored.message.len()));
        assert_eq!(read_stored(&out), Ok((stored, out.len())));
    }
    for stored in stored_iter(data) {
        if stored.is_err() {
            break;
        }
    }
});
