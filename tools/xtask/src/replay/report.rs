//! What `tidegate-load replay --report` wrote, weighed here once more: neither the exit code nor the closing line is
//! believed alone.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::Figures;

/// The figures that a verdict depends on, and the latencies.
#[derive(Clone, Debug, Deserialize)]
pub struct Report {
    good: bool,
    complete: bool,
    failure: Option<String>,
    lines: u64,
    messages: u64,
    deliveries: u64,
    lost: u64,
    duplicated: u64,
    misordered: u64,
    altered: u64,
    foreign: u64,
    contradicted: u64,
    latency: Latencies,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Latencies {
    stored: Latency,
    live: Latency,
    away: Latency,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Latency {
    count: u64,
    p50_us: u64,
    p99_us: u64,
}

impl Report {
    /// Reads the file.
    pub fn read(path: &Path) -> Result<Report> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is no report", path.display()))
    }

    /// Whether all is as it must be, and as the closing line says.
    pub fn judge(&self, figures: &Figures) -> Result<()> {
        let faults = [
            (self.lost, "lost"),
            (self.duplicated, "duplicated"),
            (self.misordered, "misordered"),
            (self.altered, "altered"),
            (self.foreign, "foreign"),
            (self.contradicted, "contradicted"),
        ];
        for (count, what) in faults {
            ensure!(count == 0, "{count} {what}");
        }
        if let Some(failure) = &self.failure {
            bail!("it failed: {failure}");
        }
        ensure!(self.messages == self.lines, "{} of {} acknowledged", self.messages, self.lines);
        ensure!(self.lines > 0, "nothing was sent");
        ensure!(self.complete, "a device does not have everything");
        ensure!(self.good, "it calls itself no good");
        let Latencies { stored, live, away } = self.latency;
        let told = (stored.count, live.count + away.count);
        ensure!(told == (self.deliveries, self.deliveries), "some deliveries have no latency");
        let same = (figures.messages, figures.deliveries) == (self.messages, self.deliveries);
        ensure!(
            same && figures.lost + figures.duplicated + figures.misordered == 0,
            "the closing line says something else: {figures:?}"
        );
        Ok(())
    }

    /// The latency of what was stored by devices that were connected.
    pub fn connected(&self) -> String {
        let Latency { p50_us, p99_us, .. } = self.latency.live;
        format!("p50 {} p99 {}", milliseconds(p50_us), milliseconds(p99_us))
    }
}

fn milliseconds(us: u64) -> String {
    let digits = if us < 10_000 { 2 } else { 0 };
    format!("{:.digits$} ms", us as f64 / 1e3)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Figures, Report};

    fn good() -> Value {
        json!({
            "good": true, "complete": true, "failure": null, "lines": 10, "messages": 10, "deliveries": 30,
            "lost": 0, "duplicated": 0, "misordered": 0, "altered": 0, "foreign": 0, "contradicted": 0,
            "latency": {
                "stored": {"count": 30, "p50_us": 9, "p99_us": 99},
                "live": {"count": 20, "p50_us": 4560, "p99_us": 45600},
                "away": {"count": 10, "p50_us": 9, "p99_us": 99},
            },
        })
    }

    fn line() -> Figures {
        Figures { messages: 10, deliveries: 30, ..Figures::default() }
    }

    fn judged(report: &Value, line: &Figures) -> Result<(), String> {
        let report: Report = serde_json::from_value(report.clone()).unwrap();
        report.judge(line).map_err(|error| error.to_string())
    }

    /// Only what was lost, duplicated or misordered was looked at: a replay with altered or foreign records was refused
    /// by the exit code alone.
    #[test]
    fn each_thing_that_is_wrong_is_enough() {
        assert_eq!(judged(&good(), &line()), Ok(()));
        let spoiled: [(&str, Value, &str); 14] = [
            ("/lost", 3.into(), "3 lost"),
            ("/duplicated", 3.into(), "3 duplicated"),
            ("/misordered", 3.into(), "3 misordered"),
            ("/altered", 3.into(), "3 altered"),
            ("/foreign", 3.into(), "3 foreign"),
            ("/contradicted", 3.into(), "3 contradicted"),
            ("/failure", "why".into(), "it failed: why"),
            ("/lines", 11.into(), "10 of 11 acknowledged"),
            ("/messages", 9.into(), "9 of 10 acknowledged"),
            ("/complete", false.into(), "a device does not have everything"),
            ("/good", false.into(), "it calls itself no good"),
            ("/latency/stored/count", 29.into(), "some deliveries have no latency"),
            ("/latency/live/count", 19.into(), "some deliveries have no latency"),
            ("/latency/away/count", 11.into(), "some deliveries have no latency"),
        ];
        for (field, value, expected) in spoiled {
            let mut report = good();
            *report.pointer_mut(field).unwrap() = value;
            assert_eq!(judged(&report, &line()), Err(expected.to_owned()), "{field}");
        }
        let mut report = good();
        (report["lines"], report["messages"]) = (0.into(), 0.into());
        assert_eq!(judged(&report, &line()), Err("nothing was sent".to_owned()));
    }

    #[test]
    fn the_closing_line_must_say_the_same() {
        for other in [
            Figures { messages: 9, ..line() },
            Figures { deliveries: 31, ..line() },
            Figures { lost: 1, ..line() },
            Figures { duplicated: 1, ..line() },
            Figures { misordered: 1, ..line() },
        ] {
            assert!(judged(&good(), &other).unwrap_err().starts_with("the closing line says"), "{other:?}");
        }
    }

    #[test]
    fn a_report_without_a_figure_is_none() {
        let fields: Vec<String> = good().as_object().unwrap().keys().cloned().collect();
        for field in fields.iter().filter(|field| *field != "failure") {
            let mut report = good();
            report.as_object_mut().unwrap().remove(field);
            assert!(serde_json::from_value::<Report>(report).is_err(), "{field}");
        }
    }

    #[test]
    fn latencies_are_told_in_milliseconds() {
        let report: Report = serde_json::from_value(good()).unwrap();
        assert_eq!(report.connected(), "p50 4.56 ms p99 46 ms");
    }
}
