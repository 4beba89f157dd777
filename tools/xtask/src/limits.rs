//! Every bound on what a task waits for.

use std::time::Duration;

/// A package from PyPI is a few megabytes; slower than this, the network is down.
pub const INSTALL_SECONDS_MAX: Duration = Duration::from_secs(300);
