//! A conversation's home: judges commands against what is appended, and answers with the commit.

use crate::append::Accepted;
use crate::commit::Waiting;
use crate::counters::Counter;
use crate::limits::{DRAIN_RECORDS_MAX, RETRY_AFTER_MS};
use crate::load::Waiter;
use crate::mesh_frame::{MemberCommand, Origin, Outcome, ReplyClass, Request, Row};
use crate::reads::{DrainRead, NumberRead, ReadPurpose};
use crate::records::Sequenced;
use crate::shard::{Shard, Turn};
use crate::streams::HotConversation;
use tidegate_domain::{
    Answer, Change, Conversation, DUPLICATES_ANSWERED_MAX, LastCommand, NumberVerdict, Reject,
};
use tidegate_ids::{
    ClientId, CommandNumber, ConversationId, MessageId, Sequence, ShardIndex, StreamId, UserId, WallMs,
};
use tidegate_schema::{
    Error, ErrorCode, GroupChange, GroupCreated, List, MessageFields, MessageKind, SendAck,
};
use tidegate_storage_log::{AppendError, Direction, PageEnd, ReadSpec};

impl Shard {
    /// Whether there is a place to hold the answer of one more request, and for it to wait for a cold stream.
    pub(crate) fn can_take_request(&self) -> bool {
        self.has_place_for_answer()
            && self.loads.parked() < self.limits.parked_max
            && self.reads.len() < self.limits.parked_max
    }

    /// Takes one request that was popped from its ring.
    pub(crate) fn on_request(&mut self, from: ShardIndex, frame: &[u8], turn: &mut Turn<'_>) {
        let Some(request) = Request::decode(frame) else {
            unreachable!("both ends of the mesh are this process")
        };
        let Some(conversation) = request.conversation() else { return self.on_hand_over(&request, turn) };
        if self.streams.conversations.contains(conversation) {
            return self.on_home_request(from, &request, turn);
        }
        let stream = StreamId::conversation(*conversation);
        if self.streams.may_exist(&stream) || self.loads.is_loading(&stream) {
            let mut copy = self.buffer();
            copy.extend_from_slice(frame);
            return self.wait_for(stream, Waiter::Request(from, copy), turn);
        }
        if self.insert_conversation(HotConversation::new(*conversation), turn) {
            self.on_home_request(from, &request, turn);
        } else {
            self.refuse(from, &request, ErrorCode::Overloaded, CommandNumber(0));
        }
    }

    /// A request whose conversation could not be loaded.
    pub(crate) fn refuse_request(&mut self, from: ShardIndex, frame: &[u8]) {
        let Some(request) = Request::decode(frame) else { unreachable!("it was decoded before it waited") };
        self.refuse(from, &request, ErrorCode::Unavailable, CommandNumber(0));
    }

    fn on_home_request(&mut self, from: ShardIndex, request: &Request<'_>, turn: &mut Turn<'_>) {
        match *request {
            Request::Send { .. } | Request::Create { .. } | Request::Members { .. } => {
                self.on_command(from, request, turn);
            }
            Request::Drain { origin, conversation, from: at } => {
                self.on_drain(from, origin, conversation, at);
            }
            Request::Range { .. } => self.on_range(from, request),
            Request::MembersGet { .. } => self.on_members_get(from, request),
            Request::Row { origin, conversation } => self.on_row_request(from, &origin, &conversation),
            Request::HandOver { .. } => unreachable!("a hand-over names no conversation"),
        }
    }

    fn on_command(&mut self, from: ShardIndex, request: &Request<'_>, turn: &mut Turn<'_>) {
        let judged = match *request {
            Request::Send { .. } => self.command_send(from, request, turn),
            Request::Create { .. } => self.command_create(from, request, turn),
            _ => self.command_members(from, request, turn),
        };
        match judged {
            Ok(()) => {}
            // What is not committed may be in the log all the same: only the next start can judge by it.
            Err(_) if self.latched => {
                self.refuse(from, request, ErrorCode::Unavailable, CommandNumber(0));
            }
            Err(Refusal::Rule(reject)) => {
                let (code, expected) = code_of(reject);
                self.refuse(from, request, code, expected);
            }
            Err(Refusal::Log(AppendError::TooLarge)) => {
                self.refuse(from, request, ErrorCode::TooLarge, CommandNumber(0));
            }
            Err(refusal @ (Refusal::Log(_) | Refusal::Full)) => {
                self.no_segment |= matches!(refusal, Refusal::Log(AppendError::NoSegment));
                self.refuse(from, request, ErrorCode::Overloaded, CommandNumber(0));
            }
        }
    }

    fn command_send(
        &mut self,
        from: ShardIndex,
        request: &Request<'_>,
        turn: &mut Turn<'_>,
    ) -> Result<(), Refusal> {
        let &Request::Send { origin, conversation, number, client_id, countable, message } = request else {
            unreachable!("the caller matched it")
        };
        let verdict = self.hot(&conversation).decide_send(origin.author(), number)?;
        let change = Change::Message { countable };
        let command = Command { origin, conversation, number, client_id };
        self.accept(from, &command, verdict, change, message, turn)
    }

    fn command_members(
        &mut self,
        from: ShardIndex,
        request: &Request<'_>,
        turn: &mut Turn<'_>,
    ) -> Result<(), Refusal> {
        let &Request::Members { origin, conversation, number, client_id, command } = request else {
            unreachable!("the caller matched it")
        };
        let author = origin.author();
        let hot = self.hot(&conversation);
        let (verdict, users) = match command {
            MemberCommand::Add { version, users } => {
                let users: Vec<UserId> = users.iter().collect();
                hot.decide_add(author, number, version, &users, &self.limits.domain)?
            }
            MemberCommand::Remove { version, users } => {
                let users: Vec<UserId> = users.iter().collect();
                hot.decide_remove(author, number, version, &users)?
            }
            MemberCommand::Leave => (hot.decide_leave(author, number)?, vec![author.user]),
        };
        let (change, told) = match command {
            MemberCommand::Add { .. } => (Change::Added { users: &users }, tidegate_schema::Change::Added),
            MemberCommand::Remove { .. } => {
                (Change::Removed { users: &users }, tidegate_schema::Change::Removed)
            }
            MemberCommand::Leave => (Change::Left, tidegate_schema::Change::Left),
        };
        let message = self.system_message(told, author.user, &users, &[])?;
        let command = Command { origin, conversation, number, client_id };
        self.accept(from, &command, verdict, change, &message, turn)
    }

    fn command_create(
        &mut self,
        from: ShardIndex,
        request: &Request<'_>,
        turn: &mut Turn<'_>,
    ) -> Result<(), Refusal> {
        let &Request::Create { origin, conversation, client_id, name, users } = request else {
            unreachable!("the caller matched it")
        };
        let author = origin.author();
        let users: Vec<UserId> = users.iter().collect();
        let members =
            self.hot(&conversation).decide_create(author, client_id, &users, &self.limits.domain)?;
        let duplicate = members.is_none();
        if let Some(members) = members {
            self.may_append(&conversation)?;
            let message =
                self.system_message(tidegate_schema::Change::Created, author.user, &members, name)?;
            let accepted = Accepted {
                conversation,
                author,
                number: CommandNumber(0),
                previous: tidegate_ids::Location::NONE,
                client_id,
                change: Change::Created { client_id, users: &members },
                message: &message,
            };
            self.append_command(&accepted, turn.now.wall)?;
        }
        let body = GroupCreated {
            conversation,
            member_version: self.hot(&conversation).member_version.0,
            sequence: Sequence::FIRST,
            duplicate,
        };
        let mut frame = self.buffer();
        self.encoder.frame(&mut frame, origin.request.0, 0, &body);
        self.reply(from, &origin, ReplyClass::Command, &frame);
        self.recycle(frame);
        Ok(())
    }

    /// Appends a command that is the next, or looks up the answer of one that was taken.
    fn accept(
        &mut self,
        from: ShardIndex,
        command: &Command,
        verdict: NumberVerdict,
        change: Change<'_>,
        message: &[u8],
        turn: &mut Turn<'_>,
    ) -> Result<(), Refusal> {
        match verdict {
            NumberVerdict::Duplicate { last } => {
                self.stats.count(Counter::Duplicates);
                self.look_up(from, command, last);
                Ok(())
            }
            NumberVerdict::Next { previous } => {
                self.may_append(&command.conversation)?;
                let accepted = Accepted {
                    conversation: command.conversation,
                    author: command.origin.author(),
                    number: command.number,
                    previous,
                    client_id: command.client_id,
                    change,
                    message,
                };
                let appended = self.append_command(&accepted, turn.now.wall)?;
                let ack = SendAck {
                    sequence: appended.sequence,
                    message_id: appended.message_id,
                    time: appended.time,
                    duplicate: false,
                    index: command.origin.index,
                };
                self.acknowledge_command(from, &command.origin, &ack);
                Ok(())
            }
        }
    }

    fn acknowledge_command(&mut self, to: ShardIndex, origin: &Origin, ack: &SendAck) {
        let mut frame = self.buffer();
        self.encoder.frame(&mut frame, origin.request.0, 0, ack);
        self.reply(to, origin, ReplyClass::Command, &frame);
        self.recycle(frame);
    }

    /// A duplicate gets the original answer, looked up by number, with the commit of everything appended by now; one
    /// further back than clients resend gets sequence 0.
    fn look_up(&mut self, to: ShardIndex, command: &Command, last: LastCommand) {
        let origin = command.origin;
        let (number, client_id) = (command.number, command.client_id);
        let read = NumberRead { to, origin, client_id, expected: last.number.next() };
        if last.number.0 - command.number.0 >= DUPLICATES_ANSWERED_MAX {
            return self.acknowledge_old(&read, Sequence(0), WallMs(0));
        }
        let stream = StreamId::conversation(command.conversation);
        let spec = ReadSpec::Number { stream, last: last.location, number };
        self.after_commit(Waiting::Read(ReadPurpose::Number(read), spec));
    }

    /// A duplicate whose original answer is not there any more: taken it was; the sequence is 0 if that is not known either.
    pub(crate) fn acknowledge_old(&mut self, read: &NumberRead, sequence: Sequence, time: WallMs) {
        let index = read.origin.index;
        let ack = SendAck { sequence, message_id: MessageId::default(), time, duplicate: true, index };
        self.acknowledge_command(read.to, &read.origin, &ack);
    }

    /// The original record of a duplicate was read, or is not found. Taken the command was: its number is not the next.
    pub(crate) fn answer_number(&mut self, read: &NumberRead, records: &[u8]) {
        let record = self.served(records).next();
        if let Some(hole) = record.as_ref().filter(|record| record.is_hole()) {
            return self.acknowledge_old(read, hole.head.sequence, hole.head.time);
        }
        let Some(original) = record.as_ref().and_then(Sequenced::read) else {
            return self.acknowledge_old(read, Sequence(0), WallMs(0));
        };
        if original.client_id == read.client_id {
            let ack = SendAck {
                sequence: original.stamp.sequence,
                message_id: original.stamp.message_id,
                time: original.stamp.time,
                duplicate: true,
                index: read.origin.index,
            };
            return self.acknowledge_command(read.to, &read.origin, &ack);
        }
        let code = ErrorCode::IdempotencyConflict;
        let error = Error { expected_number: read.expected, index: read.origin.index, ..Error::new(code) };
        let mut frame = self.buffer();
        self.encoder.frame(&mut frame, read.origin.request.0, 0, &error);
        self.stats.error(code);
        self.reply(read.to, &read.origin, ReplyClass::Command, &frame);
        self.recycle(frame);
    }

    /// A queue asks for the next piece of a range: what is owed from here on, at most 64 records of one stay.
    fn on_drain(&mut self, to: ShardIndex, origin: Origin, conversation: ConversationId, from: Sequence) {
        let hot = self.hot(&conversation);
        let head = hot.last;
        let owed = hot.first_owed(origin.user, from, head);
        let all = Answer { conversation, from, covered: head, complete: true };
        let Some((start, end)) = owed else {
            let outcome = Outcome::Answer { origin, answer: all, dirty: false, records: &[] };
            return self.result_after_commit(to, &outcome);
        };
        if hot.owed_count(origin.user, from, head) > DRAIN_RECORDS_MAX {
            let outcome = Outcome::Answer { origin, answer: all, dirty: true, records: &[] };
            return self.result_after_commit(to, &outcome);
        }
        // Up to the next sequence that is owed everything is covered once `end` is.
        let next = hot.first_owed(origin.user, end.next(), head);
        let covered = next.map_or(head, |(next, _)| Sequence(next.0 - 1));
        let answer = Answer { conversation, from, covered, complete: covered == head };
        let spec = self.range_spec(&conversation, start, end, DRAIN_RECORDS_MAX as u32, Direction::Ascending);
        self.after_commit(Waiting::Read(ReadPurpose::Drain(DrainRead { to, origin, answer }), spec));
    }

    /// A piece of a range was read.
    pub(crate) fn answer_drain(&mut self, read: &DrainRead, records: &[u8], end: &PageEnd) {
        let mut stored = self.buffer();
        for record in self.served(records) {
            if let Some(sequenced) = Sequenced::read(&record) {
                stored.extend_from_slice(sequenced.stored);
            }
        }
        let mut answer = read.answer;
        if !end.complete {
            answer.covered = end.last.max(Sequence(answer.from.0.saturating_sub(1)));
            answer.complete = false;
        }
        let outcome = Outcome::Answer { origin: read.origin, answer, dirty: false, records: &stored };
        self.result_now(read.to, &outcome);
        self.recycle(stored);
    }

    /// A read of committed records: the conversation's newest record at this moment is where its links begin.
    pub(crate) fn range_spec(
        &self,
        conversation: &ConversationId,
        from: Sequence,
        to: Sequence,
        limit: u32,
        direction: Direction,
    ) -> ReadSpec {
        let Some(hot) = self.streams.conversations.get(conversation) else {
            unreachable!("requests are handled once their conversation is hot")
        };
        ReadSpec::Range {
            stream: StreamId::conversation(*conversation),
            last: hot.spine.last(),
            last_sequence: hot.conversation.last,
            from,
            to,
            limit,
            bytes_max: self.limits.answer_bytes_max(),
            direction,
        }
    }

    fn on_row_request(&mut self, to: ShardIndex, origin: &Origin, conversation: &ConversationId) {
        let hot = self.hot(conversation);
        let numbers = hot.numbers.last(origin.user, origin.device);
        let stays = hot.membership.stays_of(origin.user);
        let row = Row {
            head: hot.last,
            last_number: numbers.map_or(CommandNumber(0), |last| last.number),
            last_activity: hot.time,
            joined: stays.first().map_or(Sequence::FIRST, |stay| stay.interval.joined),
        };
        let row = Outcome::Row { origin: *origin, conversation: *conversation, row: Some(row) };
        self.result_after_commit(to, &row);
    }

    /// The fold of a conversation that is hot.
    pub(crate) fn hot(&self, conversation: &ConversationId) -> &Conversation {
        let Some(hot) = self.streams.conversations.get(conversation) else {
            unreachable!("requests are handled once their conversation is hot")
        };
        &hot.conversation
    }

    /// Whether a new command may go into the log at all.
    fn may_append(&mut self, conversation: &ConversationId) -> Result<(), Refusal> {
        if self.latched {
            return Err(Refusal::Log(AppendError::Failed));
        }
        if self.low_space {
            self.stats.count(Counter::RefusedForSpace);
            return Err(Refusal::Full);
        }
        if self.streams.knows_or_has_place(&StreamId::conversation(*conversation)) {
            return Ok(());
        }
        self.stats.count(Counter::RefusedForStreams);
        Err(Refusal::Full)
    }

    fn system_message(
        &mut self,
        change: tidegate_schema::Change,
        actor: UserId,
        users: &[UserId],
        name: &[u8],
    ) -> Result<Vec<u8>, Refusal> {
        let too_large = |_| Refusal::Log(AppendError::TooLarge);
        let (mut body, mut message) = (Vec::new(), Vec::new());
        let told = GroupChange { change, actor, users: List::new(users), name };
        self.encoder.group_change(&mut body, &told).map_err(too_large)?;
        let fields = MessageFields { kind: MessageKind::System, body: &body, ..MessageFields::default() };
        self.encoder.message(&mut message, &fields).map_err(too_large)?;
        Ok(message)
    }

    /// Sends a whole frame back to the origin's connection, with the commit.
    pub(crate) fn reply(&mut self, to: ShardIndex, origin: &Origin, class: ReplyClass, frame: &[u8]) {
        self.result_after_commit(to, &Outcome::Reply { origin: *origin, class, frame });
    }

    /// Refuses a request, with the commit.
    pub(crate) fn refuse(
        &mut self,
        to: ShardIndex,
        request: &Request<'_>,
        code: ErrorCode,
        expected_number: CommandNumber,
    ) {
        match *request {
            Request::HandOver { .. } => {}
            Request::Drain { origin, conversation, from } => {
                // Nothing is covered: the queue asks again.
                let covered = Sequence(from.0.saturating_sub(1));
                let answer = Answer { conversation, from, covered, complete: false };
                self.result_after_commit(to, &Outcome::Answer { origin, answer, dirty: false, records: &[] });
            }
            Request::Row { origin, conversation } => {
                self.result_after_commit(to, &Outcome::Row { origin, conversation, row: None });
            }
            _ => {
                let range = matches!(request, Request::Range { .. } | Request::MembersGet { .. });
                let class = if range { ReplyClass::Range } else { ReplyClass::Command };
                self.refuse_origin(to, request.origin(), class, code, expected_number);
            }
        }
    }

    pub(crate) fn refuse_origin(
        &mut self,
        to: ShardIndex,
        origin: &Origin,
        class: ReplyClass,
        code: ErrorCode,
        expected_number: CommandNumber,
    ) {
        self.stats.count(Counter::Refused);
        self.stats.error(code);
        let mut frame = self.buffer();
        let passes = matches!(code, ErrorCode::Overloaded | ErrorCode::Unavailable);
        let retry_after_ms = if passes { RETRY_AFTER_MS } else { 0 };
        let error = Error { expected_number, retry_after_ms, index: origin.index, ..Error::new(code) };
        self.encoder.frame(&mut frame, origin.request.0, 0, &error);
        self.reply(to, origin, class, &frame);
        self.recycle(frame);
    }

    pub(crate) fn refuse_unavailable(&mut self, to: ShardIndex, origin: &Origin, class: ReplyClass) {
        self.refuse_origin(to, origin, class, ErrorCode::Unavailable, CommandNumber(0));
    }
}

/// What identifies a numbered command.
#[derive(Clone, Copy, Debug)]
struct Command {
    origin: Origin,
    conversation: ConversationId,
    number: CommandNumber,
    client_id: ClientId,
}

/// Why a command was not appended.
#[derive(Clone, Copy, Debug)]
enum Refusal {
    Rule(Reject),
    Log(AppendError),
    /// The table of streams is full, or the disk nearly.
    Full,
}

impl From<Reject> for Refusal {
    fn from(reject: Reject) -> Self {
        Self::Rule(reject)
    }
}

impl From<AppendError> for Refusal {
    fn from(error: AppendError) -> Self {
        Self::Log(error)
    }
}

/// PROTOCOL's code of a refusal.
pub(crate) const fn code_of(reject: Reject) -> (ErrorCode, CommandNumber) {
    let none = CommandNumber(0);
    match reject {
        Reject::OutOfOrder { expected } => (ErrorCode::OutOfOrder, expected),
        Reject::IdempotencyConflict { expected } => (ErrorCode::IdempotencyConflict, expected),
        Reject::NoConversation => (ErrorCode::NoConversation, none),
        Reject::NotMember => (ErrorCode::NotMember, none),
        Reject::GroupFull => (ErrorCode::GroupFull, none),
        Reject::VersionConflict => (ErrorCode::VersionConflict, none),
        Reject::Forbidden => (ErrorCode::Forbidden, none),
        Reject::BadArgument => (ErrorCode::BadArgument, none),
        Reject::Quota => (ErrorCode::Quota, none),
    }
}
