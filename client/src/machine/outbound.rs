//! State into bytes: the only place that encodes.

use super::Machine;
use super::asks::What;
use super::link::{Fate, Phase};
use crate::event::StopReason;
use crate::limits::{ANSWER_WAIT_NS, PROTOCOL_VERSION, SUBPROTOCOL, TRANSMIT_BYTES, UNANSWERED_TOTAL_MAX};
use crate::request::{NO_ANSWER, command_id};
use crate::stored::Command;
use tidegate_ids::{ClientId, CommandNumber, ConversationId, MonotonicNs, Sequence};
use tidegate_schema::limits::{CREDIT_FRAMES_MAX, RANGE_RECORDS_MAX, UNANSWERED_MAX};
use tidegate_schema::{
    ClientFrame, Encoder, FrameHeader, GetRange, GroupCreate, Hello, Leave, List, Mark, MembersAdd,
    MembersChange, MembersRemove, RangeSpan, Refresh, Send,
};
use tidegate_ws::{client, encode};

/// The frames of one WebSocket message.
struct Payload<'o> {
    out: &'o mut Vec<u8>,
    encoder: &'o mut Encoder,
    start: usize,
    frames: usize,
    frames_max: usize,
}

impl Payload<'_> {
    fn is_full(&self) -> bool {
        self.frames >= self.frames_max || self.out.len() - self.start >= TRANSMIT_BYTES
    }

    fn frame(&mut self, id: u64, frame: &ClientFrame<'_>) {
        frame.encode(self.encoder, self.out, id);
        self.frames += 1;
    }

    fn body<B: tidegate_schema::Body>(&mut self, id: u64, body: &B) {
        self.encoder.frame(self.out, id, 0, body);
        self.frames += 1;
    }
}

impl Machine {
    /// Whether [`Machine::transmit`] may have something to append.
    #[must_use]
    pub const fn wants_transmit(&self) -> bool {
        self.stirred
    }

    /// Appends what is to be written: at most one message of about 64 KiB. Call it again while
    /// [`Machine::wants_transmit`], once the socket has taken what is there. One encoder serves all machines of a thread.
    pub fn transmit(&mut self, encoder: &mut Encoder, out: &mut Vec<u8>, now: MonotonicNs) {
        if !self.stirred {
            return;
        }
        self.stirred = false;
        match self.link.phase {
            Phase::Upgrading(key) => self.ask_upgrade(key, out),
            Phase::Greeting | Phase::Syncing | Phase::Ready => self.transmit_frames(encoder, out, now),
            Phase::Ending => {
                if let Some(code) = self.notices.close.take() {
                    let code = tidegate_ws::CloseCode::new(code.0);
                    encode::close(out, code, "", Some(self.random.mask()));
                }
            }
            Phase::Stopped(_)
            | Phase::NeedsToken
            | Phase::Waiting(_)
            | Phase::Opening
            | Phase::Upgraded(_) => {}
        }
    }

    fn ask_upgrade(&mut self, key: [u8; 16], out: &mut Vec<u8>) {
        let (host, path) = (&self.config.host, &self.config.path);
        let request = client::Request { host, path, key, protocols: &[SUBPROTOCOL], fields: &[] };
        match client::request(out, &request) {
            Ok(()) => self.link.phase = Phase::Upgraded(key),
            Err(_) => self.end(Fate::Stop(StopReason::Configuration)),
        }
    }

    fn transmit_frames(&mut self, encoder: &mut Encoder, out: &mut Vec<u8>, now: MonotonicNs) {
        if let Some(payload) = self.notices.socket_pong.take() {
            encode::pong(out, &payload, Some(self.random.mask()));
        }
        let open = encode::begin(out, Some(self.random.mask()));
        let (start, frames_max) = (out.len(), self.link.frames_max);
        let mut payload = Payload { out, encoder, start, frames: 0, frames_max };
        self.session_frames(&mut payload, now);
        if self.link.phase.is_welcome() {
            self.notice_frames(&mut payload);
            if let Some(push) = self.acks.take_due(now) {
                payload.out.extend_from_slice(&FrameHeader::ack(push).to_bytes());
                payload.frames += 1;
            }
        }
        if self.link.phase == Phase::Ready {
            self.ask_frames(&mut payload, now);
            self.hole_frames(&mut payload, now);
            self.mark_frames(&mut payload);
            self.creation_frames(&mut payload, now);
            self.command_frames(&mut payload, now);
        }
        if payload.frames == 0 {
            return open.cancel(out);
        }
        self.stirred |= payload.is_full();
        open.finish(out, tidegate_ws::Opcode::Binary);
        self.link.sent_at = now;
    }

    fn session_frames(&mut self, payload: &mut Payload<'_>, now: MonotonicNs) {
        if core::mem::take(&mut self.link.hello) {
            self.link.greets = true;
            let id = self.asks.sent(What::Hello, now);
            let hello = Hello {
                protocol_min: PROTOCOL_VERSION,
                protocol_max: PROTOCOL_VERSION,
                token: &self.token,
                device: self.device,
                attempt: self.attempt,
                platform: self.config.platform.as_bytes(),
                state: self.state,
                credit_frames: self.config.credit_frames.clamp(1, CREDIT_FRAMES_MAX),
            };
            payload.body(id, &hello);
            self.notices.state = false;
            self.wake_at(now.after(ANSWER_WAIT_NS));
        }
        let held = self.sync.as_ref().is_some_and(|sync| sync.hold_until > now);
        if let Some(page) =
            self.wanted_page().filter(|_| !held && !self.asks.holds(|what| *what == What::List))
        {
            let id = self.asks.sent(What::List, now);
            payload.body(id, &page);
            self.wake_at(now.after(ANSWER_WAIT_NS));
        }
    }

    fn notice_frames(&mut self, payload: &mut Payload<'_>) {
        if let Some(id) = self.notices.pong.take() {
            payload.frame(id, &ClientFrame::Pong);
        }
        if core::mem::take(&mut self.notices.ping) {
            let id = self.asks.next_id();
            payload.frame(id, &ClientFrame::Ping);
        }
        if core::mem::take(&mut self.notices.state) {
            payload.body(NO_ANSWER, &self.state);
        }
        for typing in self.notices.typing.drain(..) {
            payload.body(NO_ANSWER, &typing);
        }
    }

    fn ask_frames(&mut self, payload: &mut Payload<'_>, now: MonotonicNs) {
        if core::mem::take(&mut self.notices.refresh) {
            let id = self.asks.sent(What::Refresh, now);
            payload.body(id, &Refresh { token: &self.token });
        }
        while let Some(ask) = self.asks.take_unsent(now) {
            match &ask.what {
                What::History(_, range) => payload.body(ask.id, range),
                What::Members(_, members) => payload.body(ask.id, members),
                What::Changes(after) => payload.body(ask.id, &self.wanted_changes(*after)),
                _ => debug_assert!(false, "only requests of the application wait unsent"),
            }
        }
        if payload.frames > 0 {
            self.wake_at(now.after(ANSWER_WAIT_NS));
        }
    }

    /// Asks for the holes that are due, in turn, as many as may be in flight.
    fn hole_frames(&mut self, payload: &mut Payload<'_>, now: MonotonicNs) {
        while self.asks.has_free_range() {
            let Some(index) = self.holed.take_ready(now) else { return };
            let row = self.table.row(index as usize);
            let conversation = row.id;
            let Some((from, hole_to)) = row.hole() else { continue };
            let Some(holes) = &mut row.holes else { continue };
            holes.asked = true;
            // One page at a time, so that an answer without progress never costs more than a page.
            let to = hole_to.min(Sequence(from.0 + u64::from(RANGE_RECORDS_MAX) - 1));
            let id = self.asks.sent(What::Hole { conversation: index, to }, now);
            let span = RangeSpan::Between(from, to);
            payload.body(id, &GetRange { conversation, span, limit: RANGE_RECORDS_MAX });
            self.wake_at(now.after(ANSWER_WAIT_NS));
        }
    }

    fn mark_frames(&mut self, payload: &mut Payload<'_>) {
        if payload.is_full() {
            return;
        }
        for mark in self.marks.untold() {
            let conversation = self.table.row(mark.conversation as usize).id;
            payload.body(NO_ANSWER, &Mark { conversation, delivered: mark.delivered, read: mark.read });
            // One told too many is none lost: what does not fit goes with the next message.
            if payload.is_full() {
                break;
            }
        }
    }

    fn creation_frames(&mut self, payload: &mut Payload<'_>, now: MonotonicNs) {
        if self.link.throttled_until > now {
            return;
        }
        while !payload.is_full() {
            let Some(creation) = self.creations.take_ready(now) else { return };
            let id = self.asks.sent(What::Create(creation.client_id), now);
            let (client_id, name) = (creation.client_id, &creation.name[..]);
            payload.body(id, &GroupCreate { client_id, name, users: List::new(&creation.users) });
            self.wake_at(now.after(ANSWER_WAIT_NS));
        }
    }

    /// Commands, conversation by conversation; who could not finish goes first the next time.
    fn command_frames(&mut self, payload: &mut Payload<'_>, now: MonotonicNs) {
        if self.link.throttled_until > now {
            return;
        }
        let unanswered_max = usize::from(self.config.unanswered_max.clamp(1, UNANSWERED_MAX));
        let on_the_way =
            |index: &u32| self.table.get(*index as usize)?.outbox.as_ref().map(|outbox| outbox.sent());
        let mut free = UNANSWERED_TOTAL_MAX.saturating_sub(self.sending.iter().filter_map(on_the_way).sum());
        let mut sent = false;
        for place in 0..self.sending.len() {
            let index = self.sending[place] as usize;
            let row = self.table.row(index);
            let (conversation, first) = (row.id, row.number.0);
            let Some(outbox) = &mut row.outbox else { continue };
            while let Some(at) = outbox.ready(unanswered_max, now) {
                if payload.is_full() || free == 0 {
                    self.sending.rotate_left(place);
                    return self.wake_at(now.after(ANSWER_WAIT_NS));
                }
                free -= 1;
                let number = CommandNumber(first + at as u64);
                let id = command_id(index, outbox.flight(), number);
                if let Some((client_id, command)) = outbox.command(at) {
                    command_frame(payload, id, conversation, number, *client_id, command);
                }
                outbox.was_sent(at, now);
                sent = true;
            }
        }
        if sent {
            self.wake_at(now.after(ANSWER_WAIT_NS));
        }
    }
}

fn command_frame(
    payload: &mut Payload<'_>,
    id: u64,
    conversation: ConversationId,
    number: CommandNumber,
    client_id: ClientId,
    command: &Command,
) {
    match command {
        Command::Send(message) => payload.body(id, &Send { conversation, number, client_id, message }),
        Command::MembersAdd(change) => {
            let (member_version, users) = (change.member_version, List::new(&change.users[..]));
            payload.body(
                id,
                &MembersAdd(MembersChange { conversation, number, client_id, member_version, users }),
            );
        }
        Command::MembersRemove(change) => {
            let (member_version, users) = (change.member_version, List::new(&change.users[..]));
            let change = MembersChange { conversation, number, client_id, member_version, users };
            payload.body(id, &MembersRemove(change));
        }
        Command::Leave => payload.body(id, &Leave { conversation, number, client_id }),
    }
}
