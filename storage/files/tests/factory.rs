//! The segment factory: what it makes, what it uses again, and what it says when the disk is full.

#![allow(clippy::unwrap_used, reason = "a test may end by a panic")]

mod journal;

use journal::{Journal, SEGMENT_BYTES, options};
use rustix::fs::{OFlags, fcntl_getfl};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;
use tidegate_ids::{StreamId, UserId};
use tidegate_storage_files::{
    DataDir, DirView, FactoryOptions, OpenError, OpenOptions, PrepareError, SegmentFactory, SpareEvent,
    Spares, Wake, WriteMode,
};
use tidegate_tests_support::is_root_or_say;

const SMALL: FactoryOptions =
    FactoryOptions { spares: 2, reserve_bytes: 0, say_again: Duration::from_secs(3600) };

fn quiet(shards: u16) -> Vec<Wake> {
    (0..shards).map(|_| Box::new(|| {}) as Wake).collect()
}

fn segment(path: &Path, shard: u16, number: u32) -> PathBuf {
    path.join(format!("log/1/{shard}/{number}.seg"))
}

fn listed(path: &Path) -> usize {
    let text = fs::read_to_string(path.join("MANIFEST")).unwrap();
    text.lines().filter(|line| line.starts_with("log")).map(|line| line.split(' ').count() - 3).sum()
}

#[test]
fn every_shard_gets_zeroed_segments_with_rising_numbers() {
    let temp = tempfile::tempdir().unwrap();
    let dir = DataDir::open(temp.path(), &options(3)).unwrap();
    let (_factory, mut spares) = SegmentFactory::start(&dir, SMALL, quiet(3)).unwrap();
    let mut seen = Vec::new();
    for _ in 0..4 {
        for (shard, spares) in (0..).zip(&mut spares) {
            let file = spares.wait().unwrap();
            assert_eq!((file.log().epoch, file.log().shard.0), (1, shard));
            let path = segment(temp.path(), shard, file.number());
            assert_eq!(fs::read(&path).unwrap(), vec![0; SEGMENT_BYTES as usize]);
            seen.push((shard, file.number()));
        }
    }
    let mut numbers: Vec<u32> = seen.iter().map(|(_, number)| *number).collect();
    assert!((0..3).all(|shard| seen.iter().filter(|(of, _)| *of == shard).is_sorted()), "{seen:?}");
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 12);
    assert!(listed(temp.path()) >= 12, "the manifest names a segment before it is handed out");
}

/// A direct write without O_DSYNC passes every power cut of a volume in an image, which holds it at once; a real disk may
/// still have it in its cache.
#[test]
fn a_segment_for_direct_writes_is_open_with_o_dsync() {
    let check = |write_mode: WriteMode, expected: OFlags| {
        let temp = tempfile::tempdir().unwrap();
        let dir = match DataDir::open(temp.path(), &OpenOptions { write_mode, ..options(1) }) {
            Err(OpenError::DirectRefused { .. }) => return println!("no direct writes here: not run"),
            opened => opened.unwrap(),
        };
        let (_factory, mut spares) = SegmentFactory::start(&dir, SMALL, quiet(1)).unwrap();
        for _ in 0..3 {
            let flags = fcntl_getfl(spares[0].wait().unwrap()).unwrap();
            assert_eq!(flags & (OFlags::DIRECT | OFlags::DSYNC), expected, "{write_mode:?}");
        }
    };
    check(WriteMode::Direct, OFlags::DIRECT | OFlags::DSYNC);
    check(WriteMode::Buffered, OFlags::empty());
}

#[test]
fn the_shard_is_woken_for_each_spare_and_no_more_are_made_than_asked() {
    let temp = tempfile::tempdir().unwrap();
    let dir = DataDir::open(temp.path(), &options(1)).unwrap();
    let (woken, wakes) = mpsc::channel();
    let wake: Wake = Box::new(move || woken.send(()).unwrap());
    let (factory, mut spares) = SegmentFactory::start(&dir, SMALL, vec![wake]).unwrap();
    for _ in 0..2 {
        wakes.recv().unwrap();
    }
    assert!(matches!(spares[0].take(), Some(SpareEvent::Ready(_))));
    wakes.recv().unwrap();
    // Two are in the channel now; the third was taken.
    drop(factory);
    assert!(wakes.try_recv().is_err());
    assert!(matches!(spares[0].take(), Some(SpareEvent::Ready(_))));
    assert!(matches!(spares[0].take(), Some(SpareEvent::Ready(_))));
    assert!(spares[0].take().is_none());
    assert!(matches!(spares[0].wait(), Err(PrepareError::Stopped)));
    assert_eq!(listed(temp.path()), 3);
}

#[test]
fn prepared_segments_are_used_again_in_order() {
    let temp = tempfile::tempdir().unwrap();
    let take = |count: usize| -> Vec<u32> {
        let dir = DataDir::open(temp.path(), &options(1)).unwrap();
        assert!(dir.logs()[0].segments.is_empty(), "prepared segments hold nothing");
        let (_factory, mut spares) = SegmentFactory::start(&dir, SMALL, quiet(1)).unwrap();
        (0..count).map(|_| spares[0].wait().unwrap().number()).collect()
    };
    let first = take(3);
    let again = take(4);
    assert_eq!(again[..3], first);
    assert!(again[3] > first[2]);
}

#[test]
fn prepared_segments_of_another_size_or_epoch_are_removed() {
    let temp = tempfile::tempdir().unwrap();
    let take = |options| -> u32 {
        let dir = DataDir::open(temp.path(), &options).unwrap();
        let (_factory, mut spares) = SegmentFactory::start(&dir, SMALL, quiet(options.shards)).unwrap();
        spares[0].wait().unwrap().number()
    };
    let first = take(options(1));
    let mut larger = options(1);
    larger.segment_bytes *= 2;
    let second = take(larger);
    assert!(!segment(temp.path(), 0, first).exists() && second > first);
    take(options(2));
    assert!(!segment(temp.path(), 0, second).exists());
    assert_eq!(fs::read_dir(temp.path().join("log/1/0")).unwrap().count(), 0);
}

/// A first write that was torn can leave bytes behind a header that never came. Such a segment must not be given out as
/// zeroed: its old bytes would lie behind new batches.
#[test]
fn a_segment_that_is_not_zero_is_not_a_spare() {
    let temp = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(temp.path(), 1);
    let first = journal.append(0, StreamId::user(UserId(1)), b"kept");
    journal.commit();
    let torn = loop {
        if let Some(SpareEvent::Ready(file)) = journal.spare(0) {
            break file;
        }
        std::thread::yield_now();
    };
    torn.write_sync(8192, b"half of a batch").unwrap();
    let number = torn.number();
    drop(torn);
    drop(journal);
    for _ in 0..2 {
        let mut journal = Journal::open(temp.path(), 1);
        assert_eq!(journal.recovered[0], first);
        let next = journal.append(0, StreamId::user(UserId(1)), b"more");
        journal.commit();
        assert!(next.location.segment > number, "{} is not used", number);
        assert!(segment(temp.path(), 0, number).exists(), "nothing is thrown away");
    }
    assert_eq!(Journal::open(temp.path(), 1).recovered.len(), 3);
}

/// The front is looked at when the directory is opened, the rest by the factory.
#[test]
fn a_spare_that_is_not_zero_far_behind_is_passed_over() {
    let temp = tempfile::tempdir().unwrap();
    let mut large = options(1);
    large.segment_bytes = 4 << 20;
    let start = || {
        let dir = DataDir::open(temp.path(), &large).unwrap();
        SegmentFactory::start(&dir, FactoryOptions { spares: 1, ..SMALL }, quiet(1)).unwrap()
    };
    let (factory, mut spares) = start();
    let number = spares[0].wait().unwrap().number();
    drop((factory, spares));
    let path = segment(temp.path(), 0, number);
    fs::File::options().write(true).open(&path).unwrap().write_all_at(b"x", 3 << 20).unwrap();
    let (_factory, mut spares) = start();
    let event = loop {
        match spares[0].take() {
            Some(event) => break event,
            None => std::thread::yield_now(),
        }
    };
    assert!(matches!(&event, SpareEvent::PassedOver(passed) if *passed == path), "{event:?}");
    assert!(spares[0].wait().unwrap().number() > number);
}

fn check_no_space(spares: &mut Spares) {
    match spares.wait() {
        Err(error @ PrepareError::NoSpace { .. }) => {
            assert!(error.to_string().contains("no space"), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_full_disk_is_said_once_and_leaves_nothing_behind() {
    let temp = tempfile::tempdir().unwrap();
    let dir = DataDir::open(temp.path(), &options(1)).unwrap();
    let told = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&told);
    let wake: Wake = Box::new(move || _ = count.fetch_add(1, Ordering::AcqRel));
    let full = FactoryOptions { reserve_bytes: u64::MAX / 2, ..SMALL };
    let (factory, mut spares) = SegmentFactory::start(&dir, full, vec![wake]).unwrap();
    check_no_space(&mut spares[0]);
    drop(factory);
    assert_eq!(told.load(Ordering::Acquire), 1);
    assert_eq!(fs::read_dir(temp.path().join("log/1/0")).unwrap().count(), 0);
}

#[test]
fn a_full_disk_is_said_again_while_it_is_full() {
    let temp = tempfile::tempdir().unwrap();
    let dir = DataDir::open(temp.path(), &options(1)).unwrap();
    let full = FactoryOptions { reserve_bytes: u64::MAX / 2, say_again: Duration::ZERO, ..SMALL };
    let (_factory, mut spares) = SegmentFactory::start(&dir, full, quiet(1)).unwrap();
    check_no_space(&mut spares[0]);
    check_no_space(&mut spares[0]);
}

/// The same with a file system that is really full, and with room made again.
#[test]
fn a_full_file_system_recovers_when_there_is_room() {
    if !is_root_or_say(1) {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let _mount = Mounted::tmpfs(temp.path());
    let filler = temp.path().join("filler");
    let path = temp.path().join("data");
    let dir = DataDir::open(&path, &options(1)).unwrap();
    // 256 KiB in all: the filler leaves less than a segment.
    fs::write(&filler, vec![1; 200 << 10]).unwrap();
    let (_factory, mut spares) = SegmentFactory::start(&dir, SMALL, quiet(1)).unwrap();
    check_no_space(&mut spares[0]);
    fs::remove_file(filler).unwrap();
    let file = spares[0].wait().unwrap();
    assert_eq!(fs::read(segment(&path, 0, file.number())).unwrap(), vec![0; SEGMENT_BYTES as usize]);
    assert!(DirView::open(&path).unwrap().problems().is_empty());
}

struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    fn tmpfs(path: &'a Path) -> Self {
        let mount = ["-t", "tmpfs", "-o", "size=256k", "tidegate-test"];
        let status = std::process::Command::new("mount").args(mount).arg(path).status().unwrap();
        assert!(status.success(), "root may mount");
        Self(path)
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        // Lazily: files of the directory may still be open here.
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0).status();
    }
}
