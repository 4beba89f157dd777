//! Data directories as folders of files.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::Path;

/// Copies a data directory as it lies there, without its lock.
#[track_caller]
pub fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder can be made");
    for entry in std::fs::read_dir(from).expect("a folder can be read") {
        let entry = entry.expect("a folder can be read");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("an entry has a type").is_dir() {
            copy_folder(&entry.path(), &target);
        } else if entry.file_name() != "LOCK" {
            std::fs::copy(entry.path(), target).expect("a file can be copied");
        }
    }
}

/// Bytes of a file that are looked through at a time.
const PIECE_BYTES: usize = 4096;

/// Which of these marks lie in any file of a folder, under any name. A gateway that runs may remove files meanwhile.
#[track_caller]
pub fn marks_in_folder(folder: &Path, marks: &BTreeMap<[u8; 16], u64>) -> BTreeSet<u64> {
    let (mut found, mut folders) = (BTreeSet::new(), vec![folder.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder can be read") {
            let path = entry.expect("a folder can be read").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = match std::fs::read(&path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => panic!("{}: {error}", path.display()),
            };
            // Most of a segment is zeroes, and no mark is.
            for at in (0..bytes.len()).step_by(PIECE_BYTES) {
                let piece = &bytes[at..bytes.len().min(at + PIECE_BYTES + 15)];
                if piece != &[0; PIECE_BYTES + 15][..piece.len()] {
                    found.extend(piece.array_windows::<16>().filter_map(|window| marks.get(window)));
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_found_in_copies_wherever_they_lie() {
        let temp = tempfile::tempdir().unwrap();
        let (from, to) = (temp.path().join("from"), temp.path().join("to"));
        std::fs::create_dir_all(from.join("deep")).unwrap();
        let mut bytes = vec![0; 3 * PIECE_BYTES];
        bytes[PIECE_BYTES - 8..PIECE_BYTES + 8].fill(1);
        std::fs::write(from.join("deep/file"), &bytes).unwrap();
        std::fs::write(from.join("LOCK"), [2; 16]).unwrap();
        copy_folder(&from, &to);
        let marks = BTreeMap::from([([1; 16], 1), ([2; 16], 2), ([3; 16], 3)]);
        assert_eq!(marks_in_folder(&from, &marks), BTreeSet::from([1, 2]));
        assert_eq!(marks_in_folder(&to, &marks), BTreeSet::from([1]), "but the lock");
    }
}
