//! `cargo xtask replay-all`: every file, on every number of shards and in both group modes, and killed in the
//! middle; written down as a table.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::chat_logs;
use crate::limits::{REPLAY_ALL_MAX, REPLAY_FIXED_MAX};
use crate::replay::{self, Case, Kill, Outcome};
use crate::workspace::Workspace;

/// Options of `replay-all`.
#[derive(Args)]
pub struct Options {
    /// Only the cases whose name contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Only the six files that CI replays
    #[arg(long)]
    fixed: bool,
    /// Print the cases and end
    #[arg(long)]
    list: bool,
    /// Write the table there, instead of only printing it
    #[arg(long, value_name = "FILE.md")]
    table: Option<PathBuf>,
    /// Use the release build as it is, instead of building it first
    #[arg(long)]
    no_build: bool,
}

const fn case(shards: u16, listed_members_max: u32, kills: &'static [Kill]) -> Case {
    Case { shards, listed_members_max, kills }
}

const fn kill(acknowledged_percent: usize, shards: u16) -> Kill {
    Kill { acknowledged_percent, shards }
}

/// The files have 68 to 237 speakers: with 32 every group is walked by slices, with 512 every group is listed.
const CASES: &[Case] = &[
    case(1, 32, &[]),
    case(1, 512, &[]),
    case(4, 32, &[]),
    case(4, 512, &[]),
    case(4, 32, &[kill(30, 1), kill(60, 3)]),
    case(1, 512, &[kill(40, 4)]),
];

/// What CI replays.
const CASES_IN_CI: &[Case] =
    &[case(1, 512, &[]), case(4, 32, &[]), case(4, 512, &[kill(40, 1), kill(70, 3)])];

/// The step of `ci`: the six fixed files.
pub fn run_fixed(workspace: &Workspace) -> Result<Option<String>> {
    let files = chat_logs::fixed(workspace)?;
    for case in CASES_IN_CI {
        println!("   {}", case.name());
        replay::run(workspace, case, &files, REPLAY_FIXED_MAX)?;
    }
    Ok(None)
}

/// The whole matrix.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let only = options.only.as_deref().unwrap_or("");
    let cases: Vec<&Case> = CASES.iter().filter(|case| case.name().contains(only)).collect();
    ensure!(!cases.is_empty(), "no case is called {only}; see --list");
    if options.list {
        cases.iter().for_each(|case| println!("{}", case.name()));
        return Ok(());
    }
    let (files, longest) = if options.fixed {
        (chat_logs::fixed(workspace)?, REPLAY_FIXED_MAX)
    } else {
        (chat_logs::all(workspace)?, REPLAY_ALL_MAX)
    };
    if !options.no_build {
        workspace.build_release()?;
    }
    let begin = Instant::now();
    let mut rows = Vec::new();
    let mut failed = 0;
    for (index, case) in cases.iter().enumerate() {
        println!("== {}/{} {} over {} files", index + 1, cases.len(), case.name(), files.len());
        let result = replay::run(workspace, case, &files, longest);
        if let Err(error) = &result {
            eprintln!("{error:#}");
            failed += 1;
        }
        rows.push(row(case, result.as_ref().ok()));
    }
    let table = table(&rows, files.len());
    println!("\n{table}");
    if let Some(path) = &options.table {
        fs::write(path, &table).with_context(|| format!("cannot write {}", path.display()))?;
    }
    println!("replay-all: {} cases, {failed} failed, {:.0} s", cases.len(), begin.elapsed().as_secs_f64());
    if failed > 0 {
        bail!("{failed} of {} cases failed", cases.len());
    }
    Ok(())
}

const HEAD: &str = "\
| shards | listed_members_max | killed, then shards | messages | deliveries | lost | duplicated | misordered | latency | latency, connected | seconds | verified |
|---|---|---|---|---|---|---|---|---|---|---|---|
";

fn table(rows: &[String], files: usize) -> String {
    format!(
        "# The replay matrix\n\n`cargo xtask replay-all`: {files} files of real chat, 20 % of the devices offline for a while. \
         Latency: from the intended send to stored, every delivery; connected: of these, on devices that were not kept \
         offline meanwhile. Verified: every acknowledged message read back identical, and every byte of the log checked.\n\n{HEAD}{}",
        rows.concat()
    )
}

fn row(case: &Case, outcome: Option<&Outcome>) -> String {
    let begin = format!("| {} | {} | {} |", case.shards, case.listed_members_max, case.kills_in_words());
    let Some(Outcome { figures, connected, seconds }) = outcome else {
        return format!("{begin} – | – | – | – | – | – | – | – | **failed** |\n");
    };
    format!(
        "{begin} {} | {} | {} | {} | {} | {} | {connected} | {seconds:.0} | yes |\n",
        figures.messages,
        figures.deliveries,
        figures.lost,
        figures.duplicated,
        figures.misordered,
        figures.latency
    )
}

#[cfg(test)]
mod tests {
    use super::{CASES, CASES_IN_CI, HEAD, case, kill, row};
    use crate::replay::{Figures, Outcome};

    #[test]
    fn the_matrix_has_all_that_must_hold() {
        for shards in [1, 4] {
            for listed in [32, 512] {
                let plain = |case: &&crate::replay::Case| {
                    case.shards == shards && case.listed_members_max == listed && case.kills.is_empty()
                };
                assert_eq!(CASES.iter().filter(plain).count(), 1, "{shards} shards, {listed} listed");
            }
        }
        let changes = |case: &&crate::replay::Case| case.kills.iter().any(|kill| kill.shards != case.shards);
        assert!(CASES.iter().filter(changes).count() >= 2);
        assert!(
            CASES_IN_CI.iter().any(|case| case.shards == 1)
                && CASES_IN_CI.iter().any(|case| case.shards == 4)
        );
    }

    #[test]
    fn every_row_has_the_columns_of_the_head() {
        let columns = |line: &str| line.matches('|').count();
        let case = case(4, 32, const { &[kill(30, 1), kill(60, 3)] });
        let figures = Figures {
            messages: 5,
            deliveries: 9,
            latency: "p50 1 ms p99 2 ms".to_owned(),
            ..Figures::default()
        };
        let connected = "p50 1 ms p99 1 ms".to_owned();
        let outcome = Outcome { figures, connected, seconds: 12.4 };
        let expected = "| 4 | 32 | at 30 %, then 1; at 60 %, then 3 | 5 | 9 | 0 | 0 | 0 | p50 1 ms p99 2 ms | \
                        p50 1 ms p99 1 ms | 12 | yes |\n";
        assert_eq!(row(&case, Some(&outcome)), expected);
        for line in HEAD.lines().chain([row(&case, None).as_str(), expected]) {
            assert_eq!(columns(line), 13, "{line}");
        }
    }
}
