//! Log writes: durable, complete, and failures told apart.

use crate::rig::{Rig, Seen, small};
use crate::setup::{in_own_process, is_inner};
use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, gettid, sched_getaffinity, sched_setaffinity, sched_yield};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tidegate_reactor::{Config, LogFile, Reactor, SyncMode};

const BLOCK: usize = 4096;

fn directory() -> TempDir {
    tempfile::tempdir().expect("a directory on a disk")
}

fn file(path: &Path) -> File {
    File::options().read(true).write(true).create_new(true).open(path).expect("a new file")
}

fn bytes(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|index| (index * 31 + seed) as u8).collect()
}

#[test]
fn linked_writes_are_read_back() {
    let directory = directory();
    let path = directory.path().join("log");
    let log = LogFile::from(file(&path));
    let mut rig = Rig::new(&Config { shard_cpu: Some(0), ..small() });
    for batch in 0..20u64 {
        let content = bytes(batch as usize, 512 * (batch as usize + 1));
        rig.ops().write_sync(batch, &log, batch * 16_384, content, SyncMode::LinkedFdatasync);
        if batch % 3 == 0 {
            rig.until_seen(&Seen::WriteDone(batch, Ok(())));
        }
    }
    (0..20).filter(|batch| batch % 3 != 0).for_each(|batch| rig.until_seen(&Seen::WriteDone(batch, Ok(()))));
    let read = File::open(&path).expect("the file");
    for batch in 0..20u64 {
        let expected = bytes(batch as usize, 512 * (batch as usize + 1));
        let mut found = vec![0; expected.len()];
        read.read_exact_at(&mut found, batch * 16_384).expect("the bytes");
        assert!(found == expected, "batch {batch}");
    }
    assert_eq!(rig.counters().writes, 20);
}

/// Four kibibytes that begin at a block.
struct Aligned(Vec<u8>, usize);

impl std::ops::Deref for Aligned {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0[self.1..self.1 + BLOCK]
    }
}

fn aligned(fill: u8) -> Aligned {
    let bytes = vec![fill; 2 * BLOCK];
    let skip = bytes.as_ptr().align_offset(BLOCK);
    Aligned(bytes, skip)
}

#[test]
fn direct_writes_are_read_back() {
    let directory = directory();
    let path = directory.path().join("log");
    file(&path).set_len(1 << 20).expect("room");
    let flags = OFlags::WRONLY | OFlags::DIRECT | OFlags::DSYNC | OFlags::CLOEXEC;
    let Ok(direct) = open(&path, flags, Mode::empty()) else {
        println!("this file system has no direct writes: 1 test not run");
        return;
    };
    let log = LogFile::from(direct);
    let mut reactor: Reactor<Aligned> = Reactor::new(&small()).expect("this machine allows io_uring");
    for batch in 0..5u8 {
        reactor.ops().write_sync(
            u64::from(batch),
            &log,
            u64::from(batch) * 4096,
            aligned(batch),
            SyncMode::DirectDsync,
        );
    }
    let mut done = 0;
    while done < 5 {
        reactor.submit_and_wait(None).expect("the ring works");
        reactor.completions(usize::MAX, |_, completion| match completion {
            tidegate_reactor::Completion::WriteDone { result, .. } => {
                result.expect("a good disk");
                done += 1;
            }
            other => panic!("unexpected: {other:?}"),
        });
    }
    let found = std::fs::read(&path).expect("the file");
    for batch in 0..5 {
        assert!(found[batch * BLOCK..][..BLOCK].iter().all(|&byte| byte == batch as u8));
    }
}

/// A file size limit cuts a write short; its rest is refused, and the write fails as a whole instead of counting as synced.
#[test]
fn a_short_write_is_continued_and_its_failure_told() {
    const NAME: &str = "log_writes::a_short_write_is_continued_and_its_failure_told";
    if !is_inner(NAME) {
        // The limit is a process's, and its signal would end it.
        return in_own_process(NAME, "trap '' XFSZ");
    }
    let directory = directory();
    let log = LogFile::from(file(&directory.path().join("log")));
    let mut rig = Rig::new(&small());
    let unlimited = getrlimit(Resource::Fsize);
    setrlimit(Resource::Fsize, Rlimit { current: Some(6000), maximum: unlimited.maximum })
        .expect("a lower limit");
    rig.ops().write_sync(1, &log, 4096, bytes(0, 4096), SyncMode::LinkedFdatasync);
    let result = rig.until(|rig| {
        rig.take(|seen| match seen {
            Seen::WriteDone(1, result) => Some(*result),
            _ => None,
        })
    });
    setrlimit(Resource::Fsize, unlimited).expect("the old limit");
    assert_eq!(result, Err(rustix::io::Errno::FBIG.raw_os_error()));
    assert_eq!(rig.counters().short_writes, 1);
    // The next write is not disturbed.
    rig.ops().write_sync(2, &log, 4096, bytes(0, 4096), SyncMode::LinkedFdatasync);
    rig.until_seen(&Seen::WriteDone(2, Ok(())));
}

/// Keeps this thread, and what it starts, on one core.
fn pin() -> usize {
    let everywhere = sched_getaffinity(None).expect("a set of cores");
    let Some(core) = (0..CpuSet::MAX_CPU).find(|core| everywhere.is_set(*core)) else {
        unreachable!("this thread runs somewhere");
    };
    let mut pinned = CpuSet::new();
    pinned.set(core);
    sched_setaffinity(None, &pinned).expect("a core that this thread may use");
    core
}

/// The kernel's workers inherit a thread's pin and would wait behind it.
#[test]
fn workers_keep_off_the_shard_core() {
    if sched_getaffinity(None).expect("a set of cores").count() < 2 {
        println!("one core only: 1 test not run");
        return;
    }
    let core = pin();
    let mut rig = Rig::new(&Config { shard_cpu: Some(core), ..small() });
    let log = LogFile::from(tempfile::tempfile().expect("a file"));
    rig.ops().write_sync(1, &log, 0, bytes(0, 4096), SyncMode::LinkedFdatasync);
    rig.until_seen(&Seen::WriteDone(1, Ok(())));
    let name = format!("iou-wrk-{}", gettid().as_raw_nonzero());
    let tasks = std::fs::read_dir("/proc/self/task").expect("the threads of this process");
    let mut workers = 0;
    for task in tasks {
        let path = task.expect("a thread").path();
        let read = |file| std::fs::read_to_string(path.join(file)).unwrap_or_default();
        if read("comm").trim() == name {
            let status = read("status");
            let cores =
                status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).expect("its cores");
            let first = cores.trim().split([',', '-']).next().expect("a core");
            assert!(
                first.parse::<usize>().expect("a number") > core,
                "a worker may use {cores}, the shard {core}"
            );
            workers += 1;
        }
    }
    assert!(workers > 0, "an fdatasync needs a worker");
}

/// A log write that stays in flight: a full pipe.
fn stuck(rig: &mut Rig) -> OwnedFd {
    let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
    rustix::io::ioctl_fionbio(&writer, true).expect("a pipe that says when it is full");
    while rustix::io::write(&writer, &[0; 4096]).is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false).expect("a pipe that waits");
    rig.ops().write_sync(1, &LogFile::from(writer), 0, bytes(0, 4096), SyncMode::DirectDsync);
    reader
}

/// On the core of a thread that never sleeps, the kernel's worker would wait for the scheduler's next tick. Here another
/// thread is in its place; without yielding the two change places twice in these turns, if at all.
#[test]
fn who_never_sleeps_offers_the_core_while_a_write_is_in_flight() {
    const TURNS: u64 = 1000;
    pin();
    let mut rig = Rig::new(&small());
    (0..5).for_each(|_| rig.turn(Duration::ZERO));
    assert_eq!(rig.counters().yields, 0, "nothing is in flight");
    let _reader = stuck(&mut rig);
    let (has_run, is_over) = (AtomicBool::new(false), AtomicBool::new(false));
    let mut changes = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                has_run.store(true, Ordering::Relaxed);
                sched_yield();
            }
        });
        for _ in 0..TURNS {
            has_run.store(false, Ordering::Relaxed);
            rig.turn(Duration::ZERO);
            changes += u64::from(has_run.load(Ordering::Relaxed));
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(rig.counters().yields, TURNS, "once in each turn");
    assert!(changes > TURNS / 10, "the other thread had the core in {changes} of {TURNS} turns");
}

#[test]
fn the_core_is_kept_once_the_write_is_done() {
    let mut rig = Rig::new(&small());
    let log = LogFile::from(tempfile::tempfile().expect("a file"));
    for (token, mode) in [(1, SyncMode::LinkedFdatasync), (2, SyncMode::DirectDsync)] {
        rig.ops().write_sync(token, &log, 0, bytes(0, 4096), mode);
        let done = |seen: &Seen| matches!(seen, Seen::WriteDone(..)).then_some(());
        while rig.take(done).is_none() {
            rig.turn(Duration::ZERO);
        }
        let before = rig.counters().yields;
        assert!(before > 0);
        rig.turn(Duration::ZERO);
        assert_eq!(rig.counters().yields, before);
    }
}

/// With nothing to submit and nothing ready it has slept; what it submits may complete before it would have.
#[test]
fn who_sleeps_keeps_its_turn() {
    let mut rig = Rig::new(&small());
    let _reader = stuck(&mut rig);
    rig.turn(Duration::from_millis(1));
    assert_eq!(rig.counters().yields, 1, "it has submitted the write");
    (0..5).for_each(|_| rig.turn(Duration::from_millis(1)));
    assert_eq!(rig.counters().yields, 1);
}

#[test]
fn a_write_that_cannot_be_is_an_error() {
    let mut rig = Rig::new(&small());
    let log = LogFile::from(File::open("/dev/null").expect("a file"));
    rig.ops().write_sync(5, &log, 0, vec![1], SyncMode::LinkedFdatasync);
    rig.until_seen(&Seen::WriteDone(5, Err(rustix::io::Errno::BADF.raw_os_error())));
    let pipe = LogFile::from(File::options().write(true).open("/dev/full").expect("a file"));
    rig.ops().write_sync(6, &pipe, 0, vec![1], SyncMode::DirectDsync);
    rig.until_seen(&Seen::WriteDone(6, Err(rustix::io::Errno::NOSPC.raw_os_error())));
}
