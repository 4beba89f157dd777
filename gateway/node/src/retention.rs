//! The thread that lets old messages go: it rewrites segments that snapshots and checkpoints cover, slowly, and removes
//! those in which nothing lives (`tidegate_storage_files::Retention`). Until something is covered it has nothing to do.

use crate::clock;
use crate::config::RetentionConfig;
use crate::limits::{RETENTION_INTERVAL, STATE_KEPT_DAYS};
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use tidegate_ids::{StreamId, StreamKind, WallMs};
use tidegate_storage_files::{
    CoveredSegments, DataDir, Retention, RetentionCounters, RetentionError, RetentionOptions,
    RetentionPolicy, RetentionStep,
};

const DAY_MS: u64 = 24 * 3_600_000;

/// The days of the configuration, counted back from now.
#[derive(Clone, Debug)]
pub struct KeptDays {
    now: WallMs,
    days: u32,
    exceptions: HashMap<StreamId, u32>,
}

impl KeptDays {
    /// What the configuration keeps at `now`.
    #[must_use]
    pub fn new(config: &RetentionConfig, now: WallMs) -> Self {
        let exceptions = config.exceptions().map(|(id, days)| (StreamId::conversation(id), days)).collect();
        Self { now, days: config.days, exceptions }
    }
}

impl RetentionPolicy for KeptDays {
    fn keep_after(&self, stream: &StreamId) -> WallMs {
        let days = match stream.kind() {
            Some(StreamKind::Conversation(_)) => self.exceptions.get(stream).copied().unwrap_or(self.days),
            // State, which a snapshot holds: what is covered is not read again.
            Some(StreamKind::User(_) | StreamKind::Shard) => STATE_KEPT_DAYS,
            // No stream of this version: not this version's to judge.
            None => return WallMs(0),
        };
        WallMs(self.now.0.saturating_sub(u64::from(days) * DAY_MS))
    }
}

/// The thread. Dropping it stops and joins it; what it was writing is left out.
#[derive(Debug)]
pub struct RetentionThread {
    covered: CoveredSegments,
    counters: Arc<RetentionCounters>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

struct Worker {
    retention: Retention,
    covered: CoveredSegments,
    config: RetentionConfig,
    stop: Arc<AtomicBool>,
    has_failed: bool,
}

impl RetentionThread {
    /// Starts the thread. It inherits the caller's processor affinity: start it before pinning.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start(dir: &DataDir, config: &RetentionConfig) -> io::Result<Self> {
        let covered = CoveredSegments::default();
        let options = RetentionOptions {
            bytes_per_second: config.rewrite_bytes_per_second,
            ..RetentionOptions::default()
        };
        let retention = Retention::new(dir, options, covered.clone());
        let counters = Arc::clone(retention.counters());
        let stop = Arc::new(AtomicBool::new(false));
        let mut worker = Worker {
            retention,
            covered: covered.clone(),
            config: config.clone(),
            stop: Arc::clone(&stop),
            has_failed: false,
        };
        let run = move || {
            while !worker.stop.load(Ordering::Acquire) {
                worker.pass();
                thread::park_timeout(RETENTION_INTERVAL);
            }
        };
        let thread = thread::Builder::new().name(String::from("retention")).spawn(run)?;
        Ok(Self { covered, counters, stop, thread: Some(thread) })
    }

    /// Where it is told what may be touched. Whoever makes snapshots sets it; empty at first.
    #[must_use]
    pub const fn covered(&self) -> &CoveredSegments {
        &self.covered
    }

    /// What was done since the start.
    #[must_use]
    pub const fn counters(&self) -> &Arc<RetentionCounters> {
        &self.counters
    }
}

impl Drop for RetentionThread {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A panic there has been reported by its own message.
            let _ = thread.join();
        }
    }
}

impl Worker {
    fn pass(&mut self) {
        if self.covered.get().is_empty() {
            return;
        }
        let now = clock::wall();
        let policy = KeptDays::new(&self.config, now);
        let before = self.retention.counters().figures();
        let ended = self.retention.pass(&policy, now, &self.stop, &mut tell);
        let after = self.retention.counters().figures();
        if (after.rewritten, after.dropped) != (before.rewritten, before.dropped) {
            tracing::info!(
                rewritten = after.rewritten - before.rewritten,
                removed = after.dropped - before.dropped,
                saved_bytes = after.saved_bytes - before.saved_bytes,
                "made old segments smaller"
            );
        }
        match ended {
            Ok(()) => self.has_failed = false,
            Err(RetentionError::Stopped) => {}
            // Said once until a pass ends well; the next one is a minute away.
            Err(error) if !self.has_failed => {
                self.has_failed = true;
                tracing::warn!("old messages stay for now: {error}");
            }
            Err(_) => {}
        }
    }
}

fn tell(step: RetentionStep) {
    match step {
        RetentionStep::Damaged(segment) => {
            tracing::warn!(
                segment,
                "a segment is damaged, and so it is not rewritten: run `tidegate-log verify`"
            );
        }
        step => tracing::debug!(?step, "retention"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use tidegate_ids::{ConversationId, UserId};

    #[test]
    fn each_stream_is_kept_as_long_as_the_configuration_says() {
        let group = ConversationId::group([0x8a; 16]);
        let conversations = BTreeMap::from([(String::from("8a8a8a8a8a8a8a8a8a8a8a8a8a8a8a8a"), 2)]);
        let config = RetentionConfig { days: 10, conversations, ..RetentionConfig::default() };
        let now = WallMs(100 * DAY_MS);
        let policy = KeptDays::new(&config, now);
        let check = |stream: StreamId, day: u64| {
            assert_eq!(policy.keep_after(&stream), WallMs(day * DAY_MS), "{stream}");
        };
        check(StreamId::conversation(ConversationId::direct(UserId(1), UserId(2))), 90);
        check(StreamId::conversation(group), 98);
        check(StreamId::user(UserId(1)), 100 - u64::from(STATE_KEPT_DAYS));
        check(StreamId::SHARD, 100 - u64::from(STATE_KEPT_DAYS));
        check(StreamId([0xff; 16]), if StreamId([0xff; 16]).kind().is_some() { 90 } else { 0 });
        let early = KeptDays::new(&config, WallMs(5));
        assert_eq!(
            early.keep_after(&StreamId::conversation(group)),
            WallMs(0),
            "a clock that is wrong keeps all"
        );
    }
}
