use super::*;
use crate::conversation::Conversations;
use tidegate_ids::ConversationId;

const NOW: MonotonicNs = MonotonicNs(1);

/// A table whose one conversation has so many commands on their way, the first under number 5.
fn flying(count: u8) -> Conversations {
    let mut table = Conversations::default();
    let index = table.enter(&ConversationId([0; 16])).expect("room");
    let row = table.row(index);
    row.number = CommandNumber(5);
    let outbox = row.outbox.get_or_insert_default();
    for name in 0..count {
        outbox.push(ClientId([name; 16]), Command::Leave);
        outbox.was_sent(usize::from(name), NOW);
    }
    table
}

fn names(row: &Conversation) -> Vec<u8> {
    row.pending().map(|pending| pending.client_id.0[0]).collect()
}

/// Which command an answer of the first flight under number 6 names after something happened.
fn check_binding(what: impl FnOnce(&mut Conversation), expected: Option<u8>) {
    let mut table = flying(3);
    let row = table.row(0);
    what(row);
    let index = row.answered(0, 6);
    let outbox = row.outbox.as_ref().expect("there");
    let named = index.and_then(|index| outbox.command(index)).map(|(client_id, _)| client_id.0[0]);
    assert_eq!(named, expected);
}

#[test]
fn an_answer_counts_while_its_number_names_the_same_command() {
    check_binding(|_| {}, Some(1));
    check_binding(|row| row.refused_for_now(0, 0, NOW), Some(1));
    check_binding(|row| assert_eq!(row.expected(2, CommandNumber(6), NOW), Expected::Resent), Some(1));
    // After these, 6 is another command's number.
    check_binding(|row| assert!(row.refused(0).is_some()), None);
    check_binding(|row| row.renumber(CommandNumber(4)), None);
    // And now it is nobody's any more.
    check_binding(
        |row| {
            row.acknowledged(0, NOW, drop);
            row.acknowledged(0, NOW, drop);
        },
        None,
    );
}

#[test]
fn flights_are_told_apart_after_their_count_has_wrapped() {
    let mut table = flying(2);
    let row = table.row(0);
    let land = |row: &mut Conversation, times| {
        let outbox = row.outbox.as_mut().expect("there");
        (0..times).for_each(|_| outbox.land(0));
        outbox.flight()
    };
    let before = land(row, FLIGHTS - 6);
    row.renumber(CommandNumber(5));
    let renumbered = land(row, 0);
    let now = land(row, 20);
    assert!(now < renumbered, "it has wrapped");
    assert_eq!(row.answered(before, 5), None);
    assert_eq!(row.answered(renumbered, 5), Some(0));
    assert_eq!(row.answered(now, 5), Some(0));
    assert!(row.is_news(now) && !row.is_news(renumbered));
}

#[test]
fn what_leaves_takes_its_number_along_only_if_it_was_taken() {
    let mut table = flying(3);
    let row = table.row(0);
    assert_eq!(row.refused(1).map(|(client_id, _)| client_id.0[0]), Some(1));
    assert_eq!((row.number, names(row)), (CommandNumber(5), vec![0, 2]));
    let mut left = 0;
    assert_eq!(row.acknowledged(0, NOW, |_| left += 1), Some((ClientId([0; 16]), CommandNumber(5))));
    assert_eq!((row.number, names(row), left), (CommandNumber(6), vec![2], 1));
    assert_eq!(row.acknowledged(1, NOW, |_| left += 1), None);
}

#[test]
fn a_gateway_that_contradicts_itself_is_asked_five_times_and_no_more() {
    let mut table = flying(1);
    let row = table.row(0);
    let answers: Vec<_> = (0..6).map(|_| row.expected(0, CommandNumber(5), NOW)).collect();
    assert_eq!(answers[..5], [Expected::Resent; 5]);
    assert_eq!(answers[5], Expected::Parked);
}

#[test]
fn only_the_end_of_the_outbox_that_was_never_sent_can_be_cancelled() {
    let mut table = flying(1);
    let row = table.row(0);
    let outbox = row.outbox.as_mut().expect("there");
    outbox.push(ClientId([8; 16]), Command::Leave);
    outbox.push(ClientId([9; 16]), Command::Leave);
    assert_eq!(row.cancel(&ClientId([0; 16])), Err(CancelError::Sent));
    assert_eq!(row.cancel(&ClientId([8; 16])), Ok(Command::Leave));
    assert_eq!(names(row), [0, 9]);
    assert_eq!(row.cancel(&ClientId([8; 16])), Err(CancelError::Unknown));
}
