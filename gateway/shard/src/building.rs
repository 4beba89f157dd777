//! A user while their stream is loaded: the folded state, then what follows it, a few entries at a time.
//!
//! A user may have ten devices with ten thousand ranges each. So nothing of it is folded where it arrives: it is kept as
//! bytes, and each turn folds some of what all loads have (`LOAD_ENTRIES_PER_TURN`).

use crate::records::read_user;
use crate::state::{STATE_PART_BYTES, UserStateReader};
use crate::streams::HotUser;
use std::collections::VecDeque;
use tidegate_ids::{Location, StreamId, UserId};
use tidegate_storage_log::PackedRecords;

/// A page of a chain, and how many of its bytes are folded.
#[derive(Debug, Default)]
struct Page {
    records: Vec<u8>,
    done: usize,
}

/// A user under construction.
#[derive(Debug)]
pub(crate) struct BuildingUser {
    pub(crate) hot: HotUser,
    state: Option<UserStateReader>,
    /// Up to here the chain is folded.
    folded: Location,
    /// Where the chain being read began: folded up to here once all its pages are.
    reading: Location,
    /// Pages of the chain, the newest first: folded from the back.
    pages: Vec<Page>,
    /// A read is under way.
    is_read: bool,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Its read comes back.
    Wait,
    /// There is more to fold.
    Fold,
    /// All that was read is folded; the chain up to here.
    Folded(Location),
    /// Its bytes are no state.
    Unreadable,
}

impl BuildingUser {
    pub(crate) fn new(id: UserId) -> Self {
        Self {
            hot: HotUser::new(id),
            state: None,
            folded: Location::NONE,
            reading: Location::NONE,
            pages: Vec::new(),
            is_read: false,
        }
    }

    /// A read of it is asked for; of a chain, from where it begins.
    pub(crate) const fn reads(&mut self, chain: Option<Location>) {
        self.is_read = true;
        if let Some(last) = chain {
            self.reading = last;
        }
    }

    /// Its read came back without anything.
    pub(crate) const fn has_nothing(&mut self) {
        self.is_read = false;
    }

    /// A folded state that holds everything up to a record of the stream; false if it is none. A large one is taken out of its
    /// buffer: copying 16 MiB takes a turn some milliseconds, and the buffer would stay as large.
    pub(crate) fn take_state(&mut self, state: &mut Vec<u8>, through: Location) -> bool {
        self.is_read = false;
        let is_large = state.len() > STATE_PART_BYTES;
        let state = if is_large { std::mem::take(state) } else { state.clone() };
        self.state = UserStateReader::new(state);
        self.folded = through;
        self.state.is_some()
    }

    /// A page of the chain that is read, and where it goes on, if it does.
    pub(crate) fn take_page(&mut self, records: &[u8], goes_on: bool) {
        self.pages.push(Page { records: records.to_vec(), done: 0 });
        self.is_read = goes_on;
    }

    /// Up to where the chain is folded: a read stops there.
    pub(crate) const fn folded(&self) -> Location {
        self.folded
    }

    /// Folds so many entries of what was read at most.
    pub(crate) fn fold(&mut self, entries: &mut usize) -> Next {
        if self.is_read {
            return Next::Wait;
        }
        if let Some(mut state) = self.state.take() {
            match state.advance(entries) {
                None => return Next::Unreadable,
                Some(true) => self.hot.user = state.into_user(),
                Some(false) => {
                    self.state = Some(state);
                    return Next::Fold;
                }
            }
        }
        while let Some(mut page) = self.pages.pop() {
            if !self.fold_page(&mut page, entries) {
                self.pages.push(page);
                return Next::Fold;
            }
        }
        self.folded = self.folded.max(self.reading);
        Next::Folded(self.folded)
    }

    /// False if there is more.
    fn fold_page(&mut self, page: &mut Page, entries: &mut usize) -> bool {
        let mut records = PackedRecords(&page.records[page.done..]).iter();
        let is_done = loop {
            if *entries == 0 {
                break false;
            }
            let Some(view) = records.next() else { break true };
            *entries -= 1;
            if let Some(record) = read_user(&view) {
                self.hot.user.apply(&record);
                self.hot.since_state += 1;
            }
        };
        page.done = page.records.len() - records.rest_bytes();
        is_done
    }
}

/// Users that have something to fold, in turn, and how much of it still is in this turn.
#[derive(Debug, Default)]
pub(crate) struct Folding {
    pub(crate) queue: VecDeque<StreamId>,
    pub(crate) entries_left: usize,
}
