//! A backup of a gateway under load, and a gateway started on it.

use crate::SHARDS;
use crate::load::Load;
use crate::stop::verify_log;
use std::path::Path;
use std::process::Command;
use tidegate_ids::{DeviceId, Incarnation, UserId};
use tidegate_tests_e2e::{Gateway, Wire, program};

#[track_caller]
fn back_up(data: &Path, to: &Path) {
    let output =
        Command::new(program::program("tidegate-log")).arg("backup").arg(data).arg(to).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    println!("{}", String::from_utf8_lossy(&output.stdout).trim_end());
}

/// The incarnation that a client is told.
fn incarnation(gateway: &Gateway) -> Incarnation {
    let user = UserId(1 << 41);
    let mut wire = Wire::open(gateway.ws);
    wire.hello(&gateway.token(user), DeviceId(1), 1).incarnation
}

#[test]
fn a_backup_under_load_has_what_was_acknowledged_before_and_another_incarnation() {
    for shards in SHARDS {
        let dir = tempfile::tempdir().unwrap();
        let (data, copy) = (dir.path().join("data"), dir.path().join("backup"));
        let gateway = Gateway::start(&data, shards);
        let original = incarnation(&gateway);
        let mut load = Load::new(&gateway, &dir.path().join("expected"));
        load.run(gateway, || {});
        let before = load.expected().acknowledged;
        let gateway = Gateway::start(&data, shards);
        load.run(gateway, || back_up(&data, &copy));
        verify_log(&copy);
        let restored = Gateway::start(&copy, shards);
        // What was sent meanwhile may be there.
        let mut expected = load.expected();
        expected.acknowledged = before;
        load.prove_that(&restored, &expected);
        let first = incarnation(&restored);
        assert_ne!(first, original);
        restored.stop();
        let again = Gateway::start(&copy, shards);
        assert_eq!(incarnation(&again), first);
        again.stop();
        let gateway = Gateway::start(&data, shards);
        assert_eq!(incarnation(&gateway), original);
        let (before, all) = (expected.acknowledged.len(), load.prove(&gateway));
        println!("{before} of {all} acknowledged sends are proven");
        gateway.stop();
    }
}
