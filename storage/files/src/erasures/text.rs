//! The file's form.

use super::{Erasure, ErasureState, Erasures, is_reason};
use crate::limits::{ERASURES_BYTES_MAX, ERASURES_LISTED_MAX};
use crate::text::{checked, hex16, number, put_hex16, summed, words};
use std::fmt::Write as _;
use tidegate_ids::{INTEGER_MAX, Sequence, StreamId, StreamKind, WallMs};
use tidegate_storage_log::SequenceRange;

/// The format that this version writes, and the newest it reads.
pub const ERASURES_VERSION: u32 = 1;

const MAGIC: &str = "tidegate-erasures";
const ASKED: &str = "asked";
const TAKEN: &str = "taken";
const DONE: &str = "done";

/// Why bytes are not such a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ErasuresFormatError {
    /// Written by a newer version. Recovered by that version.
    #[error("format version {found} is newer than {supported}, the newest that this tidegate reads")]
    Newer {
        /// What the file says.
        found: u32,
        /// [`ERASURES_VERSION`].
        supported: u32,
    },
    /// Not the bytes that were written. Recovered from a backup, or by moving it away and asking for everything again.
    #[error("the checksum does not match: the file is damaged or was edited")]
    Checksum,
    /// Not the form of such a file. Recovered likewise.
    #[error("line {line}: {problem}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Too large to be one. Recovered likewise.
    #[error("larger than {ERASURES_BYTES_MAX} bytes")]
    TooLarge,
}

impl Erasures {
    /// The file's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut text = format!("{MAGIC} {ERASURES_VERSION}\n");
        self.pending.iter().chain(&self.done).for_each(|one| put(one, &mut text));
        summed(text)
    }

    /// Reads the file's bytes.
    ///
    /// # Errors
    /// See [`ErasuresFormatError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, ErasuresFormatError> {
        if bytes.len() as u64 > ERASURES_BYTES_MAX {
            return Err(ErasuresFormatError::TooLarge);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| ErasuresFormatError::Checksum)?;
        // The version comes first: a newer one may sum differently.
        let first = text.split('\n').next().unwrap_or_default();
        let found = words(first, MAGIC).and_then(number);
        let found: u32 =
            found.ok_or(ErasuresFormatError::Line { line: 1, problem: "not a tidegate list of erasures" })?;
        if found > ERASURES_VERSION {
            return Err(ErasuresFormatError::Newer { found, supported: ERASURES_VERSION });
        }
        let body = checked(text).ok_or(ErasuresFormatError::Checksum)?;
        let lines = body.strip_suffix('\n').unwrap_or(body).split('\n').enumerate().skip(1);
        let mut all = Self::default();
        for (index, line) in lines {
            let problem = |problem| ErasuresFormatError::Line { line: index + 1, problem };
            let erasure = read(line).map_err(problem)?;
            all.push(erasure).map_err(problem)?;
        }
        Ok(all)
    }

    /// Takes the next line, which must follow the one before.
    fn push(&mut self, erasure: Erasure) -> Result<(), &'static str> {
        if self.pending.len() + self.done.len() >= ERASURES_LISTED_MAX {
            return Err("more than can be");
        }
        let is_done = matches!(erasure.state, ErasureState::Done(_));
        if !is_done && !self.done.is_empty() {
            return Err("what is pending stands before what is done");
        }
        let list = if is_done { &mut self.done } else { &mut self.pending };
        let follows = |last: &Erasure| {
            let same = last.stream == erasure.stream;
            let rises = last.range < erasure.range && !last.range.touches(erasure.range);
            last.stream < erasure.stream || (same && rises)
        };
        if !list.last().is_none_or(follows) {
            return Err("ranges rise and do not touch");
        }
        list.push(erasure);
        Ok(())
    }
}

fn put(one: &Erasure, text: &mut String) {
    let (word, done) = match one.state {
        ErasureState::Asked => (ASKED, None),
        ErasureState::Taken => (TAKEN, None),
        ErasureState::Done(at) => (DONE, Some(at)),
    };
    let _ = write!(text, "{word} ");
    put_hex16(&one.stream.0, text);
    // Writing to a String does not fail.
    let _ = write!(text, " {} {} {} {}", one.range.from(), one.range.to(), one.asked, one.erased);
    if let Some(at) = done {
        let _ = write!(text, " {at}");
    }
    if !one.reason.is_empty() {
        let _ = write!(text, " {}", one.reason);
    }
    text.push('\n');
}

fn read(line: &str) -> Result<Erasure, &'static str> {
    let mut parts = line.splitn(7, ' ');
    let word = parts.next().unwrap_or_default();
    let stream = parts.next().and_then(hex16).map(StreamId).ok_or("the conversation is not 32 hex digits")?;
    if !matches!(stream.kind(), Some(StreamKind::Conversation(_))) {
        return Err("no conversation");
    }
    let mut integer = |problem| {
        let value: Option<u64> = parts.next().and_then(number);
        value.filter(|value| *value <= INTEGER_MAX).ok_or(problem)
    };
    let (from, to) = (integer("the first sequence is none")?, integer("the last sequence is none")?);
    let range = SequenceRange::new(Sequence(from), Sequence(to)).ok_or("the range is empty")?;
    let asked = WallMs(integer("the time of the request is none")?);
    let erased = integer("the number of erased records is none")?;
    if erased > range.count() {
        return Err("more records were erased than there are");
    }
    let rest = parts.next();
    let (state, reason) = match word {
        ASKED => (ErasureState::Asked, rest),
        TAKEN => (ErasureState::Taken, rest),
        DONE => {
            let (at, reason) = match rest.map(|rest| rest.split_once(' ')) {
                Some(Some((at, reason))) => (Some(at), Some(reason)),
                Some(None) => (rest, None),
                None => (None, None),
            };
            let at: Option<u64> = at.and_then(number);
            let at = at.filter(|at| *at <= INTEGER_MAX).ok_or("the time when it was done is none")?;
            (ErasureState::Done(WallMs(at)), reason)
        }
        _ => return Err("neither asked, nor taken, nor done"),
    };
    let reason = match reason {
        None => String::new(),
        Some(reason) if !reason.is_empty() && is_reason(reason) => reason.to_owned(),
        Some(_) => return Err("the reason is none"),
    };
    Ok(Erasure { stream, range, asked, erased, state, reason })
}
