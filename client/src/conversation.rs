//! What is kept per conversation, and how it is found.
//!
//! Rows never move and are never removed, so an index is a name; a second list holds the indexes in the order of ids.

use crate::limits::CONVERSATIONS_MAX;
use crate::order::Holes;
use crate::outbox::Outbox;
use tidegate_ids::{CommandNumber, ConversationId, Sequence};

/// One conversation. Small: what waits or is missing is boxed.
#[derive(Debug)]
pub(crate) struct Conversation {
    pub(crate) id: ConversationId,
    /// Of the outbox's first command, or of the next command if it is empty.
    pub(crate) number: CommandNumber,
    /// The next sequence to give to the application; 0: where it begins is not known.
    pub(crate) next: Sequence,
    /// Everything up to here exists and is to be fetched if it does not come.
    pub(crate) duty_to: Sequence,
    /// Made with the first command and then kept.
    pub(crate) outbox: Option<Box<Outbox>>,
    /// There while something is missing.
    pub(crate) holes: Option<Box<Holes>>,
}

/// All of a device's conversations.
#[derive(Debug, Default)]
pub(crate) struct Conversations {
    rows: Vec<Conversation>,
    order: Vec<u32>,
    last: u32,
}

impl Conversation {
    fn new(id: ConversationId) -> Self {
        Self {
            id,
            number: CommandNumber::FIRST,
            next: Sequence(0),
            duty_to: Sequence(0),
            outbox: None,
            holes: None,
        }
    }
}

impl Conversations {
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn iter(&self) -> core::slice::Iter<'_, Conversation> {
        self.rows.iter()
    }

    pub(crate) fn get(&self, index: usize) -> Option<&Conversation> {
        self.rows.get(index)
    }

    /// # Panics
    /// If the index was not given out by this table.
    pub(crate) fn row(&mut self, index: usize) -> &mut Conversation {
        &mut self.rows[index]
    }

    pub(crate) fn find(&self, id: &ConversationId) -> Option<usize> {
        let last = self.last as usize;
        if self.rows.get(last).is_some_and(|row| row.id == *id) {
            return Some(last);
        }
        let place = self.order.binary_search_by(|index| self.rows[*index as usize].id.cmp(id)).ok()?;
        Some(self.order[place] as usize)
    }

    /// Finds or makes a row; none above the limit.
    pub(crate) fn enter(&mut self, id: &ConversationId) -> Option<usize> {
        if self.rows.get(self.last as usize).is_some_and(|row| row.id == *id) {
            return Some(self.last as usize);
        }
        let index = match self.order.binary_search_by(|index| self.rows[*index as usize].id.cmp(id)) {
            Ok(place) => self.order[place] as usize,
            Err(_) if self.rows.len() == CONVERSATIONS_MAX => return None,
            Err(place) => {
                let index = self.rows.len();
                self.rows.push(Conversation::new(*id));
                self.order.insert(place, index as u32);
                index
            }
        };
        self.last = index as u32;
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_ids::UserId;

    #[test]
    fn a_row_keeps_its_index_whatever_is_entered_later() {
        let mut table = Conversations::default();
        let ids: Vec<_> = [5, 3, 9, 1, 7].map(|user| ConversationId::direct(UserId(0), UserId(user))).into();
        for (index, id) in ids.iter().enumerate() {
            assert_eq!(table.find(id), None);
            assert_eq!(table.enter(id), Some(index));
        }
        for (index, id) in ids.iter().enumerate() {
            assert_eq!(table.find(id), Some(index));
            assert_eq!(table.enter(id), Some(index));
        }
        assert_eq!(table.len(), ids.len());
    }
}
