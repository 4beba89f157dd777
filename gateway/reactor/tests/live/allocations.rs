//! Once warm, nothing is taken from the heap for a message.

use crate::rig::{Rig, Seen, small};
use std::io::{Read, Write};
use std::time::Duration;
use tidegate_reactor::{Completion, Config, LogFile, SyncMode};
use tidegate_tests_support::{Allocations, allocations};

/// A round receives from every connection, writes what has come to the log, and answers with a buffer that went round before.
#[test]
fn a_warm_round_takes_nothing_from_the_heap() {
    const CONNECTIONS: usize = 32;
    const WARM: usize = 3;
    // Two buffers, so that every round has receives without one.
    let mut rig = Rig::new(&Config { buffers: 2, ..small() });
    let address = rig.listen();
    let mut peers: Vec<_> = (0..CONNECTIONS).map(|_| rig.connect(address)).collect();
    let file = tempfile::tempfile().expect("a file");
    let log = LogFile::from(file);
    for (_, slot) in &peers {
        rig.ops().receive_multishot(*slot);
    }
    rig.turn(Duration::ZERO);
    let mut buffers: Vec<Vec<u8>> = (0..CONNECTIONS).map(|_| Vec::with_capacity(64)).collect();
    let mut batches: Vec<Vec<u8>> = vec![vec![7; 512]; WARM + 1];
    for round in 0..=WARM {
        for (peer, _) in &mut peers {
            peer.write_all(&[round as u8; 64]).expect("a live connection");
        }
        let batch = batches.pop().expect("one batch a round");
        let (taken, ()) = allocations(|| echo_round(&mut rig, &log, batch, &mut buffers));
        if round == 0 {
            assert!(taken.count > 0, "the first round warms up, and is counted");
        } else if round == WARM {
            assert_eq!(taken, Allocations::default());
        }
        for (peer, _) in &mut peers {
            let mut echo = [0; 64];
            peer.read_exact(&mut echo).expect("an echo");
            assert_eq!(echo, [round as u8; 64]);
        }
    }
    assert!(rig.counters().no_buffers > 0, "{:?}", rig.counters());
    assert_eq!(rig.seen, [] as [Seen; 0]);
}

fn echo_round(rig: &mut Rig, log: &LogFile, batch: Vec<u8>, buffers: &mut Vec<Vec<u8>>) {
    rig.ops().write_sync(1, log, 0, batch, SyncMode::LinkedFdatasync);
    let everybody = buffers.len();
    let (mut sent, mut written) = (0, false);
    while sent < everybody || !written {
        rig.reactor.submit_and_wait(None).expect("the ring works");
        rig.reactor.completions(usize::MAX, |ops, completion| match completion {
            Completion::Received { slot, bytes } => {
                let mut buffer = buffers.pop().expect("a buffer for everybody");
                buffer.extend_from_slice(bytes);
                ops.send(slot, buffer);
            }
            Completion::Sent { mut buffer, result, .. } => {
                result.expect("a live connection");
                buffer.clear();
                buffers.push(buffer);
                sent += 1;
            }
            Completion::WriteDone { result, .. } => {
                result.expect("a good disk");
                written = true;
            }
            other => panic!("unexpected: {other:?}"),
        });
    }
}
