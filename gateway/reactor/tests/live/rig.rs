//! A reactor under test: it records what it completes, and turns until something has happened.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;
use tidegate_reactor::{Completion, Config, Counters, Ops, Reactor, ReceiveEnd, Slot, listeners};

/// A small ring: 128 slots, 16 buffers.
pub fn small() -> Config {
    Config {
        submission_entries: 64,
        completion_entries: 256,
        slots: 128,
        buffers: 16,
        buffer_bytes: 256,
        ..Config::default()
    }
}

/// What has been completed, in words a test can compare.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    Accepted(Slot),
    AcceptFailed(ErrorKind),
    Eof(Slot),
    Failed(Slot, ErrorKind),
    Sent(Slot, usize, Result<(), i32>),
    Closed(Slot),
    Adopted(Slot, u64),
    InsertFailed(u64),
    HandedOver(Slot, u64, Result<(), i32>),
    WriteDone(u64, Result<(), i32>),
    Woken,
}

/// A ring and everything it has reported.
pub struct Rig {
    pub reactor: Reactor,
    pub seen: Vec<Seen>,
    pub bytes: HashMap<Slot, Vec<u8>>,
}

fn code(result: std::io::Result<()>) -> Result<(), i32> {
    result.map_err(|error| error.raw_os_error().unwrap_or(0))
}

impl Rig {
    pub fn new(config: &Config) -> Self {
        let reactor = Reactor::new(config).expect("this machine allows io_uring");
        Self { reactor, seen: Vec::new(), bytes: HashMap::new() }
    }

    pub fn ops(&mut self) -> &mut Ops {
        self.reactor.ops()
    }

    pub fn counters(&self) -> Counters {
        *self.reactor.counters()
    }

    /// Listens on a free port of the loopback.
    pub fn listen(&mut self) -> SocketAddr {
        let (mut sockets, address) = listeners(([127, 0, 0, 1], 0).into(), 1).expect("a free port");
        self.ops().listen(sockets.pop().expect("one listener"));
        self.reactor.submit_and_wait(Some(Duration::ZERO)).expect("the ring works");
        address
    }

    /// A connection and the slot of its other side.
    pub fn connect(&mut self, address: SocketAddr) -> (TcpStream, Slot) {
        let stream = TcpStream::connect(address).expect("the ring listens");
        let slot = self.until(|rig| {
            rig.take(|seen| match seen {
                Seen::Accepted(slot) => Some(*slot),
                _ => None,
            })
        });
        (stream, slot)
    }

    /// One turn, which sleeps at most for the timeout.
    pub fn turn(&mut self, timeout: Duration) {
        self.reactor.submit_and_wait(Some(timeout)).expect("the ring works");
        let (seen, bytes) = (&mut self.seen, &mut self.bytes);
        self.reactor.completions(usize::MAX, |_, completion| record(seen, bytes, completion));
    }

    /// Turns until the condition gives something. A condition that never does hangs the test, which is then ended by its
    /// runner: nothing here is judged by time.
    pub fn until<T>(&mut self, mut condition: impl FnMut(&mut Self) -> Option<T>) -> T {
        loop {
            if let Some(value) = condition(self) {
                return value;
            }
            self.turn(Duration::from_millis(20));
        }
    }

    pub fn until_seen(&mut self, expected: &Seen) {
        self.until(|rig| rig.take(|seen| (seen == expected).then_some(())));
    }

    pub fn until_bytes(&mut self, slot: Slot, count: usize) {
        self.until(|rig| (rig.bytes.get(&slot).map_or(0, Vec::len) >= count).then_some(()));
    }

    /// Removes the first thing seen that matches.
    pub fn take<T>(&mut self, matches: impl Fn(&Seen) -> Option<T>) -> Option<T> {
        let place = self.seen.iter().position(|seen| matches(seen).is_some())?;
        matches(&self.seen.remove(place))
    }
}

fn record(seen: &mut Vec<Seen>, received: &mut HashMap<Slot, Vec<u8>>, completion: Completion<'_>) {
    seen.push(match completion {
        Completion::Received { slot, bytes } => {
            received.entry(slot).or_default().extend_from_slice(bytes);
            return;
        }
        Completion::Accepted { slot } => Seen::Accepted(slot),
        Completion::AcceptFailed { error } => Seen::AcceptFailed(error.kind()),
        Completion::ReceiveEnded { slot, end: ReceiveEnd::Eof } => Seen::Eof(slot),
        Completion::ReceiveEnded { slot, end: ReceiveEnd::Error(error) } => Seen::Failed(slot, error.kind()),
        Completion::Sent { slot, buffer, result } => Seen::Sent(slot, buffer.len(), code(result)),
        Completion::SlotClosed { slot } => Seen::Closed(slot),
        Completion::Adopted { slot, key } => Seen::Adopted(slot, key),
        Completion::InsertFailed { key, .. } => Seen::InsertFailed(key),
        Completion::HandedOver { slot, key, result } => Seen::HandedOver(slot, key, code(result)),
        Completion::WriteDone { token, result } => Seen::WriteDone(token, code(result)),
        Completion::Woken => Seen::Woken,
    });
}
