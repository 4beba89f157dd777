//! Frames byte by byte.

use super::*;

const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

fn encoded(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

/// The examples of RFC 6455, 5.7.
#[test]
fn the_examples_of_the_rfc() {
    let check = |write: &dyn Fn(&mut Vec<u8>), wanted: &[u8]| assert_eq!(encoded(write), wanted);
    check(&|out| text(out, "Hello", None), b"\x81\x05Hello");
    check(&|out| text(out, "Hello", Some(MASK)), b"\x81\x85\x37\xFA\x21\x3D\x7F\x9F\x4D\x51\x58");
    check(&|out| frame(out, Opcode::Text, false, b"Hel", None), b"\x01\x03Hel");
    check(&|out| frame(out, Opcode::Continuation, true, b"lo", None), b"\x80\x02lo");
    check(&|out| ping(out, b"Hello", None), b"\x89\x05Hello");
    check(&|out| pong(out, b"Hello", Some(MASK)), b"\x8A\x85\x37\xFA\x21\x3D\x7F\x9F\x4D\x51\x58");
    check(&|out| out.extend_from_slice(&header(Opcode::Binary, true, 256, None)), b"\x82\x7E\x01\x00");
    check(
        &|out| out.extend_from_slice(&header(Opcode::Binary, true, 65_536, None)),
        b"\x82\x7F\x00\x00\x00\x00\x00\x01\x00\x00",
    );
}

#[test]
fn lengths_are_in_their_shortest_form() {
    let check = |payload_bytes: usize, wanted: &[u8]| {
        let plain = header(Opcode::Binary, true, payload_bytes, None);
        assert_eq!(&plain[1..], wanted, "{payload_bytes}");
        assert_eq!(plain.len(), header_len(payload_bytes, false));
        let masked = header(Opcode::Binary, true, payload_bytes, Some(MASK));
        assert_eq!(masked.len(), header_len(payload_bytes, true));
        assert_eq!(masked[1], wanted[0] | 0x80);
        assert_eq!(&masked[2..masked.len() - 4], &wanted[1..]);
        assert_eq!(&masked[masked.len() - 4..], MASK);
    };
    check(0, b"\x00");
    check(125, b"\x7D");
    check(126, b"\x7E\x00\x7E");
    check(65_535, b"\x7E\xFF\xFF");
    check(65_536, b"\x7F\x00\x00\x00\x00\x00\x01\x00\x00");
    check(16 << 20, b"\x7F\x00\x00\x00\x00\x01\x00\x00\x00");
}

#[test]
fn a_message_built_in_pieces_equals_one_written_whole() {
    for payload_bytes in [0, 1, 3, 125, 126, 127, 4096, 65_535, 65_536, 70_001] {
        for mask in [None, Some(MASK)] {
            let payload: Vec<u8> = (0..payload_bytes).map(|index| index as u8).collect();
            let mut out = b"before".to_vec();
            let open = begin(&mut out, mask);
            for piece in payload.chunks(1000) {
                out.extend_from_slice(piece);
            }
            assert_eq!(open.payload_len(&out), payload_bytes);
            open.finish(&mut out, Opcode::Binary);
            let mut wanted = b"before".to_vec();
            binary(&mut wanted, &payload, mask);
            assert!(out == wanted, "{payload_bytes} {mask:?}");
        }
    }
}

#[test]
fn a_cancelled_message_leaves_nothing() {
    let mut out = b"before".to_vec();
    let open = begin(&mut out, Some(MASK));
    out.extend_from_slice(b"payload");
    open.cancel(&mut out);
    assert_eq!(out, b"before");
}

#[test]
fn control_frames_stay_within_125_bytes() {
    let long = [7; 200];
    assert_eq!(encoded(|out| ping(out, &long, None)).len(), 2 + 125);
    assert_eq!(encoded(|out| pong(out, &long, None)).len(), 2 + 125);
    assert_eq!(encoded(|out| close(out, None, "no code, no reason", None)), b"\x88\x00");
    assert_eq!(encoded(|out| close(out, Some(CloseCode::NORMAL), "bye", None)), b"\x88\x05\x03\xE8bye");
    // 61 characters of two bytes are 122, one more would be 124: it is left out whole, not cut in two.
    let reason = "é".repeat(100);
    let frame = encoded(|out| close(out, Some(CloseCode::TOO_BIG), &reason, None));
    assert_eq!(frame.len(), 2 + 2 + 122);
    assert_eq!(std::str::from_utf8(&frame[4..]).expect("whole characters").chars().count(), 61);
}
