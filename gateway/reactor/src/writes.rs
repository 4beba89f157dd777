//! Log writes: bytes that are durable when they are reported, whichever way.

use crate::completion::Completion;
use crate::limits::{BLOCK_BYTES, TRANSFER_BYTES_MAX, WRITES_IN_FLIGHT_MAX};
use crate::ops::Ops;
use crate::token::{Operation, Token};
use io_uring::opcode;
use io_uring::types::{Fd, FsyncFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

/// How a write is made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMode {
    /// A write, and linked to it an `fdatasync`.
    LinkedFdatasync,
    /// A write to a file opened with O_DIRECT and O_DSYNC: durable by itself. Bytes, offset and length are aligned to the
    /// device's logical block.
    DirectDsync,
}

/// A file that log writes go to. Clones are the same file, which stays open until the last write is done.
#[derive(Clone, Debug)]
pub struct LogFile(Arc<OwnedFd>);

impl From<OwnedFd> for LogFile {
    fn from(descriptor: OwnedFd) -> Self {
        Self(Arc::new(descriptor))
    }
}

impl From<File> for LogFile {
    fn from(file: File) -> Self {
        Self::from(OwnedFd::from(file))
    }
}

/// One write in flight. It stays where it is from its start to its end, and so do the bytes, even those that `B` holds
/// in itself.
struct LogWrite<B> {
    token: u64,
    bytes: B,
    file: LogFile,
    offset: u64,
    mode: SyncMode,
    /// Bytes that the kernel has taken.
    taken: usize,
    /// Completions still to come of the present attempt.
    pending: u8,
    write_result: i32,
    sync_result: i32,
}

/// All writes in flight, in places that never move.
pub(crate) struct Writes<B> {
    places: Box<[Option<LogWrite<B>>]>,
    in_flight: usize,
}

impl<B> Writes<B> {
    pub(crate) fn new() -> Self {
        Self { places: (0..WRITES_IN_FLIGHT_MAX).map(|_| None).collect(), in_flight: 0 }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.in_flight == 0
    }
}

/// What follows from an attempt.
enum Next {
    Again,
    Done(io::Result<()>),
}

impl<B: Deref<Target = [u8]>> Ops<B> {
    /// Writes bytes at an offset and makes them durable; then [`Completion::WriteDone`] carries the token. What the kernel
    /// writes only in part is completed before its sync counts. Writes in flight together are not ordered. More than
    /// [`WRITES_IN_FLIGHT_MAX`](crate::WRITES_IN_FLIGHT_MAX) of them, or no bytes, are a bug of the caller.
    pub fn write_sync(&mut self, token: u64, file: &LogFile, offset: u64, bytes: B, mode: SyncMode) {
        let file = file.clone();
        let write = LogWrite {
            token,
            bytes,
            file,
            offset,
            mode,
            taken: 0,
            pending: 0,
            write_result: 0,
            sync_result: 0,
        };
        let Some(place) = self.writes.places.iter().position(Option::is_none) else {
            panic!("more than {WRITES_IN_FLIGHT_MAX} log writes in flight");
        };
        self.writes.places[place] = Some(write);
        self.writes.in_flight += 1;
        self.push_write(place);
    }

    fn push_write(&mut self, place: usize) {
        let Some(write) = self.writes.places[place].as_mut() else {
            unreachable!("a write is pushed while it is in its place");
        };
        let rest = &write.bytes[write.taken..];
        assert!(!rest.is_empty(), "a write without bytes");
        let descriptor = Fd(write.file.0.as_raw_fd());
        let len = rest.len().min(TRANSFER_BYTES_MAX) as u32;
        let offset = write.offset + write.taken as u64;
        let entry = opcode::Write::new(descriptor, rest.as_ptr(), len).offset(offset).build();
        let token = |operation| Token::new(operation, 0, place as u32);
        match write.mode {
            SyncMode::DirectDsync => {
                write.pending = 1;
                self.queue.push(entry, token(Operation::Write));
            }
            SyncMode::LinkedFdatasync => {
                write.pending = 2;
                let sync = opcode::Fsync::new(descriptor).flags(FsyncFlags::DATASYNC).build();
                self.queue.push_linked((entry, token(Operation::Write)), (sync, token(Operation::Sync)));
            }
        }
    }

    /// A write or its sync has completed.
    pub(crate) fn written(&mut self, token: Token, result: i32, sync: bool) -> Option<Completion<'static>> {
        let place = token.index() as usize;
        let Some(write) = self.writes.places[place].as_mut() else {
            unreachable!("a write leaves its place with its last completion");
        };
        assert!(write.pending > 0, "a write completes once, and so does its sync");
        write.pending -= 1;
        *(if sync { &mut write.sync_result } else { &mut write.write_result }) = result;
        if write.pending > 0 {
            return None;
        }
        match write.settle() {
            Next::Again => {
                self.queue.counters.short_writes += 1;
                self.push_write(place);
                None
            }
            Next::Done(result) => {
                let write = self.writes.places[place].take()?;
                self.writes.in_flight -= 1;
                self.queue.counters.writes += 1;
                self.queue.counters.write_bytes += write.taken as u64;
                Some(Completion::WriteDone { token: write.token, result })
            }
        }
    }
}

impl<B: Deref<Target = [u8]>> LogWrite<B> {
    /// Judges an attempt whose completions are all there.
    fn settle(&mut self) -> Next {
        let len = self.bytes.len();
        let written = match usize::try_from(self.write_result) {
            Ok(written) => written,
            Err(_) => {
                let errno = Errno::from_raw_os_error(-self.write_result);
                let again = matches!(errno, Errno::INTR | Errno::AGAIN);
                return if again { Next::Again } else { Next::Done(Err(errno.into())) };
            }
        };
        let direct = self.mode == SyncMode::DirectDsync;
        let short = self.taken + written < len;
        // The rest of a direct write starts on a block again: a block begun is written anew as a whole.
        let counted = if short && direct { written - written % BLOCK_BYTES } else { written };
        if counted == 0 {
            return Next::Done(Err(io::ErrorKind::WriteZero.into()));
        }
        self.taken += counted;
        if self.taken < len {
            return Next::Again;
        }
        if self.mode == SyncMode::LinkedFdatasync && self.sync_result < 0 {
            return Next::Done(Err(io::Error::from_raw_os_error(-self.sync_result)));
        }
        Next::Done(Ok(()))
    }
}

#[cfg(test)]
#[path = "writes_tests.rs"]
mod tests;
