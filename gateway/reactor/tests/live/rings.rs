//! Several rings and threads: wakes, hand-over, descriptors from outside.

use crate::rig::{Rig, Seen, small};
use rustix::pipe::{PipeFlags, pipe_with};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::mpsc;
use std::time::Duration;
use tidegate_reactor::{Completion, Config, KEY_MAX, RingHandle};

const TURN: Duration = Duration::from_millis(20);

#[test]
fn a_sleeping_ring_is_woken_by_another() {
    let (handles, names) = mpsc::channel();
    let sleeper = std::thread::spawn(move || {
        let mut rig = Rig::new(&small());
        handles.send(rig.ops().handle()).expect("the other side listens");
        // Without a timeout: only the wake ends it.
        while rig.counters().wakes_received == 0 {
            rig.reactor.submit_and_wait(None).expect("the ring works");
            rig.reactor
                .completions(usize::MAX, |_, completion| assert!(matches!(completion, Completion::Woken)));
        }
    });
    let target = names.recv().expect("a handle");
    let mut rig = Rig::new(&small());
    rig.ops().wake(&target);
    rig.turn(Duration::ZERO);
    sleeper.join().expect("the sleeper woke");
    assert_eq!((rig.counters().wakes_sent, rig.counters().wakes_failed), (1, 0));
}

/// A stopped shard's handle is still held by the others.
#[test]
fn a_wake_of_a_ring_that_is_gone_disturbs_nobody() {
    let gone = std::thread::spawn(|| Rig::new(&small()).ops().handle()).join().expect("a handle");
    let mut rig = Rig::new(&small());
    let own = rig.ops().handle();
    (0..100).for_each(|_| rig.ops().wake(&gone));
    rig.ops().wake(&own);
    rig.until_seen(&Seen::Woken);
    assert_eq!(rig.seen, []);
}

#[test]
fn a_thread_without_a_ring_wakes_one() {
    const WAKES: u64 = 1000;
    let mut rig = Rig::new(&small());
    let waker = rig.ops().waker();
    let (numbers, inbox) = mpsc::channel();
    let helper = std::thread::spawn(move || {
        for number in 0..WAKES {
            numbers.send(number).expect("the ring listens");
            waker.wake();
        }
    });
    let mut next = 0;
    while next < WAKES {
        rig.reactor.submit_and_wait(None).expect("the ring works");
        rig.reactor.completions(usize::MAX, |_, completion| {
            assert!(matches!(completion, Completion::Woken));
            inbox.try_iter().for_each(|number| {
                assert_eq!(number, next);
                next += 1;
            });
        });
    }
    helper.join().expect("the helper ends");
    assert!(rig.counters().wakes_received <= WAKES);
}

/// The target in a thread of its own: it adopts, greets, echoes once, and ends when the peer does.
fn echo_adopted(config: Config) -> (RingHandle, std::thread::JoinHandle<u64>) {
    let (handles, names) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let mut rig = Rig::new(&config);
        handles.send(rig.ops().handle()).expect("the other side listens");
        let mut adopted = None;
        let mut open = true;
        while open {
            rig.reactor.submit_and_wait(None).expect("the ring works");
            rig.reactor.completions(usize::MAX, |ops, completion| match completion {
                Completion::Adopted { slot, key } => {
                    adopted = Some(key);
                    ops.send(slot, b"adopted ".to_vec());
                    ops.receive_multishot(slot);
                }
                Completion::Received { slot, bytes } => ops.send(slot, bytes.to_vec()),
                Completion::Sent { result, .. } => result.expect("a live connection"),
                Completion::ReceiveEnded { slot, .. } => ops.close(slot),
                Completion::SlotClosed { .. } => open = false,
                other => panic!("unexpected: {other:?}"),
            });
        }
        adopted.expect("a connection was adopted")
    });
    (names.recv().expect("a handle"), thread)
}

#[test]
fn a_connection_is_handed_over_between_threads() {
    let (target, thread) = echo_adopted(small());
    let mut rig = Rig::new(&small());
    let address = rig.listen();
    let (mut peer, slot) = rig.connect(address);
    rig.ops().receive_once(slot);
    peer.write_all(b"hello").expect("a live connection");
    rig.until_bytes(slot, 5);
    assert!(rig.ops().is_quiet(slot));
    rig.ops().hand_over(slot, &target, KEY_MAX);
    rig.until_seen(&Seen::HandedOver(slot, KEY_MAX, Ok(())));
    rig.until_seen(&Seen::Closed(slot));
    let mut greeting = [0; 8];
    peer.read_exact(&mut greeting).expect("the target greets");
    assert_eq!(&greeting, b"adopted ");
    peer.write_all(b"echo me").expect("a live connection");
    let mut echo = [0; 7];
    peer.read_exact(&mut echo).expect("the target echoes");
    assert_eq!(&echo, b"echo me");
    drop(peer);
    assert_eq!(thread.join().expect("the target ends"), KEY_MAX);
    assert_eq!(rig.counters().handed_over, 1);
}

#[test]
fn a_hand_over_to_a_full_table_or_a_dead_ring_leaves_the_slot_as_it_was() {
    let mut rig = Rig::new(&small());
    let address = rig.listen();
    let mut full = Rig::new(&Config { slots: 1, ..small() });
    let full_address = full.listen();
    let _kept = full.connect(full_address);
    let full = (full.ops().handle(), full);
    let gone = std::thread::spawn(|| Rig::new(&small()).ops().handle()).join().expect("a handle");
    let (mut peer, slot) = rig.connect(address);
    for (key, target) in [(1, &full.0), (2, &gone)] {
        rig.ops().hand_over(slot, target, key);
        let failed = rig.until(|rig| {
            rig.take(|seen| match seen {
                Seen::HandedOver(handed, named, result) if (*handed, *named) == (slot, key) => {
                    Some(result.is_err())
                }
                _ => None,
            })
        });
        assert!(failed, "key {key}");
        rig.ops().receive_once(slot);
        peer.write_all(b"here").expect("a live connection");
        rig.until_bytes(slot, 4 * key as usize);
    }
}

#[test]
fn a_close_during_a_hand_over_waits_for_it() {
    let (target, thread) = echo_adopted(small());
    let mut rig = Rig::new(&small());
    let address = rig.listen();
    let (peer, slot) = rig.connect(address);
    rig.ops().hand_over(slot, &target, 9);
    rig.ops().close(slot);
    rig.until_seen(&Seen::HandedOver(slot, 9, Ok(())));
    rig.until_seen(&Seen::Closed(slot));
    drop(peer);
    assert_eq!(thread.join().expect("the target ends"), 9);
}

#[test]
fn an_own_descriptor_is_inserted() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let mut rig = Rig::new(&Config { slots: 1, ..small() });
    let address = listener.local_addr().expect("an address");
    let client = TcpStream::connect(address).expect("it listens");
    let (mut peer, _) = listener.accept().expect("a connection waits");
    rig.ops().insert(OwnedFd::from(client), 77);
    let slot = rig.until(|rig| {
        rig.take(|seen| match seen {
            Seen::Adopted(slot, 77) => Some(*slot),
            _ => None,
        })
    });
    rig.ops().receive_multishot(slot);
    peer.write_all(b"to the client").expect("a live connection");
    rig.until_bytes(slot, 13);
    // The table has one slot: the next finds none, and its descriptor is closed.
    let second = TcpStream::connect(address).expect("it listens");
    let (mut second_peer, _) = listener.accept().expect("a connection waits");
    rig.ops().insert(OwnedFd::from(second), 78);
    rig.until_seen(&Seen::InsertFailed(78));
    assert_eq!(second_peer.read(&mut [0]).expect("a clean end"), 0);
    drop(peer);
    rig.until_seen(&Seen::Eof(slot));
}

/// Receiving from a full pipe is no receive: the error is the connection's, not the ring's.
#[test]
fn what_is_not_a_socket_fails_alone() {
    let mut rig = Rig::new(&small());
    let (reader, _writer) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
    rig.ops().insert(reader, 1);
    let slot = rig.until(|rig| {
        rig.take(|seen| match seen {
            Seen::Adopted(slot, 1) => Some(*slot),
            _ => None,
        })
    });
    rig.ops().receive_multishot(slot);
    rig.until(|rig| {
        rig.take(|seen| matches!(seen, Seen::Failed(failed, _) if *failed == slot).then_some(()))
    });
    rig.ops().close(slot);
    rig.until_seen(&Seen::Closed(slot));
    rig.turn(TURN);
}
