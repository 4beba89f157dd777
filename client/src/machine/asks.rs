//! Requests that wait for an answer and are no commands. Bounded, so a list is searched.

use crate::event::RequestHandle;
use crate::limits::{ANSWER_WAIT_NS, RANGES_IN_FLIGHT_MAX, REQUESTS_MAX};
use tidegate_ids::{ClientId, ConversationId, MonotonicNs, Sequence};
use tidegate_schema::{GetRange, MembersGet};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Asks {
    list: Vec<Ask>,
    /// The last id of this connection.
    last_id: u64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    /// 0: not sent yet.
    pub(crate) id: u64,
    pub(crate) what: What,
    pub(crate) deadline: MonotonicNs,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum What {
    Hello,
    /// A page of the list, to synchronise.
    List,
    /// A page of the list, because something changed.
    /// A page of it is after this conversation.
    Changes(Option<ConversationId>),
    Refresh,
    /// A hole: conversation index, and up to where.
    Hole {
        conversation: u32,
        to: Sequence,
    },
    Create(ClientId),
    History(RequestHandle, GetRange),
    Members(RequestHandle, MembersGet),
}

impl What {
    /// Whether it is one of those of which the gateway takes two at a time.
    const fn is_range(&self) -> bool {
        matches!(self, Self::Hole { .. } | Self::History(..) | Self::Members(..))
    }
}

impl Asks {
    pub(crate) fn connected(&mut self) {
        self.last_id = 0;
    }

    /// A fresh id of this connection.
    pub(crate) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// A request that is being sent: its id.
    pub(crate) fn sent(&mut self, what: What, now: MonotonicNs) -> u64 {
        let id = self.next_id();
        self.list.push(Ask { id, what, deadline: now.after(ANSWER_WAIT_NS) });
        id
    }

    /// A request of the application, sent with the next transmission; `false`: there are too many.
    pub(crate) fn queue(&mut self, what: What, now: MonotonicNs) -> bool {
        let waiting = |ask: &&Ask| matches!(ask.what, What::History(..) | What::Members(..));
        if self.list.iter().filter(waiting).count() >= REQUESTS_MAX {
            return false;
        }
        self.list.push(Ask { id: 0, what, deadline: now.after(ANSWER_WAIT_NS) });
        true
    }

    /// The next request that may be sent now: it gets its id.
    pub(crate) fn take_unsent(&mut self, now: MonotonicNs) -> Option<Ask> {
        let range_is_free = self.has_free_range();
        let may = |ask: &Ask| ask.id == 0 && (range_is_free || !ask.what.is_range());
        let place = self.list.iter().position(may)?;
        let id = self.next_id();
        let ask = &mut self.list[place];
        ask.id = id;
        ask.deadline = now.after(ANSWER_WAIT_NS);
        Some(*ask)
    }

    /// Whether another `GetRange` or `MembersGet` may be in flight.
    pub(crate) fn has_free_range(&self) -> bool {
        let ranges = |ask: &&Ask| ask.id > 0 && ask.what.is_range();
        self.list.iter().filter(ranges).count() < RANGES_IN_FLIGHT_MAX
    }

    /// The request that an answer is for.
    pub(crate) fn take(&mut self, id: u64) -> Option<What> {
        let place = self.list.iter().position(|ask| ask.id == id && id > 0)?;
        Some(self.list.remove(place).what)
    }

    pub(crate) fn take_expired(&mut self, now: MonotonicNs) -> Option<What> {
        let place = self.list.iter().position(|ask| ask.deadline <= now)?;
        Some(self.list.remove(place).what)
    }

    pub(crate) fn take_any(&mut self) -> Option<What> {
        self.list.pop().map(|ask| ask.what)
    }

    pub(crate) fn holds(&self, is: impl Fn(&What) -> bool) -> bool {
        self.list.iter().any(|ask| is(&ask.what))
    }

    pub(crate) fn wake(&self) -> Option<MonotonicNs> {
        self.list.iter().map(|ask| ask.deadline).min()
    }
}
