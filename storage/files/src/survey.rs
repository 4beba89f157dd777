//! What lies in a data directory, held against its manifest. Reads only.

use crate::error::FileError;
use crate::indexes::Indexes;
use crate::layout::{self, Entry};
use crate::limits::ZERO_CHUNK_BYTES;
use crate::manifest::Manifest;
use crate::read_at::open;
use crate::snapshots::covered_through;
use crate::view::{Problem, SegmentProblem};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tidegate_ids::LogId;
use tidegate_storage_log::descriptor::{FORMAT_VERSION, SEGMENT_HEADER_BYTES};
use tidegate_storage_log::limits::HEADERLESS_SCAN_BYTES;
use tidegate_storage_log::{ENCODING_REWRITTEN, SegmentHeader};

/// A segment that was made ready and never written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prepared {
    pub number: u32,
    pub log: LogId,
    pub bytes: u64,
}

/// Everything found.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Every log of the manifest, with its segments that hold something, rising; what it is worth, recovery judges.
    pub written: BTreeMap<LogId, Vec<u32>>,
    /// Zeroed segments above all that hold something in their log; rising by number.
    pub prepared: Vec<Prepared>,
    /// Files under a temporary name, left by a crash or being made.
    pub temporary: Vec<PathBuf>,
    /// The highest number of any file, 0 without one.
    pub highest: u32,
    pub problems: Vec<SegmentProblem>,
    pub indexes: Indexes,
}

enum Header {
    /// Right; or missing above bytes that recovery must judge.
    Sound(Option<SegmentHeader>),
    Zero,
    Wrong(Problem),
}

impl Survey {
    /// Looks at all directories that the manifest names.
    pub(crate) fn take(root: &Path, manifest: &Manifest) -> Result<Self, FileError> {
        let mut survey = Self::default();
        // Before the segments: a running gateway may write, seal and fold one after it was found zero.
        let covered = covered_through(root, manifest)?;
        survey.find_unlisted(root, manifest)?;
        let mut homes: BTreeMap<u32, LogId> = BTreeMap::new();
        for log in manifest.logs() {
            survey.written.insert(log, Vec::new());
            for number in survey.list(root, log)? {
                if homes.insert(number, log).is_some() {
                    survey.report(layout::segment(root, log, number), Problem::Twice);
                } else {
                    survey.inspect(root, manifest, log, number)?;
                }
            }
        }
        for (&number, &log) in &manifest.segments {
            if homes.get(&number) != Some(&log) {
                survey.report(layout::segment(root, log, number), Problem::Missing);
            }
        }
        survey.keep_usable_spares();
        survey.report_emptied(root, manifest, &covered);
        Ok(survey)
    }

    fn report(&mut self, path: PathBuf, problem: Problem) {
        self.problems.push(SegmentProblem { path, problem });
    }

    /// Epochs and shards that the manifest does not name: it is an older one, and they would be lost.
    fn find_unlisted(&mut self, root: &Path, manifest: &Manifest) -> Result<(), FileError> {
        let logs = root.join(layout::LOGS);
        let epochs: BTreeMap<String, u16> =
            manifest.epochs.iter().map(|epoch| (epoch.number.to_string(), epoch.shards)).collect();
        for name in layout::names(&logs)? {
            let path = logs.join(&name);
            let Some(&shards) = epochs.get(&name) else {
                if name.parse::<u32>().is_ok() {
                    self.report(path, Problem::Unlisted);
                }
                continue;
            };
            for shard in layout::names(&path)? {
                if shard.parse::<u32>().is_ok_and(|shard| shard >= u32::from(shards)) {
                    self.report(path.join(shard), Problem::Unlisted);
                }
            }
        }
        Ok(())
    }

    /// The segment numbers in a log's directory, rising.
    fn list(&mut self, root: &Path, log: LogId) -> Result<BTreeSet<u32>, FileError> {
        let directory = layout::log_dir(root, log);
        let mut numbers = BTreeSet::new();
        for name in layout::names(&directory)? {
            match layout::entry(&name) {
                Entry::Segment(number) => {
                    self.highest = self.highest.max(number);
                    numbers.insert(number);
                }
                Entry::Temporary(number) => {
                    self.highest = self.highest.max(number);
                    self.temporary.push(directory.join(name));
                }
                Entry::Other => {}
            }
        }
        Ok(numbers)
    }

    fn inspect(
        &mut self,
        root: &Path,
        manifest: &Manifest,
        log: LogId,
        number: u32,
    ) -> Result<(), FileError> {
        let path = layout::segment(root, log, number);
        let file = match open(&path) {
            Ok(file) => file,
            // A running gateway removed or renamed it; if the manifest names it, it will be missed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.report(path, Problem::Missing);
                return Ok(());
            }
            Err(error) => {
                let os_error = refused_by_file(&error).ok_or_else(|| FileError::new("open", &path, error))?;
                self.report(path, Problem::Refused { os_error });
                return Ok(());
            }
        };
        let metadata = file.metadata().map_err(FileError::on("inspect", &path))?;
        if !metadata.is_file() {
            self.report(path, Problem::NoFile);
            return Ok(());
        }
        let bytes = metadata.len();
        let header = match read_header(&file, bytes, manifest, log, number) {
            // A sector that the device refuses is damage, which recovery judges.
            Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => Header::Sound(None),
            header => header.map_err(FileError::on("read", &path))?,
        };
        match header {
            Header::Sound(header) => {
                header.iter().for_each(|header| self.indexes.take(header));
                self.written.entry(log).or_default().push(number);
            }
            Header::Zero => self.prepared.push(Prepared { number, log, bytes }),
            Header::Wrong(problem) => {
                // A view gives recovery what may still hold records of this log.
                if matches!(problem, Problem::Header | Problem::Short { .. }) {
                    self.written.entry(log).or_default().push(number);
                }
                self.report(path, problem);
            }
        }
        Ok(())
    }

    /// Numbers rise within a log: a zeroed segment below a written one is no spare. Perhaps it was lost.
    fn keep_usable_spares(&mut self) {
        for spare in std::mem::take(&mut self.prepared) {
            let written = self.written.entry(spare.log).or_default();
            match written.last() {
                Some(&last) if last > spare.number => {
                    let place = written.partition_point(|&number| number < spare.number);
                    written.insert(place, spare.number);
                }
                _ => self.prepared.push(spare),
            }
        }
        self.prepared.sort_by_key(|spare| spare.number);
    }

    /// A zeroed segment above all that was written in its log is no spare either if a snapshot folded it, or if it is of an
    /// epoch that is over and still named: a start that begins an epoch takes the spares of the last one out of the manifest.
    /// Nor if it is lost as a whole, which a start notes of one that a checkpoint leads into. That a part of it is lost says
    /// nothing: the device may once have refused to read some of a spare.
    fn report_emptied(&mut self, root: &Path, manifest: &Manifest, covered: &BTreeMap<LogId, u32>) {
        let current = manifest.current().number;
        let was_written = |spare: &mut Prepared| {
            let is_named = manifest.segments.get(&spare.number) == Some(&spare.log);
            let is_covered = covered.get(&spare.log).is_some_and(|last| *last >= spare.number);
            is_named && (is_covered || spare.log.epoch < current || manifest.lost.is_whole(spare.number))
        };
        let emptied: Vec<Prepared> = self.prepared.extract_if(.., was_written).collect();
        for Prepared { number, log, .. } in emptied {
            let written = self.written.entry(log).or_default();
            written.insert(written.partition_point(|&other| other < number), number);
            self.report(layout::segment(root, log, number), Problem::Emptied);
        }
    }
}

/// The error of an open that is this file's own; `None` for what would befall any other file as well.
fn refused_by_file(error: &io::Error) -> Option<i32> {
    let of_process = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::INTR];
    error.raw_os_error().filter(|&code| !of_process.iter().any(|errno| errno.raw_os_error() == code))
}

/// The header of a segment's file, or its copy at the end of a rewritten one; `None` if neither can be read and holds.
pub(crate) fn file_header(file: &File, bytes: u64) -> Option<SegmentHeader> {
    let mut block = [0; SEGMENT_HEADER_BYTES];
    let front = file.read_exact_at(&mut block, 0).ok().and_then(|()| SegmentHeader::decode(&block));
    let back = || {
        bytes.checked_sub(SEGMENT_HEADER_BYTES as u64).and_then(|_| back_header(file, bytes).ok().flatten())
    };
    front.or_else(back)
}

fn read_header(file: &File, bytes: u64, manifest: &Manifest, log: LogId, number: u32) -> io::Result<Header> {
    let mut block = [0; SEGMENT_HEADER_BYTES];
    if bytes < SEGMENT_HEADER_BYTES as u64 {
        return Ok(Header::Wrong(Problem::Short { bytes, expected: SEGMENT_HEADER_BYTES as u64 }));
    }
    file.read_exact_at(&mut block, 0)?;
    if block == [0; SEGMENT_HEADER_BYTES] && back_header(file, bytes)?.is_none() {
        // Batches without a header are for recovery: a first write was torn, or the header was lost.
        return Ok(if front_is_zero(file)? { Header::Zero } else { Header::Sound(None) });
    }
    let found =
        SegmentHeader::decode(&block).map_or_else(|| back_header(file, bytes), |found| Ok(Some(found)));
    let Some(header) = found? else { return Ok(Header::Wrong(Problem::Header)) };
    let identity = header.identity;
    if header.format_version > FORMAT_VERSION {
        let problem = Problem::Newer { found: header.format_version, supported: FORMAT_VERSION };
        return Ok(Header::Wrong(problem));
    }
    if identity.log != log || header.segment != number || identity.directory != manifest.directory {
        return Ok(Header::Wrong(Problem::Foreign { log: identity.log, segment: header.segment }));
    }
    let whole = header.rewritten.map_or(header.segment_bytes, |rewritten| rewritten.file_bytes);
    let expected = u64::from(whole);
    if bytes < expected && header.encoding <= ENCODING_REWRITTEN {
        return Ok(Header::Wrong(Problem::Short { bytes, expected }));
    }
    Ok(Header::Sound(Some(header)))
}

/// The second header of a rewritten segment, whose first one does not hold.
fn back_header(file: &File, bytes: u64) -> io::Result<Option<SegmentHeader>> {
    let mut block = [0; SEGMENT_HEADER_BYTES];
    file.read_exact_at(&mut block, bytes - SEGMENT_HEADER_BYTES as u64)?;
    let found = SegmentHeader::decode(&block);
    Ok(found.filter(|header| header.rewritten.is_some_and(|own| u64::from(own.file_bytes) == bytes)))
}

/// As far as recovery looks for batches in a segment without a header.
fn front_is_zero(file: &File) -> io::Result<bool> {
    let mut chunk = vec![0; ZERO_CHUNK_BYTES];
    let mut offset = 0;
    while offset < u64::from(HEADERLESS_SCAN_BYTES) {
        let count = file.read_at(&mut chunk, offset)?;
        if count == 0 {
            break;
        }
        if chunk[..count].iter().any(|&byte| byte != 0) {
            return Ok(false);
        }
        offset += count as u64;
    }
    Ok(true)
}
