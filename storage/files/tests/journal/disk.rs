//! What of bodies lies on the disk, whatever says that it is gone.

use super::Kept;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Which of these bodies any file holds, under any name.
pub fn on_disk(path: &Path, bodies: &[&Kept]) -> BTreeSet<u64> {
    let mut marks = BTreeMap::new();
    for one in bodies {
        for at in [16, 60, one.body.len() - 16] {
            marks.insert(<[u8; 16]>::try_from(&one.body[at..at + 16]).unwrap(), one.sequence);
        }
    }
    let (mut found, mut folders) = (BTreeSet::new(), vec![path.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = std::fs::read(path).unwrap();
            found.extend(bytes.array_windows::<16>().filter_map(|window| marks.get(window)));
        }
    }
    found
}
