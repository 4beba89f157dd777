//! The thread that lets old messages go: it rewrites segments that snapshots and checkpoints cover, slowly, and removes
//! those in which nothing lives (`tidegate_storage_files::Retention`). Where messages whose time is over are in a segment that is
//! not covered, or still written to, it has that closed and held by two snapshots.
//!
//! It is also what erases on request (decision 0016), before anything else and in the same way; it writes down what is done. A
//! second thread notices what was asked, whatever this one is busy with, and has the shards give it out no more.

mod erasures;

pub use erasures::erased_of;

use crate::clock;
use crate::config::RetentionConfig;
use crate::limits::{
    CLOSE_INTERVAL, ERASURES_INTERVAL, GRACE_DAYS_MAX, GRACE_DAYS_MIN, GRACE_SHARE, RETENTION_INTERVAL,
    STATE_KEPT_DAYS,
};
use crate::pump::Order;
use crate::snapshots::Told;
use crate::stats::Board;
use erasures::{Erasures, ToErase};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;
use tidegate_domain::Route;
use tidegate_ids::{LogId, ShardIndex, StreamId, StreamKind, WallMs};
use tidegate_shard::has_content;
use tidegate_storage_files::{
    CoveredSegments, DataDir, ErasureKeeper, LeftToGo, Retention, RetentionError, RetentionFigures,
    RetentionOptions, RetentionPolicy, RetentionStep, WhyLeft,
};
use tidegate_storage_log::{ErasedRanges, RecordHead, SequenceRange};

const DAY_MS: u64 = 24 * 3_600_000;

/// The days of the configuration, counted back from now, and what somebody asked to erase.
#[derive(Clone, Debug)]
pub struct KeptDays {
    now: WallMs,
    days: u32,
    exceptions: HashMap<StreamId, u32>,
    erasing: u64,
    erased: ErasedRanges,
}

impl KeptDays {
    /// What the configuration keeps at `now`.
    #[must_use]
    pub fn new(config: &RetentionConfig, now: WallMs) -> Self {
        let exceptions = config.exceptions().map(|(id, days)| (StreamId::conversation(id), days)).collect();
        Self { now, days: config.days, exceptions, erasing: 0, erased: ErasedRanges::new() }
    }

    /// And lets go of these records; `version` changes with them, and is 0 without any.
    #[must_use]
    pub fn without(self, version: u64, erased: ErasedRanges) -> Self {
        Self { erasing: version, erased, ..self }
    }

    /// Days that a conversation's messages are kept.
    fn days_of(&self, conversation: &StreamId) -> u32 {
        self.exceptions.get(conversation).copied().unwrap_or(self.days)
    }

    fn days_ago(&self, days: u32) -> WallMs {
        WallMs(self.now.0.saturating_sub(u64::from(days) * DAY_MS))
    }
}

impl RetentionPolicy for KeptDays {
    fn keep_after(&self, stream: &StreamId) -> WallMs {
        match stream.kind() {
            Some(StreamKind::Conversation(_)) => self.days_ago(self.days_of(stream)),
            // State, which a snapshot holds: what is covered is not read again.
            Some(StreamKind::User(_) | StreamKind::Shard) => self.days_ago(STATE_KEPT_DAYS),
            // No stream of this version: not this version's to judge.
            None => WallMs(0),
        }
    }

    fn gone_before(&self, stream: &StreamId) -> WallMs {
        match stream.kind() {
            Some(StreamKind::Conversation(_)) => {
                let days = self.days_of(stream);
                self.days_ago(days + (days / GRACE_SHARE).clamp(GRACE_DAYS_MIN, GRACE_DAYS_MAX))
            }
            // Nobody was promised that state goes: it makes room when its segment is rewritten.
            Some(StreamKind::User(_) | StreamKind::Shard) | None => WallMs(0),
        }
    }

    fn erasing(&self) -> u64 {
        self.erasing
    }

    fn may_erase(&self, stream: &StreamId, range: SequenceRange) -> bool {
        self.erased.count_in(stream, range) > 0
    }

    fn is_erased(&self, head: &RecordHead) -> bool {
        has_content(head) && self.erased.holds(&head.stream, head.sequence)
    }
}

/// What the thread starts with.
pub struct Setup {
    /// What may be touched. Whoever makes snapshots sets it.
    pub covered: CoveredSegments,
    /// The list of erasures, as the shards were told of it before they began.
    pub keeper: ErasureKeeper,
    /// Which shard is told of what.
    pub route: Route,
    /// To the thread that makes snapshots.
    pub told: Sender<Told>,
    /// To a shard.
    pub order: Box<dyn Fn(ShardIndex, Order) + Send>,
    /// Where its figures go.
    pub board: Arc<Board>,
}

/// Two threads: one notices what is to be erased, the other works. Dropping this stops and joins both; what was being written
/// is left out.
#[derive(Debug)]
pub struct RetentionThread {
    signals: Arc<Signals>,
    threads: Vec<JoinHandle<()>>,
}

/// What ends a pass early.
#[derive(Debug, Default)]
struct Signals {
    /// For good.
    stop: AtomicBool,
    /// For one that erases first; those that erase do not look at it.
    interrupt: AtomicBool,
}

struct Worker {
    retention: Retention,
    config: RetentionConfig,
    covered: CoveredSegments,
    erasures: Arc<Mutex<Erasures>>,
    told: Sender<Told>,
    signals: Arc<Signals>,
    has_failed: bool,
    /// When the last pass over everything ended.
    passed: Option<Instant>,
    /// What the snapshot thread was asked to hold.
    hold: BTreeMap<LogId, u32>,
    /// When each shard was told to end its segment.
    closed: BTreeMap<ShardIndex, Instant>,
    /// For which version it was said that damage is in the way.
    damage_told: u64,
}

impl RetentionThread {
    /// Starts the threads. They inherit the caller's processor affinity: start them before pinning.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start(dir: &DataDir, config: &RetentionConfig, setup: Setup) -> io::Result<Self> {
        let options = RetentionOptions {
            bytes_per_second: config.rewrite_bytes_per_second,
            ..RetentionOptions::default()
        };
        let signals = Arc::new(Signals::default());
        let Setup { covered, keeper, route, told, order, board } = setup;
        let retention = Retention::new(dir, options, covered.clone());
        board.follow_retention(Arc::clone(retention.counters()));
        let erasures = Arc::new(Mutex::new(Erasures::new(keeper, route, order, board)));
        let worker = Worker {
            retention,
            config: config.clone(),
            covered: covered.clone(),
            erasures: Arc::clone(&erasures),
            told,
            signals: Arc::clone(&signals),
            has_failed: false,
            passed: None,
            hold: BTreeMap::new(),
            closed: BTreeMap::new(),
            damage_told: 0,
        };
        let named = |name: &str| thread::Builder::new().name(name.to_owned());
        let working = named("retention").spawn(move || worker.run())?;
        // One that is started stops with this, also if the next cannot be.
        let mut started = Self { signals: Arc::clone(&signals), threads: vec![working] };
        let works = started.threads[0].thread().clone();
        let notice = move || {
            while !signals.stop.load(Ordering::Acquire) {
                let mut erasures = erasures.lock().unwrap_or_else(PoisonError::into_inner);
                erasures.look();
                if erasures.is_due(&covered.get()) {
                    signals.interrupt.store(true, Ordering::Release);
                    works.unpark();
                }
                drop(erasures);
                thread::park_timeout(ERASURES_INTERVAL);
            }
        };
        started.threads.push(named("erasures").spawn(notice)?);
        Ok(started)
    }
}

impl Drop for RetentionThread {
    fn drop(&mut self) {
        self.signals.stop.store(true, Ordering::Release);
        self.signals.interrupt.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            thread.thread().unpark();
            // A panic there has been reported by its own message.
            let _ = thread.join();
        }
    }
}

impl Worker {
    fn run(mut self) {
        loop {
            self.signals.interrupt.store(false, Ordering::Release);
            if self.signals.stop.load(Ordering::Acquire) {
                return;
            }
            self.erase();
            let is_due = self.passed.is_none_or(|passed| passed.elapsed() >= RETENTION_INTERVAL);
            if is_due {
                self.pass();
            }
            if !self.signals.interrupt.load(Ordering::Acquire) {
                thread::park_timeout(RETENTION_INTERVAL);
            }
        }
    }

    fn erasures(&self) -> MutexGuard<'_, Erasures> {
        self.erasures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A pass over what holds something that is to be erased, before all others.
    fn erase(&mut self) {
        let Some(asked) = self.erasures().begin(self.covered.get()) else { return };
        let now = clock::wall();
        let policy = KeptDays::new(&self.config, now).without(asked.version, asked.ranges.clone());
        let signals = Arc::clone(&self.signals);
        let before = self.retention.counters().figures();
        let ended = self.retention.erase(&policy, now, &signals.stop, &mut tell);
        self.tell_made_smaller(&before);
        let is_whole = ended.is_ok();
        self.tell_ended(ended);
        self.settle(is_whole.then_some(&asked), now);
        if is_whole {
            self.push_on(asked.version);
        }
    }

    /// A pass over everything, as far as it is not interrupted.
    fn pass(&mut self) {
        let now = clock::wall();
        let asked = self.erasures().begin(self.covered.get());
        let mut policy = KeptDays::new(&self.config, now);
        if let Some(asked) = &asked {
            policy = policy.without(asked.version, asked.ranges.clone());
        }
        let signals = Arc::clone(&self.signals);
        let before = self.retention.counters().figures();
        let ended = self.retention.pass(&policy, now, &signals.interrupt, &mut tell);
        self.tell_made_smaller(&before);
        let is_whole = ended.is_ok();
        // What was interrupted goes on once that is done.
        self.passed = (!matches!(ended, Err(RetentionError::Stopped))).then(Instant::now);
        self.tell_ended(ended);
        self.settle(asked.as_ref().filter(|_| is_whole), now);
        if is_whole {
            self.push_on(asked.map_or(0, |asked| asked.version));
        }
    }

    fn settle(&mut self, whole: Option<&ToErase>, now: WallMs) {
        let mut erasures = self.erasures.lock().unwrap_or_else(PoisonError::into_inner);
        erasures.settle(&mut self.retention, whole, now);
    }

    fn tell_made_smaller(&self, before: &RetentionFigures) {
        let after = self.retention.counters().figures();
        if (after.rewritten, after.dropped) != (before.rewritten, before.dropped) {
            tracing::info!(
                rewritten = after.rewritten - before.rewritten,
                removed = after.dropped - before.dropped,
                saved_bytes = after.saved_bytes.saturating_sub(before.saved_bytes),
                "made old segments smaller"
            );
        }
    }

    fn tell_ended(&mut self, ended: Result<(), RetentionError>) {
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

    /// Has closed and held what is in the way of requests, and of what must be gone because its time is over.
    fn push_on(&mut self, version: u64) {
        let left: Vec<&LeftToGo> =
            self.retention.left_to_erase().iter().chain(self.retention.left_overdue()).collect();
        let hold = hold(&left);
        if hold != self.hold {
            self.hold.clone_from(&hold);
            // Its thread ends only when nobody can tell it anything any more.
            let _ = self.told.send(Told::Hold(hold));
        }
        for open in left.iter().filter(|left| left.why == WhyLeft::Open) {
            let shard = open.log.shard;
            if self.closed.get(&shard).is_none_or(|told| told.elapsed() >= CLOSE_INTERVAL) {
                self.closed.insert(shard, Instant::now());
                self.erasures().close(shard);
            }
        }
        let damaged: Vec<u32> =
            left.iter().filter(|left| left.why == WhyLeft::Damaged).map(|left| left.segment).collect();
        if !damaged.is_empty() && self.damage_told != version {
            self.damage_told = version;
            tracing::error!(
                segments = ?damaged,
                "records that are to be erased may be in damaged segments, which are not rewritten: nobody is given them, but \
                 they stay on the disk; run `tidegate-log verify`"
            );
        }
    }
}

/// Of each log the last segment that two snapshots have to hold before what is in it can go.
fn hold(left: &[&LeftToGo]) -> BTreeMap<LogId, u32> {
    let mut hold = BTreeMap::new();
    for left in left.iter().filter(|left| left.why != WhyLeft::Damaged) {
        let last = hold.entry(left.log).or_insert(left.segment);
        *last = left.segment.max(*last);
    }
    hold
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
    use tidegate_ids::{ConversationId, Sequence, UserId};

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
        let check_gone = |policy: &KeptDays, stream: StreamId, gone: u64| {
            assert_eq!(policy.gone_before(&stream), WallMs(gone * DAY_MS), "{stream}");
        };
        // A day later it must be gone, state never.
        check_gone(&policy, StreamId::conversation(ConversationId::direct(UserId(1), UserId(2))), 89);
        check_gone(&policy, StreamId::conversation(group), 97);
        check_gone(&policy, StreamId::user(UserId(1)), 0);
        check_gone(&policy, StreamId::SHARD, 0);
        check(StreamId([0xff; 16]), if StreamId([0xff; 16]).kind().is_some() { 90 } else { 0 });
        // A message goes, and a change of a group; what a state repeats of it stays.
        let (first, last) = (Sequence(3), Sequence(5));
        let mut erased = ErasedRanges::new();
        erased.insert(StreamId::conversation(group), SequenceRange::new(first, last).unwrap());
        let erasing = policy.clone().without(7, erased.clone());
        let goes = |policy: &KeptDays, kind, sequence| {
            let stream = StreamId::conversation(group);
            policy.is_erased(&RecordHead {
                stream,
                kind,
                sequence: Sequence(sequence),
                ..RecordHead::default()
            })
        };
        assert_eq!((policy.erasing(), erasing.erasing()), (0, 7));
        assert!(goes(&erasing, 1, 3) && goes(&erasing, 2, 5));
        assert!(!goes(&erasing, 1, 2) && !goes(&erasing, 16, 3) && !goes(&policy, 1, 3));
        let within = |from, to| SequenceRange::new(Sequence(from), Sequence(to)).unwrap();
        assert!(erasing.may_erase(&StreamId::conversation(group), within(5, 9)));
        assert!(!erasing.may_erase(&StreamId::conversation(group), within(6, 9)));
        assert!(!erasing.may_erase(&StreamId::user(UserId(1)), within(1, 9)));
        let early = KeptDays::new(&config, WallMs(5));
        assert_eq!(
            early.keep_after(&StreamId::conversation(group)),
            WallMs(0),
            "a clock that is wrong keeps all"
        );
    }

    #[test]
    fn the_grace_is_a_thirtieth_of_the_days() {
        let now = WallMs(100_000 * DAY_MS);
        let check = |days: u32, grace: u64| {
            let policy = KeptDays::new(&RetentionConfig { days, ..RetentionConfig::default() }, now);
            let stream = StreamId::conversation(ConversationId::group([0x8a; 16]));
            let between = policy.keep_after(&stream).0 - policy.gone_before(&stream).0;
            assert_eq!(between, grace * DAY_MS, "{days} days");
        };
        check(1, 1);
        check(30, 1);
        check(59, 1);
        check(60, 2);
        check(209, 6);
        check(1826, 7);
        check(36_525, 7);
    }

    #[test]
    fn each_shard_is_told_of_its_own_conversations() {
        let mut all = ErasedRanges::new();
        let range = SequenceRange::new(Sequence(1), Sequence(2)).unwrap();
        let streams = (1..200)
            .map(|user| StreamId::conversation(ConversationId::direct(UserId(user), UserId(user + 1))));
        streams.clone().for_each(|stream| all.insert(stream, range));
        let route = Route::new(3);
        let own: Vec<ErasedRanges> = (0..3).map(|shard| erased_of(&all, route, ShardIndex(shard))).collect();
        assert!(own.iter().all(|own| own.len() > 20), "the hash spreads them");
        for stream in streams {
            let shard = route.stream(&stream).unwrap();
            for (index, own) in own.iter().enumerate() {
                assert_eq!(own.holds(&stream, Sequence(2)), index == usize::from(shard.0));
            }
        }
    }
}
