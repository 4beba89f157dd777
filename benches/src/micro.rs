//! Small pieces of the per-message path, each beside a copy of the bytes it works on.

mod append;
mod codec;
mod count;

pub use count::instructions;

use crate::median::Median;
use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

/// A piece of code, to be repeated.
pub struct Case {
    /// How it is called.
    pub name: &'static str,
    /// The case whose cost is the floor of this one.
    pub control: &'static str,
    make: fn() -> Result<Repeat>,
}

/// Does it so many times.
type Repeat = Box<dyn FnMut(u64)>;

/// All that is measured; a control stands before what it is compared with.
pub const CASES: &[Case] = &[
    Case { name: "copy a record", control: "copy a record", make: append::copy },
    Case { name: "checksum a record's body", control: "copy a record", make: append::checksum },
    Case { name: "append, 1,000 streams", control: "copy a record", make: append::to_a_thousand_streams },
    Case { name: "append, 100,000 streams", control: "copy a record", make: append::to_many_streams },
    Case { name: "copy a WebSocket frame", control: "copy a WebSocket frame", make: codec::copy_frame },
    Case {
        name: "copy and decode a WebSocket frame",
        control: "copy a WebSocket frame",
        make: codec::decode,
    },
    Case { name: "copy a Send", control: "copy a Send", make: codec::copy_send },
    Case { name: "verify a Send and its message", control: "copy a Send", make: codec::verify },
    Case { name: "encode a SendAck", control: "copy a Send", make: codec::encode_ack },
    Case { name: "encode a Deliver", control: "copy a Send", make: codec::encode_deliver },
];

/// What came of a case.
#[derive(Clone, Debug, Serialize)]
pub struct MicroRow {
    /// Which.
    pub name: &'static str,
    /// Its control.
    pub control: &'static str,
    /// Nanoseconds of this thread's processor time for one repetition.
    pub ns: Median,
    /// Instructions of one repetition, where they were counted.
    pub instructions: Option<f64>,
}

/// Times every case in every round.
///
/// # Errors
/// A case cannot be set up.
pub fn time(rounds: usize, repetitions: u64) -> Result<Vec<MicroRow>> {
    let mut repeats = CASES.iter().map(|case| (case.make)()).collect::<Result<Vec<_>>>()?;
    repeats.iter_mut().for_each(|repeat| repeat(repetitions));
    let mut samples = vec![Vec::new(); CASES.len()];
    for _ in 0..rounds {
        for (repeat, samples) in repeats.iter_mut().zip(&mut samples) {
            let began_ns = thread_ns();
            repeat(repetitions);
            samples.push((thread_ns() - began_ns) / repetitions as f64);
        }
    }
    let row = |(case, samples): (&Case, Vec<f64>)| MicroRow {
        name: case.name,
        control: case.control,
        ns: Median::of(samples),
        instructions: None,
    };
    Ok(CASES.iter().zip(samples).map(row).collect())
}

/// Time that this thread has run: what others take of its core does not count.
fn thread_ns() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

/// Repeats one case, for a tool that counts.
///
/// # Errors
/// No case is called so, or it cannot be set up.
pub fn repeat(name: &str, repetitions: u64) -> Result<()> {
    let case = CASES.iter().find(|case| case.name == name).with_context(|| format!("no case `{name}`"))?;
    let mut repeat = (case.make)()?;
    repeat(repetitions);
    Ok(())
}

/// As a table of Markdown.
#[must_use]
pub fn table(rows: &[MicroRow]) -> String {
    use std::fmt::Write as _;
    let mut out = String::from(
        "| case | ns (low to high) | × control | instructions | × control |\n|---|---|---|---|---|\n",
    );
    for row in rows {
        let control = rows.iter().find(|other| other.name == row.control).unwrap_or(row);
        let count = row.instructions.map_or_else(|| "–".to_owned(), |count| format!("{count:.0}"));
        let ratio = row.instructions.zip(control.instructions).map(|(count, control)| count / control);
        let ratio = ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.1}"));
        let ns = row.ns;
        // Writing to a string does not fail.
        let _ = writeln!(
            out,
            "| {} | {:.1} ({:.1} to {:.1}) | {:.1} | {count} | {ratio} |",
            row.name,
            ns.middle,
            ns.low,
            ns.high,
            ns.middle / control.ns.middle,
        );
    }
    out
}
