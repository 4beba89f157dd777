//! Reading segments by `pread`, sealed ones too: docs/decisions/0004-sealed-segments-by-pread.md says why not by maps.

use crate::catalog::Catalog;
use crate::limits::OPEN_FILES_MAX;
use crate::read_at::fill;
use rustix::fs::{Advice, fadvise};
use rustix::io::pread;
use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Arc;
use tidegate_storage_log::{Damage, IndexPlace, Inflated, Medium, MediumError, check_rewritten};

/// Reads the segments of one directory, rewritten ones as the uncompressed segments they stand for. Keeps a bounded number
/// of files open, those used last, and of inflated blocks. May block: it belongs on a reader thread, or in a start.
///
/// A segment whose file was replaced is read from the old one, and a removed one is still read, until
/// [`SegmentReader::refresh`]: so what one walk reads fits together.
#[derive(Debug)]
pub struct SegmentReader {
    inflated: Inflated<Files>,
}

/// The files as they lie there.
#[derive(Debug)]
struct Files {
    catalog: Arc<Catalog>,
    open: Vec<OpenFile>,
    /// Counts reads, to tell which file was used last.
    clock: u64,
    /// The changes of the catalog that were looked at.
    changes: u64,
}

#[derive(Debug)]
struct OpenFile {
    segment: u32,
    /// Which of the segment's files.
    version: u64,
    file: File,
    bytes: u64,
    used: u64,
}

impl SegmentReader {
    pub(crate) fn new(catalog: Arc<Catalog>) -> Self {
        let changes = catalog.changes();
        let files = Files { catalog, open: Vec::with_capacity(OPEN_FILES_MAX), clock: 0, changes };
        Self { inflated: Inflated::new(files) }
    }

    /// Lets go of files that were replaced or removed. Between two walks, never within one: a batch must not be read half
    /// from one file and half from the other.
    pub fn refresh(&mut self) {
        let files = self.inflated.raw();
        let changes = files.catalog.changes();
        if changes == files.changes {
            return;
        }
        files.changes = changes;
        let Files { catalog, open, .. } = files;
        let is_old = |one: &mut OpenFile| catalog.version(one.segment) != Some(one.version);
        open.extract_if(.., is_old).for_each(drop);
    }

    /// Checks every byte of a rewritten segment; `None` for a plain one, which recovery checks.
    ///
    /// # Errors
    /// The segment is missing or refused.
    pub fn check_rewritten(&mut self, segment: u32) -> Result<Option<Vec<Damage>>, MediumError> {
        check_rewritten(self.inflated.raw(), segment)
    }
}

impl Medium for SegmentReader {
    fn segment_len(&self, segment: u32) -> Result<u64, MediumError> {
        self.inflated.segment_len(segment)
    }

    fn read(&mut self, segment: u32, offset: u64, into: &mut [u8]) -> Result<usize, MediumError> {
        self.inflated.read(segment, offset, into)
    }

    fn will_need(&mut self, segment: u32, offset: u64, bytes: usize) {
        self.inflated.will_need(segment, offset, bytes);
    }

    fn index(&mut self, segment: u32) -> Option<IndexPlace> {
        self.inflated.index(segment)
    }

    fn inflates(&self) -> bool {
        true
    }
}

impl Files {
    /// Where in `open` a segment's file is, opening it if needed in place of the one unused longest.
    fn place(&mut self, segment: u32) -> Result<usize, MediumError> {
        if let Some(place) = self.open.iter().position(|open| open.segment == segment) {
            return Ok(place);
        }
        let (path, version) = self.catalog.file(segment).ok_or(MediumError::Missing(segment))?;
        let (file, bytes) = open(&path).map_err(|error| self.missing_or_lost(segment, version, &error))?;
        if self.open.len() >= OPEN_FILES_MAX {
            let oldest = self.open.iter().enumerate().min_by_key(|(_, open)| open.used);
            let (place, _) = oldest.ok_or(MediumError::Missing(segment))?;
            self.open.swap_remove(place);
        }
        self.open.push(OpenFile { segment, version, file, bytes, used: 0 });
        debug_assert!(self.open.len() <= OPEN_FILES_MAX);
        Ok(self.open.len() - 1)
    }
}

impl Files {
    /// A file that is not there was removed, and its segment with it, unless it is named still: then it is lost, which is
    /// damage and no retention.
    fn missing_or_lost(&self, segment: u32, version: u64, error: &io::Error) -> MediumError {
        let is_named = self.catalog.is_live() && self.catalog.version(segment) == Some(version);
        if error.kind() == io::ErrorKind::NotFound && !is_named {
            return MediumError::Missing(segment);
        }
        refusal(segment, 0, error)
    }
}

impl Medium for Files {
    fn generation(&mut self, segment: u32) -> Result<u64, MediumError> {
        let place = self.place(segment)?;
        Ok(self.open[place].version)
    }

    fn segment_len(&self, segment: u32) -> Result<u64, MediumError> {
        if let Some(open) = self.open.iter().find(|open| open.segment == segment) {
            return Ok(open.bytes);
        }
        let (path, version) = self.catalog.file(segment).ok_or(MediumError::Missing(segment))?;
        let metadata =
            std::fs::metadata(&path).map_err(|error| self.missing_or_lost(segment, version, &error))?;
        Ok(metadata.len())
    }

    fn read(&mut self, segment: u32, offset: u64, into: &mut [u8]) -> Result<usize, MediumError> {
        let place = self.place(segment)?;
        self.clock += 1;
        let open = &mut self.open[place];
        open.used = self.clock;
        fill(into, |part, at| pread(&open.file, part, offset + at))
            .map_err(|(filled, errno)| refusal(segment, offset + filled as u64, &errno.into()))
    }

    fn index(&mut self, segment: u32) -> Option<IndexPlace> {
        self.catalog.index(segment)
    }

    /// The kernel begins to read and nobody waits. It is advice: a failure shows in the read that follows.
    fn will_need(&mut self, segment: u32, offset: u64, bytes: usize) {
        let Ok(place) = self.place(segment) else { return };
        let _ = fadvise(&self.open[place].file, offset, NonZeroU64::new(bytes as u64), Advice::WillNeed);
    }
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    let file = crate::read_at::open(path)?;
    let bytes = file.metadata()?.len();
    Ok((file, bytes))
}

fn refusal(segment: u32, offset: u64, error: &io::Error) -> MediumError {
    MediumError::Unreadable { segment, offset, os_error: error.raw_os_error().unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout;
    use rustix::io::Errno;
    use tidegate_ids::{LogId, ShardIndex};

    fn directory(segments: u32) -> (tempfile::TempDir, Arc<Catalog>) {
        let dir = tempfile::tempdir().unwrap();
        let log = LogId { epoch: 1, shard: ShardIndex(0) };
        layout::make_dirs(&layout::log_dir(dir.path(), log)).unwrap();
        let catalog = Catalog::new(dir.path().to_path_buf(), Default::default());
        for number in 1..=segments {
            let bytes: Vec<u8> = (0..1000_u32).map(|at| (at + number) as u8).collect();
            std::fs::write(layout::segment(dir.path(), log, number), bytes).unwrap();
            catalog.insert(number, log);
        }
        (dir, Arc::new(catalog))
    }

    #[test]
    fn it_reads_what_is_there_and_no_more() {
        let (_dir, catalog) = directory(2);
        let mut reader = SegmentReader::new(Arc::clone(&catalog));
        let check = |reader: &mut SegmentReader, segment: u32, offset: u64, expected: usize| {
            let mut into = [0xee; 100];
            assert_eq!(reader.read(segment, offset, &mut into), Ok(expected), "{segment}@{offset}");
            for (index, byte) in into.iter().enumerate() {
                let held = (offset as usize + index + segment as usize) as u8;
                assert_eq!(*byte, if index < expected { held } else { 0xee });
            }
        };
        check(&mut reader, 1, 0, 100);
        check(&mut reader, 2, 900, 100);
        check(&mut reader, 1, 950, 50);
        check(&mut reader, 2, 5000, 0);
        assert_eq!(reader.segment_len(1), Ok(1000));
        assert_eq!(SegmentReader::new(catalog).segment_len(2), Ok(1000));
    }

    #[test]
    fn what_cannot_be_read_is_a_value() {
        let (dir, catalog) = directory(2);
        let log = LogId { epoch: 1, shard: ShardIndex(0) };
        std::fs::remove_file(layout::segment(dir.path(), log, 2)).unwrap();
        // A directory opens, and refuses to be read.
        std::fs::create_dir(layout::segment(dir.path(), log, 7)).unwrap();
        catalog.insert(7, log);
        let mut reader = SegmentReader::new(catalog);
        let mut into = [0; 8];
        assert_eq!(reader.read(9, 0, &mut into), Err(MediumError::Missing(9)));
        // The name is still there: the file was not removed by us.
        let os_error = Errno::NOENT.raw_os_error();
        let lost = Err(MediumError::Unreadable { segment: 2, offset: 0, os_error });
        assert_eq!(reader.read(2, 0, &mut into), lost);
        assert_eq!(reader.segment_len(2).map(|_| 0), lost);
        let refused = reader.read(7, 4, &mut into).unwrap_err();
        let os_error = Errno::ISDIR.raw_os_error();
        assert_eq!(refused, MediumError::Unreadable { segment: 7, offset: 4, os_error });
    }

    /// A segment that shrinks under a map kills the process (SIGBUS); under `pread` it is a short read.
    #[test]
    fn a_file_that_shrinks_is_a_short_read() {
        let (dir, catalog) = directory(1);
        let log = LogId { epoch: 1, shard: ShardIndex(0) };
        let mut reader = SegmentReader::new(catalog);
        let mut into = [0; 100];
        assert_eq!(reader.read(1, 0, &mut into), Ok(100));
        File::options().write(true).open(layout::segment(dir.path(), log, 1)).unwrap().set_len(10).unwrap();
        assert_eq!(reader.read(1, 0, &mut into), Ok(10));
        assert_eq!(reader.read(1, 500, &mut into), Ok(0));
    }

    #[test]
    fn open_files_are_bounded_and_the_used_ones_stay() {
        let count = OPEN_FILES_MAX as u32 + 10;
        let (_dir, catalog) = directory(count);
        let mut reader = SegmentReader::new(catalog);
        let mut into = [0; 4];
        for segment in 1..=count {
            assert_eq!(reader.read(segment, 0, &mut into), Ok(4));
            assert_eq!(into[0], segment as u8);
            assert_eq!(reader.read(1, 0, &mut into), Ok(4));
            assert!(reader.inflated.raw().open.len() <= OPEN_FILES_MAX);
        }
        let open = &reader.inflated.raw().open;
        let held = |segment| open.iter().any(|open| open.segment == segment);
        assert!(held(1) && held(count) && !held(2));
    }
}
