//! Making a segment ready: zeroes written (a reserved but unwritten file costs half as much again per sync, FINDINGS),
//! synced, renamed, the directory synced.

use crate::error::FileError;
use crate::layout;
use crate::limits::ZERO_CHUNK_BYTES;
use crate::segment::WriteMode;
use crate::space::free_bytes;
use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use tidegate_ids::LogId;

/// Why a segment could not be made ready. The factory goes on trying.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The disk is full, or would be. Recovered by making room: the factory notices within a second.
    #[error("no space for a segment in {}: {needed_bytes} bytes needed, {free_bytes} free", directory.display())]
    NoSpace {
        /// The log's directory.
        directory: std::path::PathBuf,
        /// A segment and the reserve.
        needed_bytes: u64,
        /// What the file system has for this user.
        free_bytes: u64,
    },
    /// The system refused. Recovered by what its message says.
    #[error(transparent)]
    File(#[from] FileError),
    /// All segment numbers are used. Recovered by a new data directory.
    #[error("all segment numbers are used")]
    Numbers,
    /// The factory is being stopped.
    #[error("the factory stops")]
    Stopped,
}

/// What to make.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub segment_bytes: u32,
    pub reserve_bytes: u64,
    pub mode: WriteMode,
}

/// Makes a zeroed segment under its final name, durably. A file left by an attempt that failed is overwritten.
pub(crate) fn zeroed(
    root: &Path,
    log: LogId,
    number: u32,
    shape: &Shape,
    stop: &AtomicBool,
) -> Result<(), PrepareError> {
    let directory = layout::log_dir(root, log);
    let temporary = layout::temporary(root, log, number);
    let target = layout::segment(root, log, number);
    let made = write_zeroes(&directory, &temporary, shape, stop);
    if let Err(error) = made {
        // What was written so far takes room that may be what is missing; if this fails too, the next start removes it.
        let _ = std::fs::remove_file(&temporary);
        return Err(error);
    }
    std::fs::rename(&temporary, &target).map_err(FileError::on("rename to", &target))?;
    layout::sync_dir(&directory).map_err(|error| {
        let _ = std::fs::remove_file(&target);
        error.into()
    })
}

fn write_zeroes(
    directory: &Path,
    temporary: &Path,
    shape: &Shape,
    stop: &AtomicBool,
) -> Result<(), PrepareError> {
    let needed_bytes = u64::from(shape.segment_bytes).saturating_add(shape.reserve_bytes);
    let no_space =
        |free_bytes| PrepareError::NoSpace { directory: directory.to_path_buf(), needed_bytes, free_bytes };
    let free_bytes = free_bytes(directory)?;
    if free_bytes < needed_bytes {
        return Err(no_space(free_bytes));
    }
    let refused = |error: io::Error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => no_space(free_bytes),
        _ => FileError::new("write zeroes to", temporary, error).into(),
    };
    let mut file = File::create(temporary).map_err(refused)?;
    // Contiguous if it can be had; a file system that cannot reserve writes without.
    match fallocate(&file, FallocateFlags::empty(), 0, u64::from(shape.segment_bytes)) {
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS | rustix::io::Errno::INTR) => {}
        Err(error) => return Err(refused(error.into())),
    }
    let zeroes = vec![0; ZERO_CHUNK_BYTES];
    let mut left = shape.segment_bytes as usize;
    while left > 0 {
        stop_if(stop)?;
        let count = left.min(zeroes.len());
        file.write_all(&zeroes[..count]).map_err(refused)?;
        left -= count;
    }
    file.sync_all().map_err(refused)?;
    if shape.mode == WriteMode::Direct {
        // Direct writes go around these pages; keeping them would only take memory. A refusal costs nothing else.
        let _ = fadvise(&file, 0, None, Advice::DontNeed);
    }
    Ok(())
}

/// Whether a prepared segment is zero throughout: a first write that was torn may have left bytes behind its header.
pub(crate) fn is_zero(path: &Path, stop: &AtomicBool) -> Result<bool, PrepareError> {
    let mut file = File::open(path).map_err(FileError::on("open", path))?;
    let mut chunk = vec![0; ZERO_CHUNK_BYTES];
    let zeroes = vec![0; ZERO_CHUNK_BYTES];
    loop {
        stop_if(stop)?;
        let count = file.read(&mut chunk).map_err(FileError::on("read", path))?;
        if count == 0 {
            return Ok(true);
        }
        if chunk[..count] != zeroes[..count] {
            return Ok(false);
        }
    }
}

fn stop_if(stop: &AtomicBool) -> Result<(), PrepareError> {
    if stop.load(Ordering::Acquire) { Err(PrepareError::Stopped) } else { Ok(()) }
}
