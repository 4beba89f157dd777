//! Tables of valid and invalid streams.

use super::*;
use Opcode::{Binary, Close, Continuation, Ping, Pong, Text};

fn text(text: &str) -> Owned {
    Owned::Text(text.to_owned())
}

/// The examples of RFC 6455, 5.7, from its own bytes.
#[test]
fn the_examples_of_the_rfc() {
    check(Role::Client, b"\x81\x05\x48\x65\x6c\x6c\x6f", &[text("Hello")], None);
    check(Role::Server, b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", &[text("Hello")], None);
    check(Role::Client, b"\x01\x03\x48\x65\x6c\x80\x02\x6c\x6f", &[text("Hello")], None);
    check(Role::Client, b"\x89\x05\x48\x65\x6c\x6c\x6f", &[Owned::Ping(b"Hello".to_vec())], None);
    let pong = Owned::Pong(b"Hello".to_vec());
    check(Role::Server, b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", &[pong], None);
}

#[test]
fn valid_streams() {
    let check = |frames: &[(Opcode, bool, &[u8])], items: &[Owned]| {
        let stream = |write: fn(Opcode, bool, &[u8]) -> Vec<u8>| -> Vec<u8> {
            frames.iter().flat_map(|(opcode, fin, payload)| write(*opcode, *fin, payload)).collect()
        };
        check(Role::Server, &stream(masked), items, None);
        check(Role::Client, &stream(plain), items, None);
    };
    check(&[], &[]);
    check(&[(Text, true, b"")], &[text("")]);
    check(&[(Binary, true, b""), (Binary, true, b"x")], &[Owned::Binary(vec![]), Owned::Binary(vec![b'x'])]);
    for length in [125, 126, 127, FRAME_BYTES_MAX as usize] {
        let payload = vec![7; length];
        check(&[(Binary, true, &payload), (Text, true, b"x")], &[Owned::Binary(payload.clone()), text("x")]);
    }
    // Empty fragments first, between and last.
    check(&[(Text, false, b""), (Continuation, false, b""), (Continuation, true, b"a")], &[text("a")]);
    check(&[(Text, false, b"a"), (Continuation, false, b""), (Continuation, true, b"")], &[text("a")]);
    check(&[(Text, false, b""), (Continuation, true, b"")], &[text("")]);
    // As much as the message limit allows, in two frames.
    let half = vec![9; MESSAGE_BYTES_MAX as usize / 2];
    let whole = Owned::Binary([half.clone(), half.clone()].concat());
    check(&[(Binary, false, &half), (Continuation, true, &half)], &[whole]);
    // A close frame inside a fragmented message ends it.
    check(&[(Text, false, b"a"), (Close, true, b"\x03\xE9bye")], &[Owned::Close(Some(1001), "bye".into())]);
    check(&[(Close, true, b"")], &[Owned::Close(None, String::new())]);
    check(&[(Close, true, b"\x0F\xA0")], &[Owned::Close(Some(4000), String::new())]);
}

#[test]
fn control_frames_stand_before_between_and_behind_fragments() {
    let long = [3; CONTROL_BYTES_MAX];
    let frames: [(Opcode, bool, &[u8]); 8] = [
        (Ping, true, b""),
        (Text, false, "gr\u{fc}".as_bytes()),
        (Ping, true, &long),
        (Pong, true, b"p"),
        (Continuation, false, "\u{df}".as_bytes()),
        (Ping, true, b"q"),
        (Continuation, true, b"e"),
        (Pong, true, &long),
    ];
    let items = [
        Owned::Ping(vec![]),
        Owned::Ping(long.to_vec()),
        Owned::Pong(b"p".to_vec()),
        Owned::Ping(b"q".to_vec()),
        text("gr\u{fc}\u{df}e"),
        Owned::Pong(long.to_vec()),
    ];
    let stream: Vec<u8> =
        frames.iter().flat_map(|(opcode, fin, payload)| masked(*opcode, *fin, payload)).collect();
    check(Role::Server, &stream, &items, None);
}

/// Whatever follows a close frame is ignored (5.5.1), even if it is not WebSocket.
#[test]
fn nothing_comes_after_a_close_frame() {
    let mut stream = masked(Close, true, b"\x03\xE8");
    stream.extend(masked(Text, true, b"late"));
    stream.extend(b"\xFF\xFF\xFF");
    check(Role::Server, &stream, &[Owned::Close(Some(1000), String::new())], None);
}

#[test]
fn a_character_may_be_cut_by_fragments_and_control_frames() {
    let characters = "\u{7f}\u{80}\u{7ff}\u{800}\u{d7ff}\u{e000}\u{ffff}\u{10000}\u{10ffff}\u{feff}";
    for cut in 0..=characters.len() {
        let (left, right) = characters.as_bytes().split_at(cut);
        let mut stream = masked(Text, false, left);
        stream.extend(masked(Ping, true, b"p"));
        stream.extend(masked(Continuation, true, right));
        check(Role::Server, &stream, &[Owned::Ping(b"p".to_vec()), text(characters)], None);
    }
}

#[test]
fn text_that_is_not_utf8() {
    let check = |bytes: &[u8]| {
        check(Role::Server, &masked(Text, true, bytes), &[], Some(CloseError::TextInvalid));
        for cut in 0..=bytes.len() {
            let (left, right) = bytes.split_at(cut);
            let stream = [masked(Text, false, left), masked(Continuation, true, right)].concat();
            check(Role::Server, &stream, &[], Some(CloseError::TextInvalid));
        }
        // Bytes are bytes.
        check(Role::Server, &masked(Binary, true, bytes), &[Owned::Binary(bytes.to_vec())], None);
    };
    check(b"\x80");
    check(b"a\xBFb");
    check(b"\xC0\x80");
    check(b"\xC1\xBF");
    check(b"\xE0\x80\xAF");
    check(b"\xE0\x9F\xBF");
    check(b"\xF0\x8F\xBF\xBF");
    check(b"\xED\xA0\x80");
    check(b"\xED\xBF\xBF");
    check(b"\xF4\x90\x80\x80");
    check(b"\xF5\x80\x80\x80");
    check(b"\xFE");
    check(b"\xFF");
    check(b"a\xC3");
    check(b"a\xE2\x82");
    check(b"a\xF0\x9F\x98");
    check(b"\xCE\xBA\xE1\xBD\xB9\xCF\x83\xCE\xBC\xCE\xB5\xF4\x90\x80\x80edited");
}

/// Autobahn 6.4: the close comes with the first impossible byte, not with the end of the message.
#[test]
fn text_fails_at_its_first_impossible_byte() {
    let check = |bytes: &[u8], impossible: usize| {
        let stream = masked(Text, false, bytes);
        let header_bytes = stream.len() - bytes.len();
        let mut connection = Connection::new(Role::Server);
        for (index, byte) in stream.iter().enumerate() {
            connection.receive(&[*byte]);
            let wanted = (index >= header_bytes + impossible).then_some(CloseError::TextInvalid);
            assert_eq!(connection.error, wanted, "{bytes:?} at {index}");
        }
    };
    check(b"ab\xFFcdef", 2);
    check(b"\xF4\x90\x80\x80ab", 1);
    check(b"\xED\xA0\x80", 1);
    check(b"\xE2\x82a", 2);
    check(b"\xF0\x9F\x98\xC0", 3);
}

fn check_invalid(stream: &[u8], error: CloseError, code: u16) {
    check(Role::Server, stream, &[], Some(error));
    assert_eq!(error.code().get(), code, "{error}");
}

/// A masked header whose length bytes are given as they are.
fn masked_head(opcode: Opcode, fin: bool, length: &[u8]) -> Vec<u8> {
    let mut head = vec![(u8::from(fin) << 7) | opcode as u8, length[0] | 0x80];
    head.extend_from_slice(&length[1..]);
    head.extend_from_slice(&MASK);
    head
}

#[test]
fn reserved_bits_and_opcodes() {
    for bits in [0x10, 0x20, 0x40, 0x70] {
        for opcode in [Text, Binary, Ping, Close] {
            let first = 0x80 | bits | opcode as u8;
            check_invalid(&[first, 0x80, 0, 0, 0, 0], CloseError::ReservedBits, 1002);
        }
    }
    for bits in [3, 4, 5, 6, 7, 0xB, 0xC, 0xD, 0xE, 0xF] {
        check_invalid(&[0x80 | bits, 0x80, 0, 0, 0, 0], CloseError::ReservedOpcode(bits), 1002);
    }
}

#[test]
fn control_frames_that_break_rules() {
    for opcode in [Close, Ping, Pong] {
        check_invalid(&masked_head(opcode, false, &[0]), CloseError::ControlFragmented, 1002);
        check_invalid(&masked_head(opcode, true, b"\x7E\x00\x7E"), CloseError::ControlTooLong, 1002);
        let long = b"\x7F\0\0\0\0\0\0\x10\0";
        check_invalid(&masked_head(opcode, true, long), CloseError::ControlTooLong, 1002);
    }
    check_invalid(&masked(Close, true, b"\x03"), CloseError::CloseCut, 1002);
    for code in [0u16, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
        check_invalid(&masked(Close, true, &code.to_be_bytes()), CloseError::CloseCodeInvalid(code), 1002);
    }
    check_invalid(&masked(Close, true, b"\x03\xE8\xCE\xBA\xE1"), CloseError::CloseReasonInvalid, 1007);
}

#[test]
fn fragments_out_of_order() {
    check_invalid(&masked(Continuation, true, b""), CloseError::ContinuationWithoutStart, 1002);
    check_invalid(&masked(Continuation, false, b"a"), CloseError::ContinuationWithoutStart, 1002);
    for opcode in [Text, Binary] {
        let inside = [masked(Text, false, b"a"), masked(opcode, true, b"b")].concat();
        check_invalid(&inside, CloseError::MessageInsideMessage, 1002);
    }
    let whole = [masked(Binary, false, b"a"), masked(Continuation, true, b"b")].concat();
    let stream = [whole, masked(Continuation, true, b"c")].concat();
    let items = [Owned::Binary(b"ab".to_vec())];
    check(Role::Server, &stream, &items, Some(CloseError::ContinuationWithoutStart));
}

#[test]
fn lengths_that_break_rules() {
    let check = |length: &[u8], error: CloseError, code: u16| {
        check_invalid(&masked_head(Text, true, length), error, code);
        check_invalid(&masked_head(Binary, false, length), error, code);
    };
    check(b"\x7E\x00\x7D", CloseError::LengthNotMinimal, 1002);
    check(b"\x7E\x00\x00", CloseError::LengthNotMinimal, 1002);
    check(b"\x7F\0\0\0\0\0\0\xFF\xFF", CloseError::LengthNotMinimal, 1002);
    check(b"\x7F\0\0\0\0\0\0\0\x05", CloseError::LengthNotMinimal, 1002);
    check(b"\x7F\x80\0\0\0\0\0\0\x05", CloseError::LengthHighBit, 1002);
    check(b"\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF", CloseError::LengthHighBit, 1002);
    check(b"\x7F\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF", CloseError::FrameTooLarge, 1009);
    check(b"\x7F\0\0\0\x01\0\0\0\0", CloseError::FrameTooLarge, 1009);
    check(b"\x7E\x01\x2D", CloseError::FrameTooLarge, 1009);
}

#[test]
fn what_came_before_an_error_still_comes_out() {
    let stream = [masked(Text, true, b"a"), masked(Ping, true, b"p"), vec![0xFF]].concat();
    let items = [text("a"), Owned::Ping(b"p".to_vec())];
    check(Role::Server, &stream, &items, Some(CloseError::ReservedBits));
}

#[test]
fn masks_by_role() {
    for opcode in [Text, Binary, Ping, Close] {
        check(Role::Client, &masked(opcode, true, b""), &[], Some(CloseError::Masked));
        check(Role::Server, &plain(opcode, true, b""), &[], Some(CloseError::Unmasked));
    }
    // A mask of zeros is a mask.
    check(Role::Server, b"\x81\x81\0\0\0\0a", &[text("a")], None);
}

#[test]
fn limits_of_frame_and_message_are_apart() {
    let bytes = |count: u32| vec![0; count as usize];
    let over = |frames: &[Vec<u8>], error: CloseError| check_invalid(&frames.concat(), error, 1009);
    over(&[masked(Binary, true, &bytes(FRAME_BYTES_MAX + 1))], CloseError::FrameTooLarge);
    let first = masked(Binary, false, &bytes(FRAME_BYTES_MAX));
    let room = MESSAGE_BYTES_MAX - FRAME_BYTES_MAX;
    over(&[first.clone(), masked(Continuation, true, &bytes(room + 1))], CloseError::MessageTooLarge);
    let full = masked(Continuation, false, &bytes(room));
    over(&[first.clone(), full, masked(Continuation, true, b"x")], CloseError::MessageTooLarge);
    let exact = [first, masked(Continuation, true, &bytes(room))].concat();
    check(Role::Server, &exact, &[Owned::Binary(bytes(MESSAGE_BYTES_MAX))], None);

    let mut narrow = Connection::with(Decoder::new(Role::Server, 1000, 10));
    narrow.receive(&masked(Binary, true, &bytes(11)));
    assert_eq!(narrow.error, Some(CloseError::MessageTooLarge));
}

/// The header alone is enough: no byte of a payload that will never be taken is waited for.
#[test]
fn too_large_is_told_before_the_payload_comes() {
    let mut connection = Connection::new(Role::Server);
    connection.receive(&masked(Binary, true, &[0; FRAME_BYTES_MAX as usize + 1])[..4]);
    assert_eq!(connection.error, Some(CloseError::FrameTooLarge));
}

/// A message that lies whole in the input is lent there: the same bytes, unmasked, and nothing held.
#[test]
fn a_whole_message_is_lent_in_place() {
    let mut input = [masked(Binary, true, b"first"), masked(Text, true, b"second")].concat();
    let range = input.as_ptr_range();
    let mut decoder = Decoder::new(Role::Server, FRAME_BYTES_MAX, MESSAGE_BYTES_MAX);
    let mut held = Vec::new();
    let mut at = 0;
    for wanted in [b"first".as_slice(), b"second"] {
        let step = decoder.decode(&mut input[at..], &mut held).expect("valid");
        let Some(Item::Binary(payload) | Item::Text(payload)) = step.item else { panic!("no message") };
        assert_eq!(payload, wanted);
        assert!(range.contains(&payload.as_ptr()));
        at += step.consumed;
        assert_eq!(held.capacity(), 0);
    }
    assert!(decoder.is_idle());
}

/// The header came with an earlier read: the payload is still lent where it lies.
#[test]
fn a_payload_that_comes_whole_is_lent_in_place() {
    let frame = masked(Text, true, b"payload");
    let mut payload = b"payload".to_vec();
    for header_bytes in 1..=6 {
        let mut decoder = Decoder::new(Role::Server, FRAME_BYTES_MAX, MESSAGE_BYTES_MAX);
        let mut held = Vec::new();
        let mut input = frame.clone();
        let (head, rest) = input.split_at_mut(header_bytes);
        let step = decoder.decode(head, &mut held);
        assert_eq!(step, Ok(Decoded { consumed: header_bytes, item: None }));
        assert!(!decoder.is_idle());
        let consumed = rest.len();
        let step = decoder.decode(rest, &mut held);
        assert_eq!(step, Ok(Decoded { consumed, item: Some(Item::Text(&mut payload)) }));
        assert_eq!(held.capacity(), 0);
    }
}
