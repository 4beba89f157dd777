//! When each line is meant to be sent, if the replay has a rate: one slot after the other at that rate, and in each
//! round one slot for each log that has a line left. So the times do not depend on how fast the gateway is (an open
//! loop), and a slow gateway cannot hide behind its own slowness.

use tidegate_ids::MonotonicNs;

pub struct Pace {
    slot_ns: f64,
    /// Slots before each round.
    rounds: Vec<u64>,
    /// The place of each log in a round: longer logs first, so that those with a line left are always the first.
    places: Vec<u64>,
}

impl Pace {
    /// For logs with so many lines, at so many messages a second in all.
    pub fn new(lines: &[usize], rate: f64) -> Self {
        let mut order: Vec<usize> = (0..lines.len()).collect();
        order.sort_by_key(|log| std::cmp::Reverse(lines[*log]));
        let mut places = vec![0; lines.len()];
        order.iter().enumerate().for_each(|(place, log)| places[*log] = place as u64);
        let longest = lines.iter().copied().max().unwrap_or(0);
        let mut rounds = Vec::with_capacity(longest);
        let (mut slots, mut left) = (0, order.len());
        for round in 0..longest {
            while left > 0 && lines[order[left - 1]] <= round {
                left -= 1;
            }
            rounds.push(slots);
            slots += left as u64;
        }
        Self { slot_ns: MonotonicNs::SECOND as f64 / rate, rounds, places }
    }

    /// When a line is meant to be sent, in nanoseconds after the start.
    pub fn intended_ns(&self, log: usize, line: usize) -> u64 {
        ((self.rounds[line] + self.places[log]) as f64 * self.slot_ns) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_is_taken_once_and_each_log_keeps_its_order() {
        let lines = [2, 5, 0, 3];
        let pace = Pace::new(&lines, 1000.0);
        let mut slots = Vec::new();
        for (log, count) in lines.iter().enumerate() {
            let times: Vec<_> = (0..*count).map(|line| pace.intended_ns(log, line) / 1_000_000).collect();
            assert!(times.is_sorted_by(|one, next| one < next), "{times:?}");
            slots.extend(times);
        }
        slots.sort_unstable();
        assert_eq!(slots, (0..10).collect::<Vec<_>>());
    }
}
