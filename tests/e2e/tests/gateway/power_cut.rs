//! The power is cut under load and in starts: what was acknowledged is there, and nothing else but what was sent.
//!
//! The gateway's directory is on a file system of its own that stops for good at once (`FS_IOC_SHUTDOWN`), and keeps
//! only what was synced. Each cut also takes a file that was written beside the log and not synced, so a cut that takes
//! nothing would be noticed; `storage/files/tests/power_cut.rs` shows the same of records of the log.
//!
//! A gateway that leaves its linked syncs out loses what it acknowledged here. One that leaves `O_DSYNC` out does not: what
//! is written past the page cache is in the volume's image at once, and no disk's own cache is cut here. That segments for
//! direct writes are open with it is shown by `storage/files/tests/factory.rs`.

use crate::lives::Lives;
use crate::stop::verify_log;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use tidegate_tests_e2e::limits::cycles;
use tidegate_tests_e2e::{Scene, Setup};
use tidegate_tests_support::{FileSystem, Volume, can_mount_or_say};

/// How often the power is cut, in each of the three tests.
const CUTS: usize = 7;

/// The image is sparse: it takes what is written.
const VOLUME_MEBIBYTES: u64 = 4096;

#[track_caller]
fn survive(file_system: FileSystem, write_mode: &str, shards: u16) {
    if !can_mount_or_say(1) {
        return;
    }
    let scene = Scene::new();
    let mut volume = Volume::new(scene.path(), file_system, VOLUME_MEBIBYTES).unwrap();
    let data = volume.path().join("data");
    let setup = Setup::new(&data, shards).with("TIDEGATE_STORAGE__WRITE_MODE", write_mode);
    let mut lives = Lives::new(&scene);
    let cuts = cycles(CUTS);
    for cut in 0..cuts {
        let unsynced = volume.path().join("unsynced");
        lives.live(&setup, cut + 1 == cuts, || {
            write(&unsynced);
            volume.cut_power().unwrap();
        });
        volume.restart().unwrap();
        let left = std::fs::read(&unsynced).unwrap_or_default();
        assert!(left != UNSYNCED, "the cut took nothing");
        let _ = std::fs::remove_file(&unsynced);
        if lives.has_load() {
            verify_log(&data);
        }
    }
    println!("written {write_mode} on {file_system:?}");
    lives.prove(&setup);
}

static UNSYNCED: [u8; 65536] = [7; 65536];

fn write(path: &Path) {
    File::create(path).unwrap().write_all(&UNSYNCED).unwrap();
}

#[test]
fn what_was_acknowledged_survives_power_cuts_with_linked_syncs() {
    survive(FileSystem::Ext4, "linked", 2);
}

#[test]
fn what_was_acknowledged_survives_power_cuts_with_direct_writes() {
    survive(FileSystem::Ext4, "direct", 2);
}

#[test]
fn what_was_acknowledged_survives_power_cuts_on_xfs() {
    survive(FileSystem::Xfs, "auto", 3);
}
