//! Commands of one conversation: numbered without a gap, sent in order, kept until answered (requirements 13, 17).
//!
//! The gateway accepts only the next number, so a refusal of one refuses all behind it: the *flight* ends, and the next
//! one starts again from the refused command. Refusals of an earlier flight say nothing new and are dropped; an
//! acknowledgement of an earlier flight counts as long as the number still names the same command.

use crate::conversation::Conversation;
use crate::limits::{RETRIES_MAX, RETRY_BASE_NS, RETRY_CAP_NS};
use crate::request::FLIGHTS;
use crate::stored::Command;
use std::collections::VecDeque;
use tidegate_ids::{ClientId, CommandNumber, MonotonicNs};
use tidegate_schema::limits::UNANSWERED_MAX;

#[cfg(test)]
mod tests;

/// Commands without an answer; the first has the conversation's `number`.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    commands: VecDeque<Entry>,
    /// How many of them are on their way in this flight.
    sent: usize,
    flight: u16,
    /// Flights since numbers were given anew.
    bound_flights: u16,
    /// Waits without an answer, one after the other.
    unanswered: u8,
    /// Temporary refusals, one after the other.
    refusals: u8,
    /// Nothing is sent before this.
    hold_until: MonotonicNs,
    /// When the oldest of the flight was sent, or the last answer came.
    since: MonotonicNs,
    parked: bool,
    /// After a refusal for now, or silence, how many may be on their way: one, and one more with each acknowledgement,
    /// so that what is refused again is one command and not a flight. 0: as many as the protocol allows.
    restraint: u16,
    /// The last answer refused a command for good. A second one, and what follows may be refused as well: one at a time,
    /// or each refusal costs a flight of all that is behind it.
    refused_for_good: bool,
}

#[derive(Debug)]
struct Entry {
    client_id: ClientId,
    command: Command,
    /// It was answered before its predecessor.
    done: bool,
    /// It has been on the wire under its present number.
    exposed: bool,
}

/// What an application sees of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PendingState {
    /// Not sent yet on this connection: pending sync.
    Waiting,
    /// Sent, no answer yet: pending sync.
    Sent,
    /// On the failed list: sent again after the next connect, or by `retry`.
    Parked,
}

/// A command without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending<'a> {
    /// The client's own id.
    pub client_id: ClientId,
    /// Under which number it goes, unless an earlier one is refused for good.
    pub number: CommandNumber,
    /// How far it is.
    pub state: PendingState,
    /// What to do.
    pub command: &'a Command,
}

/// Why a command cannot be cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelError {
    /// No such command waits.
    Unknown,
    /// It has been on the wire: the gateway may have taken it.
    Sent,
}

impl Outbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    pub(crate) fn holds(&self, client_id: &ClientId) -> bool {
        self.commands.iter().any(|entry| entry.client_id == *client_id)
    }

    pub(crate) fn push(&mut self, client_id: ClientId, command: Command) {
        self.commands.push_back(Entry { client_id, command, done: false, exposed: false });
    }

    /// As [`Outbox::push`] for what an earlier run may have sent.
    pub(crate) fn restore(&mut self, client_id: ClientId, command: Command) {
        self.commands.push_back(Entry { client_id, command, done: false, exposed: true });
    }

    pub(crate) fn is_parked(&self) -> bool {
        self.parked
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = ClientId> {
        self.commands.iter().map(|entry| entry.client_id)
    }

    /// When [`Outbox::tick`] has something to do.
    pub(crate) fn wake(&self, answer_wait_ns: u64, now: MonotonicNs) -> Option<MonotonicNs> {
        if self.parked || self.commands.is_empty() {
            return None;
        }
        let answer = (self.sent > 0).then(|| self.since.after(answer_wait_ns));
        let pause = (self.hold_until > now).then_some(self.hold_until);
        answer.into_iter().chain(pause).min()
    }

    /// The next command to send, if one may be: its index.
    pub(crate) fn ready(&self, unanswered_max: usize, now: MonotonicNs) -> Option<usize> {
        let next = self.sent;
        let window =
            if self.restraint > 0 { unanswered_max.min(self.restraint.into()) } else { unanswered_max };
        let free = !self.parked && now >= self.hold_until && next < window;
        (free && next < self.commands.len()).then_some(next)
    }

    pub(crate) fn command(&self, index: usize) -> Option<(&ClientId, &Command)> {
        self.commands.get(index).map(|entry| (&entry.client_id, &entry.command))
    }

    /// How many are on their way.
    pub(crate) const fn sent(&self) -> usize {
        self.sent
    }

    pub(crate) fn flight(&self) -> u16 {
        self.flight
    }

    pub(crate) fn was_sent(&mut self, index: usize, now: MonotonicNs) {
        debug_assert_eq!(index, self.sent);
        if self.sent == 0 {
            self.since = now;
        }
        self.sent = index + 1;
        self.commands[index].exposed = true;
    }

    /// The next flight starts again with this command.
    fn land(&mut self, from: usize) {
        self.sent = from;
        self.flight = (self.flight + 1) % FLIGHTS;
        self.bound_flights = self.bound_flights.saturating_add(1);
    }

    /// A connection began: everything is sent again, also what was parked.
    pub(crate) fn restart(&mut self) {
        self.land(0);
        self.unanswered = 0;
        self.refusals = 0;
        self.hold_until = MonotonicNs(0);
        self.parked = false;
        self.restraint = 0;
        self.refused_for_good = false;
    }

    /// Nothing is sent before `until`.
    pub(crate) fn hold(&mut self, until: MonotonicNs) {
        self.hold_until = self.hold_until.max(until);
    }

    /// Gives `true` if the commands have just been parked.
    pub(crate) fn tick(&mut self, answer_wait_ns: u64, now: MonotonicNs) -> bool {
        if self.parked || self.sent == 0 || now < self.since.after(answer_wait_ns) {
            return false;
        }
        self.retry_later(now)
    }

    /// No answer, or one that leads nowhere: again after a pause. Gives `true` if that has happened too often.
    fn retry_later(&mut self, now: MonotonicNs) -> bool {
        self.land(0);
        self.restraint = 1;
        if self.unanswered == RETRIES_MAX {
            self.parked = true;
            return true;
        }
        self.hold_until = now.after(RETRY_BASE_NS << self.unanswered);
        self.unanswered += 1;
        false
    }

    /// Whether an answer of this flight may speak of a command that still has its number.
    fn is_bound(&self, flight: u16) -> bool {
        let age = (self.flight + FLIGHTS - flight) % FLIGHTS;
        age <= self.bound_flights
    }
}

impl Conversation {
    /// The command that an answer is about: its index.
    pub(crate) fn answered(&self, flight: u16, number_low: u16) -> Option<usize> {
        let outbox = self.outbox.as_ref()?;
        let index = usize::from(number_low.wrapping_sub(self.number.0 as u16));
        (outbox.is_bound(flight) && index < outbox.commands.len()).then_some(index)
    }

    /// Whether a refusal of this flight says something new.
    pub(crate) fn is_news(&self, flight: u16) -> bool {
        self.outbox.as_ref().is_some_and(|outbox| outbox.flight == flight)
    }

    /// A command was acknowledged: it leaves the outbox once all before it have; `left` takes what does. Gives its id
    /// and number, unless it was acknowledged before.
    pub(crate) fn acknowledged(
        &mut self,
        index: usize,
        now: MonotonicNs,
        mut left: impl FnMut(Command),
    ) -> Option<(ClientId, CommandNumber)> {
        let outbox = self.outbox.as_mut()?;
        let entry = outbox.commands.get_mut(index).filter(|entry| !entry.done)?;
        entry.done = true;
        let acknowledged = (entry.client_id, CommandNumber(self.number.0 + index as u64));
        outbox.unanswered = 0;
        outbox.refusals = 0;
        outbox.refused_for_good = false;
        if outbox.restraint > 0 {
            outbox.restraint = if outbox.restraint < UNANSWERED_MAX { outbox.restraint + 1 } else { 0 };
        }
        outbox.since = now;
        outbox.parked = false;
        while outbox.commands.front().is_some_and(|entry| entry.done) {
            outbox.commands.pop_front().map(|entry| entry.command).into_iter().for_each(&mut left);
            outbox.sent = outbox.sent.saturating_sub(1);
            self.number = self.number.next();
        }
        Some(acknowledged)
    }

    /// A command refused for good leaves the outbox; its number goes to the next one.
    pub(crate) fn refused(&mut self, index: usize) -> Option<(ClientId, Command)> {
        let outbox = self.outbox.as_mut()?;
        let entry = outbox.commands.remove(index)?;
        outbox.land(index);
        outbox.bound_flights = 0;
        outbox.unanswered = 0;
        if outbox.refused_for_good {
            outbox.restraint = 1;
        }
        outbox.refused_for_good = true;
        outbox.commands.range_mut(index..).for_each(|entry| entry.exposed = false);
        Some((entry.client_id, entry.command))
    }

    /// A command was refused for now: the flight starts again with it after the wait.
    pub(crate) fn refused_for_now(&mut self, index: usize, wait_ns: u64, now: MonotonicNs) {
        let Some(outbox) = &mut self.outbox else { return };
        outbox.land(index);
        outbox.restraint = 1;
        let backoff = (RETRY_BASE_NS << outbox.refusals.min(6)).min(RETRY_CAP_NS);
        outbox.refusals = outbox.refusals.saturating_add(1);
        outbox.hold_until = now.after(if wait_ns > 0 { wait_ns } else { backoff });
    }

    /// The gateway expects another number. Gives the renumbering and whether the commands have just been parked.
    pub(crate) fn expected(&mut self, index: usize, expected: CommandNumber, now: MonotonicNs) -> Expected {
        let Some(outbox) = &mut self.outbox else { return Expected::Resent };
        let behind = expected.0.checked_sub(self.number.0);
        if let Some(from) = behind.filter(|from| *from < index as u64) {
            // An earlier command got lost: once at once, then as for one without an answer.
            if outbox.unanswered > 0 {
                return if outbox.retry_later(now) { Expected::Parked } else { Expected::Resent };
            }
            outbox.unanswered = 1;
            outbox.land(from as usize);
            return Expected::Resent;
        }
        if index > 0 {
            // Earlier ones have no answer yet: theirs decides, and this one is sent again behind them.
            return if outbox.retry_later(now) { Expected::Parked } else { Expected::Resent };
        }
        if expected == self.number || expected.0 == 0 {
            return if outbox.retry_later(now) { Expected::Parked } else { Expected::Resent };
        }
        self.renumber(expected);
        Expected::Renumbered
    }

    /// The outbox starts at another number.
    pub(crate) fn renumber(&mut self, number: CommandNumber) {
        debug_assert!(number.0 > 0);
        self.number = number;
        let Some(outbox) = &mut self.outbox else { return };
        outbox.land(0);
        outbox.bound_flights = 0;
        outbox.commands.iter_mut().for_each(|entry| entry.exposed = false);
    }

    /// Takes a command back that was never on the wire.
    pub(crate) fn cancel(&mut self, client_id: &ClientId) -> Result<Command, CancelError> {
        let outbox = self.outbox.as_mut().ok_or(CancelError::Unknown)?;
        let place = outbox.commands.iter().position(|entry| entry.client_id == *client_id);
        let index = place.ok_or(CancelError::Unknown)?;
        // What is behind was not on the wire either, so its numbers are free to change.
        if outbox.commands.range(index..).any(|entry| entry.exposed) {
            return Err(CancelError::Sent);
        }
        outbox.commands.remove(index).map(|entry| entry.command).ok_or(CancelError::Unknown)
    }

    /// The failed list gets another chance.
    pub(crate) fn retry(&mut self) {
        if let Some(outbox) = self.outbox.as_mut().filter(|outbox| outbox.parked) {
            outbox.restart();
        }
    }

    /// All that is in the outbox, what was answered before its predecessor too: the numbers are contiguous.
    pub(crate) fn numbered(&self) -> impl Iterator<Item = (ClientId, &Command)> {
        let entries = self.outbox.as_deref().into_iter().flat_map(|outbox| outbox.commands.iter());
        entries.map(|entry| (entry.client_id, &entry.command))
    }

    /// What waits, in order.
    pub(crate) fn pending(&self) -> impl Iterator<Item = Pending<'_>> {
        let outbox = self.outbox.as_deref();
        let parked = outbox.is_some_and(Outbox::is_parked);
        let sent = outbox.map_or(0, |outbox| outbox.sent);
        let entries = outbox.into_iter().flat_map(|outbox| outbox.commands.iter());
        entries.enumerate().filter(|(_, entry)| !entry.done).map(move |(index, entry)| Pending {
            client_id: entry.client_id,
            number: CommandNumber(self.number.0 + index as u64),
            state: match () {
                () if parked => PendingState::Parked,
                () if index < sent => PendingState::Sent,
                () => PendingState::Waiting,
            },
            command: &entry.command,
        })
    }
}

/// What an expected number led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// The commands go again.
    Resent,
    /// They go again under other numbers.
    Renumbered,
    /// That has happened too often.
    Parked,
}
