//! A shard's side of a read takes no memory once warm.
#![allow(clippy::unwrap_used, reason = "a test may end by a panic")]

mod journal;

use journal::Journal;
use std::sync::mpsc;
use tidegate_ids::{StreamId, UserId};
use tidegate_storage_files::{ReadPool, ReadRequest, ReadWhat, Wake};
use tidegate_storage_log::ReadSpec;
use tidegate_tests_support::{Allocations, CountingAllocator, allocations};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
fn asking_and_taking_allocate_nothing_once_warm() {
    let temp = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(temp.path(), 1);
    let kept = journal.append(0, StreamId::user(UserId(1)), &[1; 1000]);
    journal.commit();
    let (woken, wakes) = mpsc::channel();
    let wake: Wake = Box::new(move || _ = woken.send(()));
    let mut pool = ReadPool::start(&journal.dir, 4, wake).unwrap();
    let mut records = Vec::new();
    let mut ask = |records: Vec<u8>| {
        let (asked, ()) = allocations(|| {
            let spec = ReadSpec::At { location: kept.location };
            pool.try_read(ReadRequest { token: 1, what: ReadWhat::Page(spec, None), records }).unwrap();
        });
        // Waiting is the test's, not a shard's: that is woken by its ring.
        wakes.recv().unwrap();
        let (taken, reply) = allocations(|| pool.take().unwrap());
        assert_eq!(reply.result.map(|end| end.records), Ok(1));
        (asked, taken, reply.records)
    };
    for round in 0..100 {
        let (asked, taken, used) = ask(records);
        if round > 10 {
            assert_eq!((asked, taken), (Allocations::default(), Allocations::default()), "round {round}");
        }
        records = used;
    }
}
