//! What happens when nothing comes.

use super::Machine;
use super::asks::What;
use super::link::{Fate, Phase};
use crate::event::{Event, RequestFailure, Sink};
use crate::limits::{ANSWER_WAIT_NS, RETRY_BASE_NS, SILENT_PERIODS, SILENT_RANGES_MAX};
use tidegate_ids::{MonotonicNs, Sequence};

/// No deadline.
const NEVER: MonotonicNs = MonotonicNs(u64::MAX);

impl Machine {
    /// When [`Machine::tick`] (or [`Machine::poll_connect`]) has something to do, unless something happens before.
    #[must_use]
    pub fn next_timeout(&self) -> Option<MonotonicNs> {
        match self.link.phase {
            Phase::Stopped(_) | Phase::NeedsToken | Phase::Opening | Phase::Ending => None,
            Phase::Waiting(at) => Some(at),
            _ => (self.wake != NEVER).then_some(self.wake),
        }
    }

    /// Time has passed. Cheap before [`Machine::next_timeout`].
    pub fn tick(&mut self, now: MonotonicNs, sink: &mut Sink<'_>) {
        if now < self.wake {
            return;
        }
        match self.link.phase {
            Phase::Stopped(_) | Phase::NeedsToken | Phase::Waiting(_) | Phase::Opening | Phase::Ending => {
                return;
            }
            Phase::Upgrading(_) | Phase::Upgraded(_) | Phase::Greeting => {
                if now >= self.link.welcome_by {
                    self.end(Fate::Retry);
                }
            }
            Phase::Syncing | Phase::Ready => self.beat(now),
        }
        while let Some(what) = self.asks.take_expired(now) {
            self.expired(what, now, sink);
        }
        if self.link.phase == Phase::Ready {
            self.tick_outboxes(now, sink);
            self.tick_holes(now, sink);
        }
        // Whatever waited for a time may go now: one look is cheaper than knowing which.
        self.stirred = true;
        self.wake = self.earliest(now);
    }

    /// Says that this side lives, and looks whether the other does.
    fn beat(&mut self, now: MonotonicNs) {
        let period = self.link.heartbeat_ns(self.state);
        if now.since(self.link.received_at) >= SILENT_PERIODS * period {
            return self.end(Fate::Retry);
        }
        if now < self.link.ping_at {
            return;
        }
        let quiet = now.since(self.link.sent_at.min(self.link.received_at));
        if quiet >= period - period / 5 {
            self.notices.ping = true;
            self.link.sent_at = now;
        }
        self.schedule_ping();
        if self.link.ping_at <= now {
            self.link.ping_at = now.after(period / 5);
        }
    }

    fn expired(&mut self, what: What, now: MonotonicNs, sink: &mut Sink<'_>) {
        match what {
            What::Hello => self.end(Fate::Retry),
            What::List => {
                let Some(sync) = &mut self.sync else { return };
                sync.silent += 1;
                if sync.silent >= SILENT_RANGES_MAX {
                    self.end(Fate::Retry);
                }
            }
            What::Changes(_) | What::Refresh => {}
            What::Hole { conversation, .. } => {
                if let Some(holes) = &mut self.table.row(conversation as usize).holes {
                    holes.asked = false;
                    holes.due_at = now.after(RETRY_BASE_NS);
                    self.note_holes(conversation as usize, true);
                }
                self.link.silent_ranges += 1;
                if self.link.silent_ranges >= SILENT_RANGES_MAX {
                    self.end(Fate::Retry);
                }
            }
            What::Create(client_id) => self.creation_expired(client_id, now, sink),
            What::History(request, _) | What::Members(request, _) => {
                sink(Event::RequestFailed { request, failure: RequestFailure::NoAnswer });
            }
        }
    }

    fn tick_outboxes(&mut self, now: MonotonicNs, sink: &mut Sink<'_>) {
        for place in 0..self.sending.len() {
            let index = self.sending[place] as usize;
            let outbox = self.table.row(index).outbox.as_mut();
            if outbox.is_some_and(|outbox| outbox.tick(ANSWER_WAIT_NS, now)) {
                self.told_parked(index, sink);
            }
        }
    }

    /// A conversation whose beginning did not become known in time begins at 1: the answer will say what is missing.
    fn tick_holes(&mut self, now: MonotonicNs, sink: &mut Sink<'_>) {
        while let Some(index) = self.holed.unbegun_due(now) {
            self.table.row(index as usize).begin(Sequence::FIRST, now, sink);
            self.note_holes(index as usize, true);
        }
    }

    /// The earliest deadline after `now`; what is due now waits for `transmit` or for an answer, not for time.
    fn earliest(&self, now: MonotonicNs) -> MonotonicNs {
        let period = self.link.heartbeat_ns(self.state);
        let welcome = self.link.phase.is_welcome();
        let ready = self.link.phase == Phase::Ready;
        let link = if welcome {
            self.link.ping_at.min(self.link.received_at.after(SILENT_PERIODS * period))
        } else {
            self.link.welcome_by
        };
        let sync = self.sync.as_ref().map(|sync| sync.hold_until);
        let outboxes = self
            .sending
            .iter()
            .filter_map(|index| self.table.get(*index as usize)?.outbox.as_ref()?.wake(ANSWER_WAIT_NS, now));
        let holes = self.holed.wake(now).into_iter();
        let deadlines = [Some(link), sync, self.asks.wake(), self.acks.due_at].into_iter().flatten();
        let waiting = [self.creations.wake(now), Some(self.link.throttled_until)].into_iter().flatten();
        deadlines
            .chain(waiting)
            .chain(outboxes.filter(|_| ready))
            .chain(holes.filter(|_| ready))
            .filter(|at| *at > now)
            .min()
            .unwrap_or(NEVER)
    }
}
