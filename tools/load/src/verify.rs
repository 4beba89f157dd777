//! `verify`: everything that `replay --acks` noted is read back, page by page, and compared.
//!
//! Each conversation is read by one of its members, over a device that wants nothing but this.

use crate::ack_log::{self, Acknowledged, Contents, hash};
use crate::cli::Verify;
use crate::fleet::{Audience, Fleet, Leaving};
use crate::gateway::{Gateway, raise_descriptors};
use crate::limits::{NAMED_MAX, NEVER_ANSWERED_NS, STALL_NS, TOKENS_REFUSED_MAX, TURN_WAIT};
use crate::token::{Signer, wall_ms};
use anyhow::{Result, bail, ensure};
use std::collections::BTreeMap;
use std::fmt;
use std::process::ExitCode;
use std::sync::Arc;
use tidegate_client::{Backfill, Config, Event, Machine, RequestFailure, RequestHandle, Stored};
use tidegate_ids::{Attempt, ConversationId, DeviceId, MonotonicNs, Sequence, UserId};
use tidegate_schema::limits::RANGE_RECORDS_MAX;
use tidegate_schema::{Range, RangeSpan, SkipReason};

/// Runs the command.
///
/// # Errors
/// It could not begin, or the gateway gave no answers.
pub fn run(options: &Verify) -> Result<ExitCode> {
    let Contents { acknowledged, torn } = ack_log::read(&options.acks)?;
    if let Some(number) = torn {
        let path = options.acks.display();
        eprintln!("tidegate-load: {path} ends in half a line, number {number}, which is left out");
    }
    // Nothing was proven: a script must not take that for a proof.
    ensure!(!acknowledged.is_empty(), "nothing to verify: {} has no line", options.acks.display());
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
    reading.complaints.iter().for_each(|line| eprintln!("{line}"));
    reading.unproven().take(NAMED_MAX).for_each(|line| eprintln!("{line}"));
    let tally = reading.tally();
    println!("{tally}");
    Ok(tally.exit_code())
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

impl Tally {
    /// What the process ends with.
    fn exit_code(self) -> ExitCode {
        if self.missing + self.different == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// The closing line.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { found, missing, different } = self;
        let count = found + missing + different;
        write!(f, "verify: {count} acknowledged, {found} found, {missing} missing, {different} different")
    }
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

    /// Every message that is not there, or not the same.
    fn unproven(&self) -> impl Iterator<Item = String> {
        self.books.iter().flat_map(|book| &book.entries).filter_map(|entry| {
            let what = match entry.seen {
                Seen::Identical => return None,
                Seen::Not => "is missing",
                Seen::Different => "is not what was acknowledged",
            };
            let Acknowledged { conversation, sequence, message_id, .. } = &entry.expected;
            Some(format!("{conversation}, sequence {sequence}: message {message_id} {what}"))
        })
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
        let (before, last) = (book.next, book.last);
        // The last sequence that the answer speaks of, record or hole: up to it everything is read. Holes are final.
        let mut spoken = Sequence(range.first_available.0.saturating_sub(1));
        for record in range.iter().map_while(Result::ok) {
            let stamp = &record.stamp;
            if stamp.sequence < before || stamp.sequence > last {
                continue;
            }
            spoken = spoken.max(stamp.sequence);
            let seen = Acknowledged {
                conversation: stamp.conversation,
                sequence: stamp.sequence,
                message_id: stamp.message_id,
                hash: hash(record.message),
                user: stamp.sender,
            };
            book.see(&seen);
        }
        spoken = range.skips.iter().map(|skip| skip.to).fold(spoken, Sequence::max);
        book.next = if range.complete { last.next() } else { spoken.min(last).next().max(before) };
        if range.first_available > before {
            let end = Sequence(range.first_available.0 - 1);
            self.tell_hole(device, (before, end), "no longer available");
        }
        for skip in range.skips {
            self.tell_hole(device, (skip.from.max(before), skip.to), reason(skip.reason));
        }
        if self.books[device].next == before {
            self.books[device].next = last.next();
            self.complain(
                device,
                &format!("an answer at {before} that speaks of nothing; the rest is not read"),
            );
        }
    }

    /// Says why acknowledged messages are not there, if there are any in a hole.
    fn tell_hole(&mut self, device: usize, (from, to): (Sequence, Sequence), why: &str) {
        let book = &self.books[device];
        let to = to.min(book.last);
        let begin = book.entries.partition_point(|entry| entry.expected.sequence < from);
        let is_missed = book.entries.get(begin).is_some_and(|entry| entry.expected.sequence <= to);
        if is_missed && from == to {
            self.complain(device, &format!("sequence {from}: {why}"));
        } else if is_missed {
            self.complain(device, &format!("sequences {from} to {to}: {why}"));
        }
    }
}

/// What a gateway says of a hole.
const fn reason(reason: SkipReason) -> &'static str {
    match reason {
        SkipReason::Unspecified => "skipped",
        SkipReason::NotMember => "not for this user, who was no member then",
        SkipReason::Expired => "expired",
        SkipReason::Erased => "erased",
        SkipReason::Damaged => "lost by damage",
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
    use tidegate_schema::deliver::write_stored;
    use tidegate_schema::{List, SkipSpan, Stamp};

    fn acknowledged(sequence: u64, text: &str) -> Acknowledged {
        Acknowledged {
            conversation: ConversationId::group([1; 16]),
            sequence: Sequence(sequence),
            message_id: MessageId([sequence as u8; 16]),
            hash: hash(text.as_bytes()),
            user: UserId(7),
        }
    }

    /// What is read back, what that makes, and what is said of messages that it does not prove.
    fn check(seen: &[Acknowledged], expected: Tally, unproven: &[(u64, &str)]) {
        let mut reading =
            Reading::new(vec![acknowledged(3, "b"), acknowledged(2, "a"), acknowledged(5, "c")]);
        let book = &mut reading.books[0];
        assert_eq!((book.next, book.last, book.is_read()), (Sequence(2), Sequence(5), false));
        seen.iter().for_each(|seen| book.see(seen));
        assert_eq!(reading.tally(), expected);
        let line = |&(sequence, what): &(u64, &str)| {
            let Acknowledged { conversation, message_id, .. } = acknowledged(sequence, "");
            format!("{conversation}, sequence {sequence}: message {message_id} {what}")
        };
        assert!(
            reading.unproven().eq(unproven.iter().map(line)),
            "{:?}",
            reading.unproven().collect::<Vec<_>>()
        );
        let code = if unproven.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        assert_eq!(reading.tally().exit_code(), code, "{expected}");
    }

    #[test]
    fn what_is_not_there_or_not_the_same_is_told() {
        let (a, b, c) = (acknowledged(2, "a"), acknowledged(3, "b"), acknowledged(5, "c"));
        let tally = |found, missing, different| Tally { found, missing, different };
        let (gone, changed) = ("is missing", "is not what was acknowledged");
        check(&[a, b, acknowledged(4, "x"), c], tally(3, 0, 0), &[]);
        check(&[a, c], tally(2, 1, 0), &[(3, gone)]);
        check(&[], tally(0, 3, 0), &[(2, gone), (3, gone), (5, gone)]);
        check(&[a, acknowledged(3, "other"), c], tally(2, 0, 1), &[(3, changed)]);
        check(&[a, Acknowledged { message_id: MessageId([9; 16]), ..b }, c], tally(2, 0, 1), &[(3, changed)]);
        check(&[a, Acknowledged { user: UserId(8), ..b }, c], tally(2, 0, 1), &[(3, changed)]);
        check(&[acknowledged(2, "other"), b], tally(1, 1, 1), &[(2, changed), (5, gone)]);
    }

    #[test]
    fn the_closing_line_counts_everything_that_was_acknowledged() {
        let tally = Tally { found: 5, missing: 1, different: 2 };
        assert_eq!(tally.to_string(), "verify: 8 acknowledged, 5 found, 1 missing, 2 different");
    }

    /// A page of a gateway: messages, what it skips, the first it can read, whether that is all.
    struct Page {
        records: &'static [u64],
        skips: &'static [(u64, u64, SkipReason)],
        first_available: u64,
        complete: bool,
    }

    /// Reads a book of the sequences 2 to 9 by pages, which must be asked for at the sequences given.
    fn check_pages(pages: &[(u64, Page)], missing: u64, complaints: &[&str]) {
        let mut reading = Reading::new((2..10).map(|at| acknowledged(at, "text")).collect());
        for (index, (from, page)) in pages.iter().enumerate() {
            let request = RequestHandle(index as u64);
            let book = &mut reading.books[0];
            assert_eq!((book.next, book.is_read()), (Sequence(*from), false), "page {index}");
            book.asked = Some(request);
            let mut records = Vec::new();
            for &sequence in page.records {
                let Acknowledged { conversation, sequence, message_id, user, .. } =
                    acknowledged(sequence, "text");
                let stamp = Stamp { conversation, sequence, sender: user, message_id, ..Stamp::default() };
                write_stored(&stamp, b"text", &mut records);
            }
            let skip = |&(from, to, reason): &(u64, u64, SkipReason)| SkipSpan {
                from: Sequence(from),
                to: Sequence(to),
                reason,
            };
            let skips: Vec<SkipSpan> = page.skips.iter().map(skip).collect();
            let range = Range {
                conversation: ConversationId::group([1; 16]),
                head: Sequence(9),
                first_available: Sequence(page.first_available),
                complete: page.complete,
                skips: List::new(&skips),
                records: &records,
            };
            reading.page(0, request, &range, MonotonicNs(index as u64));
        }
        assert!(reading.books[0].is_read());
        let tally = reading.tally();
        assert_eq!((tally.found, tally.missing, tally.different), (8 - missing, missing, 0));
        assert_eq!(reading.complaints.len(), complaints.len(), "{:?}", reading.complaints);
        for (said, expected) in reading.complaints.iter().zip(complaints) {
            assert!(said.ends_with(expected), "{said}");
        }
    }

    /// A page that began with what retention had let go was "an empty page at 2", and all behind it counted as missing: a real
    /// loss could not be told from that.
    #[test]
    fn reading_goes_on_behind_holes() {
        use SkipReason::{Damaged, Erased, Expired};
        let page =
            |records, skips, first_available, complete| Page { records, skips, first_available, complete };
        check_pages(
            &[(2, page(&[2, 3, 4, 5], &[], 1, false)), (6, page(&[6, 7, 8, 9], &[], 1, true))],
            0,
            &[],
        );
        // Nothing but a hole, then the rest.
        check_pages(
            &[(2, page(&[], &[(2, 4, Expired)], 1, false)), (5, page(&[5, 6, 7, 8, 9], &[], 1, true))],
            3,
            &["sequences 2 to 4: expired"],
        );
        // Below what is available there is no skip.
        check_pages(
            &[(2, page(&[], &[], 6, false)), (6, page(&[6, 7, 8, 9], &[], 6, true))],
            4,
            &["sequences 2 to 5: no longer available"],
        );
        // A hole in the middle of a page, and one that ends it.
        check_pages(
            &[
                (2, page(&[2, 4], &[(3, 3, Erased), (5, 6, Damaged)], 1, false)),
                (7, page(&[7, 8, 9], &[], 1, true)),
            ],
            3,
            &["sequence 3: erased", "sequences 5 to 6: lost by damage"],
        );
        // All is gone, also beyond what was acknowledged.
        check_pages(&[(2, page(&[], &[], 20, false))], 8, &["sequences 2 to 9: no longer available"]);
        check_pages(&[(2, page(&[], &[(1, 99, Expired)], 1, true))], 8, &["sequences 2 to 9: expired"]);
        // What is neither there nor in a hole is missing all the same, and an answer without a word ends the reading.
        check_pages(&[(2, page(&[2, 9], &[], 1, true))], 6, &[]);
        check_pages(
            &[(2, page(&[2, 3], &[], 1, false)), (4, page(&[], &[], 1, false))],
            6,
            &["an answer at 4 that speaks of nothing; the rest is not read"],
        );
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
