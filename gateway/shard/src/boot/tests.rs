use super::*;
use crate::records::write_checkpoint;
use crate::state::part_header;
use tidegate_ids::{ConversationId, UserId};
use tidegate_schema::deliver::{self, Stamp};
use tidegate_storage_log::{Placement, PreviousEnd, RecordHead};

const FIRST: LogId = LogId { epoch: 1, shard: ShardIndex(0) };
const SECOND: LogId = LogId { epoch: 1, shard: ShardIndex(1) };

/// How far the first of two shards was fed of the second log, by the start's own view of it.
fn check(checkpoint: Position, ends: &[Position], expected: Position) {
    let mut bytes = Vec::new();
    write_checkpoint([(SECOND, checkpoint)].into_iter(), &mut bytes);
    let covered = Covered { log: FIRST, previous: PreviousEnd::default(), checkpoint: bytes };
    let mut recovery = Recovery::new(Route::new(2), Some(&[covered]));
    let logs = |end: Position| [FIRST, SECOND].map(|log| LogEnd { log, end });
    ends.iter().for_each(|end| recovery.ended(&logs(*end)));
    let fed = fed_vector(&recovery.checkpoints, &[(1, 2)], 0);
    assert_eq!(fed.get(&SECOND), Some(&expected), "{checkpoint} with {ends:?}");
    // A pass that knew the ends from the beginning feeds nothing that is not there.
    let Some(end) = ends.last() else { return };
    let seeds = recovery.finish(&logs(*end), &[(1, 2)]);
    assert!(seeds[0].feeds.iter().all(|feed| feed.end == *end && feed.at < *end));
    assert_eq!(seeds[0].fed, [(FIRST, *end), (SECOND, *end)]);
}

/// A user whose state had lost a part could not connect any more: the state was looked for, and never whole.
#[test]
fn a_state_that_lost_a_part_is_passed_over() {
    let check = |parts: &[(usize, usize)], expected: u32| {
        let mut recovery = Recovery::new(Route::new(1), None);
        let stream = StreamId::user(UserId(7));
        let mut offset = 8;
        let mut take = |kind: RecordKind, body: &[u8]| {
            offset += 1;
            let location = Location::new(1, offset);
            let head = RecordHead { stream, kind: kind as u16, ..RecordHead::default() };
            recovery.record(FIRST, &RecordView { location, placement: Default::default(), head, body });
        };
        take(RecordKind::QueueSet, &[]);
        parts.iter().for_each(|(index, count)| take(RecordKind::UserState, &part_header(*index, *count)));
        let end = LogEnd { log: FIRST, end: Position::new(1, 100) };
        let seeds = recovery.finish(&[end], &[(1, 1)]);
        let [(_, locator)] = seeds[0].locators[..] else { panic!("one stream") };
        let last = if expected == 0 { Location::new(1, 9) } else { Location::NONE };
        let state = if expected == 0 { Location::NONE } else { Location::new(1, expected) };
        assert_eq!((locator.last, locator.state), (last, state), "{parts:?}");
    };
    check(&[(0, 1)], 10);
    check(&[(0, 3), (1, 3), (2, 3)], 12);
    check(&[(0, 3), (2, 3)], 0);
    check(&[(1, 3), (2, 3)], 0);
    check(&[(0, 3), (1, 3)], 0);
    // Parts that a crash cut, and the state again.
    check(&[(0, 3), (1, 3), (0, 2), (1, 2)], 13);
}

#[test]
fn a_checkpoint_beyond_the_end_of_a_log_counts_up_to_that_end() {
    let at = Position::new;
    check(at(9, 5000), &[], at(9, 5000));
    check(at(9, 5000), &[at(9, 8000)], at(9, 5000));
    check(at(9, 5000), &[at(9, 5000)], at(9, 5000));
    check(at(9, 5000), &[at(9, 100)], at(9, 100));
    check(at(12, 300), &[at(9, 100)], at(9, 100));
    check(at(12, 300), &[Position::default()], Position::default());
    // What is appended later under such a position was not fed.
    check(at(12, 300), &[at(9, 100), at(12, 900)], at(9, 100));
}

/// A damaged record at the end of a conversation was not noticed: the next one got its sequence.
#[test]
fn losses_behind_which_a_conversation_goes_on_are_noticed_by_it() {
    let id = ConversationId::direct(UserId(1), UserId(2));
    let (stream, other) = (StreamId::conversation(id), StreamId::user(UserId(1)));
    let mut recovery = Recovery::new(Route::new(2), None);
    let mut body = Vec::new();
    let stamp = Stamp { conversation: id, sequence: Sequence(5), ..Stamp::default() };
    deliver::write_stored(&stamp, b"message", &mut body);
    let head = RecordHead {
        stream,
        sequence: Sequence(5),
        kind: RecordKind::Message as u16,
        ..RecordHead::default()
    };
    let placement = Placement::default();
    recovery.record(FIRST, &RecordView { location: Location::new(1, 512), placement, head, body: &body });
    let loss = |record| Loss { segment: 1, from: 512, to: 1024, record };
    let check = |record, expected: usize| {
        assert_eq!(recovery.unnoticed(&[loss(record)]).count(), expected, "{record:?}");
    };
    check(None, 1);
    check(Some((stream, Sequence(4))), 0);
    check(Some((stream, Sequence(5))), 0);
    check(Some((stream, Sequence(6))), 1);
    check(Some((other, Sequence(0))), 0);
    check(Some((StreamId::conversation(ConversationId::group([9; 16])), Sequence(1))), 1);
}

#[test]
fn a_log_that_was_consumed_further_than_it_goes_has_lost_its_end() {
    let at = Position::new;
    let check = |consumed: Position, end: Position, expected: bool| {
        let mut bytes = Vec::new();
        write_checkpoint([(SECOND, consumed)].into_iter(), &mut bytes);
        let covered = Covered { log: FIRST, previous: PreviousEnd::default(), checkpoint: bytes };
        let recovery = Recovery::new(Route::new(2), Some(&[covered]));
        let ends = [LogEnd { log: SECOND, end }];
        let beyond: Vec<LogEnd> = recovery.consumed_beyond(&ends).collect();
        assert_eq!(beyond.first(), expected.then_some(&LogEnd { log: SECOND, end: consumed }));
    };
    check(at(9, 5000), at(9, 5000), false);
    check(at(9, 5000), at(12, 0), false);
    check(at(9, 5000), at(9, 4608), true);
    check(at(9, 5000), at(8, 60_000), true);
}
