//! A disk that fails once: a directory seen through a file system of its own (FUSE), where one operation of one kind is
//! refused, or done by half.
//!
//! Every operation of a program on [`FailingDisk::path`] is one request here: nothing is cached in the kernel, so a read,
//! a write or a sync of the program is what is counted and what fails. Below lies an ordinary directory,
//! [`FailingDisk::below`], which holds what the program would find after its end.
//!
//! - `fault` says what can fail and when it is this one's turn; no file is touched there.
//! - `unsynced` knows what was written and not synced: a sync that fails takes it.
//! - `tree` passes everything on; `serve` is how the kernel asks for it.
//! - `mount` puts it into the directory tree and takes it away again.

mod fault;
mod mount;
mod serve;
mod tree;
mod unsynced;

pub use fault::{Failure, Fault, Operation, Site};
pub use mount::FailingDisk;
