//! Files that go bad, under a running gateway and before a start: what is sound is served, what is lost is told, and it stays
//! up.

use crate::repair::repair;
use crate::stop::verify_log;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;
use tidegate_ids::{ConversationId, DeviceId, Incarnation, Sequence, UserId};
use tidegate_schema::{ServerFrame, SkipReason};
use tidegate_tests_e2e::limits::{LOOK_INTERVAL, WAIT};
use tidegate_tests_e2e::{Device, Gateway, Setup, Wire, get, message, program, user_at};

/// So small that some dozens of messages roll.
const SEGMENT_BYTES: &str = "262144";

/// So little is folded at a time that each closed segment makes a snapshot.
const SNAPSHOT_BYTES: &str = "65536";

fn setup(data: &Path) -> Setup {
    Setup::new(data, 1)
        .with("TIDEGATE_STORAGE__SEGMENT_BYTES", SEGMENT_BYTES)
        .with("TIDEGATE_STORAGE__BATCH_BYTES_MAX", "65536")
        .with("TIDEGATE_STORAGE__SNAPSHOT_BYTES", SNAPSHOT_BYTES)
}

/// One who sends long messages.
struct Talker {
    wire: Wire,
    conversation: ConversationId,
    number: u64,
}

impl Talker {
    fn new(gateway: &Gateway, user: UserId, attempt: u64) -> Self {
        let wire = Wire::greeted(gateway.ws, &gateway.token(user), DeviceId(1), attempt);
        Self { wire, conversation: ConversationId::direct(user, UserId(1 << 40)), number: 0 }
    }

    fn talk(&mut self, count: u64) {
        for _ in 0..count {
            self.number += 1;
            let text = format!("{:05} {}", self.number, "long ".repeat(800));
            let id = self.wire.say_send(self.conversation, self.number, &message(&text));
            let ack = self.wire.acknowledged(id);
            assert_eq!(ack.sequence, Sequence(self.number));
        }
    }

    /// All of the conversation: sequences that are there, and those that are skipped as damaged.
    fn read(&mut self) -> (Vec<u64>, Vec<u64>) {
        let (mut there, mut skipped, mut at) = (Vec::new(), Vec::new(), 0);
        loop {
            let id = self.wire.say_range(self.conversation, Sequence(at));
            let answer = self.wire.answer(id);
            let ServerFrame::Range(range) = answer.read() else { panic!("no range: {answer:?}") };
            let before = at;
            for stored in range.iter() {
                there.push(stored.unwrap().stamp.sequence.0);
            }
            for span in range.skips.iter() {
                assert_eq!(span.reason, SkipReason::Damaged);
                skipped.extend(span.from.0..=span.to.0);
            }
            at = there.iter().chain(&skipped).copied().max().unwrap_or(0);
            if range.complete {
                return (there, skipped);
            }
            assert!(at > before, "a page that says nothing");
        }
    }
}

fn segments(data: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(data.join("log/1/0")).unwrap().map(|entry| entry.unwrap().path());
    let mut numbered: Vec<(u32, PathBuf)> = entries
        .filter_map(|path| Some((path.file_stem()?.to_str()?.parse().ok()?, path)))
        .filter(|(_, path): &(u32, PathBuf)| path.extension().is_some_and(|extension| extension == "seg"))
        .collect();
    numbered.sort();
    numbered.into_iter().map(|(_, path)| path).collect()
}

/// A sealed segment was cut while a gateway ran: a map of it would have killed the process. What lay in it is told as damaged,
/// and its conversation goes on.
#[test]
fn a_segment_that_is_cut_under_a_gateway_costs_itself() {
    let dir = tempfile::tempdir().unwrap();
    // No snapshot is made that would take the segment for read.
    let gateway = setup(dir.path()).with("TIDEGATE_STORAGE__SNAPSHOT_BYTES", "1000000000").start();
    let mut talker = Talker::new(&gateway, user_at(1, 0, 0), 1);
    talker.talk(300);
    let all = segments(dir.path());
    assert!(all.len() > 4, "{all:?}");
    File::options().write(true).open(&all[1]).unwrap().set_len(65_536).unwrap();
    let (there, skipped) = talker.read();
    assert!(!skipped.is_empty() && skipped.len() < 100, "{skipped:?}");
    let mut both: Vec<u64> = there.iter().chain(&skipped).copied().collect();
    both.sort_unstable();
    assert_eq!(both, (1..=300).collect::<Vec<u64>>());
    talker.talk(10);
    assert!(gateway.is_healthy());
    assert_eq!(get(gateway.admin, "/readyz").status, 200);
    // A shard tells its figures a few times a second; it has done so since.
    let end = Instant::now() + WAIT;
    let event = |name: &str| gateway.metric("tidegate_events_total", &format!("event=\"{name}\""));
    while event("reads_damaged") == 0 {
        assert!(Instant::now() < end, "damage is not counted");
        std::thread::sleep(LOOK_INTERVAL);
    }
    assert!(event("reads_failed") >= 3 * event("reads_damaged"));
    gateway.stop();
    // A start names the file and says what to do; with its length back, what is missing in the middle of a log is damage.
    let ended = setup(dir.path()).try_start().unwrap_err();
    assert!(ended.complained.iter().any(|line| line.contains("65536 bytes long")), "{ended:?}");
    File::options().write(true).open(&all[1]).unwrap().set_len(262_144).unwrap();
    let gateway = setup(dir.path()).start();
    assert!(gateway.metric("tidegate_recovery_damage", "") > 0);
    // What lay there may have been the newest of any conversation.
    assert_eq!(gateway.metric("tidegate_recovery_renewed", ""), 1);
    let renewed = incarnation(&gateway);
    let mut talker = Talker { number: 310, ..Talker::new(&gateway, user_at(1, 0, 0), 2) };
    assert_eq!(talker.read().1, skipped);
    talker.talk(1);
    gateway.kill();
    let gateway = setup(dir.path()).start();
    assert_eq!(gateway.metric("tidegate_recovery_renewed", ""), 0);
    assert_eq!(incarnation(&gateway), renewed);
    let mut talker = Talker { number: 311, ..Talker::new(&gateway, user_at(1, 0, 0), 3) };
    assert_eq!(talker.read().1, skipped);
}

/// The newest file of a log is gone, and an operator gives it its length back.
fn empty(path: &Path) {
    let bytes = std::fs::metadata(path).unwrap().len();
    std::fs::remove_file(path).unwrap();
    File::create(path).unwrap().set_len(bytes).unwrap();
}

/// That a segment was emptied is told by every start, which changes nothing, and by `verify`.
#[track_caller]
fn check_emptied(setup: &Setup, path: &Path) {
    for _ in 0..2 {
        let ended = setup.try_start().unwrap_err();
        let names = |line: &&String| line.contains(path.to_str().unwrap());
        let told = ended.complained.iter().find(names).unwrap_or_else(|| panic!("{ended:?}"));
        assert!(told.contains("it was written") && told.contains("`tidegate-log repair`"), "{told}");
        let verify = Command::new(program::program("tidegate-log")).arg("verify").arg(&setup.data).output();
        let verify = verify.unwrap();
        let said = String::from_utf8_lossy(&verify.stdout);
        assert!(!verify.status.success() && said.contains(path.to_str().unwrap()), "{said}");
        assert!(path.exists());
    }
}

/// The last segment of an older epoch was lost, and its file got its length back. The start took it for a spare that nobody needs and
/// removed it: what lay in it was answered as if retention had let it go, and `verify` had nothing to say.
#[test]
fn a_segment_that_was_emptied_refuses_the_start_until_it_is_repaired() {
    let dir = tempfile::tempdir().unwrap();
    let (data, copy) = (dir.path().join("data"), dir.path().join("repaired"));
    let gateway = setup(&data).start();
    let first = incarnation(&gateway);
    let mut talker = Talker::new(&gateway, user_at(1, 0, 0), 1);
    talker.talk(300);
    gateway.stop();
    // Another number of shards ends the epoch, and the conversation goes on in the next one.
    let two = Setup { shards: 2, ..setup(&data) };
    let gateway = two.start();
    let mut talker = Talker { number: 300, ..Talker::new(&gateway, user_at(1, 0, 0), 2) };
    talker.talk(30);
    gateway.stop();
    // The spares of the older epoch are gone.
    let last = segments(&data).pop().unwrap();
    empty(&last);
    check_emptied(&two, &last);
    repair(&data, &copy);
    let gateway = Setup { shards: 2, ..setup(&copy) }.start();
    assert_ne!(incarnation(&gateway), first);
    let mut talker = Talker { number: 330, ..Talker::new(&gateway, user_at(1, 0, 0), 3) };
    let (there, skipped) = talker.read();
    assert!(!skipped.is_empty() && skipped.len() < 100, "{skipped:?}");
    let mut both: Vec<u64> = there.iter().chain(&skipped).copied().collect();
    both.sort_unstable();
    assert_eq!(both, (1..=330).collect::<Vec<u64>>());
    talker.talk(1);
    gateway.stop();
    verify_log(&copy);
}

/// The newest segment of the newest epoch was lost like that. No snapshot covers it; only the other shard's checkpoint knows how far
/// the log went, and the start took a new incarnation and wrote into the file as into a spare.
#[test]
fn a_newest_segment_that_was_emptied_is_known_by_whoever_read_it() {
    for shard in 0..2 {
        let dir = tempfile::tempdir().unwrap();
        let (data, copy) = (dir.path().join("data"), dir.path().join("repaired"));
        let gateway = Gateway::start(&data, 2);
        let first = incarnation(&gateway);
        let mut ann = Device::new(&gateway, user_at(2, 0, 0));
        let mut ben = Device::new(&gateway, user_at(2, 1, 0));
        for _ in 0..3 {
            for id in [ann.direct(ben.user), ann.direct(user_at(2, 1, 1)), ann.direct(user_at(2, 0, 1))] {
                ann.say(id, "read by the other shard");
            }
        }
        ben.hear(ann.direct(ben.user), "read by the other shard");
        drop((ann, ben));
        gateway.stop();
        let written = |path: &PathBuf| std::fs::read(path).unwrap()[..8] != [0; 8];
        let of_shard = std::fs::read_dir(data.join(format!("log/1/{shard}"))).unwrap();
        let mut of_shard: Vec<PathBuf> =
            of_shard.map(|entry| entry.unwrap().path()).filter(written).collect();
        let last = of_shard.pop().unwrap();
        assert!(of_shard.is_empty(), "the only one that was written: {of_shard:?}");
        empty(&last);
        check_emptied(&Setup::new(&data, 2), &last);
        repair(&data, &copy);
        let gateway = Gateway::start(&copy, 2);
        assert_ne!(incarnation(&gateway), first);
        gateway.stop();
        verify_log(&copy);
    }
}

/// Flips a byte of a text in the newest segment that has it.
fn spoil(data: &Path, text: &str) {
    for path in segments(data).iter().rev() {
        let bytes = std::fs::read(path).unwrap();
        let found = bytes.windows(text.len()).rposition(|window| window == text.as_bytes());
        if let Some(at) = found {
            let file = File::options().write(true).open(path).unwrap();
            return file.write_all_at(&[bytes[at] ^ 1], at as u64).unwrap();
        }
    }
    panic!("{text} is in no segment");
}

fn incarnation(gateway: &Gateway) -> Incarnation {
    let user = UserId(1 << 41);
    let mut wire = Wire::open(gateway.ws);
    wire.hello(&gateway.token(user), DeviceId(1), 1).incarnation
}

/// The newest message of a conversation was damaged, and the next one got its sequence: who had the first dropped the second
/// as known. Now a start says so by a new incarnation, once, and they drop what lies above the head.
#[test]
fn the_end_of_a_conversation_that_is_lost_is_told_by_a_new_incarnation_once() {
    for end in ["stop", "kill"] {
        let dir = tempfile::tempdir().unwrap();
        let gateway = Gateway::start(dir.path(), 1);
        let first = incarnation(&gateway);
        let mut ann = Device::new(&gateway, user_at(1, 0, 0));
        let mut ben = Device::new(&gateway, user_at(1, 0, 1));
        let id = ann.direct(ben.user);
        ann.say(id, "this one stays");
        let lost = ann.say(id, "this one is lost");
        ben.hear(id, "this one is lost");
        // Something is committed behind it, so that it is known to have been synced.
        let other = ann.direct(UserId(1 << 40));
        ann.say(other, "behind it");
        let (ann, ben) = ((ann.user, ann.close()), (ben.user, ben.close()));
        if end == "stop" {
            gateway.stop();
        } else {
            gateway.kill();
        }
        spoil(dir.path(), "this one is lost");
        let gateway = Gateway::start(dir.path(), 1);
        assert_eq!(gateway.metric("tidegate_recovery_renewed", ""), 1, "{end}");
        assert_eq!(gateway.metric("tidegate_recovery_lost", ""), 1);
        let second = incarnation(&gateway);
        assert_ne!(first, second);
        let mut ann = Device::resume(&gateway, ann.0, ann.1);
        let mut ben = Device::resume(&gateway, ben.0, ben.1);
        let again = ann.say(id, "in its place");
        assert_eq!(again.sequence, lost.sequence);
        ben.hear(id, "in its place");
        drop((ann, ben));
        gateway.stop();
        let gateway = Gateway::start(dir.path(), 1);
        assert_eq!(incarnation(&gateway), second, "once is enough");
        assert_eq!(gateway.metric("tidegate_recovery_renewed", ""), 0);
        assert!(gateway.metric("tidegate_recovery_damage", "") > 0, "the damage is still there");
    }
}

/// A damaged message with another one behind it needs no new incarnation: its place stays taken.
#[test]
fn a_loss_in_the_middle_of_a_conversation_keeps_the_incarnation() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(dir.path(), 1);
    let first = incarnation(&gateway);
    let user = user_at(1, 0, 0);
    let conversation = ConversationId::direct(user, UserId(1 << 40));
    let mut wire = Wire::greeted(gateway.ws, &gateway.token(user), DeviceId(1), 1);
    wire.send(conversation, 1, "this one is lost");
    wire.send(conversation, 2, "this one stays");
    gateway.stop();
    spoil(dir.path(), "this one is lost");
    let gateway = Gateway::start(dir.path(), 1);
    assert_eq!(incarnation(&gateway), first);
    assert!(gateway.metric("tidegate_recovery_damage", "") > 0);
    assert_eq!(gateway.metric("tidegate_recovery_lost", ""), 0);
    let mut wire = Wire::greeted(gateway.ws, &gateway.token(user), DeviceId(1), 2);
    assert_eq!(wire.send(conversation, 3, "and goes on").sequence, Sequence(3));
}

/// Flips a bit in the first block of entries; an older snapshot may be gone by now.
fn spoil_snapshot(path: &Path) {
    let Ok(file) = File::options().read(true).write(true).open(path) else { return };
    let (mut listed, mut byte) = ([0; 4], [0]);
    file.read_exact_at(&mut listed, 52).unwrap();
    let at = 64 + u64::from(u32::from_le_bytes(listed)) + 40;
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

/// The newest snapshot was found damaged by the next one: none was made any more until a restart, and logs and tables grew.
#[test]
fn a_snapshot_that_goes_bad_is_made_again_while_the_gateway_runs() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = setup(dir.path()).start();
    let mut talker = Talker::new(&gateway, user_at(1, 0, 0), 1);
    let newest = || gateway.metric("tidegate_snapshot_number", "");
    let set_aside = || gateway.metric("tidegate_snapshot_set_aside_total", "");
    let end = Instant::now() + WAIT;
    let mut talk_until = |holds: &dyn Fn() -> bool| {
        while !holds() {
            talker.talk(20);
            assert!(
                Instant::now() < end,
                "snapshot {} is the newest, {} are set aside",
                newest(),
                set_aside()
            );
        }
    };
    talk_until(&|| newest() >= 2);
    // The one that is spoiled may be no longer the newest by then: so again and again, until a merge has met it.
    while set_aside() == 0 {
        let number = newest();
        spoil_snapshot(&dir.path().join(format!("snapshot/{number}.snap")));
        talk_until(&|| newest() > number || set_aside() > 0);
    }
    let number = newest();
    talk_until(&|| newest() > number);
    let kept = std::fs::read_dir(dir.path().join("snapshot")).unwrap();
    let names = kept.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| name.ends_with(".snap.damaged")).count() as u64, set_aside());
    let (there, skipped) = talker.read();
    assert_eq!((there.len() as u64, skipped.len()), (talker.number, 0));
    gateway.stop();
    verify_log(dir.path());
    let gateway = setup(dir.path()).start();
    let mut again = Talker { number: talker.number, ..Talker::new(&gateway, user_at(1, 0, 0), 2) };
    assert_eq!(again.read().0.len() as u64, talker.number);
    again.talk(1);
}

/// Snapshots went bad while the gateway was down. Everybody in a bad block was UNAVAILABLE for good: they could not write, so no
/// log grew, and no next snapshot became due that would have met the damage.
#[test]
fn snapshots_that_went_bad_before_a_start_are_made_again_for_who_needs_them() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (user_at(1, 0, 0), user_at(1, 0, 1));
    let gateway = setup(dir.path()).start();
    let mut ann = Device::new(&gateway, one);
    let mut ben = Device::new(&gateway, other);
    let chat = ann.direct(other);
    let text = "long ".repeat(800);
    let end = Instant::now() + WAIT;
    while gateway.metric("tidegate_snapshot_number", "") < 1 {
        ann.say(chat, &text);
        assert!(Instant::now() < end, "there is no snapshot");
    }
    ann.say(chat, "the last before the stop");
    ben.hear(chat, "the last before the stop");
    let said = ben.sequences(chat).len();
    let (ann, ben) = (ann.close(), ben.close());
    gateway.stop();
    let snapshots = std::fs::read_dir(dir.path().join("snapshot")).unwrap();
    snapshots.for_each(|entry| spoil_snapshot(&entry.unwrap().path()));
    let gateway = setup(dir.path()).start();
    let set_aside = || gateway.metric("tidegate_snapshot_set_aside_total", "");
    let mut ann = Device::resume(&gateway, one, ann);
    let mut ben = Device::resume(&gateway, other, ben);
    ann.say(chat, "it is there again");
    ben.hear(chat, "it is there again");
    assert_eq!(ben.sequences(chat), [Sequence(said as u64 + 1)], "of this life");
    assert!(set_aside() >= 1, "what was read came from a bad block");
    gateway.stop();
    verify_log(dir.path());
}
