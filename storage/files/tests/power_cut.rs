//! What a power cut leaves: root only, on a volume whose power can be cut.
#![allow(clippy::unwrap_used, reason = "a test may end by a panic")]

mod journal;

use journal::{Journal, Kept, options, sums};
use std::fs::File;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tidegate_ids::{ConversationId, StreamId, UserId};
use tidegate_storage_files::{
    DataDir, FactoryOptions, OpenOptions, SegmentFactory, SnapshotPlan, Snapshots, Wake, WriteMode, secret,
};
use tidegate_tests_support::{FileSystem, Volume, can_mount_or_say};

const VOLUME_MEBIBYTES: u64 = 32;

fn stream() -> StreamId {
    StreamId::conversation(ConversationId::direct(UserId(1), UserId(2)))
}

fn with_volume(test: impl FnOnce(&mut Volume)) {
    if !can_mount_or_say(1) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut volume = Volume::new(folder.path(), FileSystem::Ext4, VOLUME_MEBIBYTES).unwrap();
    test(&mut volume);
}

fn cut(volume: &mut Volume, journal: Journal) {
    volume.cut_power().unwrap();
    drop(journal);
    volume.restart().unwrap();
}

fn open(volume: &Volume, options: &OpenOptions) -> Journal {
    Journal::open_with(&volume.path().join("deep/data"), options)
}

/// Nothing is synced here but what the factory syncs itself before it hands a segment out.
#[test]
fn a_segment_handed_out_survives_with_its_name_and_its_zeroes() {
    with_volume(|volume| {
        let path = volume.path().join("deep/data");
        let dir = DataDir::open(&path, &options(2)).unwrap();
        let incarnation = dir.incarnation();
        let wakes = vec![Box::new(|| {}) as Wake, Box::new(|| {}) as Wake];
        let one = FactoryOptions { spares: 1, reserve_bytes: 0, ..FactoryOptions::default() };
        let (factory, mut spares) = SegmentFactory::start(&dir, one, wakes).unwrap();
        let numbers: Vec<u32> = spares.iter_mut().map(|spares| spares.wait().unwrap().number()).collect();
        volume.cut_power().unwrap();
        drop((factory, spares, dir));
        volume.restart().unwrap();
        let manifest = std::fs::read_to_string(path.join("MANIFEST")).unwrap();
        for (shard, number) in numbers.iter().enumerate() {
            assert!(manifest.contains(&format!("log 1 {shard} {number}")), "{manifest}");
            let bytes = std::fs::read(path.join(format!("log/1/{shard}/{number}.seg"))).unwrap();
            assert_eq!(bytes, vec![0; journal::SEGMENT_BYTES as usize]);
        }
        assert_eq!(DataDir::open(&path, &options(2)).unwrap().incarnation(), incarnation);
    });
}

fn check_committed(write_mode: WriteMode) {
    with_volume(|volume| {
        let options = OpenOptions { write_mode, ..options(1) };
        let mut kept: Vec<Kept> = Vec::new();
        for round in 0..3 {
            let mut journal = open(volume, &options);
            assert_eq!(journal.recovered, kept, "round {round}");
            kept.extend((0..40).map(|at| journal.append(0, stream(), &[at; 3000])));
            journal.commit();
            journal.append(0, stream(), b"appended, never written");
            cut(volume, journal);
        }
        assert_eq!(open(volume, &options).recovered, kept);
    });
}

#[test]
fn what_was_committed_survives_buffered() {
    check_committed(WriteMode::Buffered);
}

#[test]
fn what_was_committed_survives_direct() {
    check_committed(WriteMode::Direct);
}

/// The control: would a cut leave this, no other test here could fail.
#[test]
fn what_was_written_and_not_synced_is_lost() {
    with_volume(|volume| {
        let mut journal = open(volume, &options(1));
        let committed = vec![journal.append(0, stream(), b"committed")];
        journal.commit();
        (0..10).for_each(|at| _ = journal.append(0, stream(), &[at; 3000]));
        journal.write_without_sync();
        cut(volume, journal);
        assert_eq!(open(volume, &options(1)).recovered, committed);
    });
}

/// A gateway was killed after a write and before its sync. The next one finds the batch, for it is in the page cache, and
/// builds on it: sequences are taken, records are served. Then the power fails. What was found once must be found again.
#[test]
fn what_recovery_gave_out_survives() {
    with_volume(|volume| {
        let mut journal = open(volume, &options(1));
        journal.append(0, stream(), b"committed");
        journal.commit();
        (0..20).for_each(|at| _ = journal.append(0, stream(), &[at; 3000]));
        journal.write_without_sync();
        drop(journal);
        let journal = open(volume, &options(1));
        let given = journal.recovered.clone();
        assert_eq!(given.len(), 21, "a kill takes nothing from the page cache");
        cut(volume, journal);
        assert_eq!(open(volume, &options(1)).recovered, given);
    });
}

/// The same with a seal, of a roll or of a clean stop. The next segment's header, which is synced, says that the seal is
/// there: were it gone after the power cut, it would count as damage for good.
#[test]
fn a_seal_that_recovery_found_survives() {
    with_volume(|volume| {
        let mut journal = open(volume, &options(1));
        journal.append(0, stream(), b"committed");
        journal.commit();
        journal.seal_without_sync();
        let mut journal = open(volume, &options(1));
        assert!(!journal.logs[0].recovered.unclean, "a kill takes no seal from the page cache");
        let mut kept = journal.recovered.clone();
        kept.push(journal.append(0, stream(), b"behind the seal"));
        journal.commit();
        cut(volume, journal);
        let journal = open(volume, &options(1));
        assert_eq!(journal.logs[0].recovered.damage, []);
        assert_eq!(journal.recovered, kept);
    });
}

/// Gives a file of a durable directory its name once more, as a replacement does whose process is killed before it syncs the
/// directory.
fn rename_without_sync(path: &Path) {
    let temporary = path.with_extension("tmp");
    std::fs::rename(path, &temporary).unwrap();
    File::open(path.parent().unwrap()).unwrap().sync_all().unwrap();
    std::fs::rename(&temporary, path).unwrap();
}

/// A gateway was killed after it had renamed what it wrote and before it synced the directory. The next start finds it under
/// its name and builds on it: what is told to clients, what segments are dropped for, where messages go. Then the power fails.
#[test]
fn what_a_start_found_under_its_name_keeps_it() {
    with_volume(|volume| {
        let path = volume.path().join("deep/data");
        let mut journal = open(volume, &options(2));
        sums::fill(&mut journal, 150);
        let (segments, covered) = sums::closed(&journal, usize::MAX);
        let plan = SnapshotPlan { memory_bytes: 2048, ..SnapshotPlan::new(&segments, covered, None) };
        let mut snapshots = Snapshots::open(&journal.dir).unwrap();
        snapshots.reserve(0);
        snapshots.build(&plan, &mut sums::Sums::default(), &AtomicBool::new(false)).unwrap();
        drop((snapshots, journal));
        let names = ["MANIFEST", "snapshot/1.snap", "log/1/0/1.seg"].map(|name| path.join(name));
        for name in &names {
            drop(DataDir::open(&path, &options(2)).unwrap());
            rename_without_sync(name);
            drop(DataDir::open(&path, &options(2)).unwrap());
            volume.cut_power().unwrap();
            volume.restart().unwrap();
            assert!(name.exists(), "{}", name.display());
        }
    });
}

#[test]
fn a_secret_survives_once_it_was_used() {
    with_volume(|volume| {
        let path = volume.path().join("data");
        let made = secret(&path).unwrap();
        volume.cut_power().unwrap();
        volume.restart().unwrap();
        let found = secret(Path::new(&path)).unwrap();
        assert!(made.made() && !found.made());
        assert_eq!(found.bytes(), made.bytes());
    });
}

/// The power fails at every stage of building and replacing a snapshot. What was in place before is in place again or has a
/// successor, and whatever is found is whole.
#[test]
fn a_snapshot_in_place_survives_and_half_of_one_is_never_found() {
    with_volume(|volume| {
        let mut kept = Vec::new();
        let (mut in_place, mut unfinished) = (0, 0);
        for round in 0..16_u64 {
            let mut journal = open(volume, &options(2));
            let mut snapshots = Snapshots::open(&journal.dir).unwrap();
            snapshots.reserve(0);
            assert_eq!(snapshots.bad(), [], "round {round}");
            let found = snapshots.newest().map_or(0, |newest| newest.number());
            assert!(found >= in_place, "round {round}: snapshot {in_place} was in place, {found} is found");
            snapshots.good().iter().for_each(|file| sums::check(file, &kept));
            kept.extend(sums::fill(&mut journal, 150));
            let (segments, covered) = sums::closed(&journal, usize::MAX);
            let previous = snapshots.newest().cloned();
            let plan = SnapshotPlan { memory_bytes: 2048, ..SnapshotPlan::new(&segments, covered, previous) };
            let build = || snapshots.build(&plan, &mut sums::Sums::default(), &AtomicBool::new(false)).ok();
            let built = std::thread::scope(|scope| {
                let builder = scope.spawn(build);
                std::thread::sleep(Duration::from_micros(round * 1500));
                volume.cut_power().unwrap();
                builder.join().unwrap()
            });
            match built {
                Some(built) => in_place = built.file.number(),
                None => unfinished += 1,
            }
            drop((plan, snapshots));
            cut(volume, journal);
        }
        assert!(unfinished > 0, "some were cut short");
    });
}
