//! What fastwebsockets 0.10 was measured to get wrong, a test for each: whoever writes a decoder gets these wrong first.

use super::*;

const MIB: usize = 1 << 20;

fn sole_error(stream: &[u8]) -> Option<CloseError> {
    let (items, error) = decode_pieces(Role::Server, [stream]);
    assert_eq!(items, []);
    error
}

/// It took frames of a client without a mask.
#[test]
fn unmasked_client_frames_are_refused() {
    assert_eq!(sole_error(&plain(Opcode::Binary, true, b"a")), Some(CloseError::Unmasked));
    assert_eq!(sole_error(&plain(Opcode::Binary, true, b"")), Some(CloseError::Unmasked));
    assert_eq!(sole_error(&plain(Opcode::Close, true, b"\x03\xE8")), Some(CloseError::Unmasked));
}

/// It took control frames of 126 bytes and more.
#[test]
fn control_frames_over_125_bytes_are_refused() {
    for opcode in [Opcode::Ping, Opcode::Pong, Opcode::Close] {
        let first = 0x80 | opcode as u8;
        assert_eq!(sole_error(&[first, 0x80 | 126, 0, 126, 0, 0, 0, 0]), Some(CloseError::ControlTooLong));
    }
    let longest = [5; CONTROL_BYTES_MAX];
    let outcome = decode_pieces(Role::Server, [masked(Opcode::Ping, true, &longest).as_slice()]);
    assert_eq!(outcome, (vec![Owned::Ping(longest.to_vec())], None));
}

/// It took a new data frame inside a fragmented message, and lost the first one.
#[test]
fn a_new_data_frame_inside_a_fragmented_message_is_refused() {
    for opcode in [Opcode::Text, Opcode::Binary] {
        for fin in [false, true] {
            let stream = [masked(Opcode::Binary, false, b"a"), masked(opcode, fin, b"b")].concat();
            assert_eq!(sole_error(&stream), Some(CloseError::MessageInsideMessage));
        }
    }
}

/// It took a length of 5 written in two or eight bytes.
#[test]
fn lengths_not_in_their_shortest_form_are_refused() {
    let long = b"\x82\xFE\x00\x05\0\0\0\0hello";
    let longer = b"\x82\xFF\x00\x00\x00\x00\x00\x00\x00\x05\0\0\0\0hello";
    assert_eq!(sole_error(long), Some(CloseError::LengthNotMinimal));
    assert_eq!(sole_error(longer), Some(CloseError::LengthNotMinimal));
}

/// It took a text message that ends inside a character.
#[test]
fn text_cut_inside_a_character_is_refused() {
    let cut = &"\u{20ac}".as_bytes()[..2];
    assert_eq!(sole_error(&masked(Opcode::Text, true, cut)), Some(CloseError::TextInvalid));
    let stream = [masked(Opcode::Text, false, cut), masked(Opcode::Continuation, true, b"")].concat();
    assert_eq!(sole_error(&stream), Some(CloseError::TextInvalid));
}

/// It reserved 66 MB for the 14 bytes of a header that announces 63 MiB.
#[test]
fn a_header_that_announces_63_mib_reserves_nothing() {
    let mut connection = Connection::with(Decoder::new(Role::Server, u32::MAX, u32::MAX));
    let header = encode::header(Opcode::Binary, true, 63 * MIB, Some(MASK));
    assert_eq!(header.len(), 14);
    connection.receive(&header);
    assert_eq!(connection.error, None);
    assert_eq!(connection.held.capacity(), 0);
    connection.receive(&[0; 1000]);
    assert!(connection.held.capacity() <= 2000, "{}", connection.held.capacity());
}

/// It limited the frame and not the message: 20 MB in small fragments passed a limit of 1 KB.
#[test]
fn the_message_is_limited_and_not_only_its_frames() {
    let mut connection = Connection::with(Decoder::new(Role::Server, 1024, 1024));
    connection.receive(&masked(Opcode::Binary, false, &[0; 512]));
    connection.receive(&masked(Opcode::Continuation, false, &[0; 512]));
    assert_eq!(connection.error, None);
    connection.receive(&masked(Opcode::Continuation, false, &[0; 1]));
    assert_eq!(connection.error, Some(CloseError::MessageTooLarge));
    for _ in 0..20 * MIB / (64 * 1024) {
        connection.receive(&masked(Opcode::Continuation, false, &[0; 64 * 1024]));
    }
    assert_eq!(connection.items, []);
    assert!(connection.held.capacity() <= 1024 + CONTROL_BYTES_MAX);
}

/// It kept 1 MB per connection after one message of that size.
#[test]
fn memory_is_given_back_after_a_large_message() {
    let mut connection = Connection::with(Decoder::new(Role::Server, MIB as u32, MIB as u32));
    for piece in masked(Opcode::Binary, true, &vec![7; MIB]).chunks(4096) {
        connection.receive(piece);
    }
    assert_eq!(connection.items, [Owned::Binary(vec![7; MIB])]);
    assert!(connection.decoder.is_idle());
    assert!(connection.held.capacity() <= HELD_KEPT_BYTES_MAX, "{}", connection.held.capacity());
}

/// It lost its place when a read was cancelled. Here there is nothing to cancel: whatever came is taken, and a decoder
/// left alone after any byte goes on with the next.
#[test]
fn a_stream_that_stops_at_any_byte_goes_on() {
    let stream = [
        masked(Opcode::Text, false, "gr\u{fc}".as_bytes()),
        masked(Opcode::Ping, true, b"p"),
        masked(Opcode::Continuation, true, b"n"),
        masked(Opcode::Binary, true, &[1; 200]),
    ]
    .concat();
    let wanted = decode_pieces(Role::Server, [stream.as_slice()]);
    assert_eq!(wanted.0.len(), 3);
    for stop in 0..=stream.len() {
        let mut connection = Connection::new(Role::Server);
        connection.receive(&stream[..stop]);
        connection.receive(&[]);
        connection.receive(&[]);
        connection.receive(&stream[stop..]);
        assert_eq!(connection.outcome(), wanted, "{stop}");
    }
}

/// Autobahn 9.3.1 and 9.4.1: 4 MiB in fragments of 64 bytes and an empty last one. One object per fragment was the memory
/// attack; here is one bounded buffer, moved at most once per doubling, so the work is linear.
#[test]
fn a_message_of_65537_fragments_is_one_buffer() {
    let payload = vec![b'a'; 4 * MIB];
    let mut stream = Vec::new();
    for (index, fragment) in payload.chunks(64).enumerate() {
        let opcode = if index == 0 { Opcode::Text } else { Opcode::Continuation };
        encode::frame(&mut stream, opcode, false, fragment, Some(MASK));
    }
    encode::frame(&mut stream, Opcode::Continuation, true, b"", Some(MASK));
    let mut connection = Connection::with(Decoder::new(Role::Server, 16 * MIB as u32, 16 * MIB as u32));
    let mut moves = 0;
    let mut capacity = 0;
    for piece in stream.chunks(2000) {
        connection.receive(piece);
        moves += usize::from(connection.held.capacity() != capacity);
        capacity = connection.held.capacity();
    }
    assert_eq!(connection.error, None);
    assert!(connection.items == [Owned::Text("a".repeat(4 * MIB))]);
    // From 256 bytes to 4 MiB are 14 doublings; then the buffer is given back.
    assert!(moves <= 14 + 2, "{moves}");
}

/// Fragments of nothing may go on without end, and hold nothing.
#[test]
fn empty_fragments_without_end_hold_nothing() {
    let mut connection = Connection::new(Role::Server);
    connection.receive(&masked(Opcode::Binary, false, b""));
    for _ in 0..70_000 {
        connection.receive(&masked(Opcode::Continuation, false, b""));
    }
    assert_eq!(connection.error, None);
    assert_eq!(connection.held.capacity(), 0);
    assert!(!connection.decoder.is_idle());
}

/// A pool that is empty ends the connection as overloaded, and the decoder takes no more.
#[test]
fn no_room_closes_with_1013() {
    let mut decoder = Decoder::new(Role::Server, 1000, 1000);
    let mut held = Vec::new();
    let mut half = masked(Opcode::Binary, true, &[0; 100])[..50].to_vec();
    let error = decoder.decode_growing(&mut half, &mut held, |_, _| false).expect_err("no room");
    assert_eq!((error, error.code()), (CloseError::NoRoom, CloseCode::TRY_AGAIN));
    assert!(decoder.is_closed() && decoder.is_idle() && held.is_empty());
    let rest = decoder.decode_growing(&mut half, &mut held, |_, _| unreachable!("asked again"));
    assert_eq!(rest, Ok(Decoded { consumed: 50, item: None }));
}

/// A pool exchanges the buffer for a larger one and gets it back whenever the connection is idle.
#[test]
fn held_may_be_exchanged_and_taken_away() {
    let mut stream = [
        masked(Opcode::Binary, true, &[1; 100]),
        masked(Opcode::Ping, true, b"ping"),
        masked(Opcode::Binary, false, &[2; 90]),
        masked(Opcode::Continuation, true, &[3; 90]),
    ]
    .concat();
    let mut decoder = Decoder::new(Role::Server, 1000, 1000);
    let mut held = Vec::new();
    let mut items: Vec<Owned> = Vec::new();
    let mut blocks = 0;
    for piece in stream.chunks_mut(7) {
        let mut at = 0;
        loop {
            let grow = |held: &mut Vec<u8>, additional: usize| {
                blocks += 1;
                let mut block = Vec::with_capacity((held.len() + additional).max(64));
                block.extend_from_slice(held);
                *held = block;
                true
            };
            let step = decoder.decode_growing(&mut piece[at..], &mut held, grow).expect("valid");
            at += step.consumed;
            let more = step.item.is_some();
            items.extend(step.item.map(Owned::from));
            if decoder.is_idle() {
                held = Vec::new();
            }
            if !more {
                break;
            }
        }
    }
    let long = Owned::Binary([[2; 90], [3; 90]].concat());
    assert_eq!(items, [Owned::Binary(vec![1; 100]), Owned::Ping(b"ping".to_vec()), long]);
    assert!(blocks >= 3, "{blocks}");
}
