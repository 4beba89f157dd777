//! Reads of the log: from staging at once where the records are still there, else off the shard's thread.
//!
//! A read that meets damage is made again before it is believed: what a disk refuses once it may give the next time, and
//! nobody is told that a record is gone while it may still be there (decision 0015).

use crate::counters::Counter;
use crate::event::ReadToken;
use crate::limits::{READ_AGAIN_NS, READS_UNTIL_BELIEVED};
use crate::mesh_frame::{Origin, ReplyClass, Span};
use crate::output::{Output, ReadRequest};
use crate::shard::{Shard, Turn};
use crate::table::{IdHash, IdMap};
use std::collections::VecDeque;
use std::sync::Arc;
use tidegate_domain::Answer;
use tidegate_ids::{
    ClientId, CommandNumber, ConversationId, MonotonicNs, Sequence, ShardIndex, StreamId, WallMs,
};
use tidegate_schema::SkipReason;
use tidegate_storage_log::{Lead, PageEnd, PageReader, ReadError, ReadSpec};

/// What a read is for.
#[derive(Clone, Debug)]
pub(crate) enum ReadPurpose {
    LoadState(StreamId),
    LoadSnapshot(StreamId),
    LoadRecords(StreamId),
    /// A piece of a queue's range, for its user's home.
    Drain(DrainRead),
    /// A client's `GetRange`.
    Range(RangeRead),
    /// The original answer of a duplicate.
    Number(NumberRead),
    /// A chunk of a log that is fed again.
    Refeed,
    /// A chunk for a cursor that fell behind staging.
    Cursor(ShardIndex),
}

impl ReadPurpose {
    /// Whether the records go to recipients. A log that failed gets no checkpoint any more, so that what is missing among
    /// them is fed again by the next start.
    const fn feeds(&self) -> bool {
        matches!(self, Self::Refeed | Self::Cursor(_))
    }
}

#[derive(Clone, Debug)]
pub(crate) struct DrainRead {
    pub(crate) to: ShardIndex,
    pub(crate) origin: Origin,
    /// With `covered` if the page reaches its end.
    pub(crate) answer: Answer,
}

#[derive(Clone, Debug)]
pub(crate) struct RangeRead {
    pub(crate) to: ShardIndex,
    pub(crate) origin: Origin,
    pub(crate) conversation: ConversationId,
    pub(crate) span: Span,
    /// What was asked for, within the head.
    pub(crate) asked: (Sequence, Sequence),
    /// The part of it that is owed and was read.
    pub(crate) owed: (Sequence, Sequence),
    /// The most records of one page.
    pub(crate) limit: u32,
    pub(crate) head: Sequence,
    pub(crate) first_available: Sequence,
}

#[derive(Clone, Debug)]
pub(crate) struct NumberRead {
    pub(crate) to: ShardIndex,
    pub(crate) origin: Origin,
    pub(crate) client_id: ClientId,
    pub(crate) expected: CommandNumber,
}

/// A read that waits or is under way.
#[derive(Debug)]
struct UnderWay {
    purpose: ReadPurpose,
    request: ReadRequest,
    /// How often it has met damage.
    damaged: u8,
}

/// Reads that wait or are under way.
#[derive(Debug)]
pub(crate) struct Reads {
    next: u64,
    under_way: IdMap<u64, UnderWay>,
    queue: VecDeque<ReadToken>,
    /// Those that met damage, and when they are made again; in order, since all wait equally long.
    again: VecDeque<(MonotonicNs, ReadToken)>,
    issued: usize,
    reader: PageReader,
    records: Vec<u8>,
}

impl Reads {
    pub(crate) fn new(hash: IdHash) -> Self {
        Self {
            next: 0,
            under_way: IdMap::with_hasher(hash),
            queue: VecDeque::new(),
            again: VecDeque::new(),
            issued: 0,
            reader: PageReader::new(),
            records: Vec::new(),
        }
    }

    /// Reads that wait or are under way.
    pub(crate) fn len(&self) -> usize {
        self.under_way.len()
    }
}

impl Shard {
    /// Reads a page whose records are committed.
    pub(crate) fn read(&mut self, purpose: ReadPurpose, spec: ReadSpec, turn: &mut Turn<'_>) {
        let mut records = std::mem::take(&mut self.reads.records);
        records.clear();
        match self.reads.reader.read_staging(&self.log, &spec, &mut records) {
            Err(ReadError::Elsewhere(_)) => {
                let lead = self.lead(&spec);
                self.read_elsewhere(purpose, ReadRequest::Page(spec, lead));
            }
            result => self.read_done(purpose, &mut records, result, turn),
        }
        if self.reads.records.capacity() < records.capacity() {
            self.reads.records = records;
        }
    }

    /// Where the last records of a range's stream lie in the segment that is being written.
    fn lead(&self, spec: &ReadSpec) -> Option<Arc<Lead>> {
        let ReadSpec::Range { stream, .. } = spec else { return None };
        self.log.lead(stream).map(Arc::new)
    }

    /// Reads segments, off this thread.
    pub(crate) fn read_elsewhere(&mut self, purpose: ReadPurpose, request: ReadRequest) {
        self.reads.next += 1;
        let token = ReadToken(self.reads.next);
        self.reads.under_way.insert(token.0, UnderWay { purpose, request, damaged: 0 });
        self.reads.queue.push_back(token);
    }

    /// Hands out reads while there are places, those that are made again when their time has come.
    pub(crate) fn start_reads(&mut self, now: MonotonicNs) {
        while self.reads.again.front().is_some_and(|(due, _)| *due <= now) {
            self.reads.queue.extend(self.reads.again.pop_front().map(|(_, token)| token));
        }
        while self.reads.issued < self.limits.reads_in_flight_max {
            let Some(token) = self.reads.queue.pop_front() else { return };
            let Some(read) = self.reads.under_way.get(&token.0) else {
                unreachable!("a read that waits is under way")
            };
            self.reads.issued += 1;
            self.outputs.push_back(Output::Read { token, request: read.request.clone() });
        }
    }

    pub(crate) fn on_read_done(
        &mut self,
        token: ReadToken,
        mut records: Vec<u8>,
        result: Result<PageEnd, ReadError>,
        turn: &mut Turn<'_>,
    ) {
        self.reads.issued -= 1;
        if let Some(mut read) = self.reads.under_way.remove(&token.0) {
            let is_damaged = met_damage(&result);
            self.stats.add(Counter::ReadsFailed, u64::from(is_damaged));
            read.damaged += u8::from(is_damaged);
            if is_damaged && read.damaged < READS_UNTIL_BELIEVED {
                self.reads.under_way.insert(token.0, read);
                self.reads.again.push_back((turn.now.monotonic.after(READ_AGAIN_NS), token));
            } else if is_damaged && self.latched && !read.purpose.feeds() {
                self.doubt_read(read.purpose, turn);
            } else {
                self.stats.add(Counter::ReadsDamaged, u64::from(is_damaged));
                self.read_done(read.purpose, &mut records, result, turn);
            }
        }
        // A large state was taken.
        if records.capacity() > 0 {
            self.outputs.push_back(Output::Recycle { buffer: records });
        }
    }

    fn read_done(
        &mut self,
        purpose: ReadPurpose,
        records: &mut Vec<u8>,
        result: Result<PageEnd, ReadError>,
        turn: &mut Turn<'_>,
    ) {
        let end = match result {
            Ok(end) => end,
            Err(error) => return self.on_read_failed(purpose, error, turn),
        };
        match purpose {
            ReadPurpose::LoadState(stream) => self.on_load_state(stream, records, &end, turn),
            ReadPurpose::LoadSnapshot(stream) => self.on_load_snapshot(stream, records, &end, turn),
            ReadPurpose::LoadRecords(stream) => self.on_load_records(stream, records, &end, turn),
            ReadPurpose::Drain(read) => self.answer_drain(&read, records, &end),
            ReadPurpose::Range(read) => self.answer_range(&read, records, &end, SkipReason::Damaged),
            ReadPurpose::Number(read) => self.answer_number(&read, records),
            ReadPurpose::Refeed => self.on_refeed_chunk(records, &end),
            ReadPurpose::Cursor(target) => self.on_cursor_chunk(target, records, &end),
        }
    }

    /// A disk that takes no writes any more is believed nothing bad: what it does not give may be there at the next start.
    fn doubt_read(&mut self, purpose: ReadPurpose, turn: &mut Turn<'_>) {
        match purpose {
            ReadPurpose::LoadState(stream)
            | ReadPurpose::LoadSnapshot(stream)
            | ReadPurpose::LoadRecords(stream) => self.fail_load(stream, turn),
            purpose => self.refuse_read(purpose, turn),
        }
    }

    /// What was to be read waited for a commit that never comes.
    pub(crate) fn refuse_read(&mut self, purpose: ReadPurpose, turn: &mut Turn<'_>) {
        match purpose {
            ReadPurpose::LoadState(stream)
            | ReadPurpose::LoadSnapshot(stream)
            | ReadPurpose::LoadRecords(stream) => self.load_again(stream, turn),
            ReadPurpose::Drain(read) => self.answer_drain(&read, &[], &PageEnd::default()),
            ReadPurpose::Range(read) => self.refuse_unavailable(read.to, &read.origin, ReplyClass::Range),
            ReadPurpose::Number(read) => self.refuse_unavailable(read.to, &read.origin, ReplyClass::Command),
            ReadPurpose::Refeed | ReadPurpose::Cursor(_) => unreachable!("both read what is committed"),
        }
    }

    /// Nothing can be read of what was asked for. A queue and a client are told that it is gone, and do not ask again.
    fn on_read_failed(&mut self, purpose: ReadPurpose, error: ReadError, turn: &mut Turn<'_>) {
        let reason = match error {
            ReadError::Dropped(_) => SkipReason::Expired,
            ReadError::Damaged(_) | ReadError::Elsewhere(_) => SkipReason::Damaged,
        };
        let nothing = PageEnd { complete: true, ..PageEnd::default() };
        match purpose {
            ReadPurpose::LoadState(stream) => self.on_state_lost(stream, turn),
            ReadPurpose::LoadRecords(stream) => self.on_load_records(stream, &[], &nothing, turn),
            // Another snapshot is made; until then nothing is known of what this one held.
            ReadPurpose::LoadSnapshot(stream) => self.fail_load(stream, turn),
            ReadPurpose::Drain(read) => self.answer_drain(&read, &[], &nothing),
            ReadPurpose::Range(read) => self.answer_range(&read, &[], &nothing, reason),
            // It was taken; what it was answered with is lost, or too old.
            ReadPurpose::Number(read) => self.acknowledge_old(&read, Sequence(0), WallMs(0)),
            ReadPurpose::Refeed | ReadPurpose::Cursor(_) => {
                unreachable!("a scan goes round what it cannot read")
            }
        }
    }
}

/// Whether a read met what is not as it was written.
const fn met_damage(result: &Result<PageEnd, ReadError>) -> bool {
    match result {
        Ok(end) => end.damaged > 0,
        Err(error) => matches!(error, ReadError::Damaged(_)),
    }
}
