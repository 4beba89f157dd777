use super::*;
use crate::script::Roster;
use crate::script::tests::scripts;

/// Three people; anna (0) says lines 0 and 2, bert (1) line 1, cleo (2) line 3.
const LOG: &str = "[10:00] <anna> a\n[10:00] <bert> b\n[10:00] <anna> c\n[10:00] <cleo> d\n";
const ANNA: usize = 0;
const BERT: usize = 1;
const CLEO: usize = 2;

struct Rig {
    checker: Checker,
    scripts: Vec<Script>,
    roster: Roster,
}

impl Rig {
    fn new(log: &str) -> Self {
        let (scripts, roster) = scripts(&[log]);
        let checker = Checker::new(&scripts, roster.len());
        Self { checker, scripts, roster }
    }

    /// All lines are acknowledged, the first at sequence 2.
    fn acknowledged(log: &str) -> Self {
        let mut rig = Self::new(log);
        (0..rig.scripts[0].lines.len()).for_each(|line| rig.acknowledge(line));
        rig
    }

    fn acknowledge(&mut self, line: usize) {
        self.checker.sent(0, line, MonotonicNs(7));
        let (acknowledged, _) = self.checker.acknowledged_at(0, sequence(line)).expect("on its way");
        assert_eq!(acknowledged, line);
    }

    fn deliver_as(&mut self, person: usize, sender: u32, sequence: Sequence, message: &[u8]) -> Verdict {
        let sender = self.roster.person(sender as usize).user;
        let roster = &self.roster;
        let users = |speaker: u32| roster.person(speaker as usize).user;
        let delivered = Delivered { sequence, sender, message };
        self.checker.delivered(person, 0, &self.scripts[0], users, &delivered)
    }

    /// A line comes at its sequence, as it was sent.
    fn deliver(&mut self, person: usize, line: usize) -> Verdict {
        let message = self.scripts[0].message(line).to_vec();
        let speaker = self.scripts[0].lines[line].speaker;
        self.deliver_as(person, speaker, sequence(line), &message)
    }
}

fn sequence(line: usize) -> Sequence {
    Sequence(line as u64 + 2)
}

/// Bert gets these lines, the others what they should; what does the checker say?
fn check(lines: &[usize], expected: Faults) {
    let mut rig = Rig::acknowledged(LOG);
    [1, 3].into_iter().for_each(|line| assert!(matches!(rig.deliver(ANNA, line), Verdict::Stored(_))));
    [0, 1, 2].into_iter().for_each(|line| assert!(matches!(rig.deliver(CLEO, line), Verdict::Stored(_))));
    for line in lines {
        rig.deliver(BERT, *line);
    }
    assert_eq!(rig.checker.faults(), expected, "{lines:?}");
    assert_eq!(rig.checker.is_complete(), expected.lost == 0, "{lines:?}");
}

#[test]
fn what_is_as_the_log_is_complete() {
    check(&[0, 2, 3], Faults::default());
}

#[test]
fn planted_faults_are_seen() {
    let lost = |lost| Faults { lost, ..Faults::default() };
    let duplicated = |duplicated| Faults { duplicated, ..Faults::default() };
    check(&[], lost(3));
    check(&[0, 2], lost(1));
    check(&[0, 3], lost(1));
    check(&[2, 3], lost(1));
    check(&[0, 0, 2, 3], duplicated(1));
    check(&[0, 2, 3, 0, 2, 3], duplicated(3));
    check(&[0, 1, 2, 3], duplicated(1));
    check(&[2, 0, 3], Faults { misordered: 1, ..Faults::default() });
    check(&[3, 2, 0], Faults { misordered: 2, ..Faults::default() });
    check(&[2, 0, 0, 3], Faults { misordered: 1, duplicated: 1, ..Faults::default() });
    check(&[3, 3], Faults { lost: 2, duplicated: 1, ..Faults::default() });
}

#[test]
fn a_record_may_come_before_its_acknowledgement() {
    let mut rig = Rig::new(LOG);
    rig.checker.sent(0, 0, MonotonicNs(7));
    assert_eq!(rig.deliver(BERT, 0), Verdict::Stored(MonotonicNs(7)));
    assert_eq!(rig.checker.acknowledged_at(0, sequence(0)), Some((0, MonotonicNs(7))));
    assert_eq!(rig.deliver(CLEO, 0), Verdict::Stored(MonotonicNs(7)));
    assert_eq!(rig.deliver(BERT, 0), Verdict::Fault);
    assert_eq!(rig.checker.faults(), Faults { duplicated: 1, ..Faults::default() });
}

#[test]
fn an_own_record_that_was_fetched_before_its_acknowledgement_is_stored_once() {
    let mut rig = Rig::new(LOG);
    rig.checker.sent(0, 0, MonotonicNs(7));
    assert_eq!(rig.deliver(ANNA, 0), Verdict::Own);
    assert_eq!(rig.checker.acknowledged_at(0, sequence(0)), Some((0, MonotonicNs(7))));
    assert_eq!(rig.checker.faults(), Faults { lost: 2, ..Faults::default() });
    assert_eq!(rig.deliver(ANNA, 0), Verdict::Fault);
    assert_eq!(rig.checker.faults().duplicated, 1);
}

/// A gateway that does not know a resent command stores the same message twice: the second record has a sequence of its
/// own, and looks to each device like something new.
#[test]
fn a_message_that_was_stored_twice_is_a_duplicate() {
    let mut rig = Rig::new(LOG);
    rig.checker.sent(0, 0, MonotonicNs(7));
    assert!(matches!(rig.deliver(BERT, 0), Verdict::Stored(_)));
    let message = rig.scripts[0].message(0).to_vec();
    assert_eq!(rig.deliver_as(BERT, 0, Sequence(3), &message), Verdict::Fault);
    assert_eq!(rig.checker.faults().duplicated, 1);
}

#[test]
fn an_acknowledgement_that_names_another_record_is_a_contradiction() {
    let mut rig = Rig::new(LOG);
    rig.acknowledge(0);
    rig.checker.sent(0, 1, MonotonicNs(7));
    assert!(rig.checker.acknowledged_at(0, sequence(0)).is_some());
    assert_eq!(rig.checker.faults().contradicted, 1);
    rig.checker.sent(0, 2, MonotonicNs(7));
    assert!(rig.checker.acknowledged_at(0, Sequence(0)).is_some());
    assert_eq!(rig.checker.faults().contradicted, 2);
}

#[test]
fn other_bytes_and_other_senders_are_seen() {
    let mut rig = Rig::acknowledged(LOG);
    let message = rig.scripts[0].message(1).to_vec();
    assert_eq!(rig.deliver_as(BERT, 0, sequence(0), &message), Verdict::Fault);
    let message = rig.scripts[0].message(0).to_vec();
    assert_eq!(rig.deliver_as(BERT, 2, sequence(0), &message), Verdict::Fault);
    assert_eq!(rig.checker.faults().altered, 2);
    assert_eq!(rig.deliver_as(BERT, 0, Sequence(40), &message), Verdict::Unknown);
    assert_eq!(rig.deliver_as(BERT, 0, Sequence(1), b"system"), Verdict::Unknown);
    assert_eq!(rig.checker.faults().lost, 2 + 3 + 3);
}

#[test]
fn a_shortfall_names_its_lines() {
    let mut rig = Rig::acknowledged(LOG);
    rig.deliver(BERT, 2);
    for line in [1, 3] {
        rig.deliver(ANNA, line);
    }
    for line in [0, 1, 2] {
        rig.deliver(CLEO, line);
    }
    let shortfalls: Vec<_> = rig.checker.shortfalls().collect();
    assert_eq!(shortfalls, [Shortfall { person: BERT, group: 0, missing: vec![0, 3] }]);
}
