//! A payload splits into frames or is refused; a frame that decodes, encodes to one that decodes to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_schema::{ClientFrame, Encoder, Frame, ServerFrame, frames};

fuzz_target!(|payload: &[u8]| {
    let mut encoder = Encoder::new();
    for frame in frames(payload) {
        let Ok(frame) = frame else { return };
        let mut out = Vec::new();
        if let Ok(decoded) = ClientFrame::decode(&frame) {
            decoded.encode(&mut encoder, &mut out, frame.header.id);
            let again = one_frame(&out);
            assert_eq!(ClientFrame::decode(&again), Ok(decoded));
        }
        out.clear();
        if let Ok(decoded) = ServerFrame::decode(&frame) {
            decoded.encode(&mut encoder, &mut out, frame.header.id, frame.header.flags);
            let again = one_frame(&out);
            assert_eq!(ServerFrame::decode(&again), Ok(decoded));
        }
    }
});

fn one_frame(bytes: &[u8]) -> Frame<'_> {
    let mut all = frames(bytes);
    let frame = all.next().expect("one frame was encoded").expect("what we encode is valid");
    assert!(all.next().is_none(), "one frame was encoded");
    frame
}
