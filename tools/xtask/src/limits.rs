//! Every bound on what a task waits for. The machine is slow and shared: these tell a hang from work.

use std::time::Duration;

/// A package from PyPI is a few megabytes; slower than this, the network is down.
pub const INSTALL_MAX: Duration = Duration::from_secs(300);

/// From start to the `ready` line: recovery reads the whole log, a few gigabytes after a full replay.
pub const GATEWAY_START_MAX: Duration = Duration::from_secs(180);

/// From SIGTERM to the end: `GoAway`, the last commit, seals.
pub const GATEWAY_STOP_MAX: Duration = Duration::from_secs(60);

/// Replay of the six fixed files: some 8,000 messages to some 800 devices.
pub const REPLAY_FIXED_MAX: Duration = Duration::from_secs(600);

/// Replay of all 153 files: some 200,000 messages, 25 million deliveries.
pub const REPLAY_ALL_MAX: Duration = Duration::from_secs(3600);

/// Reading everything back, and checking every byte of the log.
pub const VERIFY_MAX: Duration = Duration::from_secs(1200);

/// The whole conformance run; it takes about half a minute.
pub const CONFORMANCE_MAX: Duration = Duration::from_secs(900);

/// How often a long wait says that it is still waiting.
pub const PROGRESS_EVERY: Duration = Duration::from_secs(30);
