//! `tidegate-log`: looks into a data directory and copies it, read-only, whether a gateway runs on it or not, and repairs one.
//!
//! `dump` prints records, `verify` proves that the log is whole, `backup` copies it. None of them takes the directory's lock nor
//! changes anything in it. `repair` makes a sound copy of a damaged one; it holds the lock meanwhile, and changes nothing either.
//! `mark-restored` takes the lock and changes the manifest, `erase` one list, beside a gateway.
#![forbid(unsafe_code)]

mod backup;
mod cli;
mod dump;
mod erase;
mod faults;
mod kinds;
mod limits;
mod links;
mod losses;
mod lost;
mod mend;
mod pass;
mod preview;
mod repair;
mod snapshots;
mod spines;
mod streams;
mod verify;

use clap::Parser;
use cli::{Cli, Command};
use std::io;
use std::process::ExitCode;

/// The directory cannot be looked at, as opposed to being damaged.
const EXIT_FAILED: u8 = 2;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Dump(options) => dump::run(&options),
        Command::Verify(options) => verify::run(&options),
        Command::Backup(options) => backup::run(&options),
        Command::Repair(options) => Ok(repair::run(&options)),
        Command::MarkRestored(options) => backup::mark_restored(&options),
        Command::Erase(options) => erase::run(&options),
    };
    match result {
        Ok(code) => code,
        // `tidegate-log dump DIR | head` ends like this.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tidegate-log: {}", sentence(&error));
            ExitCode::from(EXIT_FAILED)
        }
    }
}

/// An error with its causes, but for those that the text before names already.
fn sentence(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string).filter(|cause| !cause.is_empty()) {
        match text.is_empty() {
            true => text = cause,
            false if text.contains(&cause) => {}
            false => text = format!("{text}: {cause}"),
        }
    }
    text
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::sentence;
    use anyhow::anyhow;

    /// "cannot read x: gone: gone": causes were told by the sentence and once more by the chain.
    #[test]
    fn a_cause_is_told_once() {
        let check = |error: anyhow::Error, expected: &str| assert_eq!(sentence(&error), expected);
        check(anyhow!("gone"), "gone");
        check(anyhow!("gone").context("cannot read x: gone"), "cannot read x: gone");
        check(anyhow!("gone").context("cannot read x").context("log 1/0"), "log 1/0: cannot read x: gone");
    }
}
