//! One scenario on all servers, in rounds: every round measures each server once, beginning with another one.

use crate::limits::WARM_UP_PER_CONNECTION;
use crate::load::{DirectTalk, EchoTalk, Fleet, Pace, RawEchoTalk, RelayTalk, Sample, Talk, direct_sizes};
use crate::report::Row;
use crate::scenario::{Scenario, Traffic};
use crate::server::{Ground, Kind, Server};
use anyhow::{Context, Result};

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// How it is called in tables.
    pub name: &'static str,
    /// Its messages; the first entry of each traffic is the control of the others.
    pub traffic: Traffic,
    /// Its server.
    pub kind: Kind,
}

/// All that is compared, controls first.
pub const ENTRIES: [Entry; 5] = [
    Entry { name: "bare ring, echo", traffic: Traffic::Echo, kind: Kind::RingEcho },
    Entry { name: "glommio + fastwebsockets, echo", traffic: Traffic::Echo, kind: Kind::GlommioEcho },
    Entry { name: "Tidegate, /echo", traffic: Traffic::Echo, kind: Kind::Tidegate },
    Entry { name: "bare ring, relay with synced writes", traffic: Traffic::Direct, kind: Kind::RingRelay },
    Entry { name: "Tidegate, direct messages", traffic: Traffic::Direct, kind: Kind::Tidegate },
];

struct Running {
    entry: Entry,
    fleet: Fleet,
    server: Server,
    samples: Vec<Sample>,
    /// Why it is not measured any more.
    failed: Option<String>,
}

/// Runs a scenario on these entries; `tell` hears of every sample. An entry that fails, because it refuses what is offered
/// for example, is not measured again in this scenario, and its row says why.
///
/// # Errors
/// A server does not start.
pub fn run(
    ground: &Ground,
    scenario: &Scenario,
    entries: &[Entry],
    rounds: usize,
    mut tell: impl FnMut(&Entry, &Sample),
) -> Result<Vec<Row>> {
    let start = |entry: &Entry| start(ground, scenario, *entry).context(entry.name);
    let mut running = entries.iter().map(start).collect::<Result<Vec<_>>>()?;
    for round in 0..rounds {
        for turn in 0..running.len() {
            let index = (round + turn) % entries.len();
            let running = &mut running[index];
            if running.failed.is_some() {
                continue;
            }
            match running.sample(ground, scenario) {
                Ok(sample) => {
                    tell(&running.entry, &sample);
                    running.samples.push(sample);
                }
                Err(error) => running.failed = Some(format!("{error:#}")),
            }
        }
    }
    let row = |running: Running| Row::of(&running.entry, &running.samples, running.failed);
    Ok(running.into_iter().map(row).collect())
}

fn start(ground: &Ground, scenario: &Scenario, entry: Entry) -> Result<Running> {
    let server = Server::start(ground, entry.kind)?;
    let count = scenario.connections;
    let talk: Box<dyn Talk> = match (entry.kind, entry.traffic) {
        (Kind::RingEcho, _) => Box::new(RawEchoTalk::new(count)),
        (Kind::RingRelay, _) => {
            let (sizes, ack) = direct_sizes()?;
            Box::new(RelayTalk::new(count, sizes, ack))
        }
        (_, Traffic::Echo) => Box::new(EchoTalk::new(count)),
        (_, Traffic::Direct) => Box::new(DirectTalk::new(count, &server.data.path().join("data"))?),
    };
    let mut fleet = Fleet::connect(server.address, count, talk)?;
    let warm_up = WARM_UP_PER_CONNECTION * count as u64;
    fleet.run(warm_up, Pace::InFlight(1), server.id(), ground.server_core)?;
    Ok(Running { entry, fleet, server, samples: Vec::new(), failed: None })
}

impl Running {
    fn sample(&mut self, ground: &Ground, scenario: &Scenario) -> Result<Sample> {
        let messages = scenario.messages(self.entry.traffic);
        self.fleet.run(messages, scenario.pace, self.server.id(), ground.server_core)
    }
}
