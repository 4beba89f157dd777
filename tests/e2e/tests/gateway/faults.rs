//! Every operation on the disk fails once: what was acknowledged is there, and operators are told.
//!
//! A first run of a script counts what the gateway asks of its data directory; then the script runs once for each of these
//! operations, which fails. Afterwards a gateway is started on the directory below, which is sound, and all that was
//! acknowledged must be there, identical, at its sequence, once. `TIDEGATE_TEST_CYCLES` says how many of the faults of each
//! test are tried, evenly spread; `TIDEGATE_TEST_SEED` which.

mod story;

use crate::stop::verify_log;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use story::{AUTHOR, Device, Story, is_read_only};
use tidegate_tests_e2e::disk::{FailingDisk, Fault, Operation, Site};
use tidegate_tests_e2e::limits::{LOOK_INTERVAL, WAIT, cycles};
use tidegate_tests_e2e::{Gateway, Setup, program};
use tidegate_tests_support::copy_folder;

/// Faults tried in each test: of each of the kinds that a run makes, one or two.
const FAULTS: usize = 12;

/// Scripts that run at a time: most of their time they wait.
const WORKERS: usize = 4;

/// Sends of a life: they fill two segments.
const SENDS: usize = 7;

/// How long what follows on the sends is waited for; a fault may keep it from coming.
const PATIENCE: Duration = Duration::from_secs(5);

fn setup(data: &Path, write_mode: &str) -> Setup {
    Setup::new(data, 1)
        .with("TIDEGATE_STORAGE__WRITE_MODE", write_mode)
        .with("TIDEGATE_STORAGE__SEGMENT_BYTES", "131072")
        .with("TIDEGATE_STORAGE__BATCH_BYTES_MAX", "65536")
        .with("TIDEGATE_STORAGE__SNAPSHOT_BYTES", "65536")
        .with("TIDEGATE_STORAGE__SPARES", "1")
        .with("TIDEGATE_LIMITS__CHECKPOINT_INTERVAL_MS", "200")
        .with("TIDEGATE_LIMITS__SHUTDOWN_GRACE_MS", "20")
}

/// What the script starts from.
struct Beginning {
    write_mode: &'static str,
    /// A directory of a gateway that was killed, and what it was told; none: the first start ever.
    before: Option<(tempfile::TempDir, Story)>,
}

/// What became of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Became {
    /// The operation was never asked for this time.
    Missed,
    /// The start was refused.
    Refused,
    /// The gateway served reads only.
    ReadOnly,
    /// It went on as if nothing had been.
    WentOn,
}

impl Beginning {
    fn nothing(write_mode: &'static str) -> Self {
        Self { write_mode, before: None }
    }

    /// A log with some segments and a snapshot, a message of which is to be erased, left by a kill.
    fn old(write_mode: &'static str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut story = Story::default();
        let gateway = setup(dir.path(), write_mode).start();
        story.go_on(&mut Device::new(&gateway, &gateway.token(AUTHOR)), SENDS);
        wait(|| gateway.metric("tidegate_snapshot_number", "") > 0);
        gateway.kill();
        let (group, sequence) = story.first_of_group();
        let scope = ["--conversation", &group.to_string(), "--sequences", &sequence.0.to_string()];
        erase(dir.path(), &scope);
        story.erased.push((group, sequence));
        Self { write_mode, before: Some((dir, story)) }
    }

    /// Runs the script over a disk, and proves what is left.
    fn run(&self, fault: Option<&Fault>) -> (Became, BTreeMap<Site, u64>) {
        let dir = tempfile::tempdir().unwrap();
        let disk = FailingDisk::mount(dir.path(), fault.cloned()).unwrap();
        let below = disk.below().join("data");
        let mut story = Story::default();
        if let Some((before, told)) = &self.before {
            copy_folder(before.path(), &below);
            story = told.clone();
        }
        let became = match setup(&disk.path().join("data"), self.write_mode).try_start() {
            Ok(gateway) => live(gateway, &below, &mut story, fault.is_none()),
            Err(ended) => {
                assert!(ended.status.code().is_some(), "it crashed: {ended:?}");
                let last = ended.complained.last().expect("it says why");
                assert!(last.starts_with("tidegate: ") && last.contains("(os error "), "{ended:?}");
                Became::Refused
            }
        };
        let (struck, counts) = (disk.struck(), disk.counts());
        disk.unmount().unwrap();
        if below.join("MANIFEST").exists() {
            verify_log(&below);
        }
        self.prove(&below, &mut story);
        assert!(
            fault.is_none() || struck.is_some() || became == Became::WentOn,
            "{became:?} without a fault"
        );
        (if fault.is_some() && struck.is_none() { Became::Missed } else { became }, counts)
    }

    /// On the sound directory: everything is there, the device goes on, and what is left to be done gets done.
    fn prove(&self, below: &Path, story: &mut Story) {
        let gateway = setup(below, self.write_mode).start();
        let token = gateway.token(AUTHOR);
        let mut device = Device::new(&gateway, &token);
        story.read_all(&mut device);
        story.deliver(&mut device);
        story.go_on(&mut device, 1);
        assert!(!is_read_only(&gateway));
        if !story.erased.is_empty() {
            assert!(wait_for(WAIT, || has_erased(below)), "nothing is erased");
            story.read_all(&mut device);
        }
        gateway.stop();
        verify_log(below);
    }
}

/// One life on the disk that fails.
fn live(mut gateway: Gateway, below: &Path, story: &mut Story, is_sound: bool) -> Became {
    let token = Setup::new(below, 1).token_with(AUTHOR, &["--rate", "unlimited"]);
    let before = story.acknowledged();
    let mut device = Device::new(&gateway, &token);
    story.go_on(&mut device, SENDS);
    let has_snapshot =
        wait_for(PATIENCE, || is_read_only(&gateway) || gateway.metric("tidegate_snapshot_number", "") > 0);
    let erases = !story.erased.is_empty();
    let has_erased = !erases || wait_for(PATIENCE, || is_read_only(&gateway) || has_erased(below));
    story.read_all(&mut device);
    assert!(gateway.is_healthy());
    let became = if is_read_only(&gateway) { Became::ReadOnly } else { Became::WentOn };
    if is_sound {
        assert_eq!((became, has_snapshot, has_erased), (Became::WentOn, true, true));
        assert_eq!(story.acknowledged(), before + SENDS);
    }
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.wait(), Some(0), "a stop ends well");
    became
}

fn wait_for(long: Duration, is_there: impl Fn() -> bool) -> bool {
    let end = Instant::now() + long;
    loop {
        if is_there() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}

#[track_caller]
fn wait(is_there: impl Fn() -> bool) {
    assert!(wait_for(WAIT, is_there));
}

fn erase(data: &Path, options: &[&str]) -> String {
    let output = Command::new(program::program("tidegate-log")).arg("erase").arg(data).args(options).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn has_erased(data: &Path) -> bool {
    erase(data, &["--list"]).lines().any(|line| line.starts_with("0 pending"))
}

/// Some of all faults, evenly spread; or the one that the environment names.
fn sample(all: &[Fault], count: usize) -> Vec<Fault> {
    if let Ok(asked) = std::env::var("TIDEGATE_TEST_FAULT") {
        return all.iter().filter(|fault| fault.to_string() == asked).cloned().collect();
    }
    let asked = std::env::var("TIDEGATE_TEST_SEED").ok();
    let seed = asked.map_or(1, |seed| seed.parse().expect("TIDEGATE_TEST_SEED is a number"));
    let mut chance = StdRng::seed_from_u64(seed);
    let count = count.min(all.len());
    println!("{count} of {} faults, TIDEGATE_TEST_SEED={seed}", all.len());
    let piece = |index: usize| index * all.len() / count..(index + 1) * all.len() / count;
    (0..count).map(|index| all[chance.random_range(piece(index))].clone()).collect()
}

#[track_caller]
fn survive(beginning: impl FnOnce() -> Beginning) {
    if !FailingDisk::can_be_or_say(1) {
        return;
    }
    let beginning = beginning();
    let (_, counts) = beginning.run(None);
    let mut asked: BTreeMap<Operation, u64> = BTreeMap::new();
    counts.iter().for_each(|(site, count)| *asked.entry(site.operation).or_default() += count);
    println!("written {}, a run asks for {asked:?}", beginning.write_mode);
    for operation in
        [Operation::Read, Operation::Write, Operation::Sync, Operation::SyncDirectory, Operation::Rename]
    {
        assert!(counts.keys().any(|site| site.operation == operation), "no {operation:?} in {counts:?}");
    }
    let left = Mutex::new(sample(&Fault::all(&counts), cycles(FAULTS)));
    let (became, failed) = (Mutex::new(BTreeMap::new()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let Some(fault) = left.lock().unwrap().pop() else { return };
                    let began = Instant::now();
                    match catch_unwind(AssertUnwindSafe(|| beginning.run(Some(&fault)).0)) {
                        Ok(one) => {
                            println!("{fault}: {one:?} in {:?}", began.elapsed());
                            *became.lock().unwrap().entry(one).or_insert(0) += 1;
                        }
                        Err(_) => {
                            println!("{fault}: FAILED in {:?}", began.elapsed());
                            failed.lock().unwrap().push(fault.to_string());
                        }
                    }
                }
            });
        }
    });
    let (became, failed): (BTreeMap<Became, usize>, _) =
        (became.into_inner().unwrap(), failed.into_inner().unwrap());
    println!("written {}: {became:?}", beginning.write_mode);
    assert!(failed.is_empty(), "{failed:#?}");
    let missed = became.get(&Became::Missed).copied().unwrap_or(0);
    assert!(missed * 4 <= became.values().sum::<usize>(), "most faults must strike: {became:?}");
}

#[test]
fn every_operation_of_a_first_life_fails_once_with_linked_syncs() {
    survive(|| Beginning::nothing("linked"));
}

#[test]
fn every_operation_of_a_first_life_fails_once_with_direct_writes() {
    survive(|| Beginning::nothing("direct"));
}

#[test]
fn every_operation_of_a_later_life_fails_once_with_linked_syncs() {
    survive(|| Beginning::old("linked"));
}

#[test]
fn every_operation_of_a_later_life_fails_once_with_direct_writes() {
    survive(|| Beginning::old("direct"));
}
