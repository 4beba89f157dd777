//! Erasing on a copy that a repair made: what is lost lies between what is left.

use crate::journal::disk::on_disk;
use crate::journal::{Journal, Kept, cover, sums};
use crate::{NOW, run};
use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use tidegate_ids::{Sequence, StreamId, StreamKind, WallMs};
use tidegate_storage_files::{
    CoveredSegments, ErasureKeeper, ErasureScope, Retention, RetentionOptions, RetentionPolicy, ask_erasure,
};
use tidegate_storage_log::{ErasedRanges, RecordHead, SequenceRange};

/// What the list asks for.
struct Asked(ErasedRanges);

impl RetentionPolicy for Asked {
    fn keep_after(&self, _: &StreamId) -> WallMs {
        WallMs(0)
    }

    fn gone_before(&self, _: &StreamId) -> WallMs {
        WallMs(0)
    }

    fn erasing(&self) -> u64 {
        1
    }

    fn may_erase(&self, stream: &StreamId, range: SequenceRange) -> bool {
        self.0.count_in(stream, range) > 0
    }

    fn is_erased(&self, head: &RecordHead) -> bool {
        self.0.holds(&head.stream, head.sequence)
    }
}

/// Bytes that no compressor makes smaller (an xorshift, Marsaglia 2003).
fn noise(seed: u64) -> Vec<u8> {
    let mut state = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..600).map(&mut next).collect()
}

/// Ten messages of each of two conversations in a sealed segment, of which of one some do not hold.
fn write_and_harm(path: &Path, lost: &[u64]) -> Vec<Kept> {
    let mut journal = Journal::open(path, 1);
    let mut kept = Vec::new();
    for at in 0..20 {
        kept.push(journal.append(0, sums::stream(at % 2), &noise(at)));
    }
    journal.commit();
    journal.seal();
    for one in kept.iter().filter(|one| one.stream == sums::stream(0) && lost.contains(&one.sequence)) {
        let name = format!("log/{}/{}/{}.seg", one.log.epoch, one.log.shard, one.location.segment);
        let file = File::options().write(true).open(path.join(name)).unwrap();
        file.write_all_at(b"rot", u64::from(one.location.offset) + 100).unwrap();
    }
    kept
}

/// A repaired segment's footer counts what is left: seven messages up to number 10 were taken for 4 to 10, and a request for
/// number 2 was reported as done while it lay on the disk.
#[test]
fn what_is_asked_of_a_repaired_segment_goes() {
    for lost in [&[7, 8, 9][..], &[2, 4, 6, 8], &[]] {
        let temp = tempfile::tempdir().unwrap();
        let (dir, copy) = (temp.path().join("data"), temp.path().join("copy"));
        let kept = write_and_harm(&dir, lost);
        let (code, out, err) = run("repair", &dir, &["--to", copy.to_str().unwrap()]);
        assert_eq!(code, Some(0), "{out}{err}");
        let is_meant =
            |one: &&Kept| one.stream == sums::stream(0) && one.sequence <= 3 && !lost.contains(&one.sequence);
        let meant: Vec<&Kept> = kept.iter().filter(is_meant).collect();
        let Some(StreamKind::Conversation(id)) = sums::stream(0).kind() else { panic!("a conversation") };
        let range = SequenceRange::new(Sequence(1), Sequence(3)).unwrap();
        ask_erasure(&copy, id, ErasureScope::Range(range), "", NOW).unwrap();
        let journal = Journal::open(&copy, 1);
        let options = RetentionOptions {
            bytes_per_second: 0,
            compress_after_ms: u64::MAX,
            ..RetentionOptions::default()
        };
        let mut keeper = ErasureKeeper::open(&journal.dir).unwrap();
        let asked = Asked(keeper.list().pending_ranges());
        let erase = |covered: CoveredSegments| {
            let mut retention = Retention::new(&journal.dir, options, covered);
            retention.erase(&asked, NOW, &AtomicBool::new(false), &mut |_| {}).unwrap();
            retention
        };
        // Where it may not be touched it is not done.
        let done = keeper.settle(&mut erase(CoveredSegments::default()), Some(&asked.0), NOW).unwrap().done;
        assert_eq!(done, [], "without {lost:?}");
        let mut retention = erase(cover(&journal.dir));
        let settled = keeper.settle(&mut retention, Some(&asked.0), NOW).unwrap();
        assert_eq!((settled.done.len(), settled.records), (1, meant.len() as u64), "without {lost:?}");
        drop((retention, keeper, journal));
        assert_eq!(on_disk(&copy, &meant), BTreeSet::new(), "without {lost:?}");
        let others: Vec<&Kept> = kept.iter().filter(|one| one.stream == sums::stream(1)).collect();
        assert_eq!(on_disk(&copy, &others).len(), 10, "the others are there");
    }
}
