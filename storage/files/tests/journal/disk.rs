//! What of bodies lies on the disk, whatever says that it is gone.

use super::Kept;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use tidegate_tests_support::marks_in_folder;

/// Which of these bodies any file holds, under any name.
pub fn on_disk(path: &Path, bodies: &[&Kept]) -> BTreeSet<u64> {
    let mut marks = BTreeMap::new();
    for one in bodies {
        for at in [16, 60, one.body.len() - 16] {
            marks.insert(<[u8; 16]>::try_from(&one.body[at..at + 16]).unwrap(), one.sequence);
        }
    }
    marks_in_folder(path, &marks)
}
