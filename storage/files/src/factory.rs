//! A thread that keeps zeroed segments ready for every shard, so that a roll takes one and goes on.
//!
//! A shard's channel holds its spares; taking one wakes the thread, which makes another. Nothing here runs on a shard's
//! thread but [`Spares::take`], which never blocks.

use crate::directory::{DataDir, Owned};
use crate::layout;
use crate::limits::{
    RESERVE_BYTES_DEFAULT, RETRY_MS, SAY_AGAIN_DEFAULT, SPARE_NOTICES, SPARES_DEFAULT, SPARES_MAX,
};
use crate::prepare::{PrepareError, Shape, is_zero, zeroed};
use crate::segment::SegmentFile;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};
use tidegate_ids::{LogId, ShardIndex};

/// Called by a helper thread after it put something into a channel. It must not block.
pub type Wake = Box<dyn Fn() + Send>;

/// How much to keep ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FactoryOptions {
    /// Segments kept ready per shard, 1 to 64.
    pub spares: usize,
    /// Room on the disk that zeroing leaves free.
    pub reserve_bytes: u64,
    /// How often a failure that lasts is said again.
    pub say_again: Duration,
}

impl Default for FactoryOptions {
    fn default() -> Self {
        Self { spares: SPARES_DEFAULT, reserve_bytes: RESERVE_BYTES_DEFAULT, say_again: SAY_AGAIN_DEFAULT }
    }
}

/// What the factory has for a shard.
#[derive(Debug)]
pub enum SpareEvent {
    /// A segment to append to.
    Ready(SegmentFile),
    /// Making one failed, [`PrepareError::NoSpace`] among others. Said at once, and again from time to time; the factory
    /// tries again every second, and [`SpareEvent::Ready`] follows when the cause is gone.
    Failed(PrepareError),
    /// A prepared segment of the last run is not zero throughout, though its front is. It is not used, and left as it is.
    PassedOver(PathBuf),
}

/// The thread. Dropping it stops and joins it; spares not taken stay prepared for the next start.
#[derive(Debug)]
pub struct SegmentFactory {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// A shard's end: its prepared segments.
pub struct Spares {
    events: Receiver<SpareEvent>,
    shared: Arc<Shared>,
    shard: usize,
    factory: Thread,
}

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    /// Spares in each shard's channel.
    ready: Vec<AtomicUsize>,
}

/// A segment on the disk that is not handed out yet.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    number: u32,
    /// Made or checked by this factory.
    is_zero: bool,
}

struct Line {
    log: LogId,
    events: SyncSender<SpareEvent>,
    wake: Wake,
    candidates: VecDeque<Candidate>,
    /// When its last failure was said, until one succeeds.
    failure_said: Option<Instant>,
}

struct Worker {
    owned: Arc<Owned>,
    shared: Arc<Shared>,
    lines: Vec<Line>,
    shape: Shape,
    spares: usize,
    say_again: Duration,
}

impl SegmentFactory {
    /// Starts the thread and gives each shard's end, in order. Prepared segments that nobody can use are removed. The thread
    /// inherits the caller's processor affinity: start it before pinning. `wakes` holds one for each shard.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start(
        dir: &DataDir,
        options: FactoryOptions,
        wakes: Vec<Wake>,
    ) -> io::Result<(Self, Vec<Spares>)> {
        assert_eq!(wakes.len(), usize::from(dir.shards()), "one wake for each shard");
        assert!((1..=SPARES_MAX).contains(&options.spares), "spares are bounded");
        let ready = (0..dir.shards()).map(|_| AtomicUsize::new(0)).collect();
        let shared = Arc::new(Shared { stop: AtomicBool::new(false), ready });
        dir.owned().remove_useless();
        let mut leftovers = dir.owned().take_leftovers();
        let mut lines = Vec::new();
        let mut receivers = Vec::new();
        for (shard, wake) in (0..dir.shards()).zip(wakes) {
            let log = LogId { epoch: dir.epoch(), shard: ShardIndex(shard) };
            let (events, receiver) = sync_channel(options.spares + SPARE_NOTICES);
            let mine = leftovers.extract_if(.., |spare| spare.log == log);
            let candidates = mine.map(|spare| Candidate { number: spare.number, is_zero: false }).collect();
            lines.push(Line { log, events, wake, candidates, failure_said: None });
            receivers.push(receiver);
        }
        let shape = Shape {
            segment_bytes: dir.options().segment_bytes,
            reserve_bytes: options.reserve_bytes,
            mode: dir.options().write_mode,
        };
        let owned = Arc::clone(dir.owned());
        let FactoryOptions { spares, say_again, .. } = options;
        let worker = Worker { owned, shared: Arc::clone(&shared), lines, shape, spares, say_again };
        let thread = thread::Builder::new().name(String::from("segments")).spawn(move || worker.run())?;
        let factory = thread.thread().clone();
        let spares =
            |(shard, events)| Spares { events, shared: Arc::clone(&shared), shard, factory: factory.clone() };
        let spares = receivers.into_iter().enumerate().map(spares).collect();
        Ok((Self { shared, thread: Some(thread) }, spares))
    }
}

impl Drop for SegmentFactory {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A panic there has been reported by its own message; this thread is not to blame.
            let _ = thread.join();
        }
    }
}

impl Spares {
    /// The next event, `None` if there is none now.
    pub fn take(&mut self) -> Option<SpareEvent> {
        let event = self.events.try_recv().ok()?;
        self.note(&event);
        Some(event)
    }

    /// The next segment, waiting for it: for a start, when there is nothing else to do. Other events are dropped.
    ///
    /// # Errors
    /// Why there is none; the factory goes on trying, and this may be called again.
    pub fn wait(&mut self) -> Result<SegmentFile, PrepareError> {
        loop {
            let event = self.events.recv().map_err(|_| PrepareError::Stopped)?;
            self.note(&event);
            match event {
                SpareEvent::Ready(file) => return Ok(file),
                SpareEvent::Failed(error) => return Err(error),
                SpareEvent::PassedOver(_) => {}
            }
        }
    }

    fn note(&self, event: &SpareEvent) {
        if matches!(event, SpareEvent::Ready(_)) {
            let before = self.shared.ready[self.shard].fetch_sub(1, Ordering::AcqRel);
            debug_assert!(before > 0, "a spare is counted before it is sent");
            self.factory.unpark();
        }
    }
}

impl fmt::Debug for Spares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spares").field("shard", &self.shard).finish_non_exhaustive()
    }
}

impl Worker {
    fn run(mut self) {
        let retry = Duration::from_millis(RETRY_MS);
        while !self.shared.stop.load(Ordering::Acquire) {
            let Some(shard) = self.neediest() else {
                thread::park();
                continue;
            };
            match self.supply(shard) {
                Ok(file) => {
                    self.lines[shard].failure_said = None;
                    self.shared.ready[shard].fetch_add(1, Ordering::AcqRel);
                    // Room is certain: at most `spares` are in the channel, and notices have places of their own.
                    self.tell(shard, SpareEvent::Ready(file));
                }
                Err(PrepareError::Stopped) => return,
                Err(error) => {
                    let said = self.lines[shard].failure_said;
                    let is_due = said.is_none_or(|said| said.elapsed() >= self.say_again);
                    if is_due && self.tell(shard, SpareEvent::Failed(error)) {
                        self.lines[shard].failure_said = Some(Instant::now());
                    }
                    thread::park_timeout(retry);
                }
            }
        }
    }

    /// The shard with the fewest spares, if it has too few. One that failed comes after those that did not.
    fn neediest(&self) -> Option<usize> {
        let ready = |shard: usize| self.shared.ready[shard].load(Ordering::Acquire);
        (0..self.lines.len())
            .filter(|&shard| ready(shard) < self.spares)
            .min_by_key(|&shard| (self.lines[shard].failure_said.is_some(), ready(shard)))
    }

    /// One segment, ready and named. After an error the same candidate is tried again.
    fn supply(&mut self, shard: usize) -> Result<SegmentFile, PrepareError> {
        let log = self.lines[shard].log;
        let number = loop {
            let candidate = self.candidate(shard)?;
            if candidate.is_zero {
                break candidate.number;
            }
            let path = layout::segment(self.owned.root(), log, candidate.number);
            if is_zero(&path, &self.shared.stop)? {
                break candidate.number;
            }
            self.lines[shard].candidates.pop_front();
            self.tell(shard, SpareEvent::PassedOver(path));
        };
        self.owned.register(number, log)?;
        let path = layout::segment(self.owned.root(), log, number);
        let file = SegmentFile::open(&path, log, number, self.shape.segment_bytes, self.shape.mode)?;
        self.lines[shard].candidates.pop_front();
        Ok(file)
    }

    fn candidate(&mut self, shard: usize) -> Result<Candidate, PrepareError> {
        if let Some(&candidate) = self.lines[shard].candidates.front() {
            return Ok(candidate);
        }
        let log = self.lines[shard].log;
        let number = self.owned.new_number().ok_or(PrepareError::Numbers)?;
        zeroed(self.owned.root(), log, number, &self.shape, &self.shared.stop)?;
        let candidate = Candidate { number, is_zero: true };
        self.lines[shard].candidates.push_back(candidate);
        Ok(candidate)
    }

    /// Puts an event into the shard's channel; `false` if there is no room, or nobody to take it.
    fn tell(&self, shard: usize, event: SpareEvent) -> bool {
        let line = &self.lines[shard];
        match line.events.try_send(event) {
            Ok(()) => {
                (line.wake)();
                true
            }
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }
}
