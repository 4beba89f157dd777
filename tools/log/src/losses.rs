//! What could not be kept, a sentence each.

use crate::kinds;
use crate::limits::FAULTS_PRINTED_MAX;
use std::fmt;
use tidegate_ids::{LogId, Sequence, StreamId};
use tidegate_storage_log::{Lost, LostWhat, RecordHead, Remnant};

/// One loss.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Loss {
    /// A place in a log.
    Place { log: LogId, lost: Lost },
    /// Records that are not there, wherever they were.
    Sequences { stream: StreamId, first: Sequence, last: Sequence },
    /// A segment that was read as nothing.
    Segment { log: LogId, segment: u32, is_used: bool },
}

/// Losses, the first ones kept, all counted.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    kept: Vec<Loss>,
    count: u64,
}

impl Losses {
    pub(crate) fn add(&mut self, loss: Loss) {
        self.count += 1;
        if self.kept.len() < FAULTS_PRINTED_MAX {
            self.kept.push(loss);
        }
    }

    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn lines(&self) -> impl Iterator<Item = String> + '_ {
        let more = self.count - self.kept.len() as u64;
        let last = (more > 0).then(|| format!("and {more} more"));
        self.kept.iter().map(ToString::to_string).chain(last)
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Place { log, lost: Lost { segment, from, to, what } } => {
                write!(f, "log {log}: segment {segment}, bytes {from} to {to}: ")?;
                match what {
                    LostWhat::Record(Remnant { head: Some(head), .. })
                    | LostWhat::GivenUp(Remnant { head: Some(head), .. }) => write_record(f, &head),
                    LostWhat::Record(_) | LostWhat::GivenUp(_) => f.write_str("a record, not known which"),
                    LostWhat::Batches { first, last } if first == last => {
                        write!(f, "batch {first}, all its records")
                    }
                    LostWhat::Batches { first, last } => {
                        write!(f, "batches {first} to {last}, all their records")
                    }
                }
            }
            Self::Sequences { stream, first, last } if first == last => {
                write!(f, "{stream}: sequence {first}")
            }
            Self::Sequences { stream, first, last } => write!(f, "{stream}: sequences {first} to {last}"),
            Self::Segment { log, segment, is_used: true } => {
                write!(f, "log {log}: segment {segment}, all its records")
            }
            Self::Segment { log, segment, is_used: false } => write!(
                f,
                "log {log}: segment {segment} is gone, and nothing leads to it; if it was used, the log's last records are lost"
            ),
        }
    }
}

fn write_record(f: &mut fmt::Formatter<'_>, head: &RecordHead) -> fmt::Result {
    let kind = kinds::name(head.kind).unwrap_or("record");
    write!(f, "a {kind} of {}", head.stream)?;
    match head.sequence.0 {
        0 => Ok(()),
        sequence => write!(f, ", sequence {sequence}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_ids::{BatchNumber, ConversationId, ShardIndex, UserId};

    #[test]
    fn losses_name_what_is_known() {
        let check = |loss: Loss, expected: &str| assert_eq!(loss.to_string(), expected);
        let log = LogId { epoch: 1, shard: ShardIndex(0) };
        let stream = StreamId::conversation(ConversationId::direct(UserId(3), UserId(1003)));
        let place = |what| Loss::Place { log, lost: Lost { segment: 2, from: 64, to: 160, what } };
        let head = Some(RecordHead { stream, sequence: Sequence(5), kind: 1, ..RecordHead::default() });
        check(
            place(LostWhat::Record(Remnant { head, links: None })),
            "log 1/0: segment 2, bytes 64 to 160: a message of conversation 3:1003, sequence 5",
        );
        check(
            place(LostWhat::Record(Remnant::default())),
            "log 1/0: segment 2, bytes 64 to 160: a record, not known which",
        );
        let (first, last) = (BatchNumber(7), BatchNumber(9));
        check(
            place(LostWhat::Batches { first, last }),
            "log 1/0: segment 2, bytes 64 to 160: batches 7 to 9, all their records",
        );
        let (first, last) = (Sequence(5), Sequence(6));
        check(Loss::Sequences { stream, first, last }, "conversation 3:1003: sequences 5 to 6");
        check(Loss::Sequences { stream, first, last: first }, "conversation 3:1003: sequence 5");
    }

    #[test]
    fn all_are_counted_and_few_are_kept() {
        let mut losses = Losses::default();
        let log = LogId { epoch: 1, shard: ShardIndex(0) };
        (0..500).for_each(|segment| losses.add(Loss::Segment { log, segment, is_used: true }));
        assert_eq!(losses.count(), 500);
        assert_eq!(losses.lines().last().unwrap(), "and 300 more");
    }
}
