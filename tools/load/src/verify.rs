//! `verify`: everything that `replay --acks` noted is read back, page by page, and compared.
//!
//! Each conversation is read by one of its members, over a device that wants nothing but this.

use crate::ack_log::{self, Acknowledged, hash};
use crate::cli::Verify;
use crate::fleet::{Audience, Fleet, Leaving};
use crate::gateway::{Gateway, raise_descriptors};
use crate::limits::{NAMED_MAX, NEVER_ANSWERED_NS, STALL_NS, TOKENS_REFUSED_MAX, TURN_WAIT};
use crate::token::{Signer, wall_ms};
use anyhow::{Result, bail, ensure};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use tidegate_client::{Backfill, Config, Event, Machine, RequestFailure, RequestHandle, Stored};
use tidegate_ids::{Attempt, ConversationId, DeviceId, MonotonicNs, Sequence, UserId};
use tidegate_schema::limits::RANGE_RECORDS_MAX;
use tidegate_schema::{Range, RangeSpan};

/// Runs the command.
///
/// # Errors
/// It could not begin, or the gateway gave no answers.
pub fn run(options: &Verify) -> Result<ExitCode> {
    let acknowledged = ack_log::read(&options.acks)?;
    // Nothing was proven: a script must not take that for a proof.
    ensure!(!acknowledged.is_empty(), "nothing to verify: {} is empty", options.acks.display());
    let gateway = Gateway::parse(&options.url)?;
    let signer = Signer::open(&options.data)?;
    let mut reading = Reading::new(acknowledged);
    raise_descriptors(reading.books.len())?;
    let config = Arc::new(Config {
        host: gateway.host.clone(),
        path: gateway.path.clone(),
        backfill: Backfill::Heads,
        follow_list: false,
        ..Config::default()
    });
    let attempt = Attempt(wall_ms());
    let machine = |(index, book): (usize, &Book)| {
        // A device of its own for each book, so that two books of one user do not replace each other.
        let stored = Stored { attempt, ..Stored::new(DeviceId(index as u64 + 1)) };
        let token = signer.sign(book.user)?;
        Ok(Machine::new(Arc::clone(&config), &token, stored, attempt.0.wrapping_add(index as u64)))
    };
    let machines = reading.books.iter().enumerate().map(machine).collect::<Result<Vec<_>>>()?;
    let fleet = Fleet::new(gateway.address, machines.into_iter())?;
    read(fleet, &mut reading)?;
    let Tally { found, missing, different } = reading.tally();
    reading.complaints.iter().for_each(|line| eprintln!("{line}"));
    let count = found + missing + different;
    println!("verify: {count} acknowledged, {found} found, {missing} missing, {different} different");
    Ok(if missing + different == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Turns the pages until every book is read.
fn read(mut fleet: Fleet, reading: &mut Reading) -> Result<()> {
    let mut events = Fleet::events();
    reading.progress_at = fleet.now();
    while reading.books.iter().any(|book| !book.is_read()) {
        fleet.turn(&mut events, TURN_WAIT, reading)?;
        for (device, book) in reading.books.iter_mut().enumerate() {
            if book.asked.is_some() || book.is_read() || !fleet.machine(device).is_ready() {
                continue;
            }
            let (conversation, span) = (book.conversation, RangeSpan::Between(book.next, book.last));
            let asked = fleet
                .with(device, |machine, now| machine.history(conversation, span, RANGE_RECORDS_MAX, now));
            book.asked = asked.ok();
        }
        let still_ns = fleet.now().since(reading.progress_at);
        if let Some(refusal) = fleet.refusal().filter(|_| still_ns >= NEVER_ANSWERED_NS) {
            bail!("{refusal}; gave up after {} s", NEVER_ANSWERED_NS / MonotonicNs::SECOND);
        }
        if still_ns >= STALL_NS {
            bail!("no page came for {} s", STALL_NS / MonotonicNs::SECOND);
        }
        if reading.tokens_refused > TOKENS_REFUSED_MAX {
            bail!("the gateway does not take our tokens: is --data its data directory?");
        }
    }
    (0..reading.books.len()).for_each(|device| fleet.go_offline(device, Leaving::Politely, reading));
    Ok(())
}

/// What is read back.
struct Reading {
    books: Vec<Book>,
    complaints: Vec<String>,
    progress_at: MonotonicNs,
    tokens_refused: u64,
}

/// One conversation.
struct Book {
    conversation: ConversationId,
    user: UserId,
    entries: Vec<Entry>,
    /// The next sequence to ask for.
    next: Sequence,
    /// The highest that was acknowledged.
    last: Sequence,
    asked: Option<RequestHandle>,
}

struct Entry {
    expected: Acknowledged,
    seen: Seen,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Not,
    Identical,
    Different,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    found: u64,
    missing: u64,
    different: u64,
}

impl Reading {
    fn new(acknowledged: Vec<Acknowledged>) -> Self {
        let mut books: BTreeMap<ConversationId, Vec<Entry>> = BTreeMap::new();
        for expected in acknowledged {
            books.entry(expected.conversation).or_default().push(Entry { expected, seen: Seen::Not });
        }
        let books = books.into_values().map(Book::new).collect();
        Self { books, complaints: Vec::new(), progress_at: MonotonicNs(0), tokens_refused: 0 }
    }

    fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for entry in self.books.iter().flat_map(|book| &book.entries) {
            match entry.seen {
                Seen::Not => tally.missing += 1,
                Seen::Identical => tally.found += 1,
                Seen::Different => tally.different += 1,
            }
        }
        tally
    }

    fn complain(&mut self, device: usize, what: &str) {
        if self.complaints.len() < NAMED_MAX {
            let Book { conversation, user, .. } = &self.books[device];
            self.complaints.push(format!("{conversation}, as user {user}: {what}"));
        }
    }

    fn page(&mut self, device: usize, request: RequestHandle, range: &Range<'_>, now: MonotonicNs) {
        let book = &mut self.books[device];
        if book.asked.take_if(|asked| *asked == request).is_none() {
            return;
        }
        self.progress_at = now;
        let before = book.next;
        for record in range.iter().map_while(Result::ok) {
            let stamp = &record.stamp;
            if stamp.sequence < book.next || stamp.sequence > book.last {
                continue;
            }
            book.next = stamp.sequence.next();
            let seen = Acknowledged {
                conversation: stamp.conversation,
                sequence: stamp.sequence,
                message_id: stamp.message_id,
                hash: hash(record.message),
                user: stamp.sender,
            };
            book.see(&seen);
        }
        if range.complete {
            book.next = book.last.next();
        }
        if self.books[device].next == before {
            self.books[device].next = self.books[device].last.next();
            self.complain(device, &format!("an empty page at {before}"));
        }
    }
}

impl Book {
    fn new(mut entries: Vec<Entry>) -> Self {
        entries.sort_by_key(|entry| entry.expected.sequence);
        let (first, last) = (&entries[0].expected, &entries[entries.len() - 1].expected);
        let Acknowledged { conversation, user, .. } = *first;
        let (next, last) = (first.sequence.max(Sequence::FIRST), last.sequence);
        Self { conversation, user, entries, next, last, asked: None }
    }

    fn is_read(&self) -> bool {
        self.next > self.last
    }

    /// A record was read back. The same sequence may have been noted twice, after a crash of the replay, say.
    fn see(&mut self, seen: &Acknowledged) {
        let begin = self.entries.partition_point(|entry| entry.expected.sequence < seen.sequence);
        for entry in &mut self.entries[begin..] {
            if entry.expected.sequence != seen.sequence {
                return;
            }
            entry.seen = if entry.expected == *seen { Seen::Identical } else { Seen::Different };
        }
    }
}

impl Audience for Reading {
    fn event(&mut self, device: usize, event: &Event<'_>, now: MonotonicNs) {
        match event {
            Event::History { request, range } => self.page(device, *request, range, now),
            Event::RequestFailed { request, failure } => {
                let asked = self.books[device].asked.take_if(|asked| asked == request);
                let refused = match failure {
                    RequestFailure::Refused(code) if !code.is_temporary() => asked.map(|_| code),
                    _ => None,
                };
                if let Some(code) = refused {
                    let book = &mut self.books[device];
                    book.next = book.last.next();
                    self.complain(device, code.label());
                }
            }
            Event::TokenNeeded => self.tokens_refused += TOKENS_REFUSED_MAX + 1,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_ids::MessageId;

    fn acknowledged(sequence: u64, text: &str) -> Acknowledged {
        Acknowledged {
            conversation: ConversationId::group([1; 16]),
            sequence: Sequence(sequence),
            message_id: MessageId([sequence as u8; 16]),
            hash: hash(text.as_bytes()),
            user: UserId(7),
        }
    }

    fn check(seen: &[Acknowledged], expected: Tally) {
        let mut reading =
            Reading::new(vec![acknowledged(3, "b"), acknowledged(2, "a"), acknowledged(5, "c")]);
        let book = &mut reading.books[0];
        assert_eq!((book.next, book.last, book.is_read()), (Sequence(2), Sequence(5), false));
        seen.iter().for_each(|seen| book.see(seen));
        assert_eq!(reading.tally(), expected);
    }

    #[test]
    fn what_is_not_there_or_not_the_same_is_told() {
        let (a, b, c) = (acknowledged(2, "a"), acknowledged(3, "b"), acknowledged(5, "c"));
        check(&[a, b, acknowledged(4, "x"), c], Tally { found: 3, missing: 0, different: 0 });
        check(&[a, c], Tally { found: 2, missing: 1, different: 0 });
        check(&[], Tally { found: 0, missing: 3, different: 0 });
        check(&[a, acknowledged(3, "other"), c], Tally { found: 2, missing: 0, different: 1 });
        check(
            &[a, Acknowledged { message_id: MessageId([9; 16]), ..b }, c],
            Tally { found: 2, missing: 0, different: 1 },
        );
        check(&[a, Acknowledged { user: UserId(8), ..b }, c], Tally { found: 2, missing: 0, different: 1 });
    }

    /// An empty file ended with 0, which a script took for a proof.
    #[test]
    fn nothing_to_verify_is_no_proof() {
        let acks = tempfile::NamedTempFile::new().expect("a file");
        let (url, data) = (String::from("ws://127.0.0.1:1"), std::path::PathBuf::from("."));
        let error = run(&Verify { url, data, acks: acks.path().to_path_buf() }).expect_err("refused");
        assert!(error.to_string().starts_with("nothing to verify"), "{error}");
    }

    #[test]
    fn each_conversation_is_a_book() {
        let other = Acknowledged { conversation: ConversationId::group([2; 16]), ..acknowledged(9, "x") };
        let reading = Reading::new(vec![acknowledged(2, "a"), other, acknowledged(2, "a")]);
        let sizes: Vec<_> = reading.books.iter().map(|book| book.entries.len()).collect();
        assert_eq!(sizes, [2, 1]);
    }
}
