//! What a shard's thread does again and again allocates nothing once it is warm.
#![allow(clippy::unwrap_used, reason = "a test may end by a panic")]

use tidegate_ids::ShardIndex;
use tidegate_node::port::Rings;
use tidegate_node::stats::{Board, Measured};
use tidegate_shard::{Lane, MeshPort, ShardStats};
use tidegate_tests_support::{Allocations, CountingAllocator, allocations};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
fn figures_are_published_without_allocation() {
    let board = Board::new(2);
    let stats = ShardStats::default();
    let (taken, ()) = allocations(|| {
        board.publish(1, &Measured { shard: Some(&stats), ..Measured::default() });
    });
    assert_eq!(taken, Allocations::default());
}

#[test]
fn frames_cross_the_mesh_without_allocation() {
    let mut ends = tidegate_mesh::build(2, 4096, 1024).unwrap().into_iter().map(Rings);
    let (mut one, mut other) = (ends.next().unwrap(), ends.next().unwrap());
    let (taken, ()) = allocations(|| {
        for _ in 0..100 {
            assert!(one.push(ShardIndex(1), Lane::Results, &[b"head", b"body"]));
            assert_eq!(other.peek(ShardIndex(0), Lane::Results), Some(&b"headbody"[..]));
            other.pop(ShardIndex(0), Lane::Results);
            one.0.take_wakes(|_| {});
            other.0.take_wakes(|_| {});
        }
    });
    assert_eq!(taken, Allocations::default());
}
