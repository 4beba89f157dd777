//! Where and when something was measured.

use serde::Serialize;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

/// The machine, as a reader of numbers must know it.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Seconds since 1970.
    pub measured_at: u64,
    /// The processor's name.
    pub processor: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Kernel release.
    pub kernel: String,
    /// The load average when the benchmark began: above 0.5 somebody else is at work.
    pub load_before: f64,
    /// The command line.
    pub command: String,
}

impl Machine {
    /// This one, now.
    #[must_use]
    pub fn here() -> Self {
        let information = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = information
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(':').map(|(_, name)| name.trim()))
            .unwrap_or("unknown");
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let mut arguments = std::env::args();
        let program = arguments.next().unwrap_or_default();
        let program = program.rsplit('/').next().unwrap_or_default().to_owned();
        Self {
            measured_at: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            processor: processor.to_owned(),
            cores: crate::cpu::allowed().map_or(0, |cpus| cpus.len()),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            load_before: load.split_whitespace().next().and_then(|load| load.parse().ok()).unwrap_or(0.0),
            command: std::iter::once(program).chain(arguments).collect::<Vec<_>>().join(" "),
        }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} × {}, Linux {}, load average before: {:.2}",
            self.cores, self.processor, self.kernel, self.load_before
        )
    }
}
