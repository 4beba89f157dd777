//! One seed of the simulator with one bug planted: what became of it.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use super::copy::REACHED;
use super::patch::Plant;
use crate::program::wait_at_most;

/// The variable of the environment that says which bug is planted.
pub const PLANTED_BY: &str = "TIDEGATE_PLANT";

/// Steps of the workload of a seed: a quarter of what the simulator takes by itself. What a bug loses at the end of a
/// conversation is seen at the end of a seed, and four short seeds have four ends.
const TICKS: &str = "300";

/// The longest that a seed may take. They end by themselves after so many steps, so this is met only by a loop.
const LONGEST: Duration = Duration::from_secs(180);

/// How the simulator tells of a panic; the place follows.
const ASSERTION: &str = "assertion at ";

/// Rooms of the production code; a panic elsewhere is the simulator's own.
const PRODUCTION: [&str; 4] = ["gateway/", "storage/", "schema/", "client/"];

/// What became of a seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything held.
    Held {
        /// The bug had its chance.
        reached: bool,
    },
    /// A checker has said what does not hold.
    Checked(String),
    /// An assertion of the code under test has.
    Asserted(String),
    /// The simulator itself broke down, or did not end: that finds nothing.
    Broken(String),
}

/// Runs one seed in a process of its own, so that an assertion ends nothing else.
pub fn run(simulator: &Path, plant: Option<&Plant>, seed: u64) -> Result<Verdict> {
    let log = tempfile::NamedTempFile::new().context("no temporary file")?;
    let out = log.reopen().context("no temporary file")?;
    let both = out.try_clone().context("no temporary file")?;
    let without = plant.and_then(|plant| plant.without.as_deref());
    let mut child = Command::new(simulator)
        .args(["--seeds", &format!("{seed}..{}", seed + 1), "--ticks", TICKS])
        .args(without.iter().flat_map(|faults| ["--without", faults]))
        .env(PLANTED_BY, plant.map_or("", |plant| &plant.name))
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(both)
        .spawn()
        .with_context(|| format!("cannot start {}", simulator.display()))?;
    let status = wait_at_most(&mut child, LONGEST)?;
    let text = fs::read(log.path()).context("cannot read what the simulator said")?;
    Ok(judge(status, &String::from_utf8_lossy(&text)))
}

/// Judges how a process ended by what it said; no status if it did not end.
fn judge(status: Option<ExitStatus>, text: &str) -> Verdict {
    let Some(status) = status else {
        return Verdict::Broken(format!("did not end within {} s", LONGEST.as_secs()));
    };
    if status.success() {
        return Verdict::Held { reached: text.lines().any(|line| line == REACHED) };
    }
    let said = text.lines().find_map(|line| {
        let (_, said) = line.strip_prefix("seed ")?.split_once(" FAILED")?;
        Some(said.split_once(": ")?.1)
    });
    match said.map(|said| (said, said.strip_prefix(ASSERTION))) {
        Some((said, Some(place))) if is_production(place) => Verdict::Asserted(said.to_owned()),
        Some((said, Some(_))) => Verdict::Broken(said.to_owned()),
        Some((said, None)) => Verdict::Checked(said.to_owned()),
        None => Verdict::Broken(format!("ended with {status}: {}", text.lines().last().unwrap_or(""))),
    }
}

/// Whether a place of a source file is in the code under test.
fn is_production(place: &str) -> bool {
    PRODUCTION.iter().any(|room| place.starts_with(room))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    fn check(code: i32, text: &str, expected: &Verdict) {
        assert_eq!(judge(Some(ExitStatus::from_raw(code << 8)), text), *expected);
    }

    const SUMMARY: &str = "sim: 1 seeds, 0 failed, 0.1 virtual hours\nmarks: {}\n";

    #[test]
    fn a_seed_that_holds_says_whether_the_bug_had_its_chance() {
        check(0, SUMMARY, &Verdict::Held { reached: false });
        check(0, &format!("{REACHED}\n{SUMMARY}"), &Verdict::Held { reached: true });
    }

    #[test]
    fn a_checker_and_an_assertion_of_the_code_under_test_find_something() {
        let said = "LOST: device 3 never got 1:2 5";
        let checked = Verdict::Checked(said.to_owned());
        check(
            1,
            &format!("{REACHED}\nseed 7 FAILED at commit 1a2b: {said}\n  after 3 steps\n{SUMMARY}"),
            &checked,
        );
        let said = "assertion at gateway/domain/src/number.rs:112:17: a number is taken once";
        let asserted = Verdict::Asserted(said.to_owned());
        check(1, &format!("seed 7 FAILED at commit 1a2b: {said}\n{SUMMARY}"), &asserted);
    }

    /// Somebody who breaks the simulator with a patch has not shown that it finds anything.
    #[test]
    fn a_simulator_that_breaks_down_finds_nothing() {
        let check = |status: Option<i32>, text: &str| {
            let verdict = judge(status.map(ExitStatus::from_raw), text);
            assert!(matches!(verdict, Verdict::Broken(_)), "{text}: {verdict:?}");
        };
        check(
            Some(1 << 8),
            "seed 7 FAILED at commit 1a2b: assertion at tests/sim/src/world.rs:9:5: out of bounds\n",
        );
        check(Some(101 << 8), "thread 'main' panicked at gateway/domain/src/queue.rs:9:5:\nnot caught\n");
        check(Some(2 << 8), "error: unexpected argument '--ticks'\n");
        check(Some(9), SUMMARY);
        check(None, "");
    }
}
