//! Tables for people, JSON for programs.

use crate::load::Sample;
use crate::machine::Machine;
use crate::median::Median;
use crate::scenario::{Scenario, Traffic};
use crate::series::Entry;
use anyhow::{Context, Result};
use serde::Serialize;
use std::fmt::Write as _;
use std::path::Path;

/// Medians of one entry in one scenario, with the extremes of the rounds.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What was measured.
    pub name: &'static str,
    /// Its messages.
    pub traffic: Traffic,
    /// Messages of a sample.
    pub messages: u64,
    /// Samples.
    pub rounds: usize,
    /// Microseconds of the server's processor time for a message, user and system.
    pub cpu_us: Median,
    /// The system's part of it.
    pub system_us: Median,
    /// Microseconds that the server's core was busy for a message, whoever used it.
    pub core_us: Median,
    /// Messages a second.
    pub per_second: Median,
    /// Microseconds from due to arrived: half of the messages were faster.
    pub p50_us: Median,
    /// All but one in a hundred were faster.
    pub p99_us: Median,
    /// Why the entry was not measured in every round.
    pub failed: Option<String>,
}

/// A scenario and what came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Section {
    /// In words.
    pub scenario: String,
    /// Samples of each row.
    pub rounds: usize,
    /// By entry.
    pub rows: Vec<Row>,
}

/// Everything one command has measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Where and when.
    pub machine: Machine,
    /// By scenario.
    pub sections: Vec<Section>,
}

impl Row {
    /// Of these samples.
    #[must_use]
    pub fn of(entry: &Entry, samples: &[Sample], failed: Option<String>) -> Self {
        let median = |number: &dyn Fn(&Sample) -> f64| Median::of(samples.iter().map(number));
        let per_message = |seconds: f64, sample: &Sample| seconds * 1e6 / sample.messages as f64;
        let latency = |part: f64| {
            median(&move |sample: &Sample| sample.latency_ns.value_at_quantile(part) as f64 / 1000.0)
        };
        Self {
            name: entry.name,
            traffic: entry.traffic,
            messages: samples.first().map_or(0, |sample| sample.messages),
            rounds: samples.len(),
            cpu_us: median(&|sample| per_message(sample.spent.process_s(), sample)),
            system_us: median(&|sample| per_message(sample.spent.system_s, sample)),
            core_us: median(&|sample| per_message(sample.spent.core_s, sample)),
            per_second: median(&|sample| sample.messages as f64 / sample.elapsed.as_secs_f64()),
            p50_us: latency(0.5),
            p99_us: latency(0.99),
            failed,
        }
    }
}

impl Section {
    /// Of one scenario.
    #[must_use]
    pub fn new(scenario: &Scenario, rounds: usize, rows: Vec<Row>) -> Self {
        Self { scenario: scenario.to_string(), rounds, rows }
    }

    /// How much more processor time than the control of the same traffic a row takes.
    #[must_use]
    pub fn ratio(&self, row: &Row) -> f64 {
        let control = self.rows.iter().find(|other| other.traffic == row.traffic);
        control.map_or(0.0, |control| row.cpu_us.middle / control.cpu_us.middle)
    }

    /// As a table of Markdown.
    #[must_use]
    pub fn table(&self) -> String {
        let mut out = format!("{} ({} rounds)\n\n", self.scenario, self.rounds);
        out.push_str("| server | CPU µs/message (low to high) | of it system | × control | core busy µs | messages/s | p50 µs | p99 µs |\n");
        out.push_str("|---|---|---|---|---|---|---|---|\n");
        for row in &self.rows {
            let cpu = row.cpu_us;
            // Writing to a string does not fail.
            let _ = writeln!(
                out,
                "| {} | {:.2} ({:.2} to {:.2}) | {:.2} | {:.2} | {:.2} | {:.0} | {:.0} | {:.0} |",
                row.name,
                cpu.middle,
                cpu.low,
                cpu.high,
                row.system_us.middle,
                self.ratio(row),
                row.core_us.middle,
                row.per_second.middle,
                row.p50_us.middle,
                row.p99_us.middle,
            );
        }
        for (row, reason) in self.rows.iter().filter_map(|row| Some((row, row.failed.as_ref()?))) {
            let _ = writeln!(
                out,
                "\n{} ended after {} of {} rounds: {reason}",
                row.name, row.rounds, self.rounds
            );
        }
        out
    }
}

/// Writes a report as JSON.
///
/// # Errors
/// What the system says.
pub fn write_json(report: &impl Serialize, path: &Path) -> Result<()> {
    let text = serde_json::to_string_pretty(report)?;
    std::fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::{Row, Section};
    use crate::cpu::Spent;
    use crate::load::{Pace, Sample};
    use crate::scenario::Scenario;
    use crate::series::ENTRIES;
    use hdrhistogram::Histogram;
    use std::time::Duration;

    fn sample(user_s: f64) -> Sample {
        let mut latency_ns = Histogram::new(3).expect("bounds");
        latency_ns.record(2_000).expect("in bounds");
        let spent = Spent { user_s, system_s: 1.0, core_s: 5.0 };
        Sample { messages: 1_000_000, elapsed: Duration::from_secs(2), spent, latency_ns }
    }

    #[test]
    fn a_row_is_compared_with_the_control_of_its_own_traffic() {
        let control = Row::of(&ENTRIES[3], &[sample(1.0), sample(9.0), sample(1.0)], None);
        let other = Row::of(&ENTRIES[4], &[sample(3.0)], None);
        assert_eq!((control.cpu_us.middle, control.cpu_us.high), (2.0, 10.0));
        assert_eq!(other.per_second.middle, 500_000.0);
        let scenario = Scenario { connections: 2, pace: Pace::InFlight(1), echoes: 1, directs: 1 };
        let echo = Row::of(&ENTRIES[0], &[sample(0.0)], None);
        let section = Section::new(&scenario, 3, vec![echo, control, other]);
        assert_eq!(section.rows.iter().map(|row| section.ratio(row)).collect::<Vec<_>>(), [1.0, 1.0, 2.0]);
        assert_eq!(section.table().lines().count(), 7, "{}", section.table());
    }
}
