//! What was written and not synced: what stood there before.

use rustix::fs::{fstat, ftruncate};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// A file before one change.
#[derive(Debug)]
struct Before {
    offset: u64,
    /// What is written over, or cut off, from there.
    bytes: Vec<u8>,
    /// The length of the file.
    length: u64,
}

/// Changes since the last sync, by inode, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Unsynced(HashMap<u64, Vec<Before>>);

impl Unsynced {
    /// So many bytes of a file are about to change. It is open for reading.
    pub(super) fn note(&mut self, file: &File, offset: u64, count: u64) -> io::Result<()> {
        let stat = fstat(file)?;
        let length = stat.st_size.cast_unsigned();
        let mut bytes = vec![0; length.saturating_sub(offset).min(count) as usize];
        file.read_exact_at(&mut bytes, offset)?;
        self.0.entry(stat.st_ino).or_default().push(Before { offset, bytes, length });
        Ok(())
    }

    /// A file was synced, or is new under this number.
    pub(super) fn settle(&mut self, inode: u64) {
        self.0.remove(&inode);
    }

    /// Puts a file back to its last sync. It is open for reading and writing.
    pub(super) fn lose(&mut self, file: &File) -> io::Result<()> {
        for before in self.0.remove(&fstat(file)?.st_ino).unwrap_or_default().into_iter().rev() {
            file.write_all_at(&before.bytes, before.offset)?;
            ftruncate(file, before.length)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_is_what_was_not_synced() {
        let file = tempfile::tempfile().unwrap();
        let inode = fstat(&file).unwrap().st_ino;
        let mut unsynced = Unsynced::default();
        let write = |unsynced: &mut Unsynced, offset: u64, bytes: &[u8]| {
            unsynced.note(&file, offset, bytes.len() as u64).unwrap();
            file.write_all_at(bytes, offset).unwrap();
        };
        let holds = |expected: &[u8]| {
            let mut bytes = [0; 32];
            let count = file.read_at(&mut bytes, 0).unwrap();
            assert_eq!(&bytes[..count], expected);
        };
        write(&mut unsynced, 0, b"0123456789");
        unsynced.settle(inode);
        write(&mut unsynced, 8, b"abcd");
        write(&mut unsynced, 2, b"xy");
        write(&mut unsynced, 3, b"z");
        unsynced.note(&file, 4, 8).unwrap();
        file.set_len(4).unwrap();
        holds(b"01xz");
        unsynced.lose(&file).unwrap();
        holds(b"0123456789");
        unsynced.lose(&file).unwrap();
        holds(b"0123456789");
    }
}
