//! What the application says besides commands: requests that are answered once or not at all, and notices without an
//! answer. Neither outlives the connection, but for marks.

use super::Machine;
use super::asks::What;
use crate::error::RequestError;
use crate::event::RequestHandle;
use crate::limits::TYPING_MAX;
use tidegate_ids::{ConversationId, MonotonicNs, Sequence, UserId};
use tidegate_schema::limits::{MEMBER_ROWS_MAX, RANGE_RECORDS_MAX};
use tidegate_schema::{ClientState, CloseCode, GetRange, MembersGet, RangeSpan, Typing};

/// Frames without an answer that the next transmission takes along.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    pub(crate) refresh: bool,
    pub(crate) state: bool,
    pub(crate) ping: bool,
    /// Ids of the gateway's pings; the last one is enough.
    pub(crate) pong: Option<u64>,
    pub(crate) typing: Vec<Typing>,
    /// Payload of a WebSocket ping.
    pub(crate) socket_pong: Option<Box<[u8]>>,
    pub(crate) close: Option<CloseCode>,
    last_handle: u64,
}

impl Notices {
    pub(crate) fn disconnected(&mut self) {
        *self = Self { last_handle: self.last_handle, ..Self::default() };
    }

    pub(crate) fn close(&mut self, code: CloseCode) {
        self.close = Some(code);
    }

    fn next_handle(&mut self) -> RequestHandle {
        self.last_handle += 1;
        RequestHandle(self.last_handle)
    }
}

impl Machine {
    /// Asks for records, for instance to page back. Answered by `History` or `RequestFailed`; does not concern what is
    /// delivered.
    ///
    /// # Errors
    /// [`RequestError`]; nothing was asked.
    pub fn history(
        &mut self,
        conversation: ConversationId,
        span: RangeSpan,
        limit: u16,
        now: MonotonicNs,
    ) -> Result<RequestHandle, RequestError> {
        if limit == 0 || limit > RANGE_RECORDS_MAX {
            return Err(RequestError::BadLimit);
        }
        self.request(now, |handle| What::History(handle, GetRange { conversation, span, limit }))
    }

    /// Asks for members of a group. Answered by `Members` or `RequestFailed`.
    ///
    /// # Errors
    /// [`RequestError`]; nothing was asked.
    pub fn members(
        &mut self,
        conversation: ConversationId,
        after: Option<UserId>,
        limit: u16,
        now: MonotonicNs,
    ) -> Result<RequestHandle, RequestError> {
        if limit == 0 || limit > MEMBER_ROWS_MAX {
            return Err(RequestError::BadLimit);
        }
        self.request(now, |handle| What::Members(handle, MembersGet { conversation, after, limit }))
    }

    fn request(
        &mut self,
        now: MonotonicNs,
        what: impl FnOnce(RequestHandle) -> What,
    ) -> Result<RequestHandle, RequestError> {
        if !self.is_ready() {
            return Err(RequestError::NotReady);
        }
        let handle = self.notices.next_handle();
        if !self.asks.queue(what(handle), now) {
            return Err(RequestError::TooMany);
        }
        self.stirred = true;
        self.wake_at(now.after(crate::limits::ANSWER_WAIT_NS));
        Ok(handle)
    }

    /// The user has read up to here. Told at once, and again after a reconnect.
    pub fn mark_read(&mut self, conversation: &ConversationId, read: Sequence) {
        if let Some(index) = self.table.enter(conversation) {
            self.marks.raise(index as u32, Sequence(0), read);
            self.stirred = true;
        }
    }

    /// What the person does now; changes the heartbeat.
    pub fn set_state(&mut self, state: ClientState) {
        if self.state == state {
            return;
        }
        self.state = state;
        if self.link.phase.is_welcome() {
            self.notices.state = true;
            self.stirred = true;
            self.schedule_ping();
        }
    }

    /// The user types, or has stopped. Dropped if there is no connection.
    pub fn typing(&mut self, conversation: ConversationId, active: bool) {
        if !self.is_ready() {
            return;
        }
        if self.notices.typing.len() >= TYPING_MAX {
            self.notices.typing.remove(0);
        }
        self.notices.typing.push(Typing { conversation, user: self.user, active });
        self.stirred = true;
    }
}
