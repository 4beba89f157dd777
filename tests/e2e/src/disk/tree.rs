//! What the file system does: it passes everything on to the directory below, but for the one operation that fails.

use super::fault::{Failure, Ledger, Operation};
use super::unsynced::Unsynced;
use fuser::{Errno, FileAttr, FileHandle, FileType, INodeNo, RenameFlags};
use rustix::fs::{
    AtFlags, CWD, Dir, FallocateFlags, Mode, OFlags, Stat, StatVfs, fallocate, fstat, fstatvfs, linkat,
    mkdirat, open, openat, renameat_with, unlinkat,
};
use std::collections::HashMap;
use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// A file or directory that the kernel knows.
#[derive(Debug)]
struct Known {
    /// Only leads there (`O_PATH`), so it stays the same under whatever name.
    place: OwnedFd,
    name: String,
    lookups: u64,
}

/// An open file or directory.
#[derive(Debug)]
pub(super) struct Opened {
    /// Of a file, open for reading and writing, whatever was asked for.
    file: Arc<File>,
    /// The name that it was opened under.
    name: String,
    inode: u64,
    /// Whether the kernel asks for the sync that a synchronous write needs.
    is_synced_by_kernel: bool,
    /// Of a directory: what it held when it was opened.
    pub(super) entries: Vec<(u64, FileType, Vec<u8>)>,
}

/// What the kernel knows.
#[derive(Debug)]
pub(super) struct Tables {
    known: HashMap<u64, Known>,
    opened: HashMap<u64, Opened>,
    last_handle: u64,
    unsynced: Unsynced,
}

/// A directory, passed on.
#[derive(Debug)]
pub(super) struct Tree {
    tables: Mutex<Tables>,
    ledger: Arc<Mutex<Ledger>>,
}

/// Or what the program is told.
pub(super) type Answer<T> = Result<T, Errno>;

fn refused(error: impl Into<std::io::Error>) -> Errno {
    Errno::from(error.into())
}

impl Tree {
    pub(super) fn new(below: &Path, ledger: Arc<Mutex<Ledger>>) -> std::io::Result<Self> {
        let place = open(below, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let name = below.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let known = HashMap::from([(INodeNo::ROOT.0, Known { place, name, lookups: 1 })]);
        let (opened, unsynced) = (HashMap::new(), Unsynced::default());
        let tables = Mutex::new(Tables { known, opened, last_handle: 0, unsynced });
        Ok(Self { tables, ledger })
    }

    pub(super) fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn space(&self) -> Answer<StatVfs> {
        fstatvfs(self.tables().place(INodeNo::ROOT)?).map_err(refused)
    }

    pub(super) fn sync_directory(&self, inode: INodeNo) -> Answer<()> {
        let name = self.tables().known(inode)?.name.clone();
        self.whole(Operation::SyncDirectory, &name)
    }

    fn meet(&self, operation: Operation, name: &str) -> Option<Failure> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner).meet(operation, name)
    }

    /// An operation that is done or not, nothing between.
    fn whole(&self, operation: Operation, name: &str) -> Answer<()> {
        match self.meet(operation, name) {
            None => Ok(()),
            Some(Failure::Full) => Err(Errno::ENOSPC),
            Some(_) => Err(Errno::EIO),
        }
    }

    pub(super) fn make_file(
        &self,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
    ) -> Answer<(FileAttr, FileHandle)> {
        self.whole(Operation::Create, &name.to_string_lossy())?;
        let mut tables = self.tables();
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
        let file = openat(tables.place(parent)?, name, flags, Mode::from_raw_mode(mode)).map_err(refused)?;
        let attributes = tables.look_up(parent, name)?;
        tables.unsynced.settle(attributes.ino.0);
        Ok((attributes, tables.hold(file.into(), attributes.ino, Vec::new())?))
    }

    pub(super) fn read_file(&self, handle: FileHandle, offset: u64, count: u32) -> Answer<Vec<u8>> {
        let (file, name) = self.tables().file(handle)?;
        let count = match self.meet(Operation::Read, &name) {
            None => count as usize,
            Some(Failure::Short) => (count as usize).div_ceil(2),
            Some(_) => return Err(Errno::EIO),
        };
        let mut bytes = vec![0; count];
        let mut filled = 0;
        while filled < count {
            match file.read_at(&mut bytes[filled..], offset + filled as u64).map_err(refused)? {
                0 => break,
                more => filled += more,
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    pub(super) fn write_file(
        &self,
        handle: FileHandle,
        offset: u64,
        bytes: &[u8],
        flags: OFlags,
    ) -> Answer<u32> {
        let (file, name) = self.tables().file(handle)?;
        let failure = self.meet(Operation::Write, &name);
        // A direct write stops at a sector.
        let half = if bytes.len() > 1024 { bytes.len() / 1024 * 512 } else { bytes.len() / 2 };
        let bytes = match failure {
            None => bytes,
            Some(Failure::Broken | Failure::Short) => &bytes[..half],
            Some(Failure::Full) => return Err(Errno::ENOSPC),
        };
        self.tables().unsynced.note(&file, offset, bytes.len() as u64).map_err(refused)?;
        file.write_all_at(bytes, offset).map_err(refused)?;
        if failure == Some(Failure::Broken) {
            return Err(Errno::EIO);
        }
        let is_synced_by_kernel = self.tables().opened(handle)?.is_synced_by_kernel;
        if flags.intersects(OFlags::DSYNC | OFlags::SYNC) && !is_synced_by_kernel {
            self.sync_file(handle)?;
        }
        Ok(bytes.len() as u32)
    }

    /// What is below needs no sync: nobody cuts the power here.
    pub(super) fn sync_file(&self, handle: FileHandle) -> Answer<()> {
        let (file, name) = self.tables().file(handle)?;
        match self.whole(Operation::Sync, &name) {
            Ok(()) => {
                let mut tables = self.tables();
                let inode = tables.opened(handle)?.inode;
                tables.unsynced.settle(inode);
                Ok(())
            }
            Err(error) => {
                self.tables().unsynced.lose(&file).map_err(refused)?;
                Err(error)
            }
        }
    }

    fn set_length(&self, inode: INodeNo, length: u64) -> Answer<()> {
        let mut tables = self.tables();
        let known = tables.known(inode)?;
        self.whole(Operation::Truncate, &known.name)?;
        let file = File::options().read(true).write(true).open(path_of(&known.place)).map_err(refused)?;
        let before = file.metadata().map_err(refused)?.len();
        let from = length.min(before);
        tables.unsynced.note(&file, from, before - from).map_err(refused)?;
        file.set_len(length).map_err(refused)
    }

    pub(super) fn allocate(&self, handle: FileHandle, offset: u64, length: u64, mode: i32) -> Answer<()> {
        let (file, name) = self.tables().file(handle)?;
        self.whole(Operation::Allocate, &name)?;
        let mode = FallocateFlags::from_bits_retain(mode.cast_unsigned());
        self.tables().unsynced.note(&file, offset, length).map_err(refused)?;
        fallocate(&file, mode, offset, length).map_err(refused)
    }

    pub(super) fn rename_file(
        &self,
        from: (INodeNo, &OsStr),
        to: (INodeNo, &OsStr),
        flags: RenameFlags,
    ) -> Answer<()> {
        self.whole(Operation::Rename, &to.1.to_string_lossy())?;
        let mut tables = self.tables();
        let flags = rustix::fs::RenameFlags::from_bits_retain(flags.bits());
        let (old, new) = (tables.place(from.0)?, tables.place(to.0)?);
        renameat_with(old, from.1, new, to.1, flags).map_err(refused)?;
        let attributes = tables.look_up(to.0, to.1)?;
        // Nobody was told of this look.
        tables.forget(attributes.ino, 1);
        Ok(())
    }

    pub(super) fn link_file(&self, inode: INodeNo, parent: INodeNo, name: &OsStr) -> Answer<FileAttr> {
        self.whole(Operation::Link, &name.to_string_lossy())?;
        let mut tables = self.tables();
        let from = path_of(tables.place(inode)?);
        linkat(CWD, from, tables.place(parent)?, name, AtFlags::SYMLINK_FOLLOW).map_err(refused)?;
        tables.look_up(parent, name)
    }

    pub(super) fn remove(&self, parent: INodeNo, name: &OsStr, flags: AtFlags) -> Answer<()> {
        self.whole(Operation::Unlink, &name.to_string_lossy())?;
        unlinkat(self.tables().place(parent)?, name, flags).map_err(refused)
    }

    pub(super) fn make_directory(&self, parent: INodeNo, name: &OsStr, mode: u32) -> Answer<FileAttr> {
        self.whole(Operation::MakeDirectory, &name.to_string_lossy())?;
        let mut tables = self.tables();
        mkdirat(tables.place(parent)?, name, Mode::from_raw_mode(mode)).map_err(refused)?;
        tables.look_up(parent, name)
    }

    pub(super) fn set_attributes(
        &self,
        inode: INodeNo,
        mode: Option<u32>,
        length: Option<u64>,
    ) -> Answer<FileAttr> {
        if let Some(length) = length {
            self.set_length(inode, length)?;
        }
        let tables = self.tables();
        let place = tables.place(inode)?;
        if let Some(mode) = mode {
            rustix::fs::chmod(path_of(place), Mode::from_raw_mode(mode)).map_err(refused)?;
        }
        attributes(inode, place)
    }
}

impl Tables {
    fn known(&self, inode: INodeNo) -> Answer<&Known> {
        self.known.get(&inode.0).ok_or(Errno::ESTALE)
    }

    fn place(&self, inode: INodeNo) -> Answer<&OwnedFd> {
        Ok(&self.known(inode)?.place)
    }

    pub(super) fn opened(&self, handle: FileHandle) -> Answer<&Opened> {
        self.opened.get(&handle.0).ok_or(Errno::EBADF)
    }

    fn file(&self, handle: FileHandle) -> Answer<(Arc<File>, String)> {
        let opened = self.opened(handle)?;
        Ok((Arc::clone(&opened.file), opened.name.clone()))
    }

    /// A name that the kernel learns of.
    pub(super) fn look_up(&mut self, parent: INodeNo, name: &OsStr) -> Answer<FileAttr> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let place = openat(self.place(parent)?, name, flags, Mode::empty()).map_err(refused)?;
        let inode = INodeNo(fstat(&place).map_err(refused)?.st_ino);
        let attributes = attributes(inode, &place)?;
        let known = self.known.entry(inode.0).or_insert(Known { place, name: String::new(), lookups: 0 });
        known.name = name.to_string_lossy().into_owned();
        known.lookups += 1;
        Ok(attributes)
    }

    pub(super) fn forget(&mut self, inode: INodeNo, lookups: u64) {
        if let Some(known) = self.known.get_mut(&inode.0) {
            known.lookups = known.lookups.saturating_sub(lookups);
            if known.lookups == 0 {
                self.known.remove(&inode.0);
            }
        }
    }

    fn hold(
        &mut self,
        file: File,
        inode: INodeNo,
        entries: Vec<(u64, FileType, Vec<u8>)>,
    ) -> Answer<FileHandle> {
        let name = self.known(inode)?.name.clone();
        self.last_handle += 1;
        let (file, inode) = (Arc::new(file), inode.0);
        let opened = Opened { file, name, inode, is_synced_by_kernel: false, entries };
        self.opened.insert(self.last_handle, opened);
        Ok(FileHandle(self.last_handle))
    }

    pub(super) fn attributes(&self, inode: INodeNo) -> Answer<FileAttr> {
        attributes(inode, self.place(inode)?)
    }

    pub(super) fn close(&mut self, handle: FileHandle) {
        self.opened.remove(&handle.0);
    }

    pub(super) fn open_file(&mut self, inode: INodeNo, is_synced_by_kernel: bool) -> Answer<FileHandle> {
        let path = path_of(self.place(inode)?);
        let file = File::options().read(true).write(true).open(path).map_err(refused)?;
        let handle = self.hold(file, inode, Vec::new())?;
        if let Some(opened) = self.opened.get_mut(&handle.0) {
            opened.is_synced_by_kernel = is_synced_by_kernel;
        }
        Ok(handle)
    }

    pub(super) fn open_directory(&mut self, inode: INodeNo) -> Answer<FileHandle> {
        let file = File::open(path_of(self.place(inode)?)).map_err(refused)?;
        let mut entries = Vec::new();
        for entry in Dir::read_from(&file).map_err(refused)? {
            let entry = entry.map_err(refused)?;
            let kind = kind_of(entry.file_type());
            entries.push((entry.ino(), kind, CStr::to_bytes(entry.file_name()).to_vec()));
        }
        entries.sort_by(|one, other| one.2.cmp(&other.2));
        self.hold(file, inode, entries)
    }
}

/// A path to what a descriptor leads to.
fn path_of(place: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", place.as_raw_fd()))
}

fn kind_of(kind: rustix::fs::FileType) -> FileType {
    match kind {
        rustix::fs::FileType::Directory => FileType::Directory,
        rustix::fs::FileType::Symlink => FileType::Symlink,
        _ => FileType::RegularFile,
    }
}

fn attributes(inode: INodeNo, place: &OwnedFd) -> Answer<FileAttr> {
    let stat: Stat = fstat(place).map_err(refused)?;
    let time = |seconds: i64, nanos: u64| {
        SystemTime::UNIX_EPOCH + Duration::new(seconds.try_into().unwrap_or(0), nanos as u32)
    };
    let changed = time(stat.st_ctime, stat.st_ctime_nsec);
    Ok(FileAttr {
        ino: inode,
        size: stat.st_size.cast_unsigned(),
        blocks: stat.st_blocks.cast_unsigned(),
        atime: time(stat.st_atime, stat.st_atime_nsec),
        mtime: time(stat.st_mtime, stat.st_mtime_nsec),
        ctime: changed,
        crtime: changed,
        kind: kind_of(rustix::fs::FileType::from_raw_mode(stat.st_mode)),
        perm: (stat.st_mode & 0o7777) as u16,
        nlink: stat.st_nlink as u32,
        uid: stat.st_uid,
        gid: stat.st_gid,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    })
}
