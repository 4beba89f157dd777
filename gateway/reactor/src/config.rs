//! How large a ring is, what memory the kernel charges for it, and what the process's limits allow.

use crate::error::SetupError;
use crate::limits::{
    BUFFER_BYTES_MAX, BUFFERS_MAX, BUFFERS_MIN, COMPLETION_ENTRIES_MAX, COMPLETION_ENTRIES_MIN, SLOTS_MAX,
    SUBMISSION_ENTRIES_MAX, SUBMISSION_ENTRIES_MIN,
};
use rustix::process::{Resource, getrlimit};
use rustix::thread::CapabilitySet;

/// The size of one ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Submission queue entries, a power of two.
    pub submission_entries: u32,
    /// Completion queue entries, a power of two, at least twice the submission queue.
    pub completion_entries: u32,
    /// Descriptors of the ring's own table: the connections of a shard, arriving ones included. Bounded by
    /// RLIMIT_NOFILE.
    pub slots: u32,
    /// Receive buffers, a power of two.
    pub buffers: u16,
    /// Bytes of each. All of them are touched when the ring is made.
    pub buffer_bytes: u32,
    /// The core this shard's thread is pinned to: the kernel's workers are kept off it when there is another.
    pub shard_cpu: Option<usize>,
    /// How many rings the process makes: what the sentence about RLIMIT_MEMLOCK asks for.
    pub rings: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            submission_entries: 2048,
            completion_entries: 8192,
            slots: 16_384,
            buffers: 2048,
            buffer_bytes: 4096,
            shard_cpu: None,
            rings: 1,
        }
    }
}

/// What the process may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// RLIMIT_MEMLOCK in bytes; `None` if ring memory is not charged (no limit, or CAP_IPC_LOCK).
    pub memlock_bytes: Option<u64>,
    /// RLIMIT_NOFILE; `None` if there is none.
    pub descriptors: Option<u64>,
}

impl Limits {
    /// Those of this process, now.
    #[must_use]
    pub fn current() -> Self {
        let exempt = rustix::thread::capabilities(None)
            .is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
        let memlock = getrlimit(Resource::Memlock).current;
        Self { memlock_bytes: memlock.filter(|_| !exempt), descriptors: getrlimit(Resource::Nofile).current }
    }
}

/// The part of the limit that is left to others of the same user, and to rings of a process that has just ended,
/// which are charged a moment longer: one eighth.
const SLACK: u64 = 8;

impl Config {
    /// The largest ring not above this one of which `rings` fit the limits. Queues and buffers are halved together;
    /// slots are cut to what the descriptor limit allows.
    ///
    /// # Errors
    /// [`SetupError::Memlock`] if not even the smallest rings fit, with what is needed for them.
    pub fn fitted(&self, rings: u32, limits: &Limits) -> Result<Self, SetupError> {
        let rings = rings.max(1);
        let mut config = Self { rings, ..self.clone() };
        if let Some(descriptors) = limits.descriptors {
            config.slots = config.slots.min(u32::try_from(descriptors).unwrap_or(u32::MAX));
        }
        config.check()?;
        let Some(limit_bytes) = limits.memlock_bytes else {
            return Ok(config);
        };
        while config.memory_needed_in_all() > limit_bytes {
            if !config.halve() {
                return Err(SetupError::Memlock {
                    limit_bytes,
                    needed_bytes: config.memory_needed_in_all(),
                    rings,
                });
            }
        }
        Ok(config)
    }

    /// Bytes that the kernel charges against RLIMIT_MEMLOCK for one ring of this size: its two queues and the ring of
    /// receive buffers. The buffers themselves are ordinary memory.
    #[must_use]
    pub fn memory_needed(&self) -> u64 {
        // Head and tail of both queues and their masks stand on a few cache lines before the completions; one index
        // per submission follows them.
        const QUEUE_HEADER_BYTES: u64 = 320;
        let completions = u64::from(self.completion_entries) * 16;
        let indexes = u64::from(self.submission_entries) * 4;
        let queues = pages(QUEUE_HEADER_BYTES + completions + indexes);
        queues + pages(u64::from(self.submission_entries) * 64) + pages(u64::from(self.buffers) * 16)
    }

    /// What a limit must be for all rings of the process, slack included.
    pub(crate) fn memory_needed_in_all(&self) -> u64 {
        let all = self.memory_needed() * u64::from(self.rings);
        all + all.div_ceil(SLACK - 1)
    }

    /// Whether anything could be made smaller, and was.
    fn halve(&mut self) -> bool {
        let before = self.clone();
        self.submission_entries =
            (self.submission_entries / 2).max(SUBMISSION_ENTRIES_MIN.min(self.submission_entries));
        self.completion_entries =
            (self.completion_entries / 2).max(COMPLETION_ENTRIES_MIN.min(self.completion_entries));
        self.buffers = (self.buffers / 2).max(BUFFERS_MIN.min(self.buffers));
        *self != before
    }

    /// Refuses what this room or the kernel could not make.
    pub(crate) fn check(&self) -> Result<(), SetupError> {
        let sound = |sound: bool, what| if sound { Ok(()) } else { Err(SetupError::Config(what)) };
        let (submission, completion) = (self.submission_entries, self.completion_entries);
        sound(
            submission.is_power_of_two() && (2..=SUBMISSION_ENTRIES_MAX).contains(&submission),
            "submission entries must be a power of two from 2 to 32768",
        )?;
        sound(
            completion.is_power_of_two() && (2 * submission..=COMPLETION_ENTRIES_MAX).contains(&completion),
            "completion entries must be a power of two from twice the submission entries to 65536",
        )?;
        sound((1..=SLOTS_MAX).contains(&self.slots), "slots must be from 1 to 1048576")?;
        sound(
            self.buffers.is_power_of_two() && self.buffers <= BUFFERS_MAX,
            "receive buffers must be a power of two up to 32768",
        )?;
        sound(
            (1..=BUFFER_BYTES_MAX).contains(&self.buffer_bytes),
            "a receive buffer has from 1 byte to 1 MiB",
        )
    }
}

fn pages(bytes: u64) -> u64 {
    let page = rustix::param::page_size() as u64;
    bytes.div_ceil(page) * page
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
