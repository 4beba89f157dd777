//! Replacing a small file as a whole: write a temporary one, sync it, rename it over the old name, sync the directory.
//! Whatever the moment of a crash, the name leads to the old bytes or to the new ones.

use crate::error::FileError;
use crate::layout;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// One replacement, a step a method, in this order.
pub(crate) struct Replacement<'a> {
    directory: &'a Path,
    target: PathBuf,
    temporary: PathBuf,
}

impl<'a> Replacement<'a> {
    pub(crate) fn new(directory: &'a Path, name: &str) -> Self {
        Self { directory, target: directory.join(name), temporary: directory.join(format!("{name}.tmp")) }
    }

    /// The new bytes, durable under the temporary name. A temporary file left by a crash is overwritten.
    pub(crate) fn write_temporary(&self, bytes: &[u8], mode: u32) -> Result<(), FileError> {
        // Removed, not truncated: its mode may be another's.
        match std::fs::remove_file(&self.temporary) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(FileError::new("remove", &self.temporary, error)),
        }
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&self.temporary)
            .map_err(FileError::on("create", &self.temporary))?;
        file.write_all(bytes).map_err(FileError::on("write", &self.temporary))?;
        file.sync_all().map_err(FileError::on("sync", &self.temporary))
    }

    /// The new bytes under the name.
    pub(crate) fn rename(&self) -> Result<(), FileError> {
        std::fs::rename(&self.temporary, &self.target).map_err(FileError::on("replace", &self.target))
    }

    /// The name durable.
    pub(crate) fn sync_directory(&self) -> Result<(), FileError> {
        layout::sync_dir(self.directory)
    }
}

/// All steps. After an error the old bytes or the new ones stand under the name; a caller must treat both as possible.
pub(crate) fn replace(directory: &Path, name: &str, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let replacement = Replacement::new(directory, name);
    let prepared = replacement.write_temporary(bytes, mode).and_then(|()| replacement.rename());
    if let Err(error) = prepared {
        // It takes room that may be what is missing; if this fails too, the next replacement removes it.
        let _ = std::fs::remove_file(&replacement.temporary);
        return Err(error);
    }
    replacement.sync_directory()
}
