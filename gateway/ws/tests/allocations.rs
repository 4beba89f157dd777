//! What a connection costs in heap blocks: nothing once warm, nothing while idle, nothing for a header alone.

use tidegate_tests_support::{Allocations, CountingAllocator, allocations};
use tidegate_ws::{CloseCode, Decoder, Item, Opcode, Role, client, encode, server};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const MASK: [u8; 4] = [1, 2, 3, 4];
const NOTHING: Allocations = Allocations { count: 0, bytes: 0 };

/// Decodes all of `input`; returns the payload bytes of its items.
fn drain(decoder: &mut Decoder, input: &mut [u8], held: &mut Vec<u8>) -> usize {
    let mut at = 0;
    let mut payload_bytes = 0;
    loop {
        let step = decoder.decode(&mut input[at..], held).expect("valid");
        at += step.consumed;
        payload_bytes += match step.item {
            None => return payload_bytes,
            Some(Item::Text(payload) | Item::Binary(payload)) => payload.len(),
            Some(Item::Ping(payload) | Item::Pong(payload)) => payload.len(),
            Some(Item::Close { reason, .. }) => reason.len(),
        };
    }
}

/// Without this the zeros below would prove nothing.
#[test]
fn the_allocator_counts() {
    let (taken, block) = allocations(|| vec![0u8; 100]);
    assert_eq!((taken, block.len()), (Allocations { count: 1, bytes: 100 }, 100));
}

#[test]
fn whole_messages_in_place_allocate_nothing() {
    let mut input = Vec::new();
    encode::binary(&mut input, &[7; 96], Some(MASK));
    encode::text(&mut input, "gr\u{fc}\u{df}e", Some(MASK));
    encode::ping(&mut input, b"ping", Some(MASK));
    encode::binary(&mut input, &[7; 200_000], Some(MASK));
    encode::close(&mut input, Some(CloseCode::NORMAL), "bye", Some(MASK));
    let (taken, payload_bytes) = allocations(|| {
        let mut decoder = Decoder::new(Role::Server, 1 << 20, 1 << 20);
        drain(&mut decoder, &mut input, &mut Vec::new())
    });
    assert_eq!(payload_bytes, 96 + 7 + 4 + 200_000 + 3);
    assert_eq!(taken, NOTHING);
}

/// Messages whose reads were cut use one buffer, which stays.
#[test]
fn cut_messages_allocate_nothing_once_warm() {
    let mut messages = Vec::new();
    for length in [10, 500, 3000, 0, 1400] {
        encode::binary(&mut messages, &vec![7; length], Some(MASK));
        encode::frame(&mut messages, Opcode::Text, false, &vec![b'a'; length / 2], Some(MASK));
        encode::ping(&mut messages, b"ping", Some(MASK));
        encode::frame(&mut messages, Opcode::Continuation, true, &vec![b'b'; length], Some(MASK));
    }
    let mut decoder = Decoder::new(Role::Server, 1 << 20, 1 << 20);
    let mut held = Vec::new();
    let mut round = || {
        let mut input = messages.clone();
        let pieces = input.chunks_mut(701);
        allocations(|| pieces.map(|piece| drain(&mut decoder, piece, &mut held)).sum::<usize>())
    };
    let (cold, payload_bytes) = round();
    assert!(cold.count > 0 && payload_bytes > 0);
    let (warm, _) = round();
    assert_eq!(warm, NOTHING);
}

/// fastwebsockets reserved 66 MB for the 14 bytes of a header that announces 63 MiB.
#[test]
fn memory_follows_the_bytes_present_and_not_the_length_announced() {
    let header = encode::header(Opcode::Binary, true, 63 << 20, Some(MASK));
    let mut decoder = Decoder::new(Role::Server, 1 << 30, 1 << 30);
    let mut held = Vec::new();
    let (taken, _) = allocations(|| drain(&mut decoder, &mut header.to_vec(), &mut held));
    // The one block is the test's own copy of the header.
    assert_eq!(taken, Allocations { count: 1, bytes: header.len() as u64 });
    let mut piece = [0; 5000];
    let (taken, _) = allocations(|| drain(&mut decoder, &mut piece, &mut held));
    assert_eq!(taken, Allocations { count: 1, bytes: 5000 });
}

#[test]
fn the_handshake_allocates_nothing_but_its_output() {
    let key = [7; 16];
    let protocols = ["tidegate.v1"];
    let mut asked = Vec::with_capacity(1000);
    let mut answer = Vec::with_capacity(1000);
    let (taken, protocol_bytes) = allocations(|| {
        let request =
            client::Request { host: "localhost", path: "/ws?a=1", key, protocols: &protocols, fields: &[] };
        client::request(&mut asked, &request).expect("well-formed");
        let upgrade = server::parse(&asked).expect("valid").expect("complete");
        assert!(upgrade.offers("tidegate.v1"));
        server::accept_response(&mut answer, &upgrade.key, Some("tidegate.v1"));
        let accepted = client::parse_response(&answer, &key, &protocols).expect("valid").expect("complete");
        accepted.protocol.map(str::len)
    });
    assert_eq!(protocol_bytes, Some(11));
    assert_eq!(taken, NOTHING);
}

#[test]
fn encoding_into_a_warm_buffer_allocates_nothing() {
    let mut out = Vec::with_capacity(200_000);
    let payload = [7; 70_000];
    let (taken, ()) = allocations(|| {
        for mask in [None, Some(MASK)] {
            out.clear();
            encode::binary(&mut out, &payload, mask);
            encode::pong(&mut out, b"pong", mask);
            encode::close(&mut out, Some(CloseCode::TOO_BIG), "too big", mask);
            let open = encode::begin(&mut out, mask);
            out.extend_from_slice(&payload);
            open.finish(&mut out, Opcode::Binary);
        }
    });
    assert!(out.len() > 140_000);
    assert_eq!(taken, NOTHING);
}
