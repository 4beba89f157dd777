//! `erase`: asks for records to be erased, and lists what was asked.

use crate::cli::EraseOptions;
use crate::limits::TIME_PRINTED_MAX;
use anyhow::Context;
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tidegate_ids::{ConversationId, StreamKind, WallMs};
use tidegate_storage_files::{DirView, Erasure, ErasureScope, ErasureState, ask_erasure, load_erasures};

pub(crate) fn run(options: &EraseOptions) -> anyhow::Result<ExitCode> {
    match options.conversation {
        Some(conversation) if !options.list => ask(options, conversation),
        _ => list(&options.dir),
    }
}

fn ask(options: &EraseOptions, conversation: ConversationId) -> anyhow::Result<ExitCode> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
    let now = WallMs(u64::try_from(now.as_millis()).unwrap_or_default());
    let scope = options.sequences.map_or(ErasureScope::All, ErasureScope::Range);
    let asked = ask_erasure(&options.dir, conversation, scope, &options.reason, now)?;
    let dir = options.dir.display();
    println!("{conversation}: records {} are to be erased", asked.range);
    match asked.holder {
        Some(process) => println!(
            "process {process} takes this up within seconds; `tidegate-log erase {dir} --list` says how far it is"
        ),
        None => println!("no gateway runs on {dir}: the next one gives them to nobody, and erases them"),
    }
    println!("backups that were made before keep them");
    Ok(ExitCode::SUCCESS)
}

fn list(dir: &Path) -> anyhow::Result<ExitCode> {
    // Of a directory that is none, an empty list would be told.
    DirView::open(dir)?;
    let erasures = load_erasures(dir)?;
    for one in erasures.pending().iter().chain(erasures.done()) {
        println!("{}", line(one));
    }
    println!("{} pending, {} done", erasures.pending().len(), erasures.done().len());
    Ok(ExitCode::SUCCESS)
}

/// One request as a line: how far, which, how many, when, why.
fn line(one: &Erasure) -> String {
    let conversation = match one.stream.kind() {
        Some(StreamKind::Conversation(id)) => id.to_string(),
        _ => one.stream.to_string(),
    };
    let state = match one.state {
        ErasureState::Asked => "asked",
        ErasureState::Taken => "taken",
        ErasureState::Done(_) => "done",
    };
    let (erased, count, asked) = (one.erased, one.range.count(), time(one.asked));
    let mut text =
        format!("{state:5} {conversation} {} {erased} of {count} erased, asked {asked}", one.range);
    // Writing to a String does not fail.
    if let ErasureState::Done(at) = one.state {
        let _ = write!(text, ", done {}", time(at));
    }
    if !one.reason.is_empty() {
        let _ = write!(text, ": {}", one.reason);
    }
    text
}

fn time(at: WallMs) -> humantime::Rfc3339Timestamp {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(at.0.min(TIME_PRINTED_MAX.0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_ids::{Sequence, StreamId, UserId};
    use tidegate_storage_log::SequenceRange;

    #[test]
    fn a_request_is_one_line() {
        let check = |state, reason: &str, expected: &str| {
            let one = Erasure {
                stream: StreamId::conversation(ConversationId::direct(UserId(7), UserId(12))),
                range: SequenceRange::new(Sequence(1), Sequence(500)).unwrap(),
                asked: WallMs(1_764_144_000_000),
                erased: 399,
                state,
                reason: reason.to_owned(),
            };
            assert_eq!(line(&one), expected);
        };
        let asked = "7:12 1..500 399 of 500 erased, asked 2025-11-26T08:00:00Z";
        check(ErasureState::Asked, "", &format!("asked {asked}"));
        check(ErasureState::Taken, "case 4711", &format!("taken {asked}: case 4711"));
        let done = ErasureState::Done(WallMs(1_764_144_060_000));
        check(done, "", &format!("done  {asked}, done 2025-11-26T08:01:00Z"));
        // A clock that was far off is no panic.
        let far = ErasureState::Done(WallMs(tidegate_ids::INTEGER_MAX));
        check(far, "", &format!("done  {asked}, done 9999-12-31T23:59:59Z"));
    }
}
