//! Putting files into a copy of a data directory: by hard link where that is possible, or else byte by byte, zeroes left out.

use crate::error::{FileError, OpenError};
use crate::layout;
use crate::limits::TRANSFER_BYTES;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// What was put into a copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transferred {
    /// Files that share their bytes with those they came from.
    pub linked: u64,
    /// Bytes in them.
    pub linked_bytes: u64,
    /// Files with bytes of their own.
    pub copied: u64,
    /// Bytes written to them.
    pub copied_bytes: u64,
}

/// Makes `to`, the place of a copy of `from`: it is empty, and not within what is copied.
pub(crate) fn prepare_target(from: &Path, to: &Path) -> Result<(), OpenError> {
    layout::make_dirs(to)?;
    let resolve = |path: &Path| path.canonicalize().map_err(FileError::on("look at", path));
    if resolve(to)?.starts_with(resolve(from)?) {
        let (from, to) = (from.display(), to.display());
        return Err(OpenError::Options(format!("{to} lies within {from}: name another directory")));
    }
    if !layout::names(to)?.is_empty() {
        return Err(OpenError::Options(format!("{} is not empty: name another directory", to.display())));
    }
    Ok(())
}

/// Gives `to` the bytes of `from`, a file that nobody writes to any more, durably but for the name.
pub(crate) fn link_or_copy(from: &Path, to: &Path, done: &mut Transferred) -> Result<(), FileError> {
    match std::fs::hard_link(from, to) {
        Ok(()) => {
            let file = File::open(to).map_err(FileError::on("open", to))?;
            file.sync_all().map_err(FileError::on("sync", to))?;
            done.linked += 1;
            done.linked_bytes += file.metadata().map_err(FileError::on("inspect", to))?.len();
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(FileError::new("link", from, error)),
        // Another file system, one without links, or a file that this user may not link: its bytes may be read all the same.
        Err(_) => {
            let source = File::open(from).map_err(FileError::on("open", from))?;
            let bytes = source.metadata().map_err(FileError::on("inspect", from))?.len();
            copy_front(&source, from, to, bytes, bytes, done)
        }
    }
}

/// Makes `to` a file of `bytes` bytes, the first `front` of which are those of `source`; the rest is a hole.
pub(crate) fn copy_front(
    source: &File,
    from: &Path,
    to: &Path,
    front: u64,
    bytes: u64,
    done: &mut Transferred,
) -> Result<(), FileError> {
    let target = File::options().write(true).create_new(true).open(to);
    let target = target.map_err(FileError::on("create", to))?;
    target.set_len(bytes).map_err(FileError::on("size", to))?;
    let mut chunk = vec![0; TRANSFER_BYTES];
    let mut at = 0;
    while at < front {
        let length = TRANSFER_BYTES.min((front - at) as usize);
        let part = &mut chunk[..length];
        source.read_exact_at(part, at).map_err(FileError::on("read", from))?;
        if part.iter().any(|byte| *byte != 0) {
            target.write_all_at(part, at).map_err(FileError::on("write", to))?;
            done.copied_bytes += length as u64;
        }
        at += length as u64;
    }
    done.copied += 1;
    target.sync_all().map_err(FileError::on("sync", to))
}
