//! `/metrics`: the figures in the text format that Prometheus reads (OpenMetrics 1.0).

use super::{Board, Figure, Kind, Snapshot};
use core::fmt;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use std::sync::Arc;
use tidegate_shard::{LATENCY_BUCKETS, latency_bucket_ns};

/// Renders a board.
#[derive(Debug)]
pub struct Exporter {
    registry: Registry,
}

impl Exporter {
    /// What a client must be told that the text is.
    pub const CONTENT_TYPE: &'static str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// An exporter of this board.
    #[must_use]
    pub fn new(board: Arc<Board>) -> Self {
        let mut registry = Registry::with_prefix("tidegate");
        registry.register_collector(Box::new(BoardCollector(board)));
        Self { registry }
    }

    /// The text.
    ///
    /// # Errors
    /// None that a `String` could give.
    pub fn render(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[derive(Debug)]
struct BoardCollector(Arc<Board>);

impl Collector for BoardCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let board = &self.0;
        let shards: Vec<_> =
            (0..board.shards()).map(|shard| (shard.to_string(), board.shard(shard))).collect();
        let figures: Vec<(usize, &Figure)> = board.figures().iter().enumerate().collect();
        // Figures of one family follow each other and share a description.
        for family in figures.chunk_by(|(_, one), (_, next)| one.path == next.path) {
            let Some((_, first)) = family.first() else { continue };
            let name = first.path.replace('.', "_");
            let kind = if first.kind == Kind::Counter { MetricType::Counter } else { MetricType::Gauge };
            let help = first.help.trim_end_matches('.');
            let mut metric = encoder.encode_descriptor(&name, help, None, kind)?;
            for (index, figure) in family {
                for (shard, snapshot) in &shards {
                    encode_value(&mut metric, figure, shard, snapshot.values[*index])?;
                }
            }
        }
        for (figure, value) in board.process() {
            let name = figure.path.replace('.', "_");
            let kind = if figure.kind == Kind::Counter { MetricType::Counter } else { MetricType::Gauge };
            let mut metric = encoder.encode_descriptor(&name, figure.help, None, kind)?;
            match figure.kind {
                Kind::Counter => metric.encode_counter::<[(&str, &str); 0], _, u64>(&value, None)?,
                Kind::Gauge | Kind::Maximum => metric.encode_gauge(&value)?,
            }
        }
        let help = "Time from a batch's take to its sync";
        let name = "commit_latency_seconds";
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (shard, snapshot) in &shards {
            encode_latency(&mut metric, shard, snapshot)?;
        }
        Ok(())
    }
}

fn encode_value(
    metric: &mut MetricEncoder<'_>,
    figure: &Figure,
    shard: &str,
    value: u64,
) -> Result<(), fmt::Error> {
    let shard = ("shard", shard);
    let encode = |mut metric: MetricEncoder<'_>| match figure.kind {
        Kind::Counter => metric.encode_counter::<[(&str, &str); 1], _, u64>(&value, None),
        Kind::Gauge | Kind::Maximum => metric.encode_gauge(&value),
    };
    match figure.label {
        None => encode(metric.encode_family(&[shard])?),
        Some(label) => encode(metric.encode_family(&[shard, label])?),
    }
}

fn encode_latency(
    metric: &mut MetricEncoder<'_>,
    shard: &str,
    snapshot: &Snapshot,
) -> Result<(), fmt::Error> {
    let mut buckets = [(f64::INFINITY, 0); LATENCY_BUCKETS];
    for (index, (bucket, count)) in buckets.iter_mut().zip(&snapshot.latency).enumerate() {
        bucket.1 = *count;
        if index < LATENCY_BUCKETS - 1 {
            bucket.0 = latency_bucket_ns(index) as f64 / 1e9;
        }
    }
    let labels = [("shard", shard)];
    let mut one = metric.encode_family(&labels)?;
    let sum_seconds = snapshot.latency_ns_total as f64 / 1e9;
    one.encode_histogram::<[(&str, &str); 1]>(sum_seconds, snapshot.latency.iter().sum(), &buckets, None)
}
