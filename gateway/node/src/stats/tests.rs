//! The board: what is published is what is read, in every form.

use super::*;
use std::collections::HashSet;
use std::sync::Arc;
use tidegate_schema::ErrorCode;
use tidegate_shard::{Counter, LargeUsers, ShardStats};
use tidegate_storage_files::RetentionFigures;

fn stats(sockets: u64) -> ShardStats {
    let mut stats = ShardStats {
        sockets,
        streams: 10,
        hot_users: 2,
        hot_conversations: 3,
        open_ranges: 4,
        ..ShardStats::default()
    };
    stats.counters[Counter::Commits as usize] = 4;
    stats.errors[ErrorCode::RateLimited.index()] = 7;
    stats.commit_latency[0] = 3;
    stats.commit_latency[5] = 1;
    stats.commit_latency_ns_total = 500_000;
    stats
}

fn board() -> Board {
    let board = Board::new(2);
    for (shard, sockets) in [(0, 5), (1, 6)] {
        let stats = stats(sockets);
        let mesh = tidegate_mesh::Counters { depth_bytes_max: 10 * sockets, ..Default::default() };
        board.publish(shard, &Measured { shard: Some(&stats), mesh, ..Measured::default() });
    }
    board
}

#[test]
fn names_are_unique() {
    let board = Board::new(1);
    let mut seen = HashSet::new();
    assert!(board.figures().iter().all(|figure| seen.insert((figure.path, figure.label))));
    assert!(board.process().all(|(figure, _)| seen.insert((figure.path, figure.label))));
}

/// What retention did stood in the log only, and nobody could draw it.
#[test]
fn what_retention_counts_is_told_in_both_forms() {
    let board = Board::new(1);
    let retention = |board: &Board| to_json(board)["retention"].clone();
    assert_eq!(retention(&board)["passes"], 0, "also before there is any");
    let figures = RetentionFigures {
        passes: 1,
        rewritten: 2,
        dropped: 3,
        damaged: 4,
        expired: 5,
        erased: 6,
        saved_bytes: 7,
    };
    assert_eq!(figures::retention_values(&figures), [1, 2, 3, 4, 5, 6, 7]);
    let named: Vec<&str> = RETENTION_FIGURES.iter().map(|figure| figure.path).collect();
    let check = |place: usize, name: &str| assert_eq!(named[place], format!("retention.{name}"));
    check(1, "segments_rewritten");
    check(2, "segments_removed");
    check(6, "saved_bytes");
    let counters = Arc::new(RetentionCounters::default());
    board.follow_retention(Arc::clone(&counters));
    assert_eq!(retention(&board)["segments_damaged"], 0);
    let text = Exporter::new(Arc::new(board)).render().unwrap();
    assert!(text.contains("tidegate_retention_saved_bytes_total 0"), "{text}");
}

#[test]
fn what_a_start_lost_is_told() {
    let board = Board::new(1);
    board.note_recovery(9, 2, true);
    board.note_snapshot_set_aside();
    let json = to_json(&board);
    let recovery = &json["recovery"];
    assert_eq!(
        (&recovery["damage"], &recovery["lost"], &recovery["renewed"]),
        (&9.into(), &2.into(), &1.into())
    );
    assert_eq!((&json["snapshot"]["set_aside"], &json["snapshot"]["failures"]), (&1.into(), &0.into()));
}

#[test]
fn what_users_gave_up_for_snapshots_adds_up() {
    let board = Board::new(1);
    let large = LargeUsers { users: 2, devices: 7, conversations: 5, ..LargeUsers::default() };
    board.note_large_users(&large);
    board.note_large_users(&large);
    let snapshot = to_json(&board)["snapshot"].clone();
    let told = |name: &str| snapshot[name].as_u64();
    assert_eq!(
        ["large_users", "devices_forgotten", "conversations_unlisted"].map(told),
        [Some(4), Some(14), Some(10)]
    );
    let text = Exporter::new(Arc::new(board)).render().unwrap();
    assert!(text.contains("tidegate_snapshot_devices_forgotten_total 14"), "{text}");
}

#[test]
fn json_has_a_total_and_every_shard() {
    let json = to_json(&board());
    assert_eq!(json["shards"].as_array().map(Vec::len), Some(2));
    assert_eq!((&json["shards"][0]["sockets"], &json["shards"][1]["sockets"]), (&5.into(), &6.into()));
    let total = &json["total"];
    let check = |pointer: &str, expected: serde_json::Value| {
        assert_eq!(total.pointer(pointer), Some(&expected), "{pointer}");
    };
    check("/sockets", 11.into());
    check("/streams/hot", 10.into());
    check("/streams/located", 20.into());
    check("/ranges/open_in_memory", 8.into());
    check("/errors/RATE_LIMITED", 14.into());
    check("/commits/count", 8.into());
    check("/commits/latency/buckets/0/count", 6.into());
    check("/commits/latency/buckets/0/le_us", 16.384.into());
    check("/commits/latency/p50_us", 16.384.into());
    check("/commits/latency/p99_us", 524.288.into());
    check("/mesh/depth_bytes_max", 60.into());
    check("/events/commits", 8.into());
}

/// What is in memory has no place in the table once it was loaded from a snapshot: a difference of both said that a node with a
/// million streams in its snapshot knew none that was not in memory.
#[test]
fn a_full_snapshot_and_an_empty_table_are_told_as_they_are() {
    let board = Board::new(1);
    let stats = ShardStats { streams: 3, hot_users: 7, hot_conversations: 2, ..ShardStats::default() };
    board.publish(0, &Measured { shard: Some(&stats), ..Measured::default() });
    assert_eq!(to_json(&board)["streams"]["cold_at_most"], 0, "without a snapshot all are in memory");
    board.process[figures::SNAPSHOT_STREAMS].store(1_000_000, std::sync::atomic::Ordering::Relaxed);
    let json = to_json(&board);
    let streams = &json["total"]["streams"];
    assert_eq!((&streams["hot"], &streams["located"]), (&9.into(), &3.into()));
    assert_eq!(
        json["streams"]["cold_at_most"], 999_994,
        "one that the snapshot and the table have counts twice"
    );
    let text = Exporter::new(Arc::new(board)).render().unwrap();
    assert!(text.contains("tidegate_streams_located{shard=\"0\"} 3"), "{text}");
}

#[test]
fn percentiles_of_nothing_are_null() {
    let json = to_json(&Board::new(1));
    assert!(json["total"]["commits"]["latency"]["p99_us"].is_null());
}

#[test]
fn prometheus_text_has_types_labels_and_a_cumulative_histogram() {
    let text = Exporter::new(Arc::new(board())).render().unwrap();
    let check = |line: &str| assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    check("# TYPE tidegate_sockets gauge");
    check("tidegate_sockets{shard=\"1\"} 6");
    check("# TYPE tidegate_errors counter");
    check("tidegate_errors_total{shard=\"0\",code=\"RATE_LIMITED\"} 7");
    check("tidegate_commit_latency_seconds_count{shard=\"0\"} 4");
    check("tidegate_commit_latency_seconds_bucket{le=\"+Inf\",shard=\"0\"} 4");
    check("tidegate_commit_latency_seconds_sum{shard=\"0\"} 0.0005");
    check("# EOF");
    let types = text.lines().filter(|line| line.starts_with("# TYPE tidegate_errors ")).count();
    assert_eq!(types, 1, "a family is described once");
}

#[test]
fn a_latched_shard_latches_the_board_and_phases_never_go_back() {
    let board = board();
    assert!(!board.has(figures::LATCHED));
    let latched = ShardStats { latched: true, ..ShardStats::default() };
    board.publish(1, &Measured { shard: Some(&latched), ..Measured::default() });
    assert!(board.has(figures::LATCHED));
    board.enter(Phase::Draining);
    board.enter(Phase::Ready);
    assert_eq!(board.phase(), Phase::Draining);
}
