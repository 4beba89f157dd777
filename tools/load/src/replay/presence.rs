//! Who is meant to be online.
//!
//! A person is online while any log has them in its channel, unless they are in an outage; while a message of theirs is
//! wanted or on its way they are online in any case; and at the end everybody is. Outages are drawn from a seeded
//! generator: a share of those whose logs go on is offline at any time, each for a random while, again and again.

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
    /// People whose logs go on.
    playing: usize,
    /// Ends of outages.
    outages: BinaryHeap<Reverse<(MonotonicNs, u32)>>,
    outages_count: u64,
    is_settled: bool,
    /// Who may have to change.
    stirred: Vec<u32>,
}

#[derive(Clone, Debug)]
struct State {
    /// Logs that have them in the channel.
    here: u32,
    /// Logs that go on.
    playing: u32,
    /// Messages of theirs that are next or on their way.
    wanted: u32,
    is_out: bool,
    is_online: bool,
}

impl Presence {
    /// Everybody is online; `logs` says in how many logs each person speaks.
    pub fn new(logs: &[u32], percent: f64, seed: u64) -> Self {
        let state =
            |logs: &u32| State { here: *logs, playing: *logs, wanted: 0, is_out: false, is_online: true };
        Self {
            people: logs.iter().map(state).collect(),
            random: StdRng::seed_from_u64(seed),
            share: percent / 100.0,
            playing: logs.len(),
            outages: BinaryHeap::new(),
            outages_count: 0,
            is_settled: false,
            stirred: Vec::new(),
        }
    }

    /// Outages so far.
    pub const fn outages(&self) -> u64 {
        self.outages_count
    }

    /// A log has somebody in its channel from now on, or not any more.
    pub fn change(&mut self, person: u32, here: bool) {
        let state = &mut self.people[person as usize];
        state.here = if here { state.here + 1 } else { state.here.saturating_sub(1) };
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
        let state = &mut self.people[person as usize];
        state.playing = state.playing.saturating_sub(1);
        self.playing -= usize::from(state.playing == 0);
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
        let wanted = (self.playing as f64 * self.share) as usize;
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
            if state.playing > 0 && state.wanted == 0 && !state.is_out {
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
            let online = is_settled || state.wanted > 0 || (state.here > 0 && !state.is_out);
            if online != state.is_online {
                state.is_online = online;
                return Some((person as usize, online));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(presence: &mut Presence) -> Vec<(usize, bool)> {
        let mut changes: Vec<_> = std::iter::from_fn(|| presence.next_change()).collect();
        changes.sort_unstable();
        changes
    }

    #[test]
    fn who_is_in_several_logs_stays_while_one_has_them() {
        let mut presence = Presence::new(&[2, 1], 0.0, 1);
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
        let mut presence = Presence::new(&[1; 100], 20.0, 7);
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
        let mut presence = Presence::new(&[1; 4], 50.0, 3);
        (0..4).for_each(|person| presence.want(person));
        presence.tick(MonotonicNs(1));
        assert_eq!((changes(&mut presence), presence.outages()), (vec![], 0));
    }
}
