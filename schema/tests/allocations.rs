//! Decoding never allocates, encoding does not once its buffers have grown.

#[path = "wire/samples.rs"]
mod samples;

use samples::{MESSAGE, MESSAGE_FIELDS, STAMP, only};
use std::hint::black_box;
use tidegate_ids::PushNumber;
use tidegate_schema::deliver::{stored_iter, write_stored};
use tidegate_schema::{ClientFrame, Deliver, Encoder, MessageFields, ServerFrame, frames};
use tidegate_tests_support::{Allocations, CountingAllocator, allocations};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
fn the_allocator_counts() {
    let (taken, block) = allocations(|| black_box(vec![0_u8; 100]));
    assert_eq!((taken, block.len()), (Allocations { count: 1, bytes: 100 }, 100));
}

#[test]
fn encoding_allocates_nothing_once_warm() {
    let clients = samples::client();
    let servers = samples::server();
    let mut encoder = Encoder::new();
    let mut out = Vec::new();
    let mut encode_all = || {
        out.clear();
        for (_, id, frame) in &clients {
            frame.encode(&mut encoder, &mut out, *id);
        }
        for (_, id, frame) in &servers {
            frame.encode(&mut encoder, &mut out, *id, 0);
        }
        encoder.message(&mut out, &MESSAGE_FIELDS).expect("small enough");
        encoder.group_change(&mut out, &samples::GROUP_CHANGE).expect("small enough");
        write_stored(&STAMP, MESSAGE, &mut out);
        Deliver { stamp: STAMP, message: MESSAGE }.write_frame(&mut out, PushNumber(1));
    };
    let (cold, ()) = allocations(&mut encode_all);
    assert_ne!(cold, Allocations::default(), "a cold encoder grows");
    let (warm, ()) = allocations(&mut encode_all);
    assert_eq!(warm, Allocations::default());
}

#[test]
fn decoding_allocates_nothing() {
    let mut to_gateway = Vec::new();
    let mut to_client = Vec::new();
    for (_, id, frame) in samples::client() {
        to_gateway.extend(samples::client_bytes(&frame, id));
    }
    for (_, id, frame) in samples::server() {
        to_client.extend(samples::server_bytes(&frame, id));
    }
    let mut push = Vec::new();
    Deliver { stamp: STAMP, message: MESSAGE }.write_frame(&mut push, PushNumber(1));
    let mut message = Vec::new();
    Encoder::new().message(&mut message, &MESSAGE_FIELDS).expect("small enough");
    let read_all = || {
        for frame in frames(&to_gateway) {
            black_box(ClientFrame::decode(&frame.expect("sound")).expect("sound"));
        }
        for frame in frames(&to_client) {
            let read = ServerFrame::decode(&frame.expect("sound")).expect("sound");
            if let ServerFrame::Range(range) = read {
                assert_eq!(stored_iter(range.records).count(), 2);
            }
            black_box(read);
        }
        black_box(ServerFrame::decode(&only(&push)).expect("sound"));
        black_box(MessageFields::verify(&message).expect("sound"));
    };
    let (taken, ()) = allocations(read_all);
    assert_eq!(taken, Allocations::default());
}
