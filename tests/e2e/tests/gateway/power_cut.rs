//! The power is cut under load, or the disk fills: what was acknowledged is there.
//!
//! The gateway's directory is on a file system of its own that stops for good at once (`FS_IOC_SHUTDOWN`), and keeps
//! only what was synced. Each cut also takes a file that was written beside the log and not synced, so a cut that takes
//! nothing would be noticed.
//!
//! That the same cut finds a gateway out that does not sync is shown one floor below, where a sync can be left out
//! without a second code path in the binary: `storage/files/tests` plants it on the same kind of volume, and the
//! simulator's disk loses what was not synced.

use crate::crash::Load;
use crate::stop::verify_log;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use tidegate_tests_e2e::Setup;
use tidegate_tests_support::{FileSystem, Volume, can_mount_or_say};

const CUTS: usize = 5;

const VOLUME_MEBIBYTES: u64 = 768;

#[track_caller]
fn survive(write_mode: &str, shards: u16) {
    if !can_mount_or_say(1) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut volume = Volume::new(dir.path(), FileSystem::Ext4, VOLUME_MEBIBYTES).unwrap();
    let data = volume.path().join("data");
    let setup = Setup::new(&data, shards).with("TIDEGATE_STORAGE__WRITE_MODE", write_mode);
    let mut load: Option<Load> = None;
    for _ in 0..CUTS {
        let gateway = setup.start();
        let load = load.get_or_insert_with(|| Load::new(&gateway));
        let unsynced = volume.path().join("unsynced");
        load.run(gateway, |gateway| {
            write(&unsynced);
            volume.cut_power().unwrap();
            gateway.kill();
        });
        volume.restart().unwrap();
        let left = std::fs::read(&unsynced).unwrap_or_default();
        assert!(left != UNSYNCED, "the cut took nothing");
        let _ = std::fs::remove_file(&unsynced);
        verify_log(&data);
    }
    let gateway = setup.start();
    let count = load.unwrap().prove(&gateway);
    println!("{count} acknowledged sends survived {CUTS} cuts, written {write_mode}");
    gateway.stop();
}

static UNSYNCED: [u8; 65536] = [7; 65536];

fn write(path: &Path) {
    File::create(path).unwrap().write_all(&UNSYNCED).unwrap();
}

#[test]
fn what_was_acknowledged_survives_power_cuts_with_linked_syncs() {
    survive("linked", 2);
}

#[test]
fn what_was_acknowledged_survives_power_cuts_with_direct_writes() {
    survive("direct", 2);
}

/// What the disk still holds: what a gateway keeps free of it (64 MiB), and six segments.
const LEFT_BYTES: u64 = (64 + 6 * 4) << 20;

#[test]
fn what_was_acknowledged_survives_a_full_disk() {
    if !can_mount_or_say(1) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut volume = Volume::new(dir.path(), FileSystem::Ext4, 192).unwrap();
    let data = volume.path().join("data");
    let ballast = volume.path().join("ballast");
    let free = rustix::fs::statvfs(volume.path()).unwrap();
    let ballast_bytes = (free.f_bavail * free.f_frsize).saturating_sub(LEFT_BYTES);
    std::fs::write(&ballast, vec![1; ballast_bytes as usize]).unwrap();
    // Who waits for an answer that does not come is let go after three heartbeats, which ends the load.
    let setup = Setup::new(&data, 1).with("TIDEGATE_LIMITS__HEARTBEAT_ACTIVE_MS", "2000");
    let gateway = setup.start();
    let mut load = Load::new(&gateway);
    let gateway = load.run_until_refused(gateway);
    assert!(gateway.is_healthy());
    gateway.kill();
    verify_log(&data);
    std::fs::remove_file(&ballast).unwrap();
    volume.restart().unwrap();
    let gateway = setup.start();
    let count = load.prove(&gateway);
    load.run(gateway, tidegate_tests_e2e::Gateway::kill);
    let gateway = setup.start();
    assert!(load.prove(&gateway) > count, "it takes messages again");
}
