//! `ERASURES` on the disk: read by a gateway, changed by it and by tools beside it, one at a time and as a whole.
//!
//! Invariants. Who changes it holds the kernel's lock (`flock`) on the data directory itself, which ends with the process;
//! `LOCK` is another one, and is the gateway's. The file is replaced under its name, so that a reader needs no lock and a
//! crash leaves the old list or the new one.

use crate::erasures::{ErasureRefused, Erasures, ErasuresFormatError};
use crate::error::{FileError, OpenError};
use crate::holdings::newest_sequence;
use crate::layout;
use crate::limits::{ERASURES_BYTES_MAX, ERASURES_LOCK_RETRY, ERASURES_LOCK_WAIT};
use crate::replace::replace;
use crate::view::DirView;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tidegate_ids::{ConversationId, Sequence, StreamId, WallMs};
use tidegate_storage_log::SequenceRange;

/// Why the list was not read or not changed. It is as it was.
#[derive(Debug, thiserror::Error)]
pub enum ErasureError {
    /// The directory cannot be looked at. Recovered by what its message says.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The system refused. Recovered by what its message says.
    #[error(transparent)]
    File(#[from] FileError),
    /// The list is there, and the system does not give it. Recovered by what its message says.
    #[error("{source}: without it nobody knows what may be given out: let this user read it, or {PUT_BACK}")]
    Unreadable {
        /// What the system refused.
        source: FileError,
    },
    /// The list is not one that this version reads. Recovered by the right version, or as its message says.
    #[error("{}: {source}: {}", path.display(), way_out(source))]
    Format {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ErasuresFormatError,
    },
    /// Somebody else is changing the list. Recovered by trying again.
    #[error("another process is changing {}: try again", .0.display())]
    Busy(PathBuf),
    /// The request cannot be taken.
    #[error(transparent)]
    Refused(#[from] ErasureRefused),
    /// Nothing of this conversation is in the logs.
    #[error("there is no record of conversation {0}: is the id right, and the directory?")]
    Unknown(ConversationId),
    /// What was never written cannot be erased: it may be said later, and was not meant.
    #[error("conversation {conversation} has no record above {newest}: ask for {from}..{newest}, or for --all", from = range.from())]
    Beyond {
        /// Which.
        conversation: ConversationId,
        /// What was asked for.
        range: SequenceRange,
        /// Its newest record.
        newest: Sequence,
    },
}

/// The way out of a list that is lost.
const PUT_BACK: &str = "put it back from a backup, or move it away and ask again for what was not done";

fn way_out(source: &ErasuresFormatError) -> &'static str {
    match source {
        ErasuresFormatError::Newer { .. } => "use the version that wrote it",
        ErasuresFormatError::Checksum | ErasuresFormatError::Line { .. } | ErasuresFormatError::TooLarge => {
            PUT_BACK
        }
    }
}

/// What of a conversation is to be erased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErasureScope {
    /// These records, all of which have been written.
    Range(SequenceRange),
    /// Everything that has been written.
    All,
}

/// A request that was taken down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErasureAsked {
    /// Which records.
    pub range: SequenceRange,
    /// The gateway that seems to run on the directory.
    pub holder: Option<u32>,
}

/// The list of a data directory; an empty one if nobody ever asked.
///
/// # Errors
/// See [`ErasureError`].
pub fn load_erasures(directory: &Path) -> Result<Erasures, ErasureError> {
    let path = directory.join(layout::ERASURES);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Erasures::default()),
        Err(error) => return Err(ErasureError::Unreadable { source: FileError::new("open", &path, error) }),
    };
    let mut bytes = Vec::new();
    file.take(ERASURES_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| ErasureError::Unreadable { source: FileError::new("read", &path, error) })?;
    Erasures::decode(&bytes).map_err(|source| ErasureError::Format { path, source })
}

/// Reads the list, changes it, and makes that durable, while nobody else does. After an error of the system the old list or
/// the new one stands there; changing it again is right.
///
/// # Errors
/// See [`ErasureError`], and those of `change`.
pub fn change_erasures<T>(
    directory: &Path,
    wait: Duration,
    change: impl FnOnce(&mut Erasures) -> Result<T, ErasureError>,
) -> Result<T, ErasureError> {
    let _lock = lock(directory, wait)?;
    let before = load_erasures(directory)?;
    let mut erasures = before.clone();
    let changed = change(&mut erasures)?;
    if erasures != before {
        store_erasures(directory, &erasures)?;
    }
    Ok(changed)
}

pub(crate) fn store_erasures(directory: &Path, erasures: &Erasures) -> Result<(), FileError> {
    replace(directory, layout::ERASURES, &erasures.encode(), 0o644)
}

/// Asks for records to be erased, whether a gateway runs on the directory or not. When this returns well, the request is
/// durable.
///
/// # Errors
/// See [`ErasureError`].
pub fn ask_erasure(
    directory: &Path,
    conversation: ConversationId,
    scope: ErasureScope,
    reason: &str,
    now: WallMs,
) -> Result<ErasureAsked, ErasureError> {
    let view = DirView::open(directory)?;
    let stream = StreamId::conversation(conversation);
    let newest = newest_sequence(&view, &stream);
    let all = newest.and_then(|newest| SequenceRange::new(Sequence::FIRST, newest));
    let Some(all) = all else { return Err(ErasureError::Unknown(conversation)) };
    let range = match scope {
        ErasureScope::All => all,
        ErasureScope::Range(range) => range,
    };
    if range.to() > all.to() {
        return Err(ErasureError::Beyond { conversation, range, newest: all.to() });
    }
    change_erasures(directory, ERASURES_LOCK_WAIT, |list| Ok(list.ask(stream, range, now, reason)?))?;
    Ok(ErasureAsked { range, holder: view.holder() })
}

/// Notices that the list was replaced.
#[derive(Debug)]
pub struct ErasuresWatch {
    path: PathBuf,
    seen: Option<Seen>,
}

/// What tells one file from the one that took its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    inode: u64,
    changed: (i64, i64),
    bytes: u64,
}

impl ErasuresWatch {
    /// Over a data directory; nothing has been seen.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self { path: directory.join(layout::ERASURES), seen: None }
    }

    /// Whether there is another list than last time. What is read after this call is at least as new.
    ///
    /// # Errors
    /// The system refuses to tell.
    pub fn is_changed(&mut self) -> Result<bool, FileError> {
        let seen = match std::fs::metadata(&self.path) {
            Ok(metadata) => Some(Seen {
                inode: metadata.ino(),
                changed: (metadata.ctime(), metadata.ctime_nsec()),
                bytes: metadata.len(),
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(FileError::new("inspect", &self.path, error)),
        };
        let is_changed = seen != self.seen;
        self.seen = seen;
        Ok(is_changed)
    }
}

/// The lock of the list, held while the file lives.
fn lock(directory: &Path, wait: Duration) -> Result<File, ErasureError> {
    let file = File::open(directory).map_err(FileError::on("open", directory))?;
    let began = Instant::now();
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(Errno::WOULDBLOCK) if began.elapsed() < wait => std::thread::sleep(ERASURES_LOCK_RETRY),
            Err(Errno::WOULDBLOCK) => return Err(ErasureError::Busy(directory.join(layout::ERASURES))),
            Err(error) => return Err(FileError::new("lock", directory, error.into()).into()),
        }
    }
}
