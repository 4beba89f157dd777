//! Why a ring cannot be made, in words an operator can act on.

use std::fmt;
use std::io;

/// A ring that cannot be made.
#[derive(Debug)]
pub enum SetupError {
    /// The kernel or a filter refuses io_uring. Recovered by the operator: allow it.
    Refused(io::Error),
    /// The kernel lacks what this room is built on. Recovered by a newer kernel.
    TooOld(io::Error),
    /// Ring memory is charged per user against RLIMIT_MEMLOCK, and does not fit. Recovered by raising it.
    Memlock {
        /// The limit now, in bytes.
        limit_bytes: u64,
        /// What all rings of the process need, in bytes.
        needed_bytes: u64,
        /// How many rings those are.
        rings: u32,
    },
    /// The descriptor table does not fit RLIMIT_NOFILE. Recovered by raising it, or by fewer slots.
    Descriptors {
        /// The limit now.
        limit: u64,
        /// What one ring needs.
        needed: u64,
    },
    /// A configuration outside this room's limits. The operator's to change.
    Config(&'static str),
    /// Anything else, with the step that failed.
    Step {
        /// What was being done.
        step: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
}

/// Shows the limit that would do, in the units of `ulimit -l`.
const KIB: u64 = 1024;

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => write!(
                f,
                "io_uring is refused ({error}): set the sysctl kernel.io_uring_disabled to 0, and in a container \
                 allow io_uring_setup, io_uring_enter and io_uring_register in its seccomp profile"
            ),
            Self::TooOld(error) => {
                write!(f, "this kernel's io_uring is too old ({error}): Linux 6.1 or newer is needed")
            }
            Self::Memlock { limit_bytes, needed_bytes, rings } => {
                let kib = needed_bytes.div_ceil(KIB);
                write!(
                    f,
                    "locked memory is limited to {limit_bytes} bytes per user (RLIMIT_MEMLOCK), but {rings} ring(s) \
                     need {needed_bytes}: raise it with `ulimit -l {kib}` or LimitMEMLOCK={kib}K in the service's unit; \
                     rings of a process that has just ended are charged a moment longer"
                )
            }
            Self::Descriptors { limit, needed } => write!(
                f,
                "open files are limited to {limit} (RLIMIT_NOFILE), but a ring's table needs {needed}: raise it with \
                 `ulimit -n {needed}` or LimitNOFILE={needed}, or configure fewer connections per shard"
            ),
            Self::Config(what) => f.write_str(what),
            Self::Step { step, error } => write!(f, "cannot {step}: {error}"),
        }
    }
}

impl std::error::Error for SetupError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Refused(error) | Self::TooOld(error) | Self::Step { error, .. } => Some(error),
            _ => None,
        }
    }
}
