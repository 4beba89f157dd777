//! What an operator has erased is given to nobody within seconds, and then is in no file of the data directory.

use crate::SHARDS;
use crate::stop::verify_log;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Instant;
use tidegate_ids::{ClientId, ConversationId, DeviceId, Sequence, UserId};
use tidegate_schema::{Encoder, GroupCreate, List, MessageFields, ServerFrame, SkipReason};
use tidegate_tests_e2e::{Gateway, Setup, Wire, limits, program};
use tidegate_tests_support::{marks_in_folder, noise};

const AUTHOR: UserId = UserId(1001);
const OTHER: UserId = UserId(1002);

/// A body that is found wherever it lies, also in a compressed block.
fn body(number: u64) -> Vec<u8> {
    noise(number, 300)
}

fn message(number: u64) -> Vec<u8> {
    let mut encoded = Vec::new();
    let fields = MessageFields { body: &body(number), ..MessageFields::default() };
    Encoder::new().message(&mut encoded, &fields).expect("it is short");
    encoded
}

/// Which of these bodies lie in any file of a directory.
fn on_disk(data: &Path, numbers: impl Iterator<Item = u64>) -> BTreeSet<u64> {
    let mut marks = std::collections::BTreeMap::new();
    for number in numbers {
        for at in [0, 100, 284] {
            marks.insert(<[u8; 16]>::try_from(&body(number)[at..at + 16]).unwrap(), number);
        }
    }
    marks_in_folder(data, &marks)
}

/// `tidegate-log erase` on a directory; what it prints.
#[track_caller]
fn erase(data: &Path, options: &[&str]) -> String {
    let mut command = Command::new(program::program("tidegate-log"));
    let output = command.arg("erase").arg(data).args(options).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Waits until every request is so far.
#[track_caller]
fn wait_until(data: &Path, is_there: impl Fn(&str) -> bool) -> String {
    let end = Instant::now() + limits::WAIT;
    loop {
        let told = erase(data, &["--list"]);
        if is_there(&told) {
            return told;
        }
        assert!(Instant::now() < end, "{told}");
        std::thread::sleep(limits::LOOK_INTERVAL);
    }
}

/// The sequences that a page of a whole conversation has, and those that it says are erased.
#[track_caller]
fn page(wire: &mut Wire, conversation: ConversationId) -> (Vec<u64>, Vec<u64>) {
    let request = wire.say_range(conversation, Sequence(0));
    let answer = wire.answer(request);
    let ServerFrame::Range(range) = answer.read() else { panic!("no range: {answer:?}") };
    assert!(range.complete);
    let records = range.iter().map(|stored| stored.unwrap().stamp.sequence.0).collect();
    let mut erased = Vec::new();
    for skip in range.skips.iter() {
        assert_eq!(skip.reason, SkipReason::Erased);
        erased.extend(skip.from.0..=skip.to.0);
    }
    (records, erased)
}

struct Scene {
    dir: tempfile::TempDir,
    group: ConversationId,
    direct: ConversationId,
}

impl Scene {
    /// A group whose name is a secret and a direct conversation, each with six messages: bodies 1 to 6 and 11 to 16. The other
    /// user has a device, which was not connected meanwhile.
    fn new(shards: u16) -> (Self, Gateway) {
        let dir = tempfile::tempdir().unwrap();
        let gateway = Gateway::start(dir.path(), shards);
        let mut other = Wire::greeted(gateway.ws, &gateway.token(OTHER), DeviceId(2), 1);
        other.ping();
        drop(other);
        let mut wire = Wire::greeted(gateway.ws, &gateway.token(AUTHOR), DeviceId(1), 1);
        let name = body(100);
        let create =
            GroupCreate { client_id: ClientId([9; 16]), name: &name[..64], users: List::new(&[OTHER]) };
        let request = wire.request(&create);
        let answer = wire.answer(request);
        let ServerFrame::GroupCreated(created) = answer.read() else { panic!("no group: {answer:?}") };
        let (group, direct) = (created.conversation, ConversationId::direct(AUTHOR, OTHER));
        for number in 1..=6 {
            for (conversation, body) in [(group, number), (direct, 10 + number)] {
                let request = wire.say_send(conversation, number, &message(body));
                wire.acknowledged(request);
            }
        }
        (Self { dir, group, direct }, gateway)
    }

    fn data(&self) -> &Path {
        self.dir.path()
    }
}

fn author(gateway: &Gateway, attempt: u64) -> Wire {
    Wire::greeted(gateway.ws, &gateway.token(AUTHOR), DeviceId(1), attempt)
}

#[test]
fn what_is_erased_is_given_to_nobody_and_then_is_in_no_file() {
    for shards in SHARDS {
        let (scene, gateway) = Scene::new(shards);
        let (data, group) = (scene.data(), scene.group.to_string());
        // The group's first record is its creation, with its name.
        let all: BTreeSet<u64> = (1..=6).chain(11..=16).collect();
        assert_eq!(on_disk(data, all.iter().copied()), all, "what is looked for can be found");
        let told = erase(data, &["--conversation", &group, "--sequences", "3..5", "--reason", "case 4711"]);
        assert!(told.contains("records 3..5 are to be erased") && told.contains("takes this up"), "{told}");
        let told = wait_until(data, |told| !told.starts_with("asked"));
        assert!(told.contains(&format!("{group} 3..5")) && told.contains(": case 4711"), "{told}");
        let mut wire = author(&gateway, 2);
        assert_eq!(page(&mut wire, scene.group), (vec![1, 2, 6, 7], vec![3, 4, 5]));
        assert_eq!(page(&mut wire, scene.direct), ((1..=6).collect(), vec![]));
        // A device that comes now has not missed what is gone.
        let mut late = Wire::greeted(gateway.ws, &gateway.token(OTHER), DeviceId(2), 2);
        let pushed: BTreeSet<(ConversationId, u64)> = (0..10)
            .map(|_| {
                let (stamp, _) = late.pushed_record();
                (stamp.conversation, stamp.sequence.0)
            })
            .collect();
        let expected = [1, 2, 6, 7].map(|at| (scene.group, at)).into_iter();
        assert_eq!(pushed, expected.chain((1..=6).map(|at| (scene.direct, at))).collect());
        // In a gateway in which nothing else happens, too, the bytes go: the segment is ended, held by two snapshots, rewritten.
        let told = wait_until(data, |told| told.contains("0 pending, 1 done"));
        assert!(told.contains("3 of 3 erased"), "{told}");
        let stats = gateway.stats();
        assert_eq!(
            (&stats.0["erasures"]["pending"], &stats.0["erasures"]["records"]),
            (&0.into(), &3.into())
        );
        // Bodies 2 to 4: the creation has a sequence of its own.
        assert_eq!(on_disk(data, 2..=4), BTreeSet::new());
        assert_eq!(page(&mut wire, scene.group), (vec![1, 2, 6, 7], vec![3, 4, 5]));
        // It goes on, and everything of the other conversation and the name of the group can go as well.
        let request = wire.say_send(scene.group, 7, &message(7));
        wire.acknowledged(request);
        erase(data, &["--conversation", &format!("{AUTHOR}:{OTHER}"), "--all"]);
        erase(data, &["--conversation", &group, "--sequences", "1"]);
        wait_until(data, |told| told.contains("0 pending, 3 done"));
        assert_eq!(page(&mut wire, scene.direct), (vec![], (1..=6).collect()));
        assert_eq!(page(&mut wire, scene.group), (vec![2, 6, 7, 8], vec![1, 3, 4, 5]));
        let request = wire.say_send(scene.direct, 7, &message(17));
        assert_eq!(wire.acknowledged(request).sequence, Sequence(7), "what is said later was not meant");
        drop((wire, late));
        gateway.stop();
        assert_eq!(on_disk(data, (2..=4).chain(11..=16).chain([100])), BTreeSet::new());
        verify_log(data);
        let gateway = Gateway::start(data, shards);
        let mut wire = author(&gateway, 3);
        assert_eq!(page(&mut wire, scene.group), (vec![2, 6, 7, 8], vec![1, 3, 4, 5]));
        assert_eq!(page(&mut wire, scene.direct), (vec![7], (1..=6).collect()));
        // Who is a member is not forgotten with the record that said so.
        let mut late = Wire::greeted(gateway.ws, &gateway.token(OTHER), DeviceId(3), 1);
        assert_eq!(page(&mut late, scene.group).0, [2, 6, 7, 8]);
        gateway.stop();
    }
}

/// Killed a moment after it was asked, and again and again while it works it off: never is a record given out again, and in the
/// end it is in no file.
#[test]
fn a_gateway_that_is_killed_on_the_way_forgets_no_request() {
    let (scene, gateway) = Scene::new(2);
    let (data, group) = (scene.data(), scene.group.to_string());
    erase(data, &["--conversation", &group, "--sequences", "2..7"]);
    gateway.kill();
    let told = erase(data, &["--conversation", &format!("{AUTHOR}:{OTHER}"), "--sequences", "6"]);
    assert!(told.contains("no gateway runs"), "{told}");
    for round in 0..5_u16 {
        let gateway = Gateway::start(data, 1 + round % 2);
        let mut wire = author(&gateway, u64::from(round) + 2);
        assert_eq!(page(&mut wire, scene.group), (vec![1], (2..=7).collect()), "round {round}");
        assert_eq!(page(&mut wire, scene.direct), ((1..=5).collect(), vec![6]), "round {round}");
        let last = round == 4;
        if last {
            wait_until(data, |told| told.contains("0 pending, 2 done"));
            gateway.stop();
            break;
        }
        std::thread::sleep(limits::LOOK_INTERVAL * (1_u32 << (2 * round)));
        gateway.kill();
    }
    assert_eq!(on_disk(data, (1..=6).chain([16])), BTreeSet::new());
    let kept: BTreeSet<u64> = (11..=15).collect();
    assert_eq!(on_disk(data, 11..=15), kept);
    verify_log(data);
}

/// A list that nobody can read says nothing of what may be given out.
#[test]
fn a_list_that_cannot_be_read_keeps_the_gateway_from_starting() {
    let (scene, gateway) = Scene::new(1);
    erase(scene.data(), &["--conversation", &scene.group.to_string(), "--all"]);
    gateway.stop();
    let list = scene.data().join("ERASURES");
    let sound = std::fs::read_to_string(&list).unwrap();
    std::fs::write(&list, sound.replace(" 1 7 ", " 1 6 ")).unwrap();
    let ended = Setup::new(scene.data(), 1).try_start().expect_err("nobody could say what may be given out");
    assert!(
        ended.complained.iter().any(|line| line.contains("ERASURES") && line.contains("checksum")),
        "{ended:?}"
    );
    std::fs::write(&list, sound).unwrap();
    let gateway = Gateway::start(scene.data(), 1);
    assert_eq!(page(&mut author(&gateway, 2), scene.group).0, Vec::<u64>::new());
    gateway.stop();
}

/// A pass that rewrites slowly kept the gateway from noticing the next request until it had ended.
#[test]
fn a_request_is_taken_while_another_is_worked_off() {
    let (scene, gateway) = Scene::new(1);
    let (data, group) = (scene.data(), scene.group.to_string());
    gateway.stop();
    // At a hundred bytes a second the first pass takes longer than this test.
    let slow = Setup::new(data, 1).with("TIDEGATE_RETENTION__REWRITE_BYTES_PER_SECOND", "100").start();
    for (sequence, erased) in [("3", vec![3]), ("5", vec![3, 5])] {
        erase(data, &["--conversation", &group, "--sequences", sequence]);
        let told = wait_until(data, |told| told.lines().all(|line| !line.starts_with("asked")));
        assert!(told.contains(&format!("{} pending, 0 done", erased.len())), "{told}");
        assert_eq!(page(&mut author(&slow, erased.len() as u64 + 1), scene.group).1, erased);
    }
    slow.stop();
    let gateway = Gateway::start(data, 1);
    wait_until(data, |told| told.contains("0 pending, 2 done"));
    assert_eq!(page(&mut author(&gateway, 4), scene.group), (vec![1, 2, 4, 6, 7], vec![3, 5]));
    gateway.stop();
    assert_eq!(on_disk(data, [2, 4].into_iter()), BTreeSet::new());
}
