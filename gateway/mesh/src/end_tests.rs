//! Two and more ends: lanes, sleep, wakes, limits.

use super::*;

fn mesh(shards: usize) -> Vec<MeshEnd> {
    build(shards, 256, 128).expect("a sound configuration")
}

fn push(end: &mut MeshEnd, to: u16, lane: Lane, byte: u8, len: usize) -> bool {
    end.try_push(to, lane, len, |bytes| bytes.fill(byte))
}

fn wakes(end: &mut MeshEnd) -> Vec<u16> {
    let mut woken = Vec::new();
    end.take_wakes(|peer| woken.push(peer));
    woken
}

#[test]
fn a_mesh_that_could_not_carry_its_frames_is_refused() {
    let check = |shards, ring, frame, expected| assert_eq!(build(shards, ring, frame).err(), expected);
    check(0, 256, 128, Some(MeshConfigError::Shards(0)));
    check(SHARDS_MAX + 1, 256, 128, Some(MeshConfigError::Shards(SHARDS_MAX + 1)));
    check(1, 256, 0, Some(MeshConfigError::FrameBytes));
    check(1, 255, 128, Some(MeshConfigError::RingTooSmall { ring_bytes: 255, ring_bytes_min: 256 }));
    check(1, RING_BYTES_MAX + 1, 128, Some(MeshConfigError::RingTooLarge(RING_BYTES_MAX + 1)));
    check(1, 256, 128, None);
}

#[test]
fn an_empty_ring_takes_the_largest_frame_at_every_offset() {
    let mut ends = mesh(1);
    let end = &mut ends[0];
    for _ in 0..100 {
        assert_eq!(end.room(0, Lane::Results), 128);
        assert!(push(end, 0, Lane::Results, 1, 128));
        assert_eq!(end.peek(0, Lane::Results), Some(&[1; 128][..]));
        end.pop(0, Lane::Results);
        assert!(push(end, 0, Lane::Results, 2, 1));
        end.pop(0, Lane::Results);
    }
}

#[test]
fn every_pair_and_lane_is_a_ring_of_its_own() {
    let mut ends = mesh(3);
    for from in 0..3u16 {
        for to in 0..3 {
            for lane in Lane::ALL {
                let byte = (from * 9 + to * 3) as u8 + lane as u8;
                assert!(push(&mut ends[usize::from(from)], to, lane, byte, 5));
            }
        }
    }
    for from in 0..3 {
        for to in 0..3u16 {
            for lane in Lane::ALL {
                let byte = (from * 9 + to * 3) as u8 + lane as u8;
                let end = &mut ends[usize::from(to)];
                assert_eq!(end.peek(from, lane), Some(&[byte; 5][..]));
                end.pop(from, lane);
                assert_eq!(end.peek(from, lane), None);
            }
        }
    }
}

#[test]
fn a_sleeper_is_woken_once_a_batch() {
    let mut ends = mesh(2);
    assert!(ends[1].announce_sleep());
    assert!(push(&mut ends[0], 1, Lane::Results, 1, 8));
    assert!(push(&mut ends[0], 1, Lane::Requests, 2, 8));
    assert_eq!(wakes(&mut ends[0]), [1]);
    // The flag has been taken: a second batch before the sleeper wakes is silent.
    assert!(push(&mut ends[0], 1, Lane::Results, 3, 8));
    assert_eq!(wakes(&mut ends[0]), []);
    ends[1].awake();
    assert!(!ends[1].announce_sleep(), "frames wait");
    assert!(push(&mut ends[0], 1, Lane::Results, 4, 8));
    assert_eq!(wakes(&mut ends[0]), [], "who found something does not sleep");
    assert_eq!(ends[0].counters().wakes, 1);
}

#[test]
fn who_is_awake_is_not_woken() {
    let mut ends = mesh(2);
    assert!(push(&mut ends[0], 1, Lane::Results, 1, 8));
    assert_eq!(wakes(&mut ends[0]), []);
    assert!(ends[0].announce_sleep());
    ends[0].awake();
    ends[1].pop(0, Lane::Results);
    assert_eq!(wakes(&mut ends[1]), []);
    assert!(ends[1].announce_sleep());
    ends[1].awake();
    assert!(push(&mut ends[0], 1, Lane::Results, 1, 8));
    assert_eq!(wakes(&mut ends[0]), []);
}

#[test]
fn a_frame_to_oneself_keeps_one_awake() {
    let mut ends = mesh(1);
    assert!(push(&mut ends[0], 0, Lane::Requests, 1, 8));
    assert!(!ends[0].announce_sleep());
    ends[0].pop(0, Lane::Requests);
    assert!(ends[0].announce_sleep());
}

#[test]
fn a_sleeper_that_waits_for_room_is_woken_by_a_pop() {
    let mut ends = mesh(2);
    while push(&mut ends[0], 1, Lane::Results, 1, 64) {}
    assert_eq!(ends[0].counters().refused, 1);
    assert_eq!(wakes(&mut ends[0]), []);
    assert!(ends[0].announce_sleep());
    ends[1].pop(0, Lane::Results);
    assert_eq!(wakes(&mut ends[1]), [0]);
    ends[0].awake();
    assert!(push(&mut ends[0], 1, Lane::Results, 1, 64));
}

#[test]
fn room_that_came_before_the_sleep_is_found_by_the_second_look() {
    let mut ends = mesh(2);
    while push(&mut ends[0], 1, Lane::Results, 1, 64) {}
    wakes(&mut ends[0]);
    ends[1].pop(0, Lane::Results);
    assert_eq!(wakes(&mut ends[1]), []);
    assert!(!ends[0].announce_sleep());
    assert!(ends[0].announce_sleep(), "the same room is not news twice");
}

#[test]
fn a_pop_does_not_wake_a_sleeper_that_waits_for_nothing() {
    let mut ends = mesh(2);
    assert!(push(&mut ends[0], 1, Lane::Results, 1, 64));
    wakes(&mut ends[0]);
    assert!(ends[0].announce_sleep());
    ends[1].pop(0, Lane::Results);
    assert_eq!(wakes(&mut ends[1]), []);
}

#[test]
fn a_look_at_too_little_room_counts_as_waiting_for_it() {
    let mut ends = mesh(2);
    assert!(push(&mut ends[0], 1, Lane::Results, 1, 128));
    assert!(push(&mut ends[0], 1, Lane::Results, 1, 64));
    assert!(ends[0].room(1, Lane::Results) < 128);
    wakes(&mut ends[0]);
    assert!(ends[0].announce_sleep());
    ends[1].pop(0, Lane::Results);
    assert_eq!(wakes(&mut ends[1]), [0]);
}

#[test]
fn counters_count() {
    let mut ends = mesh(2);
    assert!(push(&mut ends[0], 1, Lane::Results, 1, 9));
    assert!(push(&mut ends[0], 1, Lane::Requests, 1, 0));
    wakes(&mut ends[0]);
    assert!(ends[0].announce_sleep());
    let expected = Counters { frames: 2, bytes: 9, sleeps: 1, depth_bytes_max: 24, ..Counters::default() };
    assert_eq!(*ends[0].counters(), expected);
    assert_eq!((ends[0].depth(1, Lane::Results), ends[0].depth(1, Lane::Requests)), (24, 8));
    ends[1].pop(0, Lane::Results);
    assert_eq!(ends[1].counters().frames_consumed, 1);
}

#[test]
#[should_panic(expected = "a frame of 129 bytes")]
fn a_frame_above_the_largest_is_a_bug() {
    push(&mut mesh(1)[0], 0, Lane::Results, 1, 129);
}

/// Two threads play ping-pong and sleep between the frames; a lost wake-up would leave both asleep for ever.
#[test]
fn sleeping_threads_always_wake() {
    const ROUNDS: u32 = 20_000;
    let mut ends = mesh(2);
    let mut two = ends.pop().expect("two ends");
    let mut one = ends.pop().expect("two ends");
    let main = std::thread::current();
    let partner = std::thread::spawn(move || {
        for round in 0..ROUNDS {
            wait(&mut two, 0);
            assert!(push(&mut two, 0, Lane::Requests, round as u8, 8));
            two.take_wakes(|_| main.unpark());
        }
    });
    for round in 0..ROUNDS {
        assert!(push(&mut one, 1, Lane::Requests, round as u8, 8));
        one.take_wakes(|_| partner.thread().unpark());
        wait(&mut one, 1);
    }
    partner.join().expect("the partner ends");
}

fn wait(end: &mut MeshEnd, from: u16) {
    while end.peek(from, Lane::Requests).is_none() {
        end.take_wakes(|_| {});
        if end.announce_sleep() {
            std::thread::park();
            end.awake();
        }
    }
    end.pop(from, Lane::Requests);
}

/// Three threads send each other more than their rings hold and sleep whenever there is nothing to take and no room; a
/// wake-up lost for a frame or for room would leave them asleep for ever.
#[test]
fn threads_that_wait_for_room_always_wake() {
    const SHARDS: u16 = 3;
    const FRAMES: u32 = 5_000;
    let (names, threads) = (std::sync::Barrier::new(3), std::sync::Mutex::new(vec![None; 3]));
    std::thread::scope(|scope| {
        for mut end in mesh(usize::from(SHARDS)) {
            let (names, threads) = (&names, &threads);
            scope.spawn(move || {
                threads.lock().expect("nobody fails")[usize::from(end.shard())] =
                    Some(std::thread::current());
                names.wait();
                let threads = threads.lock().expect("nobody fails").clone();
                exchange(&mut end, FRAMES, |peer| {
                    threads[usize::from(peer)].as_ref().expect("everybody is there").unpark();
                });
            });
        }
    });
}

/// Sends the numbers below `frames` to everybody, oneself included, and takes as many from each.
fn exchange(end: &mut MeshEnd, frames: u32, wake: impl Fn(u16)) {
    let shards = end.shards();
    let mut sent = vec![0; usize::from(shards)];
    let mut taken = vec![0; usize::from(shards)];
    while sent.iter().chain(&taken).any(|&count| count < frames) {
        for peer in 0..shards {
            let index = usize::from(peer);
            let fill = |next: u32| move |bytes: &mut [u8]| bytes[..4].copy_from_slice(&next.to_le_bytes());
            while sent[index] < frames && end.try_push(peer, Lane::Results, 100, fill(sent[index])) {
                sent[index] += 1;
            }
            while let Some(frame) = end.peek(peer, Lane::Results) {
                assert_eq!(frame[..4], u32::to_le_bytes(taken[index]));
                end.pop(peer, Lane::Results);
                taken[index] += 1;
            }
        }
        end.take_wakes(&wake);
        if end.announce_sleep() {
            if sent.iter().chain(&taken).any(|&count| count < frames) {
                std::thread::park();
            }
            end.awake();
        }
    }
    end.take_wakes(&wake);
}
