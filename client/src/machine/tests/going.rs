//! Commands and their answers.

use super::rig::{Rig, direct, seasoned};
use crate::config::Config;
use crate::error::SendError;
use crate::outbox::{CancelError, PendingState};
use tidegate_schema::{ServerFrame, Throttle, ThrottleScope};

/// What the gateway does with commands, one step a line of the script.
enum Step {
    Send(&'static str),
    /// Acknowledges the first unanswered frame that begins so.
    Ack(&'static str, u64),
    /// Refuses it: code, expected number, wait.
    Refuse(&'static str, u16, u64, u32),
    Wait(u64),
    Reconnect,
    Heard(&'static [&'static str]),
    Told(&'static [&'static str]),
}
use Step::{Ack, Heard, Reconnect, Refuse, Send, Told, Wait};

fn check(steps: &[Step]) {
    let mut rig = Rig::ready();
    let mut ids: Vec<(u64, String)> = Vec::new();
    for (place, step) in steps.iter().enumerate() {
        match step {
            Send(text) => rig.send(text),
            Ack(begins, sequence) => {
                let id = take(&mut ids, begins, place);
                rig.acknowledge(id, *sequence, false);
            }
            Refuse(begins, code, expected, wait) => {
                let id = take(&mut ids, begins, place);
                rig.refuse(id, *code, *expected, *wait);
            }
            Wait(ms) => rig.wait_ms(*ms),
            Reconnect => {
                rig.drop_socket();
                rig.wait_ms(60_000);
                rig.connect();
                ids.clear();
            }
            Heard(expected) => {
                for begins in ["send", "add", "remove", "leave"] {
                    ids.extend(rig.ids(begins).into_iter().map(|id| (id, String::new())));
                }
                let all = rig.heard();
                let commands = |text: &&String| text.starts_with("send") || text.starts_with("leave");
                let commands: Vec<String> = all.iter().filter(commands).cloned().collect();
                let fresh = ids.len() - commands.len();
                ids[fresh..].iter_mut().zip(&commands).for_each(|(entry, text)| entry.1.clone_from(text));
                assert_eq!(commands, *expected, "step {place}");
            }
            Told(expected) => {
                let mut told = rig.told();
                let link = ["offline", "connecting", "ready", "welcomed None"];
                told.retain(|text| !link.contains(&text.as_str()));
                assert_eq!(told, *expected, "step {place}");
            }
        }
    }
}

fn take(ids: &mut Vec<(u64, String)>, begins: &str, step: usize) -> u64 {
    let place = ids.iter().position(|(_, text)| text.starts_with(begins));
    ids.remove(place.unwrap_or_else(|| panic!("step {step}: nothing like {begins}"))).0
}

#[test]
fn commands_are_pipelined_under_rising_numbers() {
    check(&[
        Send("a"),
        Send("b"),
        Heard(&["send direct n1 a", "send direct n2 b"]),
        Ack("send direct n1", 1),
        Ack("send direct n2", 2),
        Told(&["sent n1 at 1", "sent n2 at 2"]),
        Send("c"),
        Heard(&["send direct n3 c"]),
    ]);
}

#[test]
fn a_refused_command_leaves_its_number_to_the_next() {
    check(&[
        Send("a"),
        Send("b"),
        Send("c"),
        Heard(&["send direct n1 a", "send direct n2 b", "send direct n3 c"]),
        Refuse("send direct n1", 600, 0, 0),
        Told(&["refused MODERATED", "renumbered n1"]),
        // The rest of the flight is refused too; that says nothing new.
        Refuse("send direct n2", 411, 1, 0),
        Refuse("send direct n3", 411, 1, 0),
        Heard(&["send direct n1 b", "send direct n2 c"]),
        Ack("send direct n1", 1),
        Ack("send direct n2", 2),
        Told(&["sent n1 at 1", "sent n2 at 2"]),
    ]);
}

#[test]
fn a_rate_limit_waits_as_long_as_it_says_and_keeps_the_order() {
    check(&[
        Send("a"),
        Send("b"),
        Heard(&["send direct n1 a", "send direct n2 b"]),
        Refuse("send direct n1", 103, 0, 700),
        Refuse("send direct n2", 411, 1, 0),
        Send("c"),
        Send("d"),
        Wait(699),
        Heard(&[]),
        Wait(1),
        // One to see whether it goes, then two for each that did.
        Heard(&["send direct n1 a"]),
        Ack("send direct n1", 1),
        Heard(&["send direct n2 b", "send direct n3 c"]),
        Ack("send direct n2", 2),
        Heard(&["send direct n4 d"]),
        Told(&["sent n1 at 1", "sent n2 at 2"]),
    ]);
}

#[test]
fn a_rate_limit_holds_every_conversation() {
    let mut rig = Rig::ready();
    rig.send("a");
    let id = rig.ids("send")[0];
    rig.heard();
    rig.refuse(id, 103, 0, 700);
    rig.machine.send(super::rig::group(), b"b").expect("taken");
    rig.wait_ms(699);
    assert!(rig.heard().is_empty());
    rig.wait_ms(1);
    assert_eq!(rig.heard(), ["send direct n1 a", "send group n1 b"]);
}

#[test]
fn an_overload_without_a_wait_backs_off() {
    check(&[
        Send("a"),
        Heard(&["send direct n1 a"]),
        Refuse("send direct n1", 102, 0, 0),
        Wait(999),
        Heard(&[]),
        Wait(1),
        Heard(&["send direct n1 a"]),
        Refuse("send direct n1", 102, 0, 0),
        Wait(1999),
        Heard(&[]),
        Wait(1),
        Heard(&["send direct n1 a"]),
        Told(&[]),
    ]);
}

#[test]
fn a_number_that_another_run_took_is_given_up() {
    check(&[
        Send("a"),
        Send("b"),
        Heard(&["send direct n1 a", "send direct n2 b"]),
        Refuse("send direct n1", 410, 9, 0),
        Told(&["renumbered n9"]),
        Refuse("send direct n2", 410, 9, 0),
        Heard(&["send direct n9 a", "send direct n10 b"]),
        Ack("send direct n9", 30),
        Told(&["sent n9 at 30"]),
    ]);
}

#[test]
fn a_gateway_that_lost_numbers_gets_the_rest_from_where_it_is() {
    check(&[
        Send("a"),
        Heard(&["send direct n1 a"]),
        Ack("send direct n1", 1),
        Send("b"),
        Heard(&["send direct n2 b"]),
        Refuse("send direct n2", 411, 1, 0),
        Told(&["sent n1 at 1", "renumbered n1"]),
        Heard(&["send direct n1 b"]),
    ]);
}

#[test]
fn an_expected_number_within_the_outbox_is_where_it_goes_on() {
    check(&[
        Send("a"),
        Send("b"),
        Send("c"),
        Heard(&["send direct n1 a", "send direct n2 b", "send direct n3 c"]),
        Refuse("send direct n3", 411, 2, 0),
        Heard(&["send direct n2 b", "send direct n3 c"]),
        Ack("send direct n1", 1),
        Told(&["sent n1 at 1"]),
    ]);
}

#[test]
fn silence_is_met_with_five_retries_and_then_the_failed_list() {
    check(&[
        Send("a"),
        Heard(&["send direct n1 a"]),
        Wait(5_999),
        Heard(&[]),
        Wait(1),
        Heard(&["send direct n1 a"]),
        Wait(6_999),
        Heard(&[]),
        Wait(1),
        Heard(&["send direct n1 a"]),
        Wait(9_000),
        Heard(&["send direct n1 a"]),
        Wait(13_000),
        Heard(&["send direct n1 a"]),
        Wait(21_000),
        Heard(&["send direct n1 a"]),
        Told(&[]),
        Wait(5_000),
        Told(&["parked"]),
        Wait(20_000),
        Heard(&[]),
        Reconnect,
        Heard(&["send direct n1 a"]),
        Ack("send direct n1", 1),
        Told(&["sent n1 at 1"]),
    ]);
}

#[test]
fn a_reconnect_repeats_what_has_no_answer_under_the_same_numbers() {
    check(&[
        Send("a"),
        Send("b"),
        Send("c"),
        Heard(&["send direct n1 a", "send direct n2 b", "send direct n3 c"]),
        Ack("send direct n1", 1),
        Reconnect,
        Heard(&["send direct n2 b", "send direct n3 c"]),
        Ack("send direct n2", 2),
        Ack("send direct n3", 3),
        Told(&["sent n1 at 1", "sent n2 at 2", "sent n3 at 3"]),
    ]);
}

#[test]
fn a_late_acknowledgement_counts_although_the_command_was_repeated() {
    check(&[
        Send("a"),
        Heard(&["send direct n1 a"]),
        Wait(5_500),
        Ack("send direct n1", 1),
        Told(&["sent n1 at 1"]),
        Wait(5_000),
        Heard(&[]),
    ]);
}

#[test]
fn acknowledgements_out_of_order_leave_the_outbox_in_order() {
    check(&[
        Send("a"),
        Send("b"),
        Heard(&["send direct n1 a", "send direct n2 b"]),
        Ack("send direct n2", 2),
        Ack("send direct n1", 1),
        Told(&["sent n2 at 2", "sent n1 at 1"]),
        Send("c"),
        Heard(&["send direct n3 c"]),
    ]);
}

#[test]
fn the_failed_list_can_be_retried_by_hand() {
    let mut rig = Rig::ready();
    rig.send("a");
    rig.wait_ms(70_000);
    assert_eq!(rig.told(), ["parked"]);
    let state = rig.machine.pending(&direct()).next().expect("pending").state;
    assert_eq!(state, PendingState::Parked);
    rig.heard();
    rig.machine.retry();
    rig.listen();
    assert_eq!(rig.heard(), ["send direct n1 a"]);
}

#[test]
fn the_window_bounds_what_is_unanswered() {
    let mut rig = Rig::with(seasoned(), Config { unanswered_max: 2, ..Config::default() });
    rig.connect();
    rig.heard();
    ["a", "b", "c"].into_iter().for_each(|text| rig.send(text));
    let ids = rig.ids("send");
    assert_eq!(rig.heard(), ["send direct n1 a", "send direct n2 b"]);
    rig.acknowledge(ids[0], 1, false);
    assert_eq!(rig.heard(), ["send direct n3 c"]);
}

#[test]
fn a_full_outbox_is_told() {
    let config = Config { outbox_commands_max: 2, outbox_bytes_max: 100, ..Config::default() };
    let mut rig = Rig::with(seasoned(), config);
    assert_eq!(rig.machine.send(direct(), &[0; 101]), Err(SendError::OutboxFull));
    assert_eq!(rig.machine.send(direct(), &[0; 80 * 1024]), Err(SendError::TooLarge));
    rig.machine.send(direct(), b"a").expect("taken");
    let second = rig.machine.send(direct(), b"b").expect("taken");
    assert_eq!(rig.machine.send(direct(), b"c"), Err(SendError::OutboxFull));
    assert_eq!(rig.machine.send_as(second, direct(), b"c"), Err(SendError::OutboxFull));
    rig.machine.cancel(&direct(), &second).expect("was never sent");
    assert_eq!(rig.machine.cancel(&direct(), &second), Err(CancelError::Unknown));
    let third = rig.machine.send(direct(), b"c").expect("there is room again");
    rig.connect();
    assert_eq!(rig.machine.cancel(&direct(), &third), Err(CancelError::Sent));
    assert_eq!(rig.machine.outbox_commands(), 2);
}

#[test]
fn a_throttle_stops_commands_for_as_long_as_it_says() {
    let mut rig = Rig::ready();
    for (scope, conversation) in [(ThrottleScope::User, None), (ThrottleScope::Conversation, Some(direct()))]
    {
        rig.send("first");
        let id = rig.ids("send")[0];
        let throttle = Throttle { scope, retry_after_ms: 300, conversation };
        rig.say(0, &ServerFrame::Throttle(throttle));
        rig.acknowledge(id, 0, true);
        rig.heard();
        rig.send("second");
        rig.wait_ms(299);
        assert!(rig.heard().is_empty(), "{scope:?}");
        rig.wait_ms(1);
        assert_eq!(rig.heard().len(), 1, "{scope:?}");
        rig.drop_socket();
        rig.wait_ms(60_000);
        rig.connect();
        let id = *rig.ids("send").last().expect("sent again");
        rig.acknowledge(id, 0, true);
        rig.heard();
    }
}

#[test]
fn a_machine_goes_on_where_its_stored_state_ends() {
    let mut rig = Rig::ready();
    ["a", "b"].into_iter().for_each(|text| rig.send(text));
    let id = rig.ids("send")[0];
    rig.acknowledge(id, 1, false);
    let stored = rig.machine.snapshot();
    let mut again = Rig::with(stored.clone(), Config::default());
    assert_eq!(again.machine.snapshot(), stored);
    again.connect();
    assert_eq!(again.heard(), ["hello attempt 2 token token", "send direct n2 b"]);
}

/// A burst of 150 to a group that one is not in went again as a whole for each refusal: 11,325 sends, and as many refusals.
#[test]
fn a_burst_that_is_refused_costs_a_few_sends_for_each_command() {
    const COMMANDS: usize = 150;
    let mut rig = Rig::ready();
    (0..COMMANDS).for_each(|number| rig.send(&format!("{number}")));
    let (mut sends, mut refused) = (0, 0);
    while refused < COMMANDS {
        let ids = rig.ids("send");
        let heard = rig.heard();
        sends += ids.len();
        assert!(!ids.is_empty(), "{refused} refused, the rest does not go");
        let texts = heard.iter().filter(|text| text.starts_with("send"));
        for (id, text) in ids.into_iter().zip(texts) {
            if text.starts_with("send direct n1 ") {
                rig.refuse(id, 401, 0, 0);
            } else {
                rig.refuse(id, 411, 1, 0);
            }
        }
        refused += rig.told().iter().filter(|text| *text == "refused NOT_MEMBER").count();
    }
    assert!(sends <= 3 * COMMANDS, "{sends} sends");
    // Who is let in again is not held back for long.
    (0..20).for_each(|number| rig.send(&format!("again {number}")));
    let mut sequence = 0;
    for _ in 0..6 {
        let ids = rig.ids("send");
        rig.heard();
        for id in ids {
            sequence += 1;
            rig.acknowledge(id, sequence, false);
        }
    }
    assert_eq!(rig.told().iter().filter(|text| text.starts_with("sent")).count(), 20);
}
