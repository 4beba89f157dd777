//! Making a ring: flags, tables, buffers, workers, and what each step's failure means.

use crate::buffers::{Buffers, GROUP};
use crate::config::{Config, Limits};
use crate::error::SetupError;
use io_uring::IoUring;
use rustix::io::Errno;
use rustix::thread::{CpuSet, sched_getaffinity};
use std::io;

/// The ring, its buffers registered.
pub(crate) fn make(config: &Config) -> Result<(IoUring, Buffers), SetupError> {
    config.check()?;
    let ring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_coop_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_cqsize(config.completion_entries)
        .build(config.submission_entries)
        .map_err(|error| explain(config, "set up io_uring", error))?;
    let submitter = ring.submitter();
    submitter.register_files_sparse(config.slots).map_err(|error| match errno(&error) {
        Some(Errno::MFILE) => descriptors(config),
        _ => explain(config, "register the table of descriptors", error),
    })?;
    let buffers = Buffers::new(config.buffers, config.buffer_bytes);
    // SAFETY: the ring of buffers is page-aligned, has as many entries as said, and outlives the io_uring: the reactor
    // drops that first, or leaks both (`reactor::Reactor::drop`).
    unsafe { submitter.register_buf_ring_with_flags(buffers.address(), buffers.count(), GROUP, 0) }
        .map_err(|error| explain(config, "register the receive buffers", error))?;
    keep_workers_away(&ring, config)?;
    Ok((ring, buffers))
}

fn errno(error: &io::Error) -> Option<Errno> {
    Errno::from_io_error(error)
}

fn descriptors(config: &Config) -> SetupError {
    SetupError::Descriptors {
        limit: Limits::current().descriptors.unwrap_or(u64::MAX),
        needed: u64::from(config.slots),
    }
}

/// What an error of a set-up step says to an operator.
pub(crate) fn explain(config: &Config, step: &'static str, error: io::Error) -> SetupError {
    let limits = Limits::current();
    match (errno(&error), limits.memlock_bytes) {
        (Some(Errno::NOSYS | Errno::PERM | Errno::ACCESS), _) => SetupError::Refused(error),
        (Some(Errno::INVAL), _) => SetupError::TooOld(error),
        (Some(Errno::NOMEM), Some(limit_bytes)) => SetupError::Memlock {
            limit_bytes,
            needed_bytes: config.memory_needed_in_all(),
            rings: config.rings,
        },
        _ => SetupError::Step { step, error },
    }
}

/// The kernel's workers inherit the shard's pin and would wait behind it (FINDINGS, Log): they get every other core that
/// the process may use, if there is one.
fn keep_workers_away(ring: &IoUring, config: &Config) -> Result<(), SetupError> {
    let step =
        |error: io::Error| SetupError::Step { step: "keep the kernel's workers off the shard's core", error };
    let Some(shard_cpu) = config.shard_cpu else {
        return Ok(());
    };
    // The main thread's set: this thread may be pinned already.
    let mut cpus = sched_getaffinity(Some(rustix::process::getpid())).map_err(|errno| step(errno.into()))?;
    cpus.unset(shard_cpu);
    if cpus.count() == 0 {
        return Ok(());
    }
    // SAFETY: the C library's set of cores is a plain array of bits, valid for every pattern
    // (`log_writes::workers_keep_off_the_shard_core`).
    let kernel_set = unsafe { reinterpret(&cpus) };
    ring.submitter().register_iowq_aff(kernel_set).map_err(step)
}

/// The same bits as another type of the same size.
///
/// # Safety
/// Every pattern of bits is a valid `T`.
unsafe fn reinterpret<T>(cpus: &CpuSet) -> &T {
    const { assert!(size_of::<T>() == size_of::<CpuSet>() && align_of::<T>() <= align_of::<CpuSet>()) };
    // SAFETY: the same size, no stricter alignment, borrowed for as long; the caller knows that the bits are valid.
    unsafe { &*std::ptr::from_ref(cpus).cast::<T>() }
}
