//! What the command line takes.

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Plays real chat through a gateway and proves that nothing got lost
#[derive(Debug, Parser)]
#[command(name = "tidegate-load", version, about, max_term_width = 110)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Plays chat logs: each is a group of everyone who speaks in it. Ends with 0 only if every device has stored every
    /// message, once, in order. The latencies of the closing line run from the intended send to stored, on every device;
    /// the line before it and the report part devices that were connected from those that the replay kept offline
    Replay(Replay),
    /// Reads everything back that `replay --acks` noted, and proves that it is there, identical. Ends with 0 only if all of
    /// it is; a last line that a killed replay left half-written is left out, with a warning
    Verify(Verify),
}

/// Flags of `replay`.
#[derive(Debug, Args)]
pub struct Replay {
    /// Where the gateway is
    #[arg(long, value_name = "URL", default_value = "ws://127.0.0.1:8080")]
    pub url: String,
    /// The gateway's data directory, whose secret signs tokens
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Messages a second in all, sent when they are due whether the gateway keeps up or not [default: as fast as it goes]
    #[arg(long, value_name = "MSGS_PER_S", value_parser = rate)]
    pub rate: Option<f64>,
    /// Share of the people in a channel that is offline at any time, each for a while, again and again
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = percent)]
    pub offline: f64,
    /// Appends a line for every acknowledged send: conversation, sequence, message id, hash, user; cuts off half a line
    /// that a killed replay left
    #[arg(long, value_name = "FILE")]
    pub acks: Option<PathBuf>,
    /// Writes all figures here, as JSON
    #[arg(long, value_name = "FILE.json")]
    pub report: Option<PathBuf>,
    /// Of who is offline when
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Chat logs, text or gzip
    #[arg(value_name = "LOG", required = true)]
    pub logs: Vec<PathBuf>,
}

/// Flags of `verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// Where the gateway is
    #[arg(long, value_name = "URL", default_value = "ws://127.0.0.1:8080")]
    pub url: String,
    /// The gateway's data directory, whose secret signs tokens
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// What `replay` noted
    #[arg(long, value_name = "FILE")]
    pub acks: PathBuf,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| format!("`{text}` is no number"))?;
    (0.01..=1e7).contains(&rate).then_some(rate).ok_or_else(|| "it must be from 0.01 to 10000000".to_owned())
}

fn percent(text: &str) -> Result<f64, String> {
    let percent: f64 = text.parse().map_err(|_| format!("`{text}` is no number"))?;
    (0.0..=95.0).contains(&percent).then_some(percent).ok_or_else(|| "it must be from 0 to 95".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn shares_and_rates_have_bounds() {
        assert_eq!((percent("20"), rate("5000")), (Ok(20.0), Ok(5000.0)));
        ["-1", "96", "x", "NaN"].iter().for_each(|text| assert!(percent(text).is_err(), "{text}"));
        ["0", "-1", "x", "NaN", "inf"].iter().for_each(|text| assert!(rate(text).is_err(), "{text}"));
    }
}
