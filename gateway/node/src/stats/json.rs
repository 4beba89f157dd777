//! `/stats`: every figure, for all shards together and for each.

use super::{Board, Figure, Snapshot};
use serde_json::{Map, Value, json};
use tidegate_shard::{LATENCY_BUCKETS, latency_bucket_ns};

/// The whole board.
#[must_use]
pub fn render(board: &Board) -> Value {
    let shards: Vec<Value> =
        (0..board.shards()).map(|shard| snapshot(board.figures(), &board.shard(shard))).collect();
    let mut root = Map::new();
    root.insert(String::from("phase"), json!(format!("{:?}", board.phase()).to_lowercase()));
    root.insert(String::from("uptime_seconds"), json!(board.uptime_seconds()));
    for (figure, value) in board.process() {
        put(&mut root, figure.path.split('.'), Value::from(value));
    }
    root.insert(String::from("total"), snapshot(board.figures(), &board.total()));
    root.insert(String::from("shards"), Value::Array(shards));
    Value::Object(root)
}

fn snapshot(figures: &[Figure], snapshot: &Snapshot) -> Value {
    let mut root = Map::new();
    for (figure, value) in figures.iter().zip(&snapshot.values) {
        let leaf = figure.label.map(|(_, value)| value);
        put(&mut root, figure.path.split('.').chain(leaf), Value::from(*value));
    }
    put(&mut root, ["commits", "latency"].into_iter(), latency(snapshot));
    Value::Object(root)
}

/// Puts a value at the end of a path, making the levels on the way.
fn put<'p>(into: &mut Map<String, Value>, path: impl Iterator<Item = &'p str>, value: Value) {
    let mut path = path.peekable();
    let mut level = into;
    while let Some(name) = path.next() {
        if path.peek().is_none() {
            level.insert(name.to_owned(), value);
            return;
        }
        let next = level.entry(name).or_insert_with(|| Value::Object(Map::new()));
        let Value::Object(next) = next else { return };
        level = next;
    }
}

/// Buckets with their upper bounds in microseconds, and percentiles as the bound of the bucket they fall into; the last
/// bucket has no bound.
fn latency(snapshot: &Snapshot) -> Value {
    let counts = &snapshot.latency;
    let bound = |index: usize| match index {
        last if last == LATENCY_BUCKETS - 1 => Value::Null,
        index => Value::from(latency_bucket_ns(index) as f64 / 1000.0),
    };
    let buckets: Vec<Value> = counts
        .iter()
        .enumerate()
        .map(|(index, count)| json!({"le_us": bound(index), "count": count}))
        .collect();
    let percentile = |share: f64| percentile_bucket(counts, share).map_or(Value::Null, bound);
    let sum_us = snapshot.latency_ns_total as f64 / 1000.0;
    json!({"p50_us": percentile(0.5), "p99_us": percentile(0.99), "sum_us": sum_us, "buckets": buckets})
}

/// The bucket that holds the given share of all counts; `None` without any.
fn percentile_bucket(counts: &[u64; LATENCY_BUCKETS], share: f64) -> Option<usize> {
    let all: u64 = counts.iter().sum();
    let wanted = (all as f64 * share).ceil() as u64;
    let mut seen = 0;
    counts.iter().position(|count| {
        seen += count;
        all > 0 && seen >= wanted
    })
}
