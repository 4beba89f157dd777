//! `LOCK`: one process owns a directory. The lock is the kernel's (`flock`), so it ends with the process; the file's
//! text is the owner's process id, for messages only.

use crate::error::{FileError, OpenError};
use crate::layout;
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, getpid, test_kill_process};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

/// Held while it lives.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock of `directory`, or says who has it.
    pub(crate) fn take(directory: &Path) -> Result<Self, OpenError> {
        let path = directory.join(layout::LOCK);
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(FileError::on("open", &path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(OpenError::InUse {
                    directory: directory.to_path_buf(),
                    pid: read_pid(&mut file),
                });
            }
            Err(error) => return Err(FileError::new("lock", &path, error.into()).into()),
        }
        write_pid(&mut file).map_err(FileError::on("write", &path))?;
        Ok(Self { file })
    }

    /// Takes the lock of a directory whose owner this process does not become: nothing is written. `None` if it has none,
    /// as one that was put back may not.
    pub(crate) fn hold(directory: &Path) -> Result<Option<Self>, OpenError> {
        let path = directory.join(layout::LOCK);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(FileError::new("open", &path, error).into()),
        };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { file })),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let pid = read_pid(&mut file);
                Err(OpenError::InUse { directory: directory.to_path_buf(), pid })
            }
            Err(error) => Err(FileError::new("lock", &path, error.into()).into()),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A clean end leaves no process id behind; if this fails, the id is stale and only makes a message vaguer. One that is
        // only held is open for reading, and stays as it was.
        let _ = self.file.set_len(0);
    }
}

/// The live process that says it owns `directory`. A stale id that was given to another process is possible: this is
/// for messages, never for a decision.
pub(crate) fn holder(directory: &Path) -> Option<u32> {
    let mut file = File::open(directory.join(layout::LOCK)).ok()?;
    let pid = read_pid(&mut file)?;
    let alive = match test_kill_process(Pid::from_raw(i32::try_from(pid).ok()?)?) {
        Ok(()) | Err(rustix::io::Errno::PERM) => true,
        Err(_) => false,
    };
    alive.then_some(pid)
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.write_all(format!("{}\n", getpid().as_raw_nonzero()).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_owner_is_told_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let lock = Lock::take(dir.path()).unwrap();
        let message = Lock::take(dir.path()).unwrap_err().to_string();
        assert!(message.contains(&dir.path().display().to_string()), "{message}");
        assert!(message.contains(&format!("process {}", std::process::id())), "{message}");
        assert_eq!(holder(dir.path()), Some(std::process::id()));
        drop(lock);
        assert_eq!(holder(dir.path()), None);
        Lock::take(dir.path()).unwrap();
    }

    #[test]
    fn a_killed_owners_id_does_not_keep_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(layout::LOCK), b"999999999\n").unwrap();
        assert_eq!(holder(dir.path()), None);
        Lock::take(dir.path()).unwrap();
        std::fs::write(dir.path().join(layout::LOCK), b"not a number").unwrap();
        assert_eq!(holder(dir.path()), None);
    }
}
