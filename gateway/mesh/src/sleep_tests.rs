//! Every interleaving of a sleeper and its peers, under the memory model: `cargo xtask loom` runs them.
//!
//! A ring stands as one counter with the orderings of `rtrb`: published with a release store, looked at with an
//! acquire load. A wake is a counter too, because a wake that comes early is not forgotten but ends the next
//! sleep. A wake-up is lost if in the end the sleeper sleeps, a frame waits that it has not seen, and no wake
//! is there.

use super::*;
use loom::sync::Arc;
use loom::sync::atomic::AtomicUsize;
use loom::thread;

struct Shared {
    flag: SleepFlag,
    ring: AtomicUsize,
    wakes: AtomicUsize,
}

impl Shared {
    fn new() -> Arc<Self> {
        Arc::new(Self { flag: SleepFlag::new(), ring: AtomicUsize::new(0), wakes: AtomicUsize::new(0) })
    }

    /// One batch of a peer. `fence` is what stands between the push and the look at the flag, `take` that look.
    fn push_and_wake(&self, fence: fn(), take: fn(&SleepFlag) -> bool) {
        self.ring.fetch_add(1, Ordering::Release);
        fence();
        if take(&self.flag) {
            self.wakes.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Consumes until it falls asleep; returns how many frames it has seen by then. `look` is given what the
    /// second look finds.
    fn consume_and_sleep(&self, look: fn(bool) -> bool) -> usize {
        loop {
            let seen = self.ring.load(Ordering::Acquire);
            // A wake that has come by now ends no later sleep.
            self.wakes.swap(0, Ordering::Relaxed);
            if self.flag.announce(|| look(self.ring.load(Ordering::Acquire) > seen)) {
                return seen;
            }
        }
    }
}

fn check(frames: usize, fence: fn(), look: fn(bool) -> bool) {
    loom::model(move || {
        let shared = Shared::new();
        let peer = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || (0..frames).for_each(|_| shared.push_and_wake(fence, SleepFlag::take)))
        };
        let seen = shared.consume_and_sleep(look);
        peer.join().expect("the peer ends");
        let lost = seen < frames && shared.wakes.load(Ordering::Relaxed) == 0;
        assert!(!lost, "a wake-up was lost");
    });
}

#[test]
fn no_wake_up_is_lost() {
    check(1, published, |found| found);
}

#[test]
fn no_wake_up_is_lost_between_two_batches() {
    check(2, published, |found| found);
}

/// The planted bug: without the second look a frame pushed before the flag is slept over.
#[test]
#[should_panic(expected = "a wake-up was lost")]
fn without_the_second_look_a_wake_up_is_lost() {
    check(1, published, |_| false);
}

/// The planted bug on the other side: without the fence a peer may miss the flag that stands.
#[test]
#[should_panic(expected = "a wake-up was lost")]
fn without_the_fence_a_wake_up_is_lost() {
    check(1, || {}, |found| found);
}

/// Two peers push at once: a sleeper that saw neither is woken, and by one of them only. `take` is how a peer takes the
/// flag.
fn check_two_peers(take: fn(&SleepFlag) -> bool) {
    loom::model(move || {
        let shared = Shared::new();
        let peers = [0, 1].map(|_| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.push_and_wake(published, take))
        });
        let asleep = shared.flag.announce(|| shared.ring.load(Ordering::Acquire) > 0);
        for peer in peers {
            peer.join().expect("the peer ends");
        }
        let wakes = shared.wakes.load(Ordering::Relaxed);
        assert!(wakes <= 1, "two peers woke one sleep");
        assert!(wakes == 1 || !asleep, "a wake-up was lost");
    });
}

#[test]
fn two_peers_wake_a_sleeper_once() {
    check_two_peers(SleepFlag::take);
}

/// The planted bug: a peer that looks at the flag and then takes it down is not alone.
#[test]
#[should_panic(expected = "two peers woke one sleep")]
fn without_the_exchange_two_peers_wake_a_sleeper() {
    check_two_peers(|flag| {
        let asleep = flag.0.load(Ordering::Relaxed);
        flag.0.store(false, Ordering::Relaxed);
        asleep
    });
}

/// A writer waits for room: it sleeps until a reader has taken as much as it needs. It may give up in between, because
/// something else came, and sleep again. `waits` is how a reader sees that room is waited for.
fn check_room(waits: fn(&Starved) -> bool) {
    const NEEDED: usize = 2;
    loom::model(move || {
        let shared = Shared::new();
        let starved = Arc::new(Starved::new());
        let reader = {
            let (shared, starved) = (Arc::clone(&shared), Arc::clone(&starved));
            thread::spawn(move || {
                for _ in 0..NEEDED {
                    shared.ring.fetch_add(1, Ordering::Release);
                    published();
                    if waits(&starved) && shared.flag.take() {
                        shared.wakes.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        };
        // The first attempt finds something else to do.
        starved.set(true);
        assert!(!shared.flag.announce(|| true));
        starved.set(false);
        shared.wakes.swap(0, Ordering::Relaxed);
        let seen = shared.ring.load(Ordering::Acquire);
        starved.set(true);
        let asleep = shared.flag.announce(|| shared.ring.load(Ordering::Acquire) > seen);
        reader.join().expect("the reader ends");
        let lost = asleep && seen < NEEDED && shared.wakes.load(Ordering::Relaxed) == 0;
        assert!(!lost, "a wake-up was lost");
    });
}

#[test]
fn no_wake_up_for_room_is_lost() {
    check_room(Starved::is_set);
}

/// The planted bug: a reader that takes down what the writer has set does so for a sleep that never came, and the next
/// one has no wake.
#[test]
#[should_panic(expected = "a wake-up was lost")]
fn taken_down_by_the_reader_a_wake_up_for_room_is_lost() {
    check_room(|starved| starved.0.swap(false, Ordering::Relaxed));
}
