//! Snapshots: merged from records and the snapshot before, against a model that folds in memory.

mod harness;

use harness::folding::{Concatenate, Fed, Model, check, fold_in_memory, merge, user};
use harness::{Log, body, small, stream};
use proptest::prelude::*;
use tidegate_ids::{Location, StreamId, UserId};
use tidegate_storage_log::{
    Inflated, Keep, MemoryMedium, MemoryRuns, Merger, PreviousEnd, Snapshot, SnapshotWriter, closed_segment,
    recover_after, rewrite,
};

fn fed() -> impl Strategy<Value = Vec<Fed>> {
    let body = prop_oneof![8 => 0..40_usize, 2 => 0..900_usize, 1 => 5000..20_000_usize];
    let one = (0..90_u64, body, 0..20_u16);
    prop::collection::vec(one, 0..300).prop_map(|all| {
        let records = all.into_iter().enumerate().map(|(at, (number, len, kind))| Fed {
            stream: if number == 0 { StreamId::SHARD } else { StreamId::user(UserId(number)) },
            location: Location::new(1, 512 + at as u32 * 8),
            kind: if kind == 0 { 404 } else { kind },
            body: vec![at as u8; len],
        });
        records.collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn a_chain_of_snapshots_is_what_one_fold_is(
        mut rounds in prop::collection::vec(fed(), 1..4),
        memory_bytes in 0..20_000_usize,
        shuffle in 0..7_usize,
    ) {
        let (mut model, mut snapshot) = (Model::new(), None);
        for (at, fed) in rounds.iter_mut().enumerate() {
            fed.iter_mut().for_each(|one| one.location.segment = at as u32 + 1);
            fold_in_memory(&mut model, fed);
            let turn = if fed.is_empty() { 0 } else { shuffle * 13 % fed.len() };
            fed.rotate_left(turn);
            let (bytes, summary) = merge(memory_bytes, fed, snapshot.as_ref(), at as u64 + 1).expect("sound");
            prop_assert_eq!(summary.written.bytes, bytes.len() as u64);
            let next = Snapshot::open(bytes).expect("sound");
            prop_assert_eq!(next.header(), &harness::folding::header(at as u64 + 1));
            check(&next, &model);
            snapshot = Some(next);
        }
    }
}

/// A snapshot that covers what its base covers, too: what is folded already is not folded twice.
#[test]
fn records_folded_before_are_passed_over() {
    let mut log = Log::new(small());
    (0..100).for_each(|i| _ = log.append(stream(i % 7), &body(i, 20)).expect("room"));
    log.flush();
    let fed: Vec<Fed> = log
        .kept
        .iter()
        .map(|kept| Fed { stream: kept.stream, location: kept.location, kind: 9, body: kept.body.clone() })
        .collect();
    let (first, _) = merge(4096, &fed[..60], None, 1).expect("sound");
    let first = Snapshot::open(first).expect("sound");
    let (second, summary) = merge(4096, &fed, Some(&first), 2).expect("sound");
    assert_eq!((summary.records, summary.repeated), (40, 60));
    let mut model = Model::new();
    fold_in_memory(&mut model, &fed);
    check(&Snapshot::open(second).expect("sound"), &model);
}

/// So little memory that runs of runs are merged.
#[test]
fn runs_are_merged_on_several_levels() {
    let mut fed: Vec<Fed> = (0..30_000_u32)
        .map(|at| user(u64::from(at * 7919 % 500) + 1, at, at.to_le_bytes().to_vec()))
        .collect();
    fed.reverse();
    let (bytes, summary) = merge(1024, &fed, None, 1).expect("sound");
    assert!(summary.runs > 32 * 33, "two levels are full: {summary:?}");
    assert_eq!((summary.records, summary.folded), (30_000, 500));
    let mut model = Model::new();
    fold_in_memory(&mut model, &fed);
    check(&Snapshot::open(bytes).expect("sound"), &model);
}

#[test]
fn sizes_at_the_edges_are_read_back() {
    for (records, largest) in [(0, 0), (1, 0), (1, 16 << 10), (3, 100_000), (1500, 7)] {
        let fed: Vec<Fed> = (0..records)
            .map(|at| user(u64::from(at) + 11, at, vec![7; largest * (at as usize % 2)]))
            .collect();
        let (bytes, _) = merge(1 << 20, &fed, None, 1).expect("sound");
        let mut model = Model::new();
        fold_in_memory(&mut model, &fed);
        check(&Snapshot::open(bytes).expect("sound"), &model);
    }
}

#[test]
fn virtual_shards_are_ranges_of_a_snapshot() {
    let fed: Vec<Fed> = (0..3000).map(|at| user(u64::from(at) * 10 + 1, at, vec![1; 50])).collect();
    let (bytes, _) = merge(1 << 20, &fed, None, 1).expect("sound");
    let snapshot = Snapshot::open(bytes).expect("sound");
    assert!(snapshot.block_count() > 10);
    let mut all = Vec::new();
    for range in [0..0, 0..1, 1..300, 300..301, 301..1023, 1023..65_536, 70_000..80_000] {
        let mut entries = snapshot.entries_of(range.clone());
        while let Some(entry) = entries.next() {
            let entry = entry.expect("sound");
            assert!(range.contains(&u32::from(entry.place.0)));
            all.push((entry.place, entry.stream));
        }
        assert!(entries.next().is_none(), "the end is the end");
    }
    assert_eq!(all.len(), 3000);
    assert!(all.is_sorted());
}

/// Rewriting changes no fold, and no snapshot's word about where a log ended.
#[test]
fn rewritten_segments_fold_to_the_same_snapshot() {
    let mut log = Log::new(small());
    log.fill(900, 17, 5);
    let plain = log.medium.clone();
    let numbers = plain.numbers();
    let (whole, _) = harness::recover_all(&plain);
    let mut smaller = plain.clone();
    for (at, extent) in whole.extents.iter().enumerate().filter(|(_, extent)| extent.footer_offset.is_some())
    {
        let mut view = Inflated::new(plain.clone());
        let later: Vec<u32> = whole.extents[at + 1..].iter().map(|extent| extent.segment).collect();
        let closed = closed_segment(&mut view, extent.segment, &later, PreviousEnd::default());
        let closed = closed.expect("there").expect("closed");
        let mut bytes = Vec::new();
        rewrite(&mut view, &closed, |_| Keep::Live, &mut bytes).expect("sound");
        smaller.segments.insert(extent.segment, bytes);
    }
    let fold_all = |medium: MemoryMedium| {
        let mut medium = Inflated::new(medium);
        let mut fold = Concatenate::default();
        let mut merger = Merger::new(4096, MemoryRuns::default());
        for extent in &whole.extents {
            let fed = merger.feed_segment(&fold, &mut medium, extent).expect("there");
            assert_eq!((fed.damage_count, fed.records > 0), (0, true));
        }
        let writer = SnapshotWriter::new(Vec::new(), &harness::folding::header(1)).expect("memory");
        merger.finish(&mut fold, None, writer).expect("memory").0
    };
    assert_eq!(fold_all(plain.clone()), fold_all(smaller.clone()));
    for covered in &whole.ends[..whole.ends.len() - 1] {
        let rest = |medium: &MemoryMedium| {
            let mut locations = Vec::new();
            let mut medium = Inflated::new(medium.clone());
            let take = |record: tidegate_storage_log::RecordView<'_>| locations.push(record.location);
            let recovered = recover_after(&mut medium, &numbers, Some(harness::DIRECTORY), *covered, take);
            (recovered.expect("one log").previous, locations)
        };
        assert_eq!(rest(&plain), rest(&smaller));
    }
}
