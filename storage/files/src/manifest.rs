//! `MANIFEST`: what a data directory holds, as text with a checksum (docs/formats/manifest.md). Pure: bytes in, bytes
//! out; [`crate::replace`] makes it durable.

use crate::error::FileError;
use crate::limits::{EPOCHS_MAX, MANIFEST_BYTES_MAX, SEGMENT_NUMBER_MAX, SHARDS_MAX};
use crate::lost::Lost;
use crate::replace::replace;
use crate::text::{checked, hex16, number, put_hex16, summed, words};
use crate::{error::OpenError, layout};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{self, Read};
use std::path::Path;
use tidegate_ids::{INTEGER_MAX, Incarnation, LogId, ShardIndex};

/// The newest format of the manifest that this version writes and reads.
pub const FORMAT_VERSION: u32 = 2;

/// The format without [`Manifest::lost`]. It is written where nothing is: what an older version can read, it may.
const WITHOUT_LOST: u32 = 1;

/// How ids hash to virtual shards: 1 is xxh3-64 with seed 0, modulo 1024 (DECISIONS, Identity and routing).
pub const HASH_VERSION: u32 = 1;

const MAGIC: &str = "tidegate-manifest";
const RESTORED: &str = "restored";
const LOST: &str = "lost";
const HEAD_LINES: usize = 5;

/// Starts with one number of shards in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// 1 and up.
    pub number: u32,
    /// How many logs it has.
    pub shards: u16,
}

/// The content of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// Random, made once; every segment's header repeats it.
    pub directory: [u8; 16],
    pub incarnation: Incarnation,
    /// Above every segment number that was ever given to a segment named here.
    pub next_segment: u32,
    /// Rising, without a gap.
    pub epochs: Vec<Epoch>,
    /// Every segment, spares included, and the log it belongs to.
    pub segments: BTreeMap<u32, LogId>,
    /// A backup or a repaired copy that no gateway was started on: the first start takes a new incarnation.
    pub restored: bool,
    /// What was found lost of the segments, and answered with a new incarnation.
    pub lost: Lost,
}

/// Why bytes are not a manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Written by a newer version. Recovered by that version.
    #[error("format version {found} is newer than {supported}, the newest that this tidegate reads")]
    Newer {
        /// What the file says.
        found: u32,
        /// [`FORMAT_VERSION`].
        supported: u32,
    },
    /// Routed by another function. Recovered by the version that wrote it.
    #[error("hash version {found} is not {supported}, the one that this tidegate routes by")]
    Hash {
        /// What the file says.
        found: u32,
        /// [`HASH_VERSION`].
        supported: u32,
    },
    /// Not the bytes that were written. Recovered from a backup.
    #[error("the checksum does not match: the file is damaged or was edited")]
    Checksum,
    /// Not the form of a manifest. Recovered from a backup.
    #[error("line {line}: {problem}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Too large to be one. Recovered from a backup.
    #[error("larger than {MANIFEST_BYTES_MAX} bytes")]
    TooLarge,
}

impl Manifest {
    /// A directory's first: one epoch, no segments.
    pub(crate) fn first(directory: [u8; 16], incarnation: Incarnation, shards: u16) -> Self {
        assert!(incarnation.0 > 0 && incarnation.0 <= INTEGER_MAX, "an incarnation is a wire integer");
        let epochs = vec![Epoch { number: 1, shards }];
        let (segments, lost) = (BTreeMap::new(), Lost::default());
        Self { directory, incarnation, next_segment: 1, epochs, segments, restored: false, lost }
    }

    /// The epoch that is written to.
    pub(crate) fn current(&self) -> Epoch {
        self.epochs.last().copied().unwrap_or(Epoch { number: 0, shards: 0 })
    }

    /// Adds an epoch with `shards` logs; `false` if there are too many already.
    pub(crate) fn begin_epoch(&mut self, shards: u16) -> bool {
        if self.epochs.len() >= EPOCHS_MAX {
            return false;
        }
        self.epochs.push(Epoch { number: self.current().number + 1, shards });
        true
    }

    /// Every log of every epoch, in order.
    pub(crate) fn logs(&self) -> impl Iterator<Item = LogId> + '_ {
        self.epochs.iter().flat_map(|epoch| {
            (0..epoch.shards).map(|shard| LogId { epoch: epoch.number, shard: ShardIndex(shard) })
        })
    }

    /// The logs that are written to.
    pub(crate) fn current_logs(&self) -> impl Iterator<Item = LogId> + '_ {
        let epoch = self.current().number;
        self.logs().filter(move |log| log.epoch == epoch)
    }

    /// The file's bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let version = if self.lost.is_empty() { WITHOUT_LOST } else { FORMAT_VERSION };
        let mut text = format!("{MAGIC} {version}\nhash {HASH_VERSION}\ndirectory ");
        put_hex16(&self.directory, &mut text);
        // Writing to a String does not fail.
        let _ = writeln!(text, "\nincarnation {}\nnext-segment {}", self.incarnation, self.next_segment);
        if self.restored {
            let _ = writeln!(text, "{RESTORED}");
        }
        let mut by_log: BTreeMap<LogId, Vec<u32>> = BTreeMap::new();
        for (&number, &log) in &self.segments {
            by_log.entry(log).or_default().push(number);
        }
        for epoch in &self.epochs {
            let _ = writeln!(text, "epoch {} {}", epoch.number, epoch.shards);
            for shard in 0..epoch.shards {
                let log = LogId { epoch: epoch.number, shard: ShardIndex(shard) };
                if let Some(numbers) = by_log.get(&log) {
                    let _ = write!(text, "log {} {}", log.epoch, log.shard);
                    numbers.iter().for_each(|number| _ = write!(text, " {number}"));
                    text.push('\n');
                }
            }
        }
        self.lost.encode(LOST, &mut text);
        summed(text)
    }

    /// Reads the file's bytes.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        let text = std::str::from_utf8(bytes).map_err(|_| ManifestError::Checksum)?;
        // The version comes first: a newer one may sum differently.
        let first = text.lines().next().unwrap_or_default();
        let found = words(first, MAGIC).and_then(number);
        let found: u32 = found.ok_or(ManifestError::Line { line: 1, problem: "not a tidegate manifest" })?;
        if found > FORMAT_VERSION {
            return Err(ManifestError::Newer { found, supported: FORMAT_VERSION });
        }
        let body = checked(text).ok_or(ManifestError::Checksum)?;
        let mut lines = body.lines().enumerate().skip(1).map(|(index, line)| (index + 1, line));
        let mut manifest = Self::decode_head(&mut lines)?;
        let mut seen = BTreeSet::new();
        for (line, text) in lines {
            let read = match words(text, LOST).filter(|_| found > WITHOUT_LOST) {
                Some(rest) => manifest.lost.read(rest, manifest.next_segment, number),
                None if manifest.lost.is_empty() => manifest.read_line(text, &mut seen),
                None => Err("what is lost comes last"),
            };
            read.map_err(|problem| ManifestError::Line { line, problem })?;
        }
        if manifest.epochs.is_empty() {
            return Err(ManifestError::Line { line: HEAD_LINES + 1, problem: "no epoch" });
        }
        Ok(manifest)
    }

    /// Reads lines 2 to [`HEAD_LINES`].
    fn decode_head<'a>(lines: &mut impl Iterator<Item = (usize, &'a str)>) -> Result<Self, ManifestError> {
        let mut word = |name: &'static str, problem: &'static str| -> Result<&'a str, ManifestError> {
            let (line, text) = lines.next().unwrap_or((0, ""));
            words(text, name).ok_or(ManifestError::Line { line, problem })
        };
        let hash = word("hash", "no hash version")?;
        let directory = word("directory", "no directory id")?;
        let incarnation = word("incarnation", "no incarnation")?;
        let next_segment = word("next-segment", "no next segment")?;
        let found: u32 = number(hash).ok_or(ManifestError::Line { line: 2, problem: "no hash version" })?;
        if found != HASH_VERSION {
            return Err(ManifestError::Hash { found, supported: HASH_VERSION });
        }
        let directory = hex16(directory)
            .ok_or(ManifestError::Line { line: 3, problem: "the directory id is not 32 hex digits" })?;
        let incarnation =
            number(incarnation)
                .filter(|incarnation| (1..=INTEGER_MAX).contains(incarnation))
                .ok_or(ManifestError::Line { line: 4, problem: "the incarnation is out of range" })?;
        let next_segment = number(next_segment)
            .filter(|next| (1..=SEGMENT_NUMBER_MAX).contains(next))
            .ok_or(ManifestError::Line { line: 5, problem: "the next segment is out of range" })?;
        let incarnation = Incarnation(incarnation);
        let (epochs, segments, lost) = (Vec::new(), BTreeMap::new(), Lost::default());
        Ok(Self { directory, incarnation, next_segment, epochs, segments, restored: false, lost })
    }

    fn read_line(&mut self, text: &str, seen: &mut BTreeSet<LogId>) -> Result<(), &'static str> {
        if text == RESTORED {
            if self.restored || !self.epochs.is_empty() {
                return Err("that this was restored is said once, before the epochs");
            }
            self.restored = true;
            return Ok(());
        }
        if let Some(rest) = words(text, "epoch") {
            let (epoch, shards) = rest.split_once(' ').ok_or("an epoch has a number and shards")?;
            let epoch: u32 = number(epoch).ok_or("the epoch's number is none")?;
            let shards: u16 = number(shards).ok_or("the number of shards is none")?;
            if epoch != self.current().number + 1 || self.epochs.len() >= EPOCHS_MAX {
                return Err("epochs are out of order");
            }
            if shards == 0 || shards > SHARDS_MAX {
                return Err("the number of shards is out of range");
            }
            self.epochs.push(Epoch { number: epoch, shards });
            return Ok(());
        }
        let rest = words(text, "log").ok_or("neither an epoch nor a log")?;
        let mut parts = rest.split(' ');
        let epoch: u32 = parts.next().and_then(number).ok_or("a log has an epoch")?;
        let shard: u16 = parts.next().and_then(number).ok_or("a log has a shard")?;
        let log = LogId { epoch, shard: ShardIndex(shard) };
        if epoch != self.current().number || shard >= self.current().shards || !seen.insert(log) {
            return Err("a log stands once, below its epoch");
        }
        for part in parts {
            let segment: u32 = number(part).ok_or("a segment's number is none")?;
            if segment == 0 || segment >= self.next_segment || self.segments.insert(segment, log).is_some() {
                return Err("segment numbers are unique, above 0 and below the next one");
            }
        }
        Ok(())
    }
}

/// Reads the manifest of `directory`; `None` if there is none.
pub(crate) fn load(directory: &Path) -> Result<Option<Manifest>, OpenError> {
    let path = directory.join(layout::MANIFEST);
    let file = match std::fs::File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FileError::new("open", &path, error).into()),
    };
    let mut bytes = Vec::new();
    file.take(MANIFEST_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(FileError::on("read", &path))?;
    let decoded = if bytes.len() as u64 > MANIFEST_BYTES_MAX {
        Err(ManifestError::TooLarge)
    } else {
        Manifest::decode(&bytes)
    };
    decoded.map(Some).map_err(|source| OpenError::Manifest { path, source })
}

/// Replaces the manifest of `directory`; when this returns well, it is durable.
pub(crate) fn store(directory: &Path, manifest: &Manifest) -> Result<(), FileError> {
    replace(directory, layout::MANIFEST, &manifest.encode(), 0o644)
}

#[cfg(test)]
mod tests;
