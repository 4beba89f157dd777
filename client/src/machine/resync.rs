//! Before the first command: paging the list of conversations (PROTOCOL, "Session").
//!
//! Needed when the gateway says so, and when this device's own state says that it has never done it. What is pushed in
//! the meantime to a conversation that is not known yet is held until the list says where it begins.

use super::Machine;
use super::asks::What;
use super::link::{Fate, Phase};
use crate::config::Backfill;
use crate::event::{ConnectionState, Event, Sink, StopReason};
use tidegate_ids::{ConversationId, Incarnation, MonotonicNs, Sequence, UserVersion, WallMs};
use tidegate_schema::limits::CONVERSATION_ROWS_MAX;
use tidegate_schema::{
    CloseCode, ConversationList, ConversationPage, ConversationRow, ListOrder, Resync, Welcome,
};

/// A list that is being paged.
#[derive(Debug)]
pub(crate) struct Sync {
    /// Records above the heads are gone; conversations that no page names are gone as a whole.
    restored: bool,
    incarnation: Incarnation,
    before: WallMs,
    after: Option<ConversationId>,
    /// Indexes of rows that a page named; only kept if `restored`.
    named: Vec<u32>,
    /// The next page is not asked for before this.
    pub(crate) hold_until: MonotonicNs,
    /// Pages without an answer, one after the other.
    pub(crate) silent: u8,
}

impl Machine {
    pub(crate) fn greeted(&mut self, welcome: &Welcome, now: MonotonicNs, sink: &mut Sink<'_>) {
        if self.link.phase != Phase::Greeting {
            return;
        }
        if self.user.0 > 0 && self.user != welcome.user {
            self.notices.close(CloseCode::NORMAL);
            return self.end(Fate::Stop(StopReason::AnotherUser));
        }
        self.user = welcome.user;
        self.welcomed(welcome, now);
        sink(Event::Welcomed(welcome));
        self.marks.connected();
        self.link.greets = false;
        let fresh = self.incarnation.0 == 0;
        let other = !fresh && self.incarnation != welcome.incarnation;
        if welcome.resync == Resync::None && !fresh && !other && !self.owes_sync {
            return self.ready(now, sink);
        }
        // The gateway asks once: from here on it knows this device, whatever becomes of the connection.
        self.owes_sync = true;
        self.link.phase = Phase::Syncing;
        self.sync = Some(Box::new(Sync {
            restored: welcome.resync == Resync::NewIncarnation || other,
            incarnation: welcome.incarnation,
            before: WallMs(0),
            after: None,
            named: Vec::new(),
            hold_until: MonotonicNs(0),
            silent: 0,
        }));
        self.stirred = true;
        sink(Event::State(ConnectionState::Syncing));
    }

    /// The page of the list that is to be asked for, while synchronising.
    pub(crate) fn wanted_page(&self) -> Option<ConversationList> {
        let sync = self.sync.as_ref()?;
        let order = ListOrder::LastActivity(sync.before);
        Some(ConversationList { order, after: sync.after, limit: CONVERSATION_ROWS_MAX })
    }

    /// The page of changes that is to be asked for.
    pub(crate) fn wanted_changes(&self, after: Option<ConversationId>) -> ConversationList {
        let order = ListOrder::ChangedSince(self.user_version);
        ConversationList { order, after, limit: CONVERSATION_ROWS_MAX }
    }

    /// A page to synchronise.
    pub(crate) fn list_page(&mut self, page: &ConversationPage<'_>, now: MonotonicNs, sink: &mut Sink<'_>) {
        let Some(mut sync) = self.sync.take() else { return };
        let mut last = None;
        for row in page.rows {
            self.list_row(&row, &mut sync, now, sink);
            sink(Event::Conversation(&row));
            last = Some((row.last_activity, row.conversation));
        }
        let next = last.filter(|_| page.more);
        let moves = next.is_some_and(|(before, after)| (before, Some(after)) != (sync.before, sync.after));
        if let Some((before, after)) = next.filter(|_| moves) {
            (sync.before, sync.after, sync.silent) = (before, Some(after), 0);
            self.sync = Some(sync);
            self.stirred = true;
            return;
        }
        self.user_version = page.user_version;
        self.synchronised(*sync, now, sink);
    }

    fn list_row(&mut self, row: &ConversationRow, sync: &mut Sync, now: MonotonicNs, sink: &mut Sink<'_>) {
        let Some(index) = self.table.enter(&row.conversation) else { return };
        if sync.restored {
            sync.named.push(index as u32);
            self.cut(index, row.head, sink);
        }
        self.number_from_row(index, row.last_number, sync.restored, sink);
        let known = self.table.row(index).next.0 > 0;
        let was_waiting = self.table.row(index).is_waiting();
        let conversation = self.table.row(index);
        if !known {
            // Of all stays the first: who came again reads what they were told before.
            let first = row.first_available.max(Sequence::FIRST);
            let begin = match self.config.backfill {
                Backfill::Heads => first.max(conversation.begin_at_head(row.head)),
                Backfill::All => first,
            };
            conversation.begin(begin, now, sink);
        }
        conversation.want(row.head, 0, now, sink);
        self.note_holes(index, was_waiting);
    }

    /// Records above the head do not exist any more.
    fn cut(&mut self, index: usize, head: Sequence, sink: &mut Sink<'_>) {
        let row = self.table.row(index);
        let was_waiting = row.is_waiting();
        let dropped = row.cut(head);
        let conversation = row.id;
        if dropped {
            sink(Event::DropAbove { conversation, head });
        }
        self.note_holes(index, was_waiting);
    }

    fn synchronised(&mut self, sync: Sync, now: MonotonicNs, sink: &mut Sink<'_>) {
        if sync.restored {
            let mut named = sync.named;
            named.sort_unstable();
            for index in 0..self.table.len() {
                if named.binary_search(&(index as u32)).is_err() {
                    self.cut(index, Sequence(0), sink);
                    self.number_from_row(index, tidegate_ids::CommandNumber(0), true, sink);
                }
            }
        }
        self.incarnation = sync.incarnation;
        self.owes_sync = false;
        self.begin_held(now, sink);
        self.ready(now, sink);
    }

    /// What was held for conversations that the list does not know: direct ones begin at 1, groups when it is due.
    fn begin_held(&mut self, now: MonotonicNs, sink: &mut Sink<'_>) {
        for index in self.holed.unbegun() {
            let index = index as usize;
            let row = self.table.row(index);
            if row.next.0 == 0 && !row.id.is_group() {
                row.begin(Sequence::FIRST, now, sink);
                self.note_holes(index, true);
            }
        }
    }

    /// A page of changes, after `DrainDone`.
    pub(crate) fn changes_page(
        &mut self,
        after: Option<ConversationId>,
        page: &ConversationPage<'_>,
        now: MonotonicNs,
        sink: &mut Sink<'_>,
    ) {
        for row in page.rows {
            sink(Event::Conversation(&row));
        }
        let last = page.rows.iter().next_back().map(|row| row.conversation);
        match last.filter(|last| page.more && after != Some(*last)) {
            Some(last) => self.stirred |= self.asks.queue(What::Changes(Some(last)), now),
            None => self.user_version = page.user_version.max(self.user_version),
        }
    }

    pub(crate) fn ask_changes(&mut self, now: MonotonicNs) {
        let worth = self.config.follow_list && self.user_version > UserVersion(0) && self.is_ready();
        if worth && !self.asks.holds(|what| matches!(what, What::Changes(_))) {
            self.stirred |= self.asks.queue(What::Changes(None), now);
        }
    }
}
