//! What is measured, unless the command line says otherwise.

use crate::load::Pace;
use serde::Serialize;

/// One row of work, given to every server.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Connections to each server.
    pub connections: usize,
    /// How messages come.
    pub pace: Pace,
    /// Echoes of a sample.
    pub echoes: u64,
    /// Direct messages of a sample.
    pub directs: u64,
}

/// Which messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Traffic {
    /// 96 bytes that come back.
    Echo,
    /// 96 bytes of chat that are synced, acknowledged and delivered.
    Direct,
}

impl Scenario {
    /// What `bench-echo run` measures: the two loads of the first measurements (one message in flight on each of few
    /// connections, many on many), and the offered rates of DESIGN 9.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let scenario = |connections, pace, echoes, directs| Self { connections, pace, echoes, directs };
        vec![
            scenario(32, Pace::InFlight(1), 200_000, 60_000),
            scenario(1000, Pace::InFlight(16), 500_000, 200_000),
            scenario(1000, Pace::PerSecond(10_000), 20_000, 20_000),
            scenario(1000, Pace::PerSecond(20_000), 40_000, 40_000),
            scenario(1000, Pace::PerSecond(50_000), 100_000, 100_000),
        ]
    }

    /// Messages of a sample.
    #[must_use]
    pub fn messages(&self, traffic: Traffic) -> u64 {
        match traffic {
            Traffic::Echo => self.echoes,
            Traffic::Direct => self.directs,
        }
    }
}

impl std::fmt::Display for Scenario {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} connections, ", self.connections)?;
        match self.pace {
            Pace::InFlight(1) => write!(f, "one in flight each"),
            Pace::InFlight(depth) => write!(f, "{depth} in flight each"),
            Pace::PerSecond(rate) => write!(f, "{rate} messages/s offered"),
        }
    }
}
