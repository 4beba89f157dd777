//! What a merge sets aside, as files in `snapshot/runs`. They are not synced: a crash ends the merge.

use crate::snapshot_build::{Room, os_error};
use rustix::io::{Errno, pread};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use tidegate_storage_log::{OsError, RunStore};

/// Files that are open are as many as there are runs: at most 32 a level, of which there are two in 128 GiB of records.
#[derive(Debug)]
pub(crate) struct RunFiles<'a> {
    directory: PathBuf,
    open: BTreeMap<u32, File>,
    room: &'a Room<'a>,
}

impl<'a> RunFiles<'a> {
    pub(crate) const fn new(directory: PathBuf, room: &'a Room<'a>) -> Self {
        Self { directory, open: BTreeMap::new(), room }
    }

    fn path(&self, run: u32) -> PathBuf {
        self.directory.join(format!("{run}.run"))
    }

    fn file(&self, run: u32) -> Result<&File, OsError> {
        self.room.check()?;
        self.open.get(&run).ok_or(OsError(Errno::NOENT.raw_os_error()))
    }
}

impl RunStore for RunFiles<'_> {
    fn create(&mut self, run: u32) -> Result<(), OsError> {
        let options = File::options().read(true).write(true).create_new(true).mode(0o600).clone();
        let file = options.open(self.path(run)).map_err(|error| os_error(&error))?;
        self.open.insert(run, file);
        Ok(())
    }

    fn append(&mut self, run: u32, bytes: &[u8]) -> Result<(), OsError> {
        self.room.take(bytes.len())?;
        let mut file = self.file(run)?;
        file.write_all(bytes).map_err(|error| os_error(&error))
    }

    fn read(&mut self, run: u32, offset: u64, into: &mut [u8]) -> Result<usize, OsError> {
        let file = self.file(run)?;
        let mut filled = 0;
        while filled < into.len() {
            match pread(file, &mut into[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(Errno::INTR) => {}
                Err(error) => return Err(OsError(error.raw_os_error())),
            }
        }
        Ok(filled)
    }

    fn remove(&mut self, run: u32) {
        self.open.remove(&run);
        // What stays is cleared when the building ends, or at the next start.
        let _ = std::fs::remove_file(self.path(run));
    }
}
