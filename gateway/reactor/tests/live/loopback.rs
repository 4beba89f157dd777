//! One ring over the loopback: accept, receive, send, close.

use crate::rig::{Rig, Seen, small};
use rustix::net::sockopt::set_socket_linger;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;
use tidegate_reactor::{Completion, Config, Slot};

const CANCELED: i32 = rustix::io::Errno::CANCELED.raw_os_error();
const TURN: Duration = Duration::from_millis(20);

fn rig() -> Rig {
    Rig::new(&small())
}

#[test]
fn once_means_once() {
    let mut rig = rig();
    let address = rig.listen();
    let (mut peer, slot) = rig.connect(address);
    rig.ops().receive_once(slot);
    peer.write_all(b"first").expect("a live connection");
    rig.until_bytes(slot, 5);
    assert!(!rig.ops().is_receiving(slot));
    peer.write_all(b"second").expect("a live connection");
    rig.ops().send(slot, b"answer".to_vec());
    rig.until_seen(&Seen::Sent(slot, 6, Ok(())));
    assert_eq!(rig.bytes[&slot], b"first");
    rig.ops().receive_once(slot);
    rig.until_bytes(slot, 11);
    let mut answer = [0; 6];
    peer.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"answer");
    assert_eq!(rig.bytes[&slot], b"firstsecond");
}

#[test]
fn multishot_goes_on_to_the_end_of_the_stream() {
    let mut rig = rig();
    let address = rig.listen();
    let (mut peer, slot) = rig.connect(address);
    rig.ops().receive_multishot(slot);
    let sent: Vec<u8> = (0..100_000u32).map(|index| (index % 251) as u8).collect();
    let expected = sent.clone();
    let writer = std::thread::spawn(move || {
        peer.write_all(&sent).expect("a live connection");
        peer.shutdown(Shutdown::Write).expect("a live connection");
        peer
    });
    rig.until_seen(&Seen::Eof(slot));
    assert_eq!(rig.bytes[&slot], expected);
    // The other direction still works.
    rig.ops().send(slot, b"bye".to_vec());
    rig.until_seen(&Seen::Sent(slot, 3, Ok(())));
    rig.ops().close(slot);
    rig.until_seen(&Seen::Closed(slot));
    let mut rest = Vec::new();
    writer.join().expect("the writer ends").read_to_end(&mut rest).expect("a clean end");
    assert_eq!(rest, b"bye");
    assert_eq!(rig.ops().slots_open(), 0);
}

#[test]
fn stopping_leaves_bytes_in_the_socket_and_starting_takes_them() {
    let mut rig = rig();
    let address = rig.listen();
    let (mut peer, slot) = rig.connect(address);
    rig.ops().receive_multishot(slot);
    peer.write_all(b"one").expect("a live connection");
    rig.until_bytes(slot, 3);
    rig.ops().stop_receiving(slot);
    rig.until(|rig| rig.ops().is_quiet(slot).then_some(()));
    peer.write_all(b"two").expect("a live connection");
    rig.turn(TURN);
    assert_eq!(rig.bytes[&slot], b"one");
    // Started, stopped and started again before the kernel has heard of any.
    rig.ops().receive_multishot(slot);
    rig.ops().stop_receiving(slot);
    rig.ops().receive_multishot(slot);
    rig.until_bytes(slot, 6);
    peer.write_all(b"three").expect("a live connection");
    rig.until_bytes(slot, 11);
    assert_eq!(rig.bytes[&slot], b"onetwothree");
}

#[test]
fn a_reset_is_an_error_and_nothing_else_is_disturbed() {
    let mut rig = rig();
    let address = rig.listen();
    let (mut other, other_slot) = rig.connect(address);
    let (peer, slot) = rig.connect(address);
    rig.ops().receive_multishot(slot);
    rig.ops().receive_multishot(other_slot);
    rig.turn(Duration::ZERO);
    set_socket_linger(&peer, Some(Duration::ZERO)).expect("a socket option");
    drop(peer);
    rig.until_seen(&Seen::Failed(slot, std::io::ErrorKind::ConnectionReset));
    rig.ops().send(slot, b"into the void".to_vec());
    let result = rig.until(|rig| {
        rig.take(|seen| match seen {
            Seen::Sent(sent, 13, result) if *sent == slot => Some(*result),
            _ => None,
        })
    });
    assert!(result.is_err());
    rig.ops().close(slot);
    rig.until_seen(&Seen::Closed(slot));
    other.write_all(b"alive").expect("a live connection");
    rig.until_bytes(other_slot, 5);
}

#[test]
fn a_large_send_to_a_slow_reader_arrives_whole() {
    const BYTES: usize = 4 << 20;
    let mut rig = rig();
    let address = rig.listen();
    let (mut peer, slot) = rig.connect(address);
    let buffer: Vec<u8> = (0..BYTES).map(|index| (index / 7) as u8).collect();
    let expected = buffer.clone();
    rig.ops().send(slot, buffer);
    rig.turn(TURN);
    assert!(rig.ops().is_sending(slot), "no socket buffer takes four megabytes");
    let reader = std::thread::spawn(move || {
        let mut read = vec![0; BYTES];
        read.chunks_mut(50_000).for_each(|chunk| peer.read_exact(chunk).expect("more bytes"));
        read
    });
    rig.until_seen(&Seen::Sent(slot, BYTES, Ok(())));
    assert!(reader.join().expect("the reader ends") == expected);
    assert!(rig.counters().short_sends > 0);
    assert_eq!(rig.counters().send_bytes, BYTES as u64);
}

#[test]
fn a_close_cancels_what_is_in_flight_and_gives_the_buffer_back() {
    const BYTES: usize = 8 << 20;
    let mut rig = rig();
    let address = rig.listen();
    let (mut peer, slot) = rig.connect(address);
    rig.ops().receive_multishot(slot);
    rig.ops().send(slot, vec![7; BYTES]);
    rig.turn(TURN);
    rig.ops().close(slot);
    rig.ops().close(slot);
    rig.until_seen(&Seen::Sent(slot, BYTES, Err(CANCELED)));
    assert_eq!(rig.ops().slots_open(), 1);
    rig.until_seen(&Seen::Closed(slot));
    assert_eq!(rig.ops().slots_open(), 0);
    let mut rest = Vec::new();
    let _ = peer.read_to_end(&mut rest);
    assert!(rest.len() < BYTES && rest.iter().all(|&byte| byte == 7));
}

#[test]
fn a_close_before_the_kernel_has_heard_of_the_requests() {
    let mut rig = rig();
    let address = rig.listen();
    let (mut peer, slot) = rig.connect(address);
    peer.write_all(b"never seen").expect("a live connection");
    rig.ops().receive_multishot(slot);
    rig.ops().close(slot);
    rig.until_seen(&Seen::Closed(slot));
    assert!(!rig.bytes.contains_key(&slot));
    // The next owner of the index gets its own bytes only.
    let (mut next, same) = rig.connect(address);
    assert_eq!(same, slot);
    rig.ops().receive_multishot(same);
    next.write_all(b"mine").expect("a live connection");
    rig.until_bytes(same, 4);
    assert_eq!(rig.bytes[&same], b"mine");
    assert_eq!(rig.counters().stale, 0);
}

#[test]
fn slots_are_reused_a_thousand_times() {
    let mut rig = Rig::new(&Config { slots: 2, ..small() });
    let address = rig.listen();
    for round in 0..1000u32 {
        let (mut peer, slot) = rig.connect(address);
        rig.bytes.clear();
        rig.ops().receive_multishot(slot);
        peer.write_all(&round.to_le_bytes()).expect("a live connection");
        rig.until_bytes(slot, 4);
        assert_eq!(rig.bytes[&slot], round.to_le_bytes());
        rig.ops().close(slot);
        rig.until_seen(&Seen::Closed(slot));
    }
    assert_eq!((rig.counters().accepts, rig.counters().closes), (1000, 1000));
}

#[test]
fn a_full_table_drops_the_connection_and_accepting_goes_on() {
    let mut rig = Rig::new(&Config { slots: 1, ..small() });
    let address = rig.listen();
    let (_first, slot) = rig.connect(address);
    let mut second = TcpStream::connect(address).expect("the backlog takes it");
    rig.until(|rig| rig.take(|seen| matches!(seen, Seen::AcceptFailed(_)).then_some(())));
    assert_eq!(second.read(&mut [0]).unwrap_or(0), 0, "dropped");
    rig.ops().close(slot);
    rig.until_seen(&Seen::Closed(slot));
    let (_third, again) = rig.connect(address);
    assert_eq!(again, slot);
    assert!(rig.counters().accept_failures >= 1);
}

#[test]
fn connections_wait_while_accepting_is_stopped() {
    let mut rig = rig();
    let address = rig.listen();
    rig.ops().stop_accepting();
    rig.turn(TURN);
    let _waiting = TcpStream::connect(address).expect("the backlog takes it");
    rig.turn(TURN);
    assert_eq!(rig.seen, []);
    rig.ops().resume_accepting();
    rig.until(|rig| rig.take(|seen| matches!(seen, Seen::Accepted(_)).then_some(())));
}

/// Everybody writes at once, and the ring has four buffers.
#[test]
fn four_buffers_serve_a_hundred_connections() {
    let mut rig = Rig::new(&Config { buffers: 4, buffer_bytes: 64, ..small() });
    let address = rig.listen();
    let mut peers: Vec<(TcpStream, Slot)> = (0..100).map(|_| rig.connect(address)).collect();
    for (index, (_, slot)) in peers.iter().enumerate() {
        if index % 2 == 0 {
            rig.ops().receive_multishot(*slot);
        } else {
            rig.ops().receive_once(*slot);
        }
    }
    rig.turn(TURN);
    for (index, (peer, _)) in peers.iter_mut().enumerate() {
        peer.write_all(&[index as u8; 64]).expect("a live connection");
    }
    for (index, (_, slot)) in peers.iter().enumerate() {
        rig.until_bytes(*slot, 64);
        assert_eq!(rig.bytes[slot], [index as u8; 64]);
    }
    assert!(rig.counters().no_buffers > 0, "{:?}", rig.counters());
}

/// A slot that waits for a buffer and is closed, and whose next owner does not inherit the wait.
#[test]
fn a_starved_slot_can_be_closed() {
    let mut rig = Rig::new(&Config { buffers: 1, buffer_bytes: 16, slots: 3, ..small() });
    let address = rig.listen();
    let mut peers: Vec<(TcpStream, Slot)> = (0..3).map(|_| rig.connect(address)).collect();
    for (peer, slot) in &mut peers {
        rig.ops().receive_multishot(*slot);
        peer.write_all(&[1; 160]).expect("a live connection");
    }
    let mut starved = 0;
    while starved == 0 {
        rig.reactor.submit_and_wait(Some(TURN)).expect("the ring works");
        rig.reactor.completions(usize::MAX, |_, _| ());
        starved = rig.counters().no_buffers;
    }
    peers.iter().for_each(|(_, slot)| rig.ops().close(*slot));
    for (_, slot) in &peers {
        rig.until_seen(&Seen::Closed(*slot));
    }
    let (mut peer, slot) = rig.connect(address);
    rig.bytes.clear();
    rig.ops().receive_multishot(slot);
    peer.write_all(&[2; 160]).expect("a live connection");
    rig.until_bytes(slot, 160);
    assert_eq!(rig.bytes[&slot], [2; 160]);
}

/// Every connection echoes several rounds through the closure itself, with a submission queue far too small for them.
#[test]
fn echo_a_thousand_connections() {
    const CONNECTIONS: usize = 1000;
    const WAITING: usize = 120;
    const ROUNDS: usize = 5;
    let config = Config { slots: CONNECTIONS as u32, buffers: 64, buffer_bytes: 128, ..small() };
    let mut rig = Rig::new(&config);
    let address = rig.listen();
    // So many are there before the first turn that arming their receives fills the submission queue.
    let (waiting, wait) = std::sync::mpsc::channel();
    let clients = std::thread::spawn(move || {
        let connect = |_| TcpStream::connect(address).expect("the ring listens");
        let mut peers: Vec<TcpStream> = (0..WAITING).map(connect).collect();
        waiting.send(()).expect("the test waits");
        peers.extend((WAITING..CONNECTIONS).map(connect));
        for round in 0..ROUNDS {
            for (index, peer) in peers.iter_mut().enumerate() {
                peer.write_all(&[(index + round) as u8; 96]).expect("a live connection");
            }
            for (index, peer) in peers.iter_mut().enumerate() {
                let mut echoed = [0; 96];
                peer.read_exact(&mut echoed).expect("an echo");
                assert_eq!(echoed, [(index + round) as u8; 96]);
            }
        }
    });
    wait.recv().expect("the first of them connect");
    let mut pending: Vec<Vec<u8>> = vec![Vec::new(); CONNECTIONS];
    let mut closed = 0;
    while closed < CONNECTIONS {
        rig.reactor.submit_and_wait(None).expect("the ring works");
        rig.reactor.completions(usize::MAX, |ops, completion| match completion {
            Completion::Accepted { slot } => ops.receive_multishot(slot),
            Completion::Received { slot, bytes } if ops.is_sending(slot) => {
                pending[slot.index()].extend_from_slice(bytes);
            }
            Completion::Received { slot, bytes } => ops.send(slot, bytes.to_vec()),
            Completion::Sent { slot, result, .. } => {
                let next = std::mem::take(&mut pending[slot.index()]);
                if result.is_ok() && !next.is_empty() {
                    ops.send(slot, next);
                }
            }
            Completion::ReceiveEnded { slot, .. } => ops.close(slot),
            Completion::SlotClosed { .. } => closed += 1,
            other => panic!("unexpected: {other:?}"),
        });
    }
    clients.join().expect("every client got its echoes");
    let counters = rig.counters();
    assert_eq!(counters.receive_bytes, (CONNECTIONS * ROUNDS * 96) as u64);
    assert_eq!(counters.send_bytes, counters.receive_bytes);
    assert!(counters.submission_full > 0, "{counters:?}");
    assert_eq!(counters.stale, 0);
}

/// More completions at once than the queue holds: the kernel keeps the rest, nothing is lost, and it is counted.
#[test]
fn an_overflowing_completion_queue_loses_nothing() {
    const CONNECTIONS: usize = 120;
    let config = Config { submission_entries: 16, completion_entries: 32, slots: 128, ..small() };
    let mut rig = Rig::new(&config);
    let address = rig.listen();
    let peers: Vec<TcpStream> =
        (0..CONNECTIONS).map(|_| TcpStream::connect(address).expect("the backlog takes it")).collect();
    rig.until(|rig| (rig.seen.len() == CONNECTIONS).then_some(()));
    let slots: Vec<Slot> = rig
        .seen
        .drain(..)
        .map(|seen| match seen {
            Seen::Accepted(slot) => slot,
            other => panic!("unexpected: {other:?}"),
        })
        .collect();
    // Every one of them completes at once, several submission queues full of them.
    slots.iter().for_each(|slot| rig.ops().send(*slot, vec![1; 10]));
    rig.until(|rig| (rig.seen.len() == CONNECTIONS).then_some(()));
    assert!(rig.seen.iter().all(|seen| matches!(seen, Seen::Sent(_, 10, Ok(())))));
    assert!(rig.counters().completion_overflows > 0, "{:?}", rig.counters());
    assert!(rig.counters().submission_full > 0);
    drop(peers);
}

/// A multishot receive that finds the completion queue full ends with the bytes it brings. Nobody said so to its owner,
/// who waits for the next ones: it is armed again, or the connection is deaf for ever.
#[test]
fn a_multishot_receive_that_ends_with_bytes_goes_on() {
    const CONNECTIONS: usize = 60;
    const BYTES: usize = 32;
    let config = Config { submission_entries: 16, completion_entries: 32, buffers: 64, ..small() };
    let mut rig = Rig::new(&config);
    let address = rig.listen();
    let mut peers: Vec<(TcpStream, Slot)> = (0..CONNECTIONS).map(|_| rig.connect(address)).collect();
    let text = |peer: usize, rounds: usize| -> Vec<u8> {
        (0..BYTES * rounds).map(|position| (peer + position) as u8).collect()
    };
    // The bytes are there before the receives, so that these complete while they are submitted.
    for (index, (peer, _)) in peers.iter_mut().enumerate() {
        peer.write_all(&text(index, 1)).expect("a live connection");
    }
    peers.iter().for_each(|(_, slot)| rig.ops().receive_multishot(*slot));
    peers.iter().for_each(|(_, slot)| rig.until_bytes(*slot, BYTES));
    let counters = rig.counters();
    assert!(counters.completion_overflows > 0, "{counters:?}");
    // Nothing else ended: there was a buffer for everybody, and the accepts came one by one.
    assert_eq!(counters.no_buffers, 0);
    assert!(counters.rearms > 0, "{counters:?}");
    for (index, (peer, slot)) in peers.iter_mut().enumerate() {
        peer.write_all(&text(index, 2)[BYTES..]).expect("a live connection");
        rig.until_bytes(*slot, 2 * BYTES);
        assert_eq!(rig.bytes[slot], text(index, 2), "peer {index}");
    }
    assert_eq!(rig.seen, []);
}

/// The kernel is reading and writing our memory when the reactor goes; its connections end with it, although a handle
/// still keeps the ring's descriptor open.
#[test]
fn a_reactor_dropped_with_everything_in_flight() {
    let mut rig = rig();
    let handle = rig.ops().handle();
    let address = rig.listen();
    let (mut peer, slot) = rig.connect(address);
    let (_other, other_slot) = rig.connect(address);
    rig.ops().receive_multishot(slot);
    rig.ops().receive_once(other_slot);
    rig.ops().send(slot, vec![7; 8 << 20]);
    rig.turn(TURN);
    // Queued, and never submitted by us.
    rig.ops().send(other_slot, vec![7; 8 << 20]);
    drop(rig);
    let mut rest = Vec::new();
    let _ = peer.read_to_end(&mut rest);
    assert!(rest.iter().all(|&byte| byte == 7));
    drop(handle);
}

#[test]
#[should_panic(expected = "one send of")]
fn a_second_send_is_a_bug() {
    let mut rig = rig();
    let address = rig.listen();
    let (_peer, slot) = rig.connect(address);
    rig.ops().send(slot, vec![1]);
    rig.ops().send(slot, vec![2]);
}

#[test]
#[should_panic(expected = "is not open")]
fn a_slot_that_is_not_open_is_a_bug() {
    rig().ops().receive_once(Slot(3));
}
