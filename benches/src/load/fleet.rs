//! Many connections on one ring, kept busy.

use super::{Pace, Progress, Talk, socket};
use crate::cpu::Spent;
use crate::limits::{
    IN_FLIGHT_MAX, INSERTED_AT_ONCE, RECEIVE_BUFFER_BYTES, RECEIVE_BUFFERS, SAMPLE_TIME_MAX, SPARE_SLOTS,
    SPIN_BELOW,
};
use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tidegate_reactor::{Completion, Config, Limits, Ops, Reactor, Slot};

/// What one run of messages has cost and how long it took.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Messages that have arrived and were answered.
    pub messages: u64,
    /// From the first message to the last.
    pub elapsed: Duration,
    /// By the server, and on its core.
    pub spent: Spent,
    /// Nanoseconds from due to arrived.
    pub latency_ns: Histogram<u64>,
}

/// The connections of one server.
pub struct Fleet {
    reactor: Reactor,
    lines: Lines,
    /// By slot: which connection.
    connections: Vec<u32>,
    /// Connections that send.
    senders: Vec<u32>,
    /// Whose turn it is at a given rate.
    next_sender: usize,
}

struct Lines {
    talk: Box<dyn Talk>,
    lines: Vec<Line>,
    /// Lines with something to send and nothing in flight, perhaps twice.
    due: Vec<u32>,
    /// Buffers to be used again.
    spare: Vec<Vec<u8>>,
    issued: u64,
    answered: u64,
    arrived: u64,
    /// Of this run.
    messages: u64,
    pace: Pace,
    began: Instant,
    latency_ns: Histogram<u64>,
    failed: Option<anyhow::Error>,
}

struct Line {
    slot: Slot,
    waiting: Vec<u8>,
    sending: bool,
    in_flight: u32,
    /// When its messages that have not arrived were due.
    due_ns: VecDeque<u64>,
}

fn histogram() -> Result<Histogram<u64>> {
    Histogram::new_with_bounds(100, SAMPLE_TIME_MAX.as_nanos() as u64, 3).context("no histogram")
}

impl Fleet {
    /// Connects so many times.
    ///
    /// # Errors
    /// The server refuses, or this process may not have so many connections.
    pub fn connect(address: SocketAddr, count: usize, mut talk: Box<dyn Talk>) -> Result<Self> {
        let config = Config {
            slots: count as u32 + SPARE_SLOTS,
            buffers: RECEIVE_BUFFERS,
            buffer_bytes: RECEIVE_BUFFER_BYTES,
            ..Config::default()
        };
        let config = config.fitted(1, &Limits::current()).context("no room for the generator's ring")?;
        ensure!(config.slots as usize > count, "RLIMIT_NOFILE allows no {count} connections");
        let mut reactor: Reactor = Reactor::new(&config).context("no ring for the generator")?;
        let mut slots = vec![None; count];
        for first in (0..count).step_by(INSERTED_AT_ONCE) {
            let last = count.min(first + INSERTED_AT_ONCE);
            for connection in first..last {
                let mut stream = socket::connect(address)?;
                talk.open(connection, &mut stream)
                    .with_context(|| format!("connection {connection} to {address}"))?;
                reactor.ops().insert(stream.into(), connection as u64);
            }
            while slots[first..last].iter().any(Option::is_none) {
                reactor.submit_and_wait(None)?;
                reactor.completions(usize::MAX, |ops, completion| {
                    if let Completion::Adopted { slot, key } = completion {
                        slots[key as usize] = Some(slot);
                        ops.receive_multishot(slot);
                    }
                });
            }
        }
        let slots: Vec<Slot> = slots.into_iter().flatten().collect();
        let mut connections = vec![0; config.slots as usize];
        slots.iter().enumerate().for_each(|(index, slot)| connections[slot.index()] = index as u32);
        let senders = (0..count as u32).filter(|index| talk.is_sender(*index as usize)).collect();
        let lines = Lines::new(talk, &slots)?;
        Ok(Self { reactor, lines, connections, senders, next_sender: 0 })
    }

    /// Sends so many messages and waits until all have arrived.
    ///
    /// # Errors
    /// The server has said something wrong, closed a connection, lost a message, or ended.
    pub fn run(&mut self, messages: u64, pace: Pace, server: u32, core: usize) -> Result<Sample> {
        self.lines.begin(messages, pace)?;
        let before = Spent::so_far(server, core)?;
        if let Pace::InFlight(depth) = pace {
            ensure!((1..=IN_FLIGHT_MAX).contains(&depth), "1 to {IN_FLIGHT_MAX} in flight");
            for _ in 0..depth {
                self.senders.iter().for_each(|sender| self.lines.issue_next(*sender));
            }
        }
        while !self.lines.is_done() {
            let wait = self.issue_due();
            self.turn(wait)?;
        }
        let elapsed = self.lines.began.elapsed();
        // The last acknowledgements are the server's work too.
        while self.lines.lines.iter().any(|line| line.sending) {
            self.turn(Duration::from_millis(1))?;
        }
        let spent = Spent::so_far(server, core)?.since(&before);
        let latency_ns = self.lines.latency_ns.clone();
        Ok(Sample { messages, elapsed, spent, latency_ns })
    }

    /// At a given rate: issues what is due, and says how long to wait for the next.
    fn issue_due(&mut self) -> Duration {
        let lines = &mut self.lines;
        let Pace::PerSecond(rate) = lines.pace else { return Duration::from_secs(1) };
        let gap_ns = 1_000_000_000 / u64::from(rate);
        let now_ns = lines.now_ns();
        while lines.issued < lines.messages && lines.issued * gap_ns <= now_ns {
            let sender = self.senders[self.next_sender];
            if lines.lines[sender as usize].in_flight >= IN_FLIGHT_MAX {
                // The server is far behind; what is late counts from when it was due.
                return Duration::from_millis(1);
            }
            self.next_sender = (self.next_sender + 1) % self.senders.len();
            let due_ns = lines.issued * gap_ns;
            lines.issue(sender, due_ns);
        }
        if lines.issued == lines.messages {
            return Duration::from_secs(1);
        }
        let wait = Duration::from_nanos((lines.issued * gap_ns).saturating_sub(lines.now_ns()));
        if wait < SPIN_BELOW { Duration::ZERO } else { wait }
    }

    fn turn(&mut self, wait: Duration) -> Result<()> {
        self.lines.send_all(self.reactor.ops());
        self.reactor.submit_and_wait(Some(wait)).context("the generator's ring failed")?;
        let (lines, connections) = (&mut self.lines, &self.connections);
        self.reactor.completions(usize::MAX, |_, completion| lines.complete(connections, completion));
        if let Some(error) = self.lines.failed.take() {
            return Err(error);
        }
        let lines = &self.lines;
        if lines.began.elapsed() > SAMPLE_TIME_MAX {
            bail!(
                "of {} messages {} have arrived and {} were answered",
                lines.issued,
                lines.arrived,
                lines.answered
            );
        }
        Ok(())
    }
}

impl Lines {
    fn new(talk: Box<dyn Talk>, slots: &[Slot]) -> Result<Self> {
        let line = |slot: &Slot| Line {
            slot: *slot,
            waiting: Vec::new(),
            sending: false,
            in_flight: 0,
            due_ns: VecDeque::new(),
        };
        Ok(Self {
            talk,
            lines: slots.iter().map(line).collect(),
            due: Vec::new(),
            spare: Vec::new(),
            issued: 0,
            answered: 0,
            arrived: 0,
            messages: 0,
            pace: Pace::InFlight(1),
            began: Instant::now(),
            latency_ns: histogram()?,
            failed: None,
        })
    }

    fn begin(&mut self, messages: u64, pace: Pace) -> Result<()> {
        (self.issued, self.answered, self.arrived) = (0, 0, 0);
        (self.messages, self.pace, self.began) = (messages, pace, Instant::now());
        self.latency_ns = histogram()?;
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.arrived == self.messages && self.answered == self.messages
    }

    fn now_ns(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    /// In a closed loop: the next message, unless all were issued.
    fn issue_next(&mut self, connection: u32) {
        if self.issued < self.messages {
            self.issue(connection, self.now_ns());
        }
    }

    fn issue(&mut self, connection: u32, due_ns: u64) {
        let line = &mut self.lines[connection as usize];
        line.due_ns.push_back(due_ns);
        line.in_flight += 1;
        self.issued += 1;
        self.append(connection, |talk, out| talk.compose(connection as usize, out));
    }

    /// Lets something be appended to what a connection sends next.
    fn append<T>(&mut self, connection: u32, write: impl FnOnce(&mut dyn Talk, &mut Vec<u8>) -> T) -> T {
        let line = &mut self.lines[connection as usize];
        let idle = line.waiting.is_empty() && !line.sending;
        if line.waiting.capacity() == 0 {
            line.waiting = self.spare.pop().unwrap_or_default();
        }
        let written = write(self.talk.as_mut(), &mut line.waiting);
        if idle && !line.waiting.is_empty() {
            self.due.push(connection);
        }
        written
    }

    fn complete(&mut self, connections: &[u32], completion: Completion<'_>) {
        match completion {
            Completion::Received { slot, bytes } => {
                let connection = connections[slot.index()];
                let taken = self.append(connection, |talk, out| talk.take(connection as usize, bytes, out));
                match taken {
                    Ok(progress) => self.progress(connection, progress),
                    Err(error) => self.fail(error.context(format!("connection {connection}"))),
                }
            }
            Completion::Sent { slot, mut buffer, result } => {
                buffer.clear();
                self.spare.push(buffer);
                let connection = connections[slot.index()];
                let line = &mut self.lines[connection as usize];
                line.sending = false;
                if !line.waiting.is_empty() {
                    self.due.push(connection);
                }
                if let Err(error) = result {
                    self.fail(error.into());
                }
            }
            Completion::ReceiveEnded { end, .. } => {
                self.fail(anyhow::anyhow!("the server closed a connection: {end:?}"));
            }
            _ => {}
        }
    }

    fn fail(&mut self, error: anyhow::Error) {
        self.failed.get_or_insert(error);
    }

    fn progress(&mut self, connection: u32, progress: Progress) {
        if progress.arrived > 0 {
            let now_ns = self.now_ns();
            let sender = self.talk.sender_to(connection as usize);
            for _ in 0..progress.arrived {
                let Some(due_ns) = self.lines[sender].due_ns.pop_front() else {
                    return self.fail(anyhow::anyhow!("a message arrived that nobody sent"));
                };
                self.latency_ns.saturating_record(now_ns.saturating_sub(due_ns));
            }
            self.arrived += u64::from(progress.arrived);
        }
        self.answered += u64::from(progress.answered);
        let line = &mut self.lines[connection as usize];
        let Some(in_flight) = line.in_flight.checked_sub(progress.answered) else {
            return self.fail(anyhow::anyhow!("an answer to what nobody sent"));
        };
        line.in_flight = in_flight;
        if matches!(self.pace, Pace::InFlight(_)) {
            (0..progress.answered).for_each(|_| self.issue_next(connection));
        }
    }

    fn send_all(&mut self, ops: &mut Ops) {
        for connection in self.due.drain(..) {
            let line = &mut self.lines[connection as usize];
            line.sending = true;
            ops.send(line.slot, std::mem::take(&mut line.waiting));
        }
    }
}
