//! A volume whose power can be cut: a file system in an image file, mounted through a loop device, and the
//! ioctl `FS_IOC_SHUTDOWN`, after which the kernel writes nothing more of it. What was not synced is gone at the
//! next mount, as after a real power cut; what was synced must be there.
//!
//! Needs root and loop devices ([`crate::can_mount_or_say`]). The commands are `mkfs.ext4` or `mkfs.xfs`, `mount`
//! and `umount`.

use std::fs::File;
use std::io::{Error, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::ioctl::{Setter, ioctl, opcode};

/// `FS_IOC_SHUTDOWN` is `_IOR('X', 125, u32)`: 0x8004587D.
const SHUTDOWN: rustix::ioctl::Opcode = opcode::read::<u32>(b'X', 125);

/// `FS_SHUTDOWN_FLAGS_NOLOGFLUSH`: the journal in memory is lost, too.
const WITHOUT_JOURNAL: u32 = 2;

/// How often an unmount is tried while somebody still holds a file open.
const UNMOUNT_TRIES: usize = 50;

/// A file system to test on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSystem {
    /// At least 16 MiB.
    Ext4,
    /// At least 300 MiB.
    Xfs,
}

/// A mounted volume; dropping it unmounts it. The image stays in the folder given.
#[derive(Debug)]
pub struct Volume {
    image: PathBuf,
    mount_point: PathBuf,
    mounted: bool,
}

impl Volume {
    /// Makes an image in `folder`, puts a file system on it and mounts it beside it.
    pub fn new(folder: &Path, file_system: FileSystem, mebibytes: u64) -> Result<Volume> {
        let image = folder.join("volume.img");
        let mount_point = folder.join("volume");
        File::create_new(&image)?.set_len(mebibytes << 20)?;
        std::fs::create_dir(&mount_point)?;
        match file_system {
            FileSystem::Ext4 => run("mkfs.ext4", &["-q".as_ref(), "-F".as_ref(), image.as_path()])?,
            FileSystem::Xfs => run("mkfs.xfs", &["-q".as_ref(), "-f".as_ref(), image.as_path()])?,
        }
        let mut volume = Volume { image, mount_point, mounted: false };
        volume.mount()?;
        Ok(volume)
    }

    /// Where its files are.
    pub fn path(&self) -> &Path {
        &self.mount_point
    }

    /// Cuts the power: from here on every write and sync on it fails, and nothing that was not synced survives.
    pub fn cut_power(&self) -> Result<()> {
        let root = File::open(&self.mount_point)?;
        // SAFETY: FS_IOC_SHUTDOWN reads one u32 through the pointer, which `Setter` provides, and touches no
        // memory of this process. Were the opcode another one, the test below would not lose what was unsynced.
        unsafe { ioctl(&root, Setter::<SHUTDOWN, u32>::new(WITHOUT_JOURNAL)) }?;
        Ok(())
    }

    /// Power comes back: unmounts, and mounts again, which replays the journal. Nothing may be open on it.
    pub fn restart(&mut self) -> Result<()> {
        self.unmount()?;
        self.mount()
    }

    fn mount(&mut self) -> Result<()> {
        run("mount", &["-o".as_ref(), "loop".as_ref(), &self.image, &self.mount_point])?;
        self.mounted = true;
        Ok(())
    }

    fn unmount(&mut self) -> Result<()> {
        let mut result = Ok(());
        for _ in 0..UNMOUNT_TRIES {
            result = run("umount", &[&self.mount_point]);
            if result.is_ok() {
                self.mounted = false;
                return Ok(());
            }
            thread::sleep(Duration::from_millis(100));
        }
        result
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if self.mounted && self.unmount().is_err() {
            // Somebody still holds a file: detach it now, it goes when the last file is closed.
            let _ = run("umount", &["-l".as_ref(), self.mount_point.as_path()]);
        }
    }
}

fn run(program: &str, arguments: &[&Path]) -> Result<()> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::other(format!("{program} ended with {}: {}", output.status, said.trim())))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::FileExt;

    use super::{FileSystem, Volume};
    use crate::can_mount_or_say;

    const BLOCK: [u8; 4096] = [7; 4096];

    #[test]
    fn a_power_cut_takes_what_was_not_synced_and_nothing_else() {
        if !can_mount_or_say(1) {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let mut volume = Volume::new(folder.path(), FileSystem::Ext4, 32).unwrap();
        let path = volume.path().join("file");
        let file = File::create(&path).unwrap();
        file.write_all_at(&[0; 8192], 0).unwrap();
        file.sync_all().unwrap();
        File::open(volume.path()).unwrap().sync_all().unwrap();
        // The first block is synced, the second is not.
        file.write_all_at(&BLOCK, 0).unwrap();
        file.sync_data().unwrap();
        file.write_all_at(&BLOCK, 4096).unwrap();
        volume.cut_power().unwrap();
        assert!(file.sync_data().is_err(), "nothing can be synced after the cut");
        drop(file);
        volume.restart().unwrap();
        let found = fs::read(&path).unwrap();
        assert!(found[..4096] == BLOCK, "the synced block is gone");
        assert!(found[4096..] == [0; 4096], "the block that was not synced is there");
    }
}
