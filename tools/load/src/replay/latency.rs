//! Latencies in microseconds.

use crate::limits::LATENCY_US_MAX;
use anyhow::Result;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::fmt;
use tidegate_ids::MonotonicNs;

/// One kind of latency.
pub struct Latency(Histogram<u64>);

/// What a report says of it, in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Figures {
    pub count: u64,
    pub p50_us: u64,
    pub p90_us: u64,
    pub p99_us: u64,
    pub p999_us: u64,
    pub max_us: u64,
}

impl Latency {
    /// None yet.
    ///
    /// # Errors
    /// Never with the limit as it is.
    pub fn new() -> Result<Self> {
        Ok(Self(Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)?))
    }

    /// One more.
    pub fn record(&mut self, from: MonotonicNs, to: MonotonicNs) {
        self.0.saturating_record(to.since(from) / 1000);
    }

    /// Both together.
    ///
    /// # Errors
    /// Never, since all have the same bounds.
    pub fn with(&self, other: &Self) -> Result<Self> {
        let mut both = self.0.clone();
        both.add(&other.0)?;
        Ok(Self(both))
    }

    /// What there is.
    pub fn figures(&self) -> Figures {
        let at = |quantile| self.0.value_at_quantile(quantile);
        Figures {
            count: self.0.len(),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: self.0.max(),
        }
    }
}

/// Microseconds for people.
pub struct Shown(pub u64);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            us @ 0..1_000 => write!(f, "{us} µs"),
            us @ 1_000..10_000 => write!(f, "{:.2} ms", us as f64 / 1e3),
            us @ 10_000..1_000_000 => write!(f, "{:.0} ms", us as f64 / 1e3),
            us => write!(f, "{:.1} s", us as f64 / 1e6),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_with_three_digits_at_most() {
        let shown =
            [0, 999, 1_000, 9_994, 25_400, 999_000, 1_000_000, 61_000_000].map(|us| Shown(us).to_string());
        assert_eq!(shown, ["0 µs", "999 µs", "1.00 ms", "9.99 ms", "25 ms", "999 ms", "1.0 s", "61.0 s"]);
    }

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let mut latency = Latency::new().expect("in bounds");
        (1..=1000).for_each(|ms| latency.record(MonotonicNs(0), MonotonicNs(ms * 1_000_000)));
        let figures = latency.figures();
        assert_eq!(figures.count, 1000);
        assert!((499_000..=501_000).contains(&figures.p50_us), "{figures:?}");
        assert!((989_000..=991_000).contains(&figures.p99_us), "{figures:?}");
    }
}
