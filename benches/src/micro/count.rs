//! Instructions, counted by valgrind: the same on every run, unlike times. It emulates a processor without AVX-512, so
//! a checksum takes another path than it does outside.

use anyhow::{Context, Result, ensure};
use std::process::Command;

/// Repetitions of the shorter run. The longer has twice as many, so that setting up is no part of the difference.
const REPETITIONS: u64 = 20_000;

/// Instructions of one repetition of a case, by running this program's `once` under callgrind.
///
/// # Errors
/// valgrind is not here, or the case fails.
pub fn instructions(case: &str) -> Result<f64> {
    let short = collected(case, REPETITIONS)?;
    let long = collected(case, 2 * REPETITIONS)?;
    Ok((long as f64 - short as f64) / REPETITIONS as f64)
}

fn collected(case: &str, repetitions: u64) -> Result<u64> {
    let myself = std::env::current_exe().context("where is this program?")?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(myself)
        .args(["once", "--case", case, "--repetitions", &repetitions.to_string()])
        .output()
        .context("cannot run valgrind")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "valgrind: {said}");
    parse(&said).with_context(|| format!("valgrind counted nothing: {said}"))
}

/// The line `==17== Collected : 4711`.
fn parse(said: &str) -> Option<u64> {
    said.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn the_count_is_found_among_other_lines() {
        assert_eq!(parse("==7== Events    : Ir\n==7== Collected : 4711\n==7== \n"), Some(4711));
        assert_eq!(parse("==7== Events    : Ir\n"), None);
    }
}
