//! Mounting, and unmounting whatever happens.

use super::fault::{Fault, Ledger, Site};
use super::tree::Tree;
use crate::limits::{LOOK_INTERVAL, WAIT};
use fuser::{Config, MountOption, Session, SessionACL};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

/// Where the kernel's half of FUSE is asked for.
const DEVICE: &str = "/dev/fuse";

/// A mounted disk. Dropping it unmounts it, also under a program that still uses it: that is told `ENOTCONN` from then on,
/// and waits for nobody.
#[derive(Debug)]
pub struct FailingDisk {
    below: PathBuf,
    point: PathBuf,
    ledger: Arc<Mutex<Ledger>>,
    /// Ends when the kernel lets go. It holds the only descriptor of the device: should it die, every request that waits is
    /// refused by the kernel.
    server: Option<JoinHandle<io::Result<()>>>,
}

impl FailingDisk {
    /// Whether such a disk can be had here: root, and the kernel's FUSE. If not, says so.
    #[must_use]
    pub fn can_be_or_say(tests: usize) -> bool {
        if !tidegate_tests_support::is_root_or_say(tests) {
            return false;
        }
        let is_there = File::options().read(true).write(true).open(DEVICE).is_ok();
        if !is_there {
            println!("no {DEVICE}: {tests} tests not run");
        }
        is_there
    }

    /// Mounts the folder `below` of `folder`, which may be there already, beside it.
    ///
    /// # Errors
    /// What the system says.
    pub fn mount(folder: &Path, fault: Option<Fault>) -> io::Result<Self> {
        let (below, point) = (folder.join("below"), folder.join("disk"));
        std::fs::create_dir_all(&below)?;
        std::fs::create_dir_all(&point)?;
        let ledger = Arc::new(Mutex::new(Ledger { fault, ..Ledger::default() }));
        let tree = Tree::new(&below, Arc::clone(&ledger))?;
        let mut config = Config::default();
        config.mount_options =
            vec![MountOption::FSName(String::from("failing")), MountOption::DefaultPermissions];
        config.acl = SessionACL::All;
        let session = Session::new(tree, &point, &config)?;
        let mut disk = Self { below, point, ledger, server: None };
        let server = std::thread::Builder::new().name(String::from("failing-disk"));
        disk.server = Some(server.spawn(move || session.run())?);
        Ok(disk)
    }

    /// What a program sees.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.point
    }

    /// The sound directory.
    #[must_use]
    pub fn below(&self) -> &Path {
        &self.below
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file that the fault struck, once it did.
    #[must_use]
    pub fn struck(&self) -> Option<String> {
        self.ledger().struck.clone()
    }

    /// How often each thing was asked.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<Site, u64> {
        self.ledger().counts.clone()
    }

    /// Unmounts it when nobody uses it any more: the rings of a gateway hold its files for a moment after its end.
    ///
    /// # Errors
    /// Somebody goes on using it, or the server has failed.
    pub fn unmount(mut self) -> io::Result<()> {
        let end = Instant::now() + WAIT;
        loop {
            match unmount(&self.point, &[]) {
                Ok(()) => break,
                Err(error) if Instant::now() >= end => return Err(error),
                Err(_) => std::thread::sleep(LOOK_INTERVAL),
            }
        }
        self.join()
    }

    fn join(&mut self) -> io::Result<()> {
        let Some(server) = self.server.take() else { return Ok(()) };
        server.join().unwrap_or_else(|_| Err(io::Error::other("the server of a disk panicked")))
    }
}

impl Drop for FailingDisk {
    fn drop(&mut self) {
        // Forced, it ends the connection with the server, so that nobody waits for an answer.
        if self.server.is_some() && unmount(&self.point, &["--force", "--lazy"]).is_ok() {
            let _ = self.join();
        }
    }
}

fn unmount(point: &Path, options: &[&str]) -> io::Result<()> {
    let output = Command::new("umount").args(options).arg(point).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::super::{Failure, Operation};
    use super::*;
    use std::io::{ErrorKind, Read, Write};

    /// A disk whose first operation on a file `1` fails.
    fn failing(operation: Operation, failure: Failure, check: impl FnOnce(&Path)) {
        let dir = tempfile::tempdir().unwrap();
        let fault = Fault { site: Site::new(operation, "1"), nth: 1, failure };
        let disk = FailingDisk::mount(dir.path(), Some(fault)).unwrap();
        check(&disk.path().join("1"));
        assert_eq!(disk.struck().as_deref(), Some("1"));
        disk.unmount().unwrap();
    }

    #[test]
    fn one_operation_fails_and_what_it_was_for_is_not_there() {
        if !FailingDisk::can_be_or_say(1) {
            return;
        }
        failing(Operation::Write, Failure::Broken, |path| {
            let mut file = File::create(path).unwrap();
            assert_eq!(file.write(b"0123").unwrap_err().raw_os_error(), Some(5));
            assert_eq!(std::fs::read(path).unwrap(), b"01");
            assert_eq!(file.write(b"4567").unwrap(), 4);
        });
        failing(Operation::Write, Failure::Full, |path| {
            let mut file = File::create(path).unwrap();
            assert_eq!(file.write(b"0123").unwrap_err().kind(), ErrorKind::StorageFull);
            assert_eq!(file.write(b"4567").unwrap(), 4);
            assert_eq!(std::fs::read(path).unwrap(), b"4567");
        });
        failing(Operation::Sync, Failure::Broken, |path| {
            let mut file = File::create(path).unwrap();
            file.write_all(b"0123").unwrap();
            assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(5));
            assert_eq!(std::fs::read(path).unwrap(), b"");
            file.sync_data().unwrap();
        });
        failing(Operation::Read, Failure::Short, |path| {
            std::fs::write(path, b"0123").unwrap();
            let mut bytes = [0; 4];
            let mut file = File::open(path).unwrap();
            assert_eq!(file.read(&mut bytes).unwrap(), 2);
            assert_eq!(file.read(&mut bytes).unwrap(), 2);
        });
        failing(Operation::Rename, Failure::Broken, |path| {
            let other = path.with_file_name("other");
            std::fs::write(&other, b"0123").unwrap();
            assert_eq!(std::fs::rename(&other, path).unwrap_err().raw_os_error(), Some(5));
            std::fs::rename(&other, path).unwrap();
        });
    }

    /// A reader of a disk that goes away would wait for an answer for good.
    #[test]
    fn a_disk_that_is_dropped_lets_go_of_who_uses_it() {
        if !FailingDisk::can_be_or_say(1) {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let disk = FailingDisk::mount(dir.path(), None).unwrap();
        let mut file = File::create(disk.path().join("file")).unwrap();
        file.write_all(b"0123").unwrap();
        drop(disk);
        assert_eq!(file.write(b"4567").unwrap_err().kind(), ErrorKind::NotConnected);
        assert_eq!(std::fs::read(dir.path().join("below/file")).unwrap(), b"0123");
    }
}
