//! Who is meant to be online.
//!
//! A person is online while any log has them in its channel, unless they are in an outage; while a message of theirs is
//! wanted or on its way they are online in any case; and at the end everybody is. Outages are drawn from a seeded
//! generator: a share of those whom a log that goes on has in its channel is offline at any time, each for a random
//! while, again and again.

use crate::limits::{OUTAGE_NS_MAX, OUTAGE_NS_MIN, OUTAGE_PICKS_MAX};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use tidegate_ids::MonotonicNs;

/// See the module.
pub struct Presence {
    people: Vec<State>,
    random: StdRng,
    share: f64,
    /// People who may be drawn.
    present: usize,
    /// Ends of outages.
    outages: BinaryHeap<Reverse<(MonotonicNs, u32)>>,
    outages_count: u64,
    is_settled: bool,
    /// Who may have to change.
    stirred: Vec<u32>,
}

/// The logs that a person speaks in.
#[derive(Clone, Copy, Debug, Default)]
pub struct Logs {
    /// That have them in the channel.
    pub here: u32,
    /// That go on.
    pub playing: u32,
}

#[derive(Clone, Debug)]
struct State {
    logs: Logs,
    /// Messages of theirs that are next or on their way.
    wanted: u32,
    is_out: bool,
    is_online: bool,
}

impl Presence {
    /// Everybody has come, also who is in no channel yet and has to go.
    pub fn new(logs: &[Logs], percent: f64, seed: u64) -> Self {
        let state = |logs: &Logs| State { logs: *logs, wanted: 0, is_out: false, is_online: true };
        let people: Vec<_> = logs.iter().map(state).collect();
        Self {
            random: StdRng::seed_from_u64(seed),
            share: percent / 100.0,
            present: people.iter().filter(|state| state.is_present()).count(),
            outages: BinaryHeap::new(),
            outages_count: 0,
            is_settled: false,
            stirred: (0..people.len() as u32).collect(),
            people,
        }
    }

    /// Outages so far.
    pub const fn outages(&self) -> u64 {
        self.outages_count
    }

    /// A log has somebody in its channel from now on, or not any more.
    pub fn change(&mut self, person: u32, here: bool) {
        self.change_logs(person, |logs| {
            logs.here = if here { logs.here + 1 } else { logs.here.saturating_sub(1) };
        });
        self.stirred.push(person);
    }

    /// A message of theirs is next.
    pub fn want(&mut self, person: u32) {
        self.people[person as usize].wanted += 1;
        self.stirred.push(person);
    }

    /// A message of theirs is acknowledged.
    pub fn release(&mut self, person: u32) {
        let state = &mut self.people[person as usize];
        state.wanted = state.wanted.saturating_sub(1);
        self.stirred.push(person);
    }

    /// A log of theirs is over.
    pub fn played(&mut self, person: u32) {
        self.change_logs(person, |logs| logs.playing = logs.playing.saturating_sub(1));
    }

    fn change_logs(&mut self, person: u32, change: impl FnOnce(&mut Logs)) {
        let state = &mut self.people[person as usize];
        self.present -= usize::from(state.is_present());
        change(&mut state.logs);
        self.present += usize::from(state.is_present());
    }

    /// Everybody comes back for good.
    pub fn settle(&mut self) {
        self.is_settled = true;
        self.stirred.extend(0..self.people.len() as u32);
    }

    /// Ends outages and begins others.
    pub fn tick(&mut self, now: MonotonicNs) {
        while let Some(Reverse((_, person))) =
            self.outages.peek().copied().filter(|Reverse((at, _))| *at <= now)
        {
            self.outages.pop();
            self.people[person as usize].is_out = false;
            self.stirred.push(person);
        }
        let wanted = (self.present as f64 * self.share) as usize;
        while !self.is_settled && self.outages.len() < wanted {
            if !self.begin_outage(now) {
                return;
            }
        }
    }

    fn begin_outage(&mut self, now: MonotonicNs) -> bool {
        for _ in 0..OUTAGE_PICKS_MAX {
            let person = self.random.random_range(0..self.people.len());
            let state = &mut self.people[person];
            if state.is_present() && state.wanted == 0 && !state.is_out {
                state.is_out = true;
                let end = now.after(self.random.random_range(OUTAGE_NS_MIN..=OUTAGE_NS_MAX));
                self.outages.push(Reverse((end, person as u32)));
                self.outages_count += 1;
                self.stirred.push(person as u32);
                return true;
            }
        }
        false
    }

    /// A coin, for how somebody leaves.
    pub fn toss(&mut self) -> bool {
        self.random.random()
    }

    /// Somebody who has to change, and whether they are to be online now.
    pub fn next_change(&mut self) -> Option<(usize, bool)> {
        while let Some(person) = self.stirred.pop() {
            let is_settled = self.is_settled;
            let state = &mut self.people[person as usize];
            let online = is_settled || state.wanted > 0 || (state.logs.here > 0 && !state.is_out);
            if online != state.is_online {
                state.is_online = online;
                return Some((person as usize, online));
            }
        }
        None
    }
}

impl State {
    /// Whether an outage would take them from a channel.
    const fn is_present(&self) -> bool {
        self.logs.here > 0 && self.logs.playing > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// People who are in the channels of all their logs.
    fn present(logs: &[u32]) -> Vec<Logs> {
        logs.iter().map(|logs| Logs { here: *logs, playing: *logs }).collect()
    }

    fn changes(presence: &mut Presence) -> Vec<(usize, bool)> {
        let mut changes: Vec<_> = std::iter::from_fn(|| presence.next_change()).collect();
        changes.sort_unstable();
        changes
    }

    #[test]
    fn who_is_in_several_logs_stays_while_one_has_them() {
        let mut presence = Presence::new(&present(&[2, 1]), 0.0, 1);
        presence.change(0, false);
        assert_eq!(changes(&mut presence), []);
        presence.change(0, false);
        presence.change(1, false);
        assert_eq!(changes(&mut presence), [(0, false), (1, false)]);
        presence.want(1);
        assert_eq!(changes(&mut presence), [(1, true)]);
        presence.release(1);
        presence.change(0, true);
        assert_eq!(changes(&mut presence), [(0, true), (1, false)]);
        presence.settle();
        assert_eq!(changes(&mut presence), [(1, true)]);
    }

    #[test]
    fn the_share_is_offline_again_and_again_and_comes_back() {
        let mut presence = Presence::new(&present(&[1; 100]), 20.0, 7);
        let (mut offline, mut seen) = (0_usize, [false; 100]);
        for second in 1..200 {
            presence.tick(MonotonicNs(second * MonotonicNs::SECOND));
            for (person, online) in changes(&mut presence) {
                offline = if online { offline - 1 } else { offline + 1 };
                seen[person] = true;
            }
            assert!((15..=20).contains(&offline), "{offline} in second {second}");
        }
        assert!(presence.outages() > 200 && seen.iter().filter(|seen| **seen).count() > 80);
        (0..100).for_each(|person| presence.played(person));
        presence.settle();
        let back = changes(&mut presence);
        assert_eq!(back.len(), offline);
        presence.tick(MonotonicNs(300 * MonotonicNs::SECOND));
        assert_eq!(changes(&mut presence), []);
    }

    #[test]
    fn whose_message_is_next_is_not_drawn() {
        let mut presence = Presence::new(&present(&[1; 4]), 50.0, 3);
        (0..4).for_each(|person| presence.want(person));
        presence.tick(MonotonicNs(1));
        assert_eq!((changes(&mut presence), presence.outages()), (vec![], 0));
    }

    /// Who was in no channel was drawn as well: an outage that took nobody offline, and was counted.
    #[test]
    fn who_is_in_no_channel_is_not_drawn() {
        let mut logs = present(&[1; 100]);
        logs[..60].iter_mut().for_each(|logs| logs.here = 0);
        let mut presence = Presence::new(&logs, 50.0, 3);
        let away = changes(&mut presence);
        assert_eq!(away, (0..60).map(|person| (person, false)).collect::<Vec<_>>());
        let mut offline = 0;
        for second in 1..100 {
            presence.tick(MonotonicNs(second * MonotonicNs::SECOND));
            for (person, online) in changes(&mut presence) {
                assert!(person >= 60, "{person}");
                offline = if online { offline - 1 } else { offline + 1 };
            }
            assert!(offline <= 20, "{offline} of 40 in second {second}");
        }
        assert!(presence.outages() > 100);
        // As many as there are then.
        logs[..60].iter().enumerate().for_each(|(person, _)| presence.change(person as u32, true));
        (0..100).for_each(|second| presence.tick(MonotonicNs((100 + second) * MonotonicNs::SECOND)));
        let returned =
            changes(&mut presence).iter().filter(|(person, online)| *person < 60 && *online).count();
        assert!(returned < 60, "some of them are drawn at once");
    }
}
