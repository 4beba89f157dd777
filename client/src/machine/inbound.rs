//! Received bytes into changes of state and events.

use super::Machine;
use super::asks::What;
use super::link::{Fate, Phase, decoder};
use crate::event::{Event, RequestFailure, Sink, StopReason};
use crate::limits::{COUNT_MAX, FRUITLESS_MAX, MILLISECOND, RETRY_BASE_NS, RETRY_CAP_NS, SUBPROTOCOL};
use crate::order::Offered;
use crate::request::{Asked, NO_ANSWER, asked};
use core::mem;
use tidegate_ids::{MonotonicNs, PushNumber, Sequence};
use tidegate_schema::{
    Change, CloseCode, DecodeError, Deliver, Dirty, Error, ErrorCode, Frame, GroupChange, MessageFields,
    MessageKind, Range, ServerFrame, Skip, SkipReason, Throttle, ThrottleScope, frames,
};
use tidegate_ws::client::{ResponseError, parse_response};
use tidegate_ws::{Decoder, Item};

impl Machine {
    /// Bytes came from the socket; they are unmasked in place. Once what the events say is durable, and also if there
    /// were none, call [`Machine::stored`]; then [`Machine::transmit`].
    pub fn received(&mut self, input: &mut [u8], now: MonotonicNs, sink: &mut Sink<'_>) {
        self.link.received_at = now;
        let mut at = 0;
        if let Phase::Upgraded(key) = self.link.phase {
            let Some(consumed) = self.upgrade(input, &key) else { return };
            at = consumed;
        }
        if !self.link.phase.is_open() {
            return;
        }
        let mut decoder = mem::replace(&mut self.link.decoder, decoder());
        let mut held = mem::take(&mut self.link.held);
        self.items(&mut input[at..], &mut decoder, &mut held, now, sink);
        self.link.decoder = decoder;
        self.link.held = held;
        if self.link.decoder.is_idle() {
            self.link.held = Vec::new();
        }
    }

    /// Reads the response of the upgrade; gives how much of `input` it took once it is complete.
    fn upgrade(&mut self, input: &[u8], key: &[u8; 16]) -> Option<usize> {
        let before = self.link.held.len();
        let parsed = if before == 0 {
            parse_response(input, key, &[SUBPROTOCOL])
        } else {
            self.link.held.extend_from_slice(input);
            parse_response(&self.link.held, key, &[SUBPROTOCOL])
        };
        let accepted =
            parsed.map(|done| done.map(|done| (done.consumed, done.protocol == Some(SUBPROTOCOL))));
        match accepted {
            Ok(None) => {
                if before == 0 {
                    self.link.held.extend_from_slice(input);
                }
                None
            }
            Ok(Some((consumed, true))) => {
                self.link.held = Vec::new();
                self.link.phase = Phase::Greeting;
                self.link.hello = true;
                self.stirred = true;
                Some(consumed.saturating_sub(before))
            }
            Err(ResponseError::Refused(401 | 403)) => self.refused_upgrade(Fate::Token),
            Err(ResponseError::Refused(429 | 503)) => self.refused_upgrade(Fate::Crowded),
            Ok(Some((_, false))) | Err(_) => self.refused_upgrade(Fate::Retry),
        }
    }

    fn refused_upgrade(&mut self, fate: Fate) -> Option<usize> {
        self.end(fate);
        None
    }

    fn items(
        &mut self,
        input: &mut [u8],
        decoder: &mut Decoder,
        held: &mut Vec<u8>,
        now: MonotonicNs,
        sink: &mut Sink<'_>,
    ) {
        let mut at = 0;
        while self.link.phase.is_open() {
            let step = match decoder.decode(&mut input[at..], held) {
                Ok(step) => step,
                Err(error) => return self.fault(CloseCode(error.code().get())),
            };
            at += step.consumed;
            match step.item {
                None => return,
                Some(Item::Binary(payload)) => self.payload(payload, now, sink),
                Some(Item::Text(_)) => self.fault(CloseCode::UNSUPPORTED_DATA),
                Some(Item::Ping(payload)) => {
                    self.notices.socket_pong = Some(payload.into());
                    self.stirred = true;
                }
                Some(Item::Pong(_)) => {}
                Some(Item::Close { code, .. }) => {
                    self.notices.close(CloseCode::NORMAL);
                    self.closed_with(code.map(|code| code.get()));
                }
            }
        }
    }

    /// The gateway broke a rule. A fresh connection may do better; a lasting fault is met by the growing pause.
    fn fault(&mut self, code: CloseCode) {
        self.notices.close(code);
        self.end(Fate::Retry);
    }

    fn payload(&mut self, payload: &[u8], now: MonotonicNs, sink: &mut Sink<'_>) {
        for frame in frames(payload) {
            let Ok(frame) = frame else { return self.fault(CloseCode::PROTOCOL_ERROR) };
            if frame.header.is_numbered() {
                self.acks.received(PushNumber(frame.header.id));
            }
            match ServerFrame::decode(&frame) {
                Ok(body) if highest(&body) > COUNT_MAX => self.fault(CloseCode::PROTOCOL_ERROR),
                Ok(body) => self.frame(&frame, &body, now, sink),
                // A newer gateway says something that this client need not understand.
                Err(DecodeError::Unsupported(_)) => {}
                Err(_) => self.fault(CloseCode::PROTOCOL_ERROR),
            }
            if !self.link.phase.is_open() {
                return;
            }
        }
    }

    fn frame(&mut self, frame: &Frame<'_>, body: &ServerFrame<'_>, now: MonotonicNs, sink: &mut Sink<'_>) {
        let id = frame.header.id;
        match body {
            ServerFrame::Deliver(deliver) => self.deliver(deliver, PushNumber(id), now, sink),
            ServerFrame::SendAck(ack) => {
                if let Asked::Command { conversation, flight, number_low } = asked(id) {
                    self.command_acknowledged(conversation, (flight, number_low), ack, now, sink);
                }
            }
            ServerFrame::Welcome(welcome) => {
                if self.asks.take(id) == Some(What::Hello) {
                    self.greeted(welcome, now, sink);
                }
            }
            ServerFrame::Ping => {
                self.notices.pong = Some(id);
                self.stirred = true;
            }
            ServerFrame::Pong => {}
            ServerFrame::Error(error) => self.error(id, error, now, sink),
            ServerFrame::Throttle(throttle) => self.throttled(throttle, now, sink),
            ServerFrame::GoAway(go_away) => self.going_away(go_away, sink),
            ServerFrame::Dirty(dirty) => self.dirty(dirty, now, sink),
            ServerFrame::Skip(skip) => self.skip(skip, now, sink),
            ServerFrame::DrainDone => {
                sink(Event::DrainDone);
                self.ask_changes(now);
            }
            ServerFrame::Typing(typing) => sink(Event::Typing(typing)),
            ServerFrame::Receipts(receipts) => sink(Event::Receipts(receipts)),
            ServerFrame::ReadSync(read) => sink(Event::ReadSync(read)),
            ServerFrame::Ok
            | ServerFrame::Range(_)
            | ServerFrame::ConversationPage(_)
            | ServerFrame::GroupCreated(_)
            | ServerFrame::MembersPage(_) => self.answer(id, body, now, sink),
        }
    }

    /// An answer to a request that is no command. One that was given up meanwhile is dropped.
    fn answer(&mut self, id: u64, body: &ServerFrame<'_>, now: MonotonicNs, sink: &mut Sink<'_>) {
        let Some(what) = self.asks.take(id) else { return };
        self.stirred = true;
        match (what, body) {
            (What::Refresh, ServerFrame::Ok) => sink(Event::TokenTaken),
            (What::Hole { conversation, to }, ServerFrame::Range(range)) => {
                self.hole_answered(conversation as usize, to, range, now, sink);
            }
            (What::History(request, _), ServerFrame::Range(range)) => {
                sink(Event::History { request, range });
            }
            (What::Members(request, _), ServerFrame::MembersPage(page)) => {
                sink(Event::Members { request, page });
            }
            (What::List, ServerFrame::ConversationPage(page)) => self.list_page(page, now, sink),
            (What::Changes(after), ServerFrame::ConversationPage(page)) => {
                self.changes_page(after, page, now, sink);
            }
            (What::Create(client_id), ServerFrame::GroupCreated(created)) => {
                self.group_created(client_id, created, now, sink);
            }
            _ => self.fault(CloseCode::PROTOCOL_ERROR),
        }
    }

    /// A record was pushed.
    fn deliver(&mut self, deliver: &Deliver<'_>, push: PushNumber, now: MonotonicNs, sink: &mut Sink<'_>) {
        if deliver.stamp.sequence.0 == 0 {
            return self.fault(CloseCode::PROTOCOL_ERROR);
        }
        let Some(index) = self.table.enter(&deliver.stamp.conversation) else {
            return self.end(Fate::Stop(StopReason::TooManyConversations));
        };
        let was_waiting = self.table.row(index).is_waiting();
        if self.table.row(index).next.0 == 0 {
            self.find_beginning(index, Some(deliver), now, sink);
        }
        let hole_at = now.after(self.config.hole_wait_ns);
        let row = self.table.row(index);
        self.repeats += u64::from(deliver.stamp.sequence < row.next);
        let offered = row.offer(deliver, push, self.config.reorder_max, hole_at, sink);
        if was_waiting || offered != Offered::Given {
            self.note_holes(index, was_waiting);
        }
    }

    /// Where a conversation begins that nothing is known of: a direct one at 1, a group at the record that names this
    /// user. While the list is being paged, it will say.
    fn find_beginning(
        &mut self,
        index: usize,
        deliver: Option<&Deliver<'_>>,
        now: MonotonicNs,
        sink: &mut Sink<'_>,
    ) {
        if self.sync.is_some() {
            return;
        }
        let user = self.user;
        let row = self.table.row(index);
        if !row.id.is_group() {
            row.next = Sequence::FIRST;
            return;
        }
        let Some(deliver) = deliver else { return };
        let Ok(message) = MessageFields::verify(deliver.message) else { return };
        if message.kind != MessageKind::System {
            return;
        }
        let Ok(change) = GroupChange::verify(message.body) else { return };
        let named = change.users.iter().any(|named| named == user);
        let joins = match change.change {
            Change::Created => named || change.actor == user,
            Change::Added => named,
            _ => false,
        };
        if joins {
            row.begin(deliver.stamp.sequence, now, sink);
        }
    }

    fn dirty(&mut self, dirty: &Dirty, now: MonotonicNs, sink: &mut Sink<'_>) {
        let Some(index) = self.table.enter(&dirty.conversation) else {
            return self.end(Fate::Stop(StopReason::TooManyConversations));
        };
        let syncing = self.sync.is_some();
        let row = self.table.row(index);
        let was_waiting = row.is_waiting();
        if row.next.0 == 0 && !syncing {
            row.begin(dirty.from.max(Sequence::FIRST), now, sink);
        }
        row.want(dirty.head, dirty.mentions, now, sink);
        self.note_holes(index, was_waiting);
    }

    fn skip(&mut self, skip: &Skip, now: MonotonicNs, sink: &mut Sink<'_>) {
        let Some(index) = self.table.enter(&skip.conversation) else { return };
        if self.table.row(index).next.0 == 0 {
            self.find_beginning(index, None, now, sink);
        }
        let hole_at = now.after(self.config.hole_wait_ns);
        let row = self.table.row(index);
        let was_waiting = row.is_waiting();
        row.gap(skip.from, skip.to, skip.reason, hole_at, sink);
        self.note_holes(index, was_waiting);
    }

    fn hole_answered(
        &mut self,
        index: usize,
        to: Sequence,
        range: &Range<'_>,
        now: MonotonicNs,
        sink: &mut Sink<'_>,
    ) {
        self.link.silent_ranges = 0;
        let row = self.table.row(index);
        if range.conversation != row.id || row.next.0 == 0 {
            return self.fault(CloseCode::PROTOCOL_ERROR);
        }
        let was_waiting = row.is_waiting();
        let before = row.next;
        let again = |record: &Deliver<'_>| record.stamp.sequence < before;
        self.repeats += range.iter().map_while(Result::ok).filter(again).count() as u64;
        if let Some(holes) = &mut row.holes {
            holes.asked = false;
            holes.refusals = 0;
        }
        row.answer(to, range, FRUITLESS_MAX, now, sink);
        if let Some(holes) = row.holes.as_mut().filter(|holes| holes.fruitless > 0) {
            holes.due_at = now.after(RETRY_BASE_NS << holes.fruitless);
        }
        let next = row.next;
        if next > before {
            self.marks.fetched(index as u32, Sequence(next.0 - 1));
        }
        self.note_holes(index, was_waiting);
    }

    fn hole_refused(
        &mut self,
        index: usize,
        to: Sequence,
        error: &Error<'_>,
        now: MonotonicNs,
        sink: &mut Sink<'_>,
    ) {
        self.link.silent_ranges = 0;
        let row = self.table.row(index);
        let was_waiting = row.is_waiting();
        let Some(holes) = &mut row.holes else { return };
        holes.asked = false;
        if error.code.is_temporary() || error.temporary {
            let backoff = (RETRY_BASE_NS << holes.refusals.min(6)).min(RETRY_CAP_NS);
            holes.refusals = holes.refusals.saturating_add(1);
            holes.due_at = now.after(backoff.max(u64::from(error.retry_after_ms) * MILLISECOND));
        } else {
            let reason = match error.code {
                ErrorCode::NotMember | ErrorCode::Forbidden => SkipReason::NotMember,
                ErrorCode::SequenceUnavailable => SkipReason::Expired,
                _ => SkipReason::Unspecified,
            };
            row.give_up(to, reason, now, sink);
        }
        self.note_holes(index, was_waiting);
    }

    fn throttled(&mut self, throttle: &Throttle, now: MonotonicNs, sink: &mut Sink<'_>) {
        let until = now.after(u64::from(throttle.retry_after_ms) * MILLISECOND);
        if let (ThrottleScope::Conversation, Some(id)) = (throttle.scope, &throttle.conversation) {
            let index = self.table.find(id);
            let outbox = index.and_then(|index| self.table.row(index).outbox.as_mut());
            if let Some(outbox) = outbox {
                outbox.hold(until);
            }
        } else {
            self.link.throttled_until = self.link.throttled_until.max(until);
        }
        self.wake_at(until);
        sink(Event::Throttled(throttle));
    }

    fn error(&mut self, id: u64, error: &Error<'_>, now: MonotonicNs, sink: &mut Sink<'_>) {
        let what = match asked(id) {
            Asked::Command { conversation, flight, number_low } => {
                return self.command_refused(conversation, (flight, number_low), error, now, sink);
            }
            Asked::Other(NO_ANSWER) => return,
            Asked::Other(id) => self.asks.take(id),
        };
        self.stirred = true;
        let temporary = error.code.is_temporary() || error.temporary;
        let wait_ns = u64::from(error.retry_after_ms) * MILLISECOND;
        match what {
            Some(What::Hello) => self.hello_refused(error, sink),
            Some(What::List) if temporary => {
                let at = now.after(wait_ns.max(RETRY_BASE_NS));
                self.sync.iter_mut().for_each(|sync| sync.hold_until = at);
                self.wake_at(at);
            }
            Some(What::List) => self.fault(CloseCode::NORMAL),
            Some(What::Refresh) => sink(Event::TokenNeeded),
            Some(What::Changes(_)) => {}
            Some(What::Hole { conversation, to }) => {
                self.hole_refused(conversation as usize, to, error, now, sink);
            }
            Some(What::Create(client_id)) => self.creation_refused(client_id, error, now, sink),
            Some(What::History(request, _) | What::Members(request, _)) => {
                sink(Event::RequestFailed { request, failure: RequestFailure::Refused(error.code) });
            }
            None => self.connection_error(error, sink),
        }
    }

    /// An error that belongs to no request: the close frame that may follow decides, but a token is wanted at once.
    fn connection_error(&mut self, error: &Error<'_>, sink: &mut Sink<'_>) {
        sink(Event::Notice(error));
        if matches!(error.code, ErrorCode::Unauthenticated | ErrorCode::TokenExpired) {
            sink(Event::TokenNeeded);
        }
    }

    fn hello_refused(&mut self, error: &Error<'_>, sink: &mut Sink<'_>) {
        sink(Event::Notice(error));
        self.notices.close(CloseCode::NORMAL);
        let wait_ms = error.retry_after_ms;
        let fate = match error.code {
            ErrorCode::Unauthenticated | ErrorCode::TokenExpired => Fate::Token,
            ErrorCode::Suspended | ErrorCode::Forbidden => Fate::Stop(StopReason::Suspended),
            _ if wait_ms > 0 => Fate::Within(wait_ms, wait_ms.saturating_mul(2)),
            ErrorCode::Overloaded | ErrorCode::RateLimited | ErrorCode::Quota => Fate::Crowded,
            code if code.is_temporary() || error.temporary => Fate::Retry,
            _ => Fate::Stop(StopReason::Protocol),
        };
        self.end(fate);
    }
}

/// The highest sequence or command number that a frame says.
fn highest(body: &ServerFrame<'_>) -> u64 {
    match body {
        ServerFrame::Deliver(deliver) => deliver.stamp.sequence.0,
        ServerFrame::SendAck(ack) => ack.sequence.0,
        ServerFrame::Error(error) => error.expected_number.0,
        ServerFrame::Dirty(dirty) => dirty.from.max(dirty.head).0,
        ServerFrame::Skip(skip) => skip.from.max(skip.to).0,
        ServerFrame::GroupCreated(created) => created.sequence.0,
        ServerFrame::Range(range) => {
            let spans = range.skips.iter().map(|span| span.from.max(span.to)).max();
            range.head.max(range.first_available).max(spans.unwrap_or_default()).0
        }
        ServerFrame::ConversationPage(page) => {
            let rows = page.rows.iter();
            let highest = rows.map(|row| {
                let sequence = row.head.max(row.first_available).max(row.joined);
                sequence.0.max(row.last_number.0)
            });
            highest.max().unwrap_or(0)
        }
        _ => 0,
    }
}
