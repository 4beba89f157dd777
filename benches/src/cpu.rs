//! Cores and what was spent on them.

use anyhow::{Context, Result, ensure};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::fs;

/// Ticks of `/proc` in a second: `USER_HZ`, 100 on every architecture that Tidegate runs on. The kernel derives
/// user and system time from exact run time, so a second of samples is good to one in a hundred.
const TICKS_PER_SECOND: f64 = 100.0;

/// The cores this thread may use.
///
/// # Errors
/// What the system says.
pub fn allowed() -> Result<Vec<usize>> {
    let set = sched_getaffinity(None).context("cannot read the set of cores")?;
    Ok((0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
}

/// Keeps this thread on one core.
///
/// # Errors
/// The core is not there or not ours.
pub fn pin(cpu: usize) -> Result<()> {
    allow(&[cpu])
}

/// Lets this thread, and what it starts from now on, run on these cores.
///
/// # Errors
/// The cores are not there or not ours.
pub fn allow(cpus: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    cpus.iter().for_each(|cpu| set.set(*cpu));
    sched_setaffinity(None, &set).with_context(|| format!("cannot run on the cores {cpus:?}"))
}

/// Seconds of processor time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spent {
    /// In user mode, by all threads of the server, ended ones and the ring's kernel workers included.
    pub user_s: f64,
    /// In the kernel, likewise.
    pub system_s: f64,
    /// By anybody on the server's core, interrupts included: what kernel threads that belong to nobody do for it,
    /// and whatever else disturbs.
    pub core_s: f64,
}

impl Spent {
    /// What a process and a core have spent since they were started.
    ///
    /// # Errors
    /// The process has ended.
    pub fn so_far(process: u32, cpu: usize) -> Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{process}/stat"))
            .with_context(|| format!("process {process} is gone"))?;
        let (user_s, system_s) = process_times(&stat).context("cannot read the times of a process")?;
        let stat = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
        let core_s = core_time(&stat, cpu).with_context(|| format!("/proc/stat does not list core {cpu}"))?;
        Ok(Self { user_s, system_s, core_s })
    }

    /// What was spent since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            user_s: self.user_s - earlier.user_s,
            system_s: self.system_s - earlier.system_s,
            core_s: self.core_s - earlier.core_s,
        }
    }

    /// User and system time of the process.
    #[must_use]
    pub fn process_s(&self) -> f64 {
        self.user_s + self.system_s
    }
}

/// The 14th and 15th field of `/proc/PID/stat` (proc(5)); the second one, a name, may hold anything.
fn process_times(stat: &str) -> Option<(f64, f64)> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut ticks = behind_name.split_whitespace().skip(11).map(str::parse::<f64>);
    let (user, system) = (ticks.next()?.ok()?, ticks.next()?.ok()?);
    Some((user / TICKS_PER_SECOND, system / TICKS_PER_SECOND))
}

/// Busy time of a core: user, nice, system, interrupts and soft interrupts.
fn core_time(stat: &str, cpu: usize) -> Option<f64> {
    let name = format!("cpu{cpu}");
    let line = stat.lines().find(|line| line.split_whitespace().next() == Some(&name))?;
    let fields: Vec<f64> = line.split_whitespace().skip(1).map_while(|field| field.parse().ok()).collect();
    let [user, nice, system, _idle, _waiting, interrupts, soft_interrupts, ..] = fields.as_slice() else {
        return None;
    };
    Some((user + nice + system + interrupts + soft_interrupts) / TICKS_PER_SECOND)
}

/// Two different cores: the last one for the server, another for the generator. The first core of a virtual machine
/// takes most of its interrupts.
///
/// # Errors
/// There is only one.
pub fn server_and_load(server: Option<usize>, load: Option<usize>) -> Result<(usize, usize)> {
    let cpus = allowed()?;
    let last = *cpus.last().context("no core")?;
    let server = server.unwrap_or(last);
    let other = cpus.iter().copied().find(|cpu| *cpu != server);
    let load = load.or(other).context("a second core is needed for the generator")?;
    ensure!(server != load, "server and generator must not share core {server}");
    Ok((server, load))
}

#[cfg(test)]
mod tests {
    use super::{core_time, process_times};

    #[test]
    fn times_are_read_behind_a_name_with_parentheses() {
        let stat = "17 (a) b) (c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 3 0 99";
        assert_eq!(process_times(stat), Some((2.5, 0.5)));
        assert_eq!(process_times("17 (a) S 1 2"), None);
    }

    #[test]
    fn a_core_is_busy_when_it_neither_idles_nor_waits() {
        let stat =
            "cpu  9 9 9 9 9 9 9 9 0 0\ncpu1 100 10 200 5000 70 20 30 40 0 0\ncpu10 1 1 1 1 1 1 1 1 0 0\n";
        assert_eq!(core_time(stat, 1), Some(3.6));
        assert_eq!(core_time(stat, 10), Some(0.05));
        assert_eq!(core_time(stat, 2), None);
    }
}
