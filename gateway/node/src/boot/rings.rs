//! The shards' threads: each makes its own ring, tells how to reach it, is pinned when its work is handed to it, and
//! runs.

use super::BootError;
use crate::limits::{RING_MEMORY_RETRY, RING_MEMORY_WAIT, SHARD_STACK_BYTES};
use crate::pump::Order;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, Builder, JoinHandle};
use std::time::Instant;
use tidegate_reactor::{Config, Reactor, RingHandle, SetupError, ThreadWaker};
use tidegate_storage_log::BatchBytes;

/// What a shard's thread does with its ring.
pub(super) type Work = Box<dyn FnOnce(Reactor<BatchBytes>, Receiver<Order>) -> io::Result<()> + Send>;

/// A shard's thread, as the main thread sees it.
pub(super) struct ShardThread {
    /// For other rings.
    pub(super) handle: RingHandle,
    /// For other threads.
    pub(super) waker: ThreadWaker,
    work: Sender<Work>,
    orders: Sender<Order>,
    thread: JoinHandle<()>,
}

impl ShardThread {
    /// Hands the work over; the thread is pinned, then does it.
    pub(super) fn start(&self, work: Work) {
        // The thread waits for this and ends before it only by a panic, which ends the process.
        let _ = self.work.send(work);
    }

    /// Tells the pump something.
    pub(super) fn order(&self, order: Order) {
        self.reach().order(order);
    }

    /// The way to the pump, for another thread.
    pub(super) fn reach(&self) -> Reach {
        Reach { waker: self.waker.clone(), orders: self.orders.clone() }
    }

    /// Waits for the thread's end.
    pub(super) fn join(self) {
        // A panic there has been reported by its own message.
        let _ = self.thread.join();
    }
}

/// The way to a shard's pump.
#[derive(Clone)]
pub(super) struct Reach {
    waker: ThreadWaker,
    orders: Sender<Order>,
}

impl Reach {
    /// Tells the pump something; one that has ended needs nothing any more.
    pub(super) fn order(&self, order: Order) {
        let _ = self.orders.send(order);
        self.waker.wake();
    }
}

/// The processors this process may use.
pub(super) fn cpus() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
}

/// Makes the smallest ring and drops it: whether the kernel gives any.
pub(super) fn probe() -> Result<(), SetupError> {
    let smallest = Config {
        submission_entries: 8,
        completion_entries: 16,
        slots: 1,
        buffers: 8,
        buffer_bytes: 512,
        ..Config::default()
    };
    Reactor::<BatchBytes>::new(&smallest).map(drop)
}

/// Starts a thread for each shard and waits until all have a ring. With more shards than processors they share them in
/// turn.
pub(super) fn spawn(ring: &Config, cpus: &[usize], shards: u16) -> Result<Vec<ShardThread>, BootError> {
    let mut waiting = Vec::new();
    for shard in 0..shards {
        let cpu = cpus.get(usize::from(shard) % cpus.len().max(1)).copied();
        let config = Config { shard_cpu: cpu, ..ring.clone() };
        let (made, is_made) = channel();
        let (work, to_do) = channel();
        let (orders, ordered) = channel();
        let run = move || run(&config, &made, &to_do, ordered);
        let thread = Builder::new()
            .name(format!("shard-{shard}"))
            .stack_size(SHARD_STACK_BYTES)
            .spawn(run)
            .map_err(BootError::system("start a shard's thread"))?;
        waiting.push((is_made, work, orders, thread));
    }
    let ready = |(is_made, work, orders, thread): Waiting| {
        // A thread that says nothing has panicked, which ends the process.
        let Ok(made) = is_made.recv() else { std::process::abort() };
        let (handle, waker) = made?;
        Ok(ShardThread { handle, waker, work, orders, thread })
    };
    waiting.into_iter().map(ready).collect()
}

type Made = Result<(RingHandle, ThreadWaker), SetupError>;
type Waiting = (Receiver<Made>, Sender<Work>, Sender<Order>, JoinHandle<()>);

fn run(config: &Config, made: &Sender<Made>, to_do: &Receiver<Work>, orders: Receiver<Order>) {
    let mut reactor = match make(config) {
        Ok(reactor) => reactor,
        Err(error) => return drop(made.send(Err(error))),
    };
    let (handle, waker) = (reactor.ops().handle(), reactor.ops().waker());
    if made.send(Ok((handle, waker))).is_err() {
        return;
    }
    // Without work the start has failed elsewhere, and the process ends.
    let Ok(work) = to_do.recv() else { return };
    if let Some(cpu) = config.shard_cpu {
        pin(cpu);
    }
    if let Err(error) = work(reactor, orders) {
        tracing::error!(%error, "a shard's ring failed: stopping, to recover from the log");
        std::process::abort();
    }
}

fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    if let Err(error) = sched_setaffinity(None, &set) {
        tracing::warn!(cpu, %error, "cannot pin a shard's thread");
    }
}

/// Makes a ring. Its memory may still be charged to the gateway that was stopped a moment ago (FINDINGS, Traps 2).
fn make(config: &Config) -> Result<Reactor<BatchBytes>, SetupError> {
    let began = Instant::now();
    loop {
        match Reactor::new(config) {
            Err(SetupError::Memlock { .. }) if began.elapsed() < RING_MEMORY_WAIT => {
                thread::sleep(RING_MEMORY_RETRY);
            }
            made => return made,
        }
    }
}
