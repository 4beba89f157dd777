//! What a replay found, for people and for programs.

use super::checker::Faults;
use super::latency::{Figures, Shown};
use serde::Serialize;
use std::fmt;

/// All figures. Latencies: `live` is from the intended send to stored on devices that were not kept offline by the replay
/// in between, `away` on those that were; `acknowledged` from the intended send to the acknowledgement.
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

/// See [`Report`].
#[derive(Debug, Serialize)]
pub struct Latencies {
    pub live: Figures,
    pub away: Figures,
    pub acknowledged: Figures,
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
        let away = self.latency.away;
        let acknowledged = self.latency.acknowledged;
        eprintln!(
            "acknowledged: p50 {} p99 {}; stored by who was offline meanwhile: {} deliveries, p50 {} p99 {}",
            Shown(acknowledged.p50_us),
            Shown(acknowledged.p99_us),
            away.count,
            Shown(away.p50_us),
            Shown(away.p99_us)
        );
        let Faults { altered, foreign, contradicted, .. } = self.faults();
        if altered + foreign + contradicted > 0 {
            eprintln!(
                "{altered} altered, {foreign} that nobody sent, {contradicted} contradictory acknowledgements"
            );
        }
        if self.messages < self.lines {
            eprintln!("{} messages were not acknowledged", self.lines - self.messages);
        }
        self.missing.iter().for_each(|line| eprintln!("{line}"));
        self.failure.iter().for_each(|failure| eprintln!("the replay failed: {failure}"));
    }
}

/// The closing line.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { messages, deliveries, lost, duplicated, misordered, .. } = self;
        let live = self.latency.live;
        write!(
            f,
            "replay: {messages} messages, {deliveries} deliveries, {lost} lost, {duplicated} duplicated, "
        )?;
        write!(f, "{misordered} misordered, p50 {} p99 {}", Shown(live.p50_us), Shown(live.p99_us))
    }
}
