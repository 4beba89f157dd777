//! The disk fills, or fails: what was acknowledged is there, what is there is served, and operators are told.

use crate::load::Load;
use crate::stop::verify_log;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tidegate_ids::{ConversationId, DeviceId, Sequence, UserId};
use tidegate_schema::ErrorCode;
use tidegate_tests_e2e::limits::{LOOK_INTERVAL, WAIT};
use tidegate_tests_e2e::{Conversation, Gateway, Setup, Wire, get, message, user_at};
use tidegate_tests_support::{FileSystem, Volume, can_mount_or_say};

/// What a gateway keeps free of the disk when it makes segments.
const RESERVE_BYTES: u64 = 64 << 20;

/// Room for six segments.
const LEFT_BYTES: u64 = RESERVE_BYTES + (24 << 20);

/// The knob of the watch over free space.
const FREE_BYTES_MIN: &str = "TIDEGATE_STORAGE__FREE_BYTES_MIN";

/// Fills the volume until so much is left.
fn fill(volume: &Volume, left_bytes: u64) -> PathBuf {
    let ballast = volume.path().join("ballast");
    let free = rustix::fs::statvfs(volume.path()).unwrap();
    let bytes = (free.f_bavail * free.f_frsize).saturating_sub(left_bytes);
    std::fs::write(&ballast, vec![1; bytes as usize]).unwrap();
    ballast
}

/// Waits until `/readyz` says this, with its status.
#[track_caller]
fn wait_for_readiness(gateway: &Gateway, status: u16, word: &str) {
    let end = Instant::now() + WAIT;
    loop {
        let answer = get(gateway.admin, "/readyz");
        if answer.status == status && answer.body.contains(word) {
            return;
        }
        assert!(Instant::now() < end, "{answer:?} and not {status} {word}");
        std::thread::sleep(LOOK_INTERVAL);
    }
}

/// Sends until it is acknowledged, as a client does that is told to wait.
#[track_caller]
fn send_until_taken(wire: &mut Wire, conversation: ConversationId, number: u64) {
    let end = Instant::now() + WAIT;
    loop {
        let id = wire.say_send(conversation, number, &message("there is room"));
        let answer = wire.answer(id);
        match answer.read() {
            tidegate_schema::ServerFrame::SendAck(_) => return,
            tidegate_schema::ServerFrame::Error(error) => assert!(error.temporary, "{error:?}"),
            other => panic!("{other:?}"),
        }
        assert!(Instant::now() < end, "never taken");
        std::thread::sleep(LOOK_INTERVAL);
    }
}

/// The pump of a gateway without anything to do turns with its tick, 40 times a second, and now and then more; one that
/// spins does it hundreds of thousands of times.
#[track_caller]
fn assert_rests(gateway: &Gateway) {
    let look = Duration::from_secs(1);
    let before = gateway.stats().total("pump.turns");
    std::thread::sleep(look);
    let turns = gateway.stats().total("pump.turns") - before;
    assert!(turns < 20_000, "{turns} turns in {look:?}");
}

/// A shard found no segment: then requests hung, reads too, and its pump turned without end.
#[test]
fn what_was_acknowledged_survives_a_full_disk() {
    if !can_mount_or_say(1) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut volume = Volume::new(dir.path(), FileSystem::Ext4, 192).unwrap();
    let data = volume.path().join("data");
    let ballast = fill(&volume, LEFT_BYTES);
    let setup = Setup::new(&data, 1).with(FREE_BYTES_MIN, "0");
    let gateway = setup.start();
    let mut reader = Wire::greeted(gateway.ws, &gateway.token(user_at(4, 0, 0)), DeviceId(7), 1);
    let mut load = Load::new(&gateway, &dir.path().join("expected"));
    let gateway = load.run_until_refused(gateway);
    assert!(gateway.is_healthy());
    wait_for_readiness(&gateway, 503, "no segment");
    // Devices that come and go leave records that find no room.
    for attempt in 2..12 {
        reader = Wire::greeted(gateway.ws, &gateway.token(user_at(4, 0, 0)), DeviceId(7), attempt);
    }
    reader.ping();
    let mine = ConversationId::direct(user_at(4, 0, 0), UserId(1 << 40));
    let read = Conversation::read(&mut reader, mine);
    let refused = reader.say_send(mine, 1, &message("no room"));
    assert_eq!(reader.refusal(refused).code, ErrorCode::Overloaded);
    assert_rests(&gateway);
    assert!(read.at(Sequence(1)).is_some(), "reads are served");
    gateway.kill();
    verify_log(&data);
    std::fs::remove_file(&ballast).unwrap();
    volume.restart().unwrap();
    let gateway = setup.start();
    let count = load.prove(&gateway);
    load.run(gateway, || {});
    let gateway = setup.start();
    assert!(load.prove(&gateway) > count, "it takes messages again");
}

/// The same, and room comes while it runs; a stop of a gateway on a full disk ends, too.
#[test]
fn a_full_disk_ends_when_there_is_room_and_does_not_hold_up_a_stop() {
    if !can_mount_or_say(1) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let volume = Volume::new(dir.path(), FileSystem::Ext4, 192).unwrap();
    let data = volume.path().join("data");
    let ballast = fill(&volume, LEFT_BYTES);
    let setup = Setup::new(&data, 2).with(FREE_BYTES_MIN, "0");
    let mut gateway = setup.start();
    let mut load = Load::new(&gateway, &dir.path().join("expected"));
    gateway = load.run_until_refused(gateway);
    wait_for_readiness(&gateway, 503, "no segment");
    assert!(gateway.metric("tidegate_space_no_segment", "") > 0);
    std::fs::remove_file(&ballast).unwrap();
    wait_for_readiness(&gateway, 200, "ready");
    let user = user_at(4, 3, 1);
    let mut wire = Wire::greeted(gateway.ws, &gateway.token(user), DeviceId(1), 1);
    send_until_taken(&mut wire, ConversationId::direct(user, UserId(1 << 41)), 1);
    let _ballast = fill(&volume, RESERVE_BYTES);
    gateway = load.run_until_refused(gateway);
    wait_for_readiness(&gateway, 503, "no segment");
    gateway.stop();
    verify_log(&data);
}

/// The watch: commands are refused while there is room for what they lead to, and taken again when there is more.
#[test]
fn commands_are_refused_before_the_disk_is_full() {
    if !can_mount_or_say(1) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let volume = Volume::new(dir.path(), FileSystem::Ext4, 256).unwrap();
    let data = volume.path().join("data");
    let min_bytes = RESERVE_BYTES + (32 << 20);
    let gateway = Setup::new(&data, 2).with(FREE_BYTES_MIN, &min_bytes.to_string()).start();
    let (user, other) = (user_at(2, 0, 0), user_at(2, 1, 0));
    let mut wire = Wire::greeted(gateway.ws, &gateway.token(user), DeviceId(1), 1);
    let conversation = ConversationId::direct(user, other);
    let sent = wire.send(conversation, 1, "there is room");
    wait_for_readiness(&gateway, 200, "ready");
    let ballast = fill(&volume, min_bytes - (8 << 20));
    wait_for_readiness(&gateway, 503, "nearly full");
    gateway.wait_for_gauge("space.low", 2);
    assert_eq!(gateway.metric("tidegate_space_low", ""), 2);
    assert!(gateway.stats().total("space.free_bytes") < min_bytes);
    let id = wire.say_send(conversation, 2, &message("no room"));
    let refused = wire.refusal(id);
    assert_eq!((refused.code, refused.temporary), (ErrorCode::Overloaded, true));
    assert!(refused.retry_after_ms > 0);
    // What was taken is answered again, a new device is welcome, and everybody reads.
    let id = wire.say_send(conversation, 1, &message("there is room"));
    assert_eq!(wire.acknowledged(id).sequence, sent.sequence);
    let mut fresh = Wire::greeted(gateway.ws, &gateway.token(other), DeviceId(2), 1);
    assert!(Conversation::read(&mut fresh, conversation).at(sent.sequence).is_some());
    std::fs::remove_file(&ballast).unwrap();
    wait_for_readiness(&gateway, 200, "ready");
    send_until_taken(&mut wire, conversation, 2);
    gateway.stop();
    verify_log(&data);
}

/// The disk goes away under a running gateway, reads included: it promises nothing more, answers everybody, and says so.
#[test]
fn a_disk_that_fails_is_told_to_everybody() {
    if !can_mount_or_say(1) {
        return;
    }
    for write_mode in ["linked", "direct"] {
        let dir = tempfile::tempdir().unwrap();
        let mut volume = Volume::new(dir.path(), FileSystem::Ext4, 768).unwrap();
        let data = volume.path().join("data");
        let setup = Setup::new(&data, 1).with("TIDEGATE_STORAGE__WRITE_MODE", write_mode);
        let gateway = setup.start();
        let (user, token) = (user_at(1, 0, 0), gateway.token(user_at(1, 0, 0)));
        let conversation = ConversationId::direct(user, UserId(1 << 40));
        let mut wire = Wire::greeted(gateway.ws, &token, DeviceId(1), 1);
        // The first also puts the conversation into its user's list, which is committed with the second.
        wire.send(conversation, 1, "kept");
        let sent = wire.send(conversation, 2, "kept");
        volume.cut_power().unwrap();
        // In flight when it fails, and after it.
        for number in 3..5 {
            let id = wire.say_send(conversation, number, &message("lost"));
            assert_eq!(wire.refusal(id).code, ErrorCode::Unavailable);
        }
        wait_for_readiness(&gateway, 503, "read-only");
        assert_eq!(gateway.stats().total("events.log_writes_failed"), 1);
        assert_eq!(gateway.metric("tidegate_latched", "shard=\"0\""), 1);
        // The device connects; of this disk nothing can be read either.
        let mut wire = Wire::greeted(gateway.ws, &token, DeviceId(1), 2);
        let again = wire.say_send(conversation, 2, &message("kept"));
        let range = wire.say_range(conversation, Sequence(0));
        for id in [again, range] {
            assert_eq!(wire.refusal(id).code, ErrorCode::Unavailable);
        }
        assert_rests(&gateway);
        gateway.stop();
        volume.restart().unwrap();
        verify_log(&data);
        let gateway = setup.start();
        let mut wire = Wire::greeted(gateway.ws, &token, DeviceId(1), 3);
        assert!(Conversation::read(&mut wire, conversation).at(sent.sequence).is_some());
        assert_eq!(wire.send(conversation, 3, "again").sequence, sent.sequence.next());
    }
}

/// A write that the system takes in part, and then refuses: a limit on the size of files, set while it runs. The part that
/// arrived is no promise.
#[test]
fn a_write_that_stays_short_is_told_to_everybody() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut setup = Setup::new(&data, 1).with("TIDEGATE_STORAGE__WRITE_MODE", "linked");
    // Over the limit there is a signal, too.
    setup.prefix = ["sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh"].map(String::from).into();
    let gateway = setup.start();
    let user = user_at(1, 0, 0);
    let conversation = ConversationId::direct(user, UserId(1 << 40));
    let mut wire = Wire::greeted(gateway.ws, &gateway.token(user), DeviceId(1), 1);
    wire.send(conversation, 1, "kept");
    let sent = wire.send(conversation, 2, "kept");
    // A sector behind what is written; a batch with such a message has many.
    let written = std::fs::read(data.join("log/1/0/1.seg")).unwrap();
    let end = written.iter().rposition(|byte| *byte != 0).unwrap() / 512 * 512 + 1024;
    let limit = format!("--fsize={end}:{end}");
    let set =
        std::process::Command::new("prlimit").args(["--pid", &gateway.id().to_string(), &limit]).status();
    assert!(set.unwrap().success());
    let id = wire.say_send(conversation, 3, &message(&"lost ".repeat(2000)));
    assert_eq!(wire.refusal(id).code, ErrorCode::Unavailable);
    wait_for_readiness(&gateway, 503, "read-only");
    let event = |name: &str| gateway.metric("tidegate_events_total", &format!("event=\"{name}\""));
    assert_eq!((gateway.metric("tidegate_latched", ""), event("log_writes_failed")), (1, 1));
    assert!(gateway.metric("tidegate_ring_short_writes_total", "") > 0);
    assert!(Conversation::read(&mut wire, conversation).at(sent.sequence).is_some(), "reads are served");
    gateway.stop();
    let gateway = Setup::new(&data, 1).start();
    let mut wire = Wire::greeted(gateway.ws, &gateway.token(user), DeviceId(1), 2);
    assert_eq!(Conversation::read(&mut wire, conversation).entries.len(), 2);
    assert_eq!(wire.send(conversation, 3, "again").sequence, sent.sequence.next());
    gateway.stop();
    verify_log(&data);
}

/// A start on a disk without room for a segment says so again and again, and goes on when there is room.
#[test]
fn a_start_on_a_full_disk_waits_and_says_so() {
    if !can_mount_or_say(1) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let volume = Volume::new(dir.path(), FileSystem::Ext4, 192).unwrap();
    let data = volume.path().join("data");
    let ballast = fill(&volume, RESERVE_BYTES);
    let setup = Setup::new(&data, 1);
    let room = move |complaints: &[String]| {
        let said = complaints.iter().filter(|line| line.contains("no segment could be prepared")).count();
        if said >= 2 {
            make_room(&ballast);
        }
    };
    let gateway = setup.with(FREE_BYTES_MIN, "0").try_start_watched(room).unwrap();
    wait_for_readiness(&gateway, 200, "ready");
}

fn make_room(ballast: &Path) {
    // Again and again is fine: it is gone after the first.
    let _ = std::fs::remove_file(ballast);
}
