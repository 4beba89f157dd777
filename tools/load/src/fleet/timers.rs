//! One alarm for each device. Setting it earlier or cancelling it leaves the old entry in the heap, where it is found
//! stale; setting it later does nothing, because a machine that is asked too early says so cheaply.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use tidegate_ids::MonotonicNs;

/// No alarm.
const NEVER: MonotonicNs = MonotonicNs(u64::MAX);

pub struct Timers {
    heap: BinaryHeap<Reverse<(MonotonicNs, u32)>>,
    alarms: Vec<MonotonicNs>,
}

impl Timers {
    pub fn new(devices: usize) -> Self {
        Self { heap: BinaryHeap::with_capacity(devices), alarms: vec![NEVER; devices] }
    }

    /// Rings at `at` or before.
    pub fn set(&mut self, device: usize, at: MonotonicNs) {
        if at < self.alarms[device] {
            self.alarms[device] = at;
            self.heap.push(Reverse((at, device as u32)));
        }
    }

    pub fn cancel(&mut self, device: usize) {
        self.alarms[device] = NEVER;
    }

    /// The earliest alarm.
    pub fn next(&mut self) -> Option<MonotonicNs> {
        while let Some(Reverse((at, device))) = self.heap.peek() {
            if self.alarms[*device as usize] == *at {
                return Some(*at);
            }
            self.heap.pop();
        }
        None
    }

    /// A device whose alarm is due; it has none afterwards.
    pub fn take_due(&mut self, now: MonotonicNs) -> Option<usize> {
        self.next().filter(|at| *at <= now)?;
        let Reverse((_, device)) = self.heap.pop()?;
        self.cancel(device as usize);
        Some(device as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_alarm_rings_once() {
        let mut timers = Timers::new(3);
        timers.set(0, MonotonicNs(30));
        timers.set(1, MonotonicNs(20));
        timers.set(0, MonotonicNs(10));
        timers.set(0, MonotonicNs(15));
        timers.set(2, MonotonicNs(5));
        timers.cancel(2);
        assert_eq!(timers.next(), Some(MonotonicNs(10)));
        assert_eq!(timers.take_due(MonotonicNs(9)), None);
        assert_eq!(timers.take_due(MonotonicNs(25)), Some(0));
        assert_eq!(timers.take_due(MonotonicNs(25)), Some(1));
        assert_eq!(timers.take_due(MonotonicNs(99)), None);
        assert_eq!(timers.next(), None);
    }
}
