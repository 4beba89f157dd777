//! A directory that a gateway left and that was damaged: the start points at the tool, and a gateway on the repaired copy serves
//! everything but what was lost, as another incarnation.

use crate::SHARDS;
use crate::load::Load;
use crate::stop::verify_log;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tidegate_ids::{ConversationId, ConversationKind, DeviceId, Incarnation, Sequence, UserId};
use tidegate_schema::{ServerFrame, SkipReason, SkipSpan, Stored};
use tidegate_tests_e2e::{Device, Gateway, Setup, Wire, message, program, text_of};

/// Overwrites a text where a log holds it, as a disk may.
#[track_caller]
fn rot(data: &Path, text: &str) {
    let hit = segments(data).into_iter().find_map(|path| {
        let bytes = std::fs::read(&path).unwrap();
        let at = bytes.windows(text.len()).position(|window| window == text.as_bytes())?;
        Some((path, at as u64))
    });
    let (path, at) = hit.expect("a log holds it");
    File::options().write(true).open(path).unwrap().write_all_at(&vec![b'#'; text.len()], at).unwrap();
}

fn segments(data: &Path) -> Vec<PathBuf> {
    let below = |dir: PathBuf| std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    below(data.join("log")).flat_map(below).flat_map(below).collect()
}

pub(crate) fn repair(data: &Path, to: &Path) -> String {
    let mut command = Command::new(program::program("tidegate-log"));
    let output = command.arg("repair").arg(data).arg("--to").arg(to).output().unwrap();
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{out}{}", String::from_utf8_lossy(&output.stderr));
    out
}

fn incarnation(gateway: &Gateway) -> Incarnation {
    let mut wire = Wire::open(gateway.ws);
    wire.hello(&gateway.token(UserId(1 << 41)), DeviceId(1), 1).incarnation
}

/// What a member reads of a conversation: texts by their sequences, and what is skipped.
fn read(gateway: &Gateway, user: UserId, id: ConversationId) -> (Vec<(u64, String)>, Vec<SkipSpan>) {
    let mut wire = Wire::greeted(gateway.ws, &gateway.token(user), DeviceId(99), 1);
    let request = wire.say_range(id, Sequence(0));
    let answer = wire.answer(request);
    let ServerFrame::Range(range) = answer.read() else { panic!("no range of {id}") };
    assert!(range.complete);
    let text = |stored: Stored<'_>| (stored.stamp.sequence.0, text_of(stored.message));
    (range.iter().map(|stored| text(stored.unwrap())).collect(), range.skips.iter().collect())
}

#[test]
fn a_gateway_on_a_repaired_copy_serves_what_holds_and_says_what_is_lost() {
    for shards in SHARDS {
        let dir = tempfile::tempdir().unwrap();
        let (data, copy) = (dir.path().join("data"), dir.path().join("repaired"));
        let gateway = Gateway::start(&data, shards);
        let original = incarnation(&gateway);
        let (one, other) = (UserId(1), UserId(2));
        let id = ConversationId::direct(one, other);
        let mut here = Device::new(&gateway, one);
        let mut there = Device::new(&gateway, other);
        let texts: Vec<String> = (1..=60).map(|at| format!("text number {at:03} of sixty")).collect();
        texts[..30].iter().for_each(|text| _ = here.say(id, text));
        there.hear(id, &texts[29]);
        let away = there.close();
        // What waits for a device that is away.
        texts[30..].iter().for_each(|text| _ = here.say(id, text));
        let sent = here.close();
        gateway.kill();

        rot(&data, &texts[9]);
        rot(&data, &texts[44]);
        std::fs::remove_file(data.join("MANIFEST")).unwrap();
        let refused = Setup::new(&data, shards).try_start().expect_err("no MANIFEST");
        assert!(refused.complained.iter().any(|line| line.contains("`tidegate-log repair`")), "{refused:?}");
        let out = repair(&data, &copy);
        assert!(out.contains("a message of conversation 1:2, sequence 10"), "{out}");
        assert!(out.contains(" 2 losses, 2 sequences missing, "), "{out}");
        verify_log(&copy);

        let gateway = Gateway::start(&copy, shards);
        let repaired = incarnation(&gateway);
        assert_ne!(repaired, original);
        let mut there = Device::resume(&gateway, other, away);
        there.hear(id, &texts[59]);
        let expected: Vec<String> =
            (31..=60).filter(|at| *at != 45).map(|at| texts[at - 1].clone()).collect();
        assert_eq!(there.texts(id), expected);
        let mut here = Device::resume(&gateway, one, sent);
        let ack = here.say(id, "after the repair");
        assert_eq!(ack.sequence, Sequence(61), "what is lost keeps its sequence");
        there.hear(id, "after the repair");

        let (read, skipped) = read(&gateway, other, id);
        let lost = |at: u64| SkipSpan { from: Sequence(at), to: Sequence(at), reason: SkipReason::Damaged };
        assert_eq!(skipped, [lost(10), lost(45)]);
        assert_eq!(read.len(), 59);
        for (sequence, text) in &read[..58] {
            assert_eq!(*text, texts[*sequence as usize - 1]);
        }
        gateway.stop();
        let again = Gateway::start(&copy, shards);
        assert_eq!(incarnation(&again), repaired);
        again.stop();
        verify_log(&copy);
    }
}

/// Both ends of what a segment holds are left alone. In front are registrations and the group itself, without which there is nothing
/// to ask. The newest batch of a log that was killed is the only one that nothing proves to be synced: damaged, it is a tail that is
/// cut, whatever was acknowledged.
const SPARED_BYTES: u64 = 64 << 10;

/// How often a gateway is started until it has written that much.
const LIVES_MAX: usize = 100;

/// Segments with something between what is left alone, and where that ends.
fn large(data: &Path) -> Vec<(PathBuf, u64)> {
    let end = |path: PathBuf| {
        let bytes = std::fs::read(&path).unwrap();
        let end = bytes.iter().rposition(|byte| *byte != 0)? as u64;
        (end > 2 * SPARED_BYTES).then(|| (path, end - SPARED_BYTES))
    };
    segments(data).into_iter().filter_map(end).collect()
}

/// Zeroes sectors where segments hold something.
fn zero_sectors(data: &Path, count: usize, chance: &mut StdRng) {
    let large = large(data);
    for _ in 0..count {
        let (path, end) = &large[chance.random_range(0..large.len())];
        let at = chance.random_range(SPARED_BYTES..*end) / 512 * 512;
        File::options().write(true).open(path).unwrap().write_all_at(&[0; 512], at).unwrap();
    }
}

/// Messages by their sequences.
type Messages = BTreeMap<u64, Vec<u8>>;

/// All of a conversation: what is there, and which sequences are said to be damaged.
fn read_all(wire: &mut Wire, id: ConversationId) -> (Messages, Vec<(u64, u64)>) {
    let (mut there, mut skipped, mut after) = (Messages::new(), Vec::new(), 0);
    loop {
        let request = wire.say_range(id, Sequence(after));
        let answer = wire.answer(request);
        let ServerFrame::Range(range) = answer.read() else {
            panic!("no range of {id}: {:?}", answer.read())
        };
        let before = after;
        for stored in range.iter() {
            let stored = stored.unwrap();
            after = after.max(stored.stamp.sequence.0);
            there.insert(stored.stamp.sequence.0, stored.message.to_vec());
        }
        for span in range.skips.iter() {
            assert_eq!(span.reason, SkipReason::Damaged);
            after = after.max(span.to.0);
            skipped.push((span.from.0, span.to.0));
        }
        if range.complete {
            return (there, skipped);
        }
        assert!(after > before, "{id} goes on");
    }
}

#[test]
fn what_many_devices_sent_is_there_or_said_to_be_damaged() {
    for (seed, shards) in SHARDS.into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let (data, copy) = (dir.path().join("data"), dir.path().join("repaired"));
        let gateway = Gateway::start(&data, shards);
        let mut load = Load::new(&gateway, &dir.path().join("expected"));
        load.run(gateway, || {});
        // A busy machine writes little in a life.
        let mut lives = 1;
        while lives < 4 || large(&data).is_empty() {
            load.run(Gateway::start(&data, shards), || {});
            lives += 1;
            assert!(lives < LIVES_MAX, "so many lives, and not one of {SPARED_BYTES} bytes");
        }
        zero_sectors(&data, 12, &mut StdRng::seed_from_u64(seed as u64));
        let out = repair(&data, &copy);
        println!("{out}");
        verify_log(&copy);
        let gateway = Gateway::start(&copy, shards);
        let expected = load.expected();
        let acknowledged = &expected.acknowledged;
        let mut conversations: Vec<ConversationId> =
            acknowledged.iter().map(|sent| sent.command.conversation).collect();
        conversations.sort_unstable();
        conversations.dedup();
        let (mut found, mut lost) = (0, 0);
        for user in load.users() {
            // Who cannot be loaded is not welcome.
            let mut wire = Wire::greeted(gateway.ws, &gateway.token(*user), DeviceId(8), 1);
            let own = ConversationId::direct(*user, UserId(1 << 40));
            for id in
                conversations.iter().filter(|id| **id == own || id.kind() == Some(ConversationKind::Group))
            {
                let (there, skipped) = read_all(&mut wire, *id);
                for sent in acknowledged.iter().filter(|sent| sent.command.conversation == *id) {
                    let at = sent.sequence.0;
                    match there.get(&at) {
                        Some(there) => {
                            let said = expected.text(&sent.command).map(message);
                            assert_eq!(Some(there), said.as_ref());
                        }
                        None => assert!(
                            skipped.iter().any(|(from, to)| (*from..=*to).contains(&at)),
                            "{at} of {id}"
                        ),
                    }
                    found += usize::from(there.contains_key(&at));
                    lost += usize::from(!there.contains_key(&at));
                }
                let last = acknowledged
                    .iter()
                    .filter(|sent| sent.command.conversation == *id)
                    .map(|sent| sent.sequence)
                    .max();
                let ack = wire.send(*id, 1, "after the repair");
                assert!(Some(ack.sequence) > last, "no sequence is given twice");
            }
        }
        println!("{found} are there, {lost} are said to be damaged");
        assert!(found > 0 && out.contains(" losses, "));
        gateway.stop();
        verify_log(&copy);
    }
}
