//! What a replay found, for people and for programs.

use super::checker::Faults;
use super::latency::{Figures, Latency, Shown};
use anyhow::{Context, Result};
use serde::Serialize;
use std::fmt;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

/// All figures.
#[derive(Debug, Serialize)]
pub struct Report {
    pub logs: usize,
    pub people: usize,
    /// Messages in the logs.
    pub lines: u64,
    /// Lines that are no messages.
    pub lines_skipped: u64,
    /// Messages that were acknowledged.
    pub messages: u64,
    /// Records of others that devices stored.
    pub deliveries: u64,
    pub pushed: u64,
    pub fetched: u64,
    pub lost: u64,
    pub duplicated: u64,
    pub misordered: u64,
    pub altered: u64,
    pub foreign: u64,
    pub contradicted: u64,
    /// Records that came again and were dropped by the SDK.
    pub wire_duplicates: u64,
    pub complete: bool,
    pub seconds: f64,
    pub messages_per_s: f64,
    pub deliveries_per_s: f64,
    /// Times somebody was taken offline, by a log or by chance.
    pub leaves: u64,
    /// Of these, by chance.
    pub outages: u64,
    pub connects: u64,
    /// Connections that ended, or could not be opened, against our will.
    pub connections_lost: u64,
    pub counts: Counts,
    pub latency: Latencies,
    /// Some of the logs that wait for something, and some of the devices that miss something.
    pub missing: Vec<String>,
    pub failure: Option<String>,
}

/// What the devices were told besides.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Counts {
    /// Duties to fetch, begun or extended.
    pub duties: u64,
    /// Own messages that were fetched before their acknowledgement came.
    pub own_fetched: u64,
    /// Sequences that were declared as not to be had.
    pub sequences_skipped: u64,
    /// Acknowledgements that said the number was taken before: a resent command.
    pub acknowledged_again: u64,
    pub commands_parked: u64,
    pub throttles: u64,
    pub going_away: u64,
    pub notices: u64,
    pub tokens_refused: u64,
    /// Devices that the gateway told to stay away.
    pub stops: u64,
}

/// All from the intended send.
#[derive(Debug, Serialize)]
pub struct Latencies {
    /// To stored: every delivery.
    pub stored: Figures,
    /// Of these, on devices that the replay did not keep offline in between.
    pub live: Figures,
    /// And on those that it did.
    pub away: Figures,
    /// To the acknowledgement, where the sender was online by then.
    pub acknowledged: Figures,
}

impl Latencies {
    /// Of what was stored by who was not kept offline and by who was, and of acknowledgements.
    ///
    /// # Errors
    /// Never, since all have the same bounds.
    pub fn new(live: &Latency, away: &Latency, acknowledged: &Latency) -> Result<Self> {
        Ok(Self {
            stored: live.with(away)?.figures(),
            live: live.figures(),
            away: away.figures(),
            acknowledged: acknowledged.figures(),
        })
    }
}

/// The latencies that the closing line does not tell.
impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stored: _, live, away, acknowledged } = self;
        let p50_p99 = |figures: &Figures| {
            let Figures { count, p50_us, p99_us, .. } = figures;
            format!("{count}, p50 {} p99 {}", Shown(*p50_us), Shown(*p99_us))
        };
        write!(
            f,
            "stored by who was connected: {}; by who was offline meanwhile: {}; acknowledged: {}",
            p50_p99(live),
            p50_p99(away),
            p50_p99(acknowledged)
        )
    }
}

impl Report {
    /// Takes the faults over.
    pub fn faults(&self) -> Faults {
        let Self { lost, duplicated, misordered, altered, foreign, contradicted, .. } = *self;
        Faults { lost, duplicated, misordered, altered, foreign, contradicted }
    }

    /// Whether all is as it must be.
    pub fn is_good(&self) -> bool {
        self.complete
            && self.failure.is_none()
            && self.messages == self.lines
            && self.faults() == Faults::default()
    }

    /// What the process ends with.
    pub fn exit_code(&self) -> ExitCode {
        if self.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// What is not as it must be and has no figure of its own in the closing line.
    fn defects(&self) -> Vec<String> {
        let Faults { lost: _, duplicated: _, misordered: _, altered, foreign, contradicted } = self.faults();
        let counts = [(altered, "altered"), (foreign, "sent by nobody"), (contradicted, "contradicted")];
        let counts = counts.iter().filter(|(count, _)| *count > 0);
        let mut defects: Vec<_> = counts.map(|(count, what)| format!("{count} {what}")).collect();
        if self.messages != self.lines {
            defects.push(format!("{} of {} acknowledged", self.messages, self.lines));
        }
        if !self.complete {
            defects.push("incomplete".to_owned());
        }
        // It may hold what a gateway said; the closing line is one line.
        let failure = self.failure.iter().map(|failure| failure.replace(char::is_control, " "));
        defects.extend(failure.map(|failure| format!("failed: {failure}")));
        defects
    }

    /// Writes all of it as JSON, with the verdict.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let write = || -> Result<()> {
            let mut file = BufWriter::new(File::create(path)?);
            serde_json::to_writer_pretty(&mut file, &Judged { good: self.is_good(), report: self })?;
            Ok(file.flush()?)
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }

    /// What stands beside the closing line.
    pub fn tell(&self) {
        let Self { logs, people, lines, lines_skipped, wire_duplicates, seconds, .. } = self;
        eprintln!(
            "{logs} logs, {people} people, {lines} messages, {lines_skipped} other lines skipped; {seconds:.1} s"
        );
        eprintln!(
            "{wire_duplicates} duplicates on the wire, {} pushed, {} fetched; {} times offline ({} by chance), {} connects",
            self.pushed, self.fetched, self.leaves, self.outages, self.connects
        );
        self.missing.iter().for_each(|line| eprintln!("{line}"));
        eprintln!("{}", self.latency);
    }
}

/// A report as it is written.
#[derive(Serialize)]
struct Judged<'r> {
    good: bool,
    #[serde(flatten)]
    report: &'r Report,
}

/// The closing line; of a replay that is not as it must be it says at its end what the figures before do not.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { messages, deliveries, lost, duplicated, misordered, .. } = self;
        let stored = self.latency.stored;
        write!(
            f,
            "replay: {messages} messages, {deliveries} deliveries, {lost} lost, {duplicated} duplicated, "
        )?;
        write!(f, "{misordered} misordered, p50 {} p99 {}", Shown(stored.p50_us), Shown(stored.p99_us))?;
        self.defects().iter().try_for_each(|defect| write!(f, ", {defect}"))
    }
}

#[cfg(test)]
mod tests;
