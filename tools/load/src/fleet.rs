//! Thousands of the SDK's machines over non-blocking sockets, in one thread.
//!
//! The fleet moves bytes and tells time; what a device wants or learns is between its machine and the [`Audience`]. One
//! input buffer, one output buffer and one encoder serve all devices, so a delivery allocates nothing. Whatever is told
//! counts as stored when the call returns.

mod dial;
mod timers;

use crate::limits::{DIAL_WAIT_NS, EVENTS_MAX, OPENING_MAX, READ_BYTES, READS_MAX};
use dial::Dialer;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tidegate_client::{ConnectionState, Encoder, Event, Machine};
use tidegate_ids::MonotonicNs;
use timers::Timers;

/// Who is told what the machines say.
pub trait Audience {
    /// Something happened on a device.
    fn event(&mut self, device: usize, event: &Event<'_>, now: MonotonicNs);
}

/// How a device goes offline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// With a close frame.
    Politely,
    /// The socket is gone, as in a tunnel; what was not acknowledged comes again.
    Abruptly,
}

/// See the module.
pub struct Fleet {
    poll: Poll,
    dialer: Dialer,
    devices: Vec<Device>,
    encoder: Encoder,
    input: Vec<u8>,
    out: Vec<u8>,
    timers: Timers,
    /// Who is to be looked at: something has changed.
    stirred: Vec<u32>,
    /// Whose socket may hold more than was read.
    unread: Vec<u32>,
    /// Who waits to be connected.
    waiting: VecDeque<u32>,
    opening: usize,
    open: usize,
    started: Instant,
    /// Connects that succeeded.
    connects: u64,
    /// Sockets that the other side, or the network, ended, or that could not be opened.
    losses: u64,
    /// What the system said of the last connect that failed.
    failed: Option<io::Error>,
}

struct Device {
    machine: Machine,
    socket: Option<TcpStream>,
    phase: Phase,
    /// What the socket did not take.
    unsent: Vec<u8>,
    is_stirred: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Without a socket, and without the wish for one.
    Held,
    /// Without a socket.
    Idle,
    /// In the queue of those who want one.
    Waiting,
    /// The connect is on its way, up to this time.
    Opening(MonotonicNs),
    Open,
}

impl Fleet {
    /// A fleet of these machines, all of which connect as soon as they want to.
    ///
    /// # Errors
    /// The system gives no poll.
    pub fn new(gateway: SocketAddr, machines: impl Iterator<Item = Machine>) -> io::Result<Self> {
        let device = |machine| Device {
            machine,
            socket: None,
            phase: Phase::Idle,
            unsent: Vec::new(),
            is_stirred: true,
        };
        let devices: Vec<_> = machines.map(device).collect();
        let count = devices.len();
        Ok(Self {
            poll: Poll::new()?,
            dialer: Dialer::new(gateway),
            devices,
            encoder: Encoder::new(),
            input: vec![0; READ_BYTES],
            out: Vec::new(),
            timers: Timers::new(count),
            stirred: (0..count as u32).collect(),
            unread: Vec::new(),
            waiting: VecDeque::with_capacity(count),
            opening: 0,
            open: 0,
            started: Instant::now(),
            connects: 0,
            losses: 0,
            failed: None,
        })
    }

    /// The fleet's clock.
    pub fn now(&self) -> MonotonicNs {
        // One second more, because zero means nothing.
        MonotonicNs(MonotonicNs::SECOND + self.started.elapsed().as_nanos() as u64)
    }

    /// How many devices have a socket.
    pub const fn open(&self) -> usize {
        self.open
    }

    /// Connects that succeeded, and sockets that ended or could not be opened against our will.
    pub const fn connects_and_losses(&self) -> (u64, u64) {
        (self.connects, self.losses)
    }

    /// Why nobody was ever reached, if that is so and a connect has failed.
    pub fn refusal(&self) -> Option<String> {
        let error = self.failed.as_ref().filter(|_| self.connects == 0)?;
        let address = self.dialer.gateway();
        Some(match error.kind() {
            ErrorKind::ConnectionRefused => format!("nobody listens at {address} (is the gateway running?)"),
            _ => format!("no connection to {address}: {error}"),
        })
    }

    /// A device's machine.
    pub fn machine(&self, device: usize) -> &Machine {
        &self.devices[device].machine
    }

    /// Does something with a machine; what that leads to is written by the next turn.
    pub fn with<T>(&mut self, device: usize, act: impl FnOnce(&mut Machine, MonotonicNs) -> T) -> T {
        let now = self.now();
        let result = act(&mut self.devices[device].machine, now);
        self.stir(device);
        result
    }

    /// A device goes offline until [`Fleet::go_online`].
    pub fn go_offline(&mut self, device: usize, leaving: Leaving, audience: &mut impl Audience) {
        let now = self.now();
        if leaving == Leaving::Politely {
            let machine = &mut self.devices[device].machine;
            machine.close(&mut |event| audience.event(device, &event, now));
            self.write(device, audience);
        }
        self.drop_socket(device, audience);
        self.devices[device].phase = Phase::Held;
        self.timers.cancel(device);
    }

    /// A device connects again, at once.
    pub fn go_online(&mut self, device: usize) {
        let now = self.now();
        let slot = &mut self.devices[device];
        if slot.phase == Phase::Held {
            slot.phase = Phase::Idle;
            slot.machine.resume(now);
            self.stir(device);
        }
    }

    /// Does what is due, then waits for the network, at most so long.
    ///
    /// # Errors
    /// The system's poll fails.
    pub fn turn(
        &mut self,
        events: &mut Events,
        wait: Duration,
        audience: &mut impl Audience,
    ) -> io::Result<()> {
        self.settle(audience);
        let now = self.now();
        let next = self.timers.next().map(|at| Duration::from_nanos(at.since(now)));
        let busy = !self.unread.is_empty();
        let wait = if busy { Duration::ZERO } else { next.map_or(wait, |next| next.min(wait)) };
        match self.poll.poll(events, Some(wait)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => events.clear(),
            result => result?,
        }
        let mut unread = std::mem::take(&mut self.unread);
        unread.drain(..).for_each(|device| self.read(device as usize, true, audience));
        if self.unread.is_empty() {
            self.unread = unread;
        }
        for event in events.iter() {
            let device = event.token().0;
            if event.is_writable() || event.is_error() {
                self.writable(device, audience);
            }
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                self.read(device, event.is_read_closed() || event.is_error(), audience);
            }
        }
        self.ring(audience);
        self.settle(audience);
        Ok(())
    }

    /// A buffer for [`Fleet::turn`].
    pub fn events() -> Events {
        Events::with_capacity(EVENTS_MAX)
    }

    fn stir(&mut self, device: usize) {
        let slot = &mut self.devices[device];
        if !slot.is_stirred {
            slot.is_stirred = true;
            self.stirred.push(device as u32);
        }
    }

    /// Looks at everybody who was stirred, and connects who waits.
    fn settle(&mut self, audience: &mut impl Audience) {
        while let Some(device) = self.stirred.pop() {
            self.devices[device as usize].is_stirred = false;
            self.look(device as usize, audience);
        }
        while self.opening < OPENING_MAX {
            let Some(device) = self.waiting.pop_front() else { return };
            self.dial(device as usize, audience);
        }
    }

    /// Writes what a device has to say, closes what is to be closed, and sets its alarm.
    fn look(&mut self, device: usize, audience: &mut impl Audience) {
        if self.devices[device].phase == Phase::Open {
            self.write(device, audience);
        }
        if self.devices[device].machine.wants_close() {
            self.drop_socket(device, audience);
        }
        let now = self.now();
        let slot = &mut self.devices[device];
        let alarm = match slot.phase {
            Phase::Held | Phase::Waiting => None,
            Phase::Opening(until) => Some(until),
            Phase::Open => slot.machine.next_timeout(),
            Phase::Idle => match slot.machine.connection() {
                ConnectionState::Offline(at) if at <= now => {
                    slot.phase = Phase::Waiting;
                    self.waiting.push_back(device as u32);
                    None
                }
                ConnectionState::Offline(at) => Some(at),
                _ => None,
            },
        };
        if let Some(at) = alarm {
            self.timers.set(device, at);
        }
    }

    fn dial(&mut self, device: usize, audience: &mut impl Audience) {
        let now = self.now();
        let slot = &mut self.devices[device];
        if slot.phase != Phase::Waiting {
            return;
        }
        slot.phase = Phase::Idle;
        if slot.machine.poll_connect(now).is_none() {
            return self.look(device, audience);
        }
        match self.open_socket(device) {
            Ok(socket) => {
                let slot = &mut self.devices[device];
                slot.socket = Some(socket);
                let until = now.after(DIAL_WAIT_NS);
                slot.phase = Phase::Opening(until);
                self.opening += 1;
                self.timers.set(device, until);
            }
            Err(error) => {
                self.failed = Some(error);
                self.lose(device, audience);
            }
        }
    }

    fn open_socket(&mut self, device: usize) -> io::Result<TcpStream> {
        let mut socket = self.dialer.dial()?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut socket, Token(device), interest)?;
        Ok(socket)
    }

    /// The socket is open, or takes bytes again.
    fn writable(&mut self, device: usize, audience: &mut impl Audience) {
        if let Phase::Opening(_) = self.devices[device].phase {
            self.opened(device, audience);
        }
        if self.devices[device].phase == Phase::Open {
            self.stir(device);
        }
    }

    fn opened(&mut self, device: usize, audience: &mut impl Audience) {
        let Some(socket) = &self.devices[device].socket else { return };
        if let Ok(Some(error)) | Err(error) = socket.take_error() {
            self.failed = Some(error);
            return self.lose(device, audience);
        }
        match socket.peer_addr() {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotConnected => return,
            Err(_) => return self.lose(device, audience),
        }
        self.opening -= 1;
        self.open += 1;
        self.connects += 1;
        let now = self.now();
        let slot = &mut self.devices[device];
        slot.phase = Phase::Open;
        slot.machine.connected(now, &mut |event| audience.event(device, &event, now));
        self.stir(device);
    }

    /// Reads what is there. A short read has emptied the socket; its end, if it came with this event, is read too.
    fn read(&mut self, device: usize, to_the_end: bool, audience: &mut impl Audience) {
        if self.devices[device].phase != Phase::Open {
            return;
        }
        let mut input = std::mem::take(&mut self.input);
        let end = self.read_into(device, to_the_end, &mut input, audience);
        self.input = input;
        match end {
            ReadEnd::Empty => self.stir(device),
            ReadEnd::More => {
                self.stir(device);
                self.unread.push(device as u32);
            }
            ReadEnd::Closed => self.lose(device, audience),
        }
    }

    fn read_into(
        &mut self,
        device: usize,
        to_the_end: bool,
        input: &mut [u8],
        audience: &mut impl Audience,
    ) -> ReadEnd {
        for _ in 0..READS_MAX {
            let slot = &mut self.devices[device];
            let Some(socket) = &mut slot.socket else { return ReadEnd::Empty };
            let count = match socket.read(input) {
                Ok(0) => return ReadEnd::Closed,
                Ok(count) => count,
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return ReadEnd::Empty,
                    ErrorKind::Interrupted => continue,
                    _ => return ReadEnd::Closed,
                },
            };
            let now = MonotonicNs(MonotonicNs::SECOND + self.started.elapsed().as_nanos() as u64);
            slot.machine.received(&mut input[..count], now, &mut |event| audience.event(device, &event, now));
            slot.machine.stored_all(now);
            if count < input.len() && !to_the_end {
                return ReadEnd::Empty;
            }
        }
        ReadEnd::More
    }

    /// Writes until the machine has nothing more to say or the socket takes nothing more.
    fn write(&mut self, device: usize, audience: &mut impl Audience) {
        let now = self.now();
        let slot = &mut self.devices[device];
        let Some(socket) = slot.socket.as_mut().filter(|_| slot.phase == Phase::Open) else { return };
        let mut result = flush(socket, &mut slot.unsent);
        while matches!(result, Ok(true)) && slot.machine.wants_transmit() {
            self.out.clear();
            slot.machine.transmit(&mut self.encoder, &mut self.out, now);
            result = send(socket, &self.out, &mut slot.unsent);
        }
        if result.is_err() {
            self.lose(device, audience);
        }
    }

    /// The socket ended, or could not be opened, against our will.
    fn lose(&mut self, device: usize, audience: &mut impl Audience) {
        self.losses += 1;
        self.drop_socket(device, audience);
    }

    fn drop_socket(&mut self, device: usize, audience: &mut impl Audience) {
        let now = self.now();
        let slot = &mut self.devices[device];
        match slot.phase {
            Phase::Opening(_) => self.opening -= 1,
            Phase::Open => self.open -= 1,
            Phase::Held | Phase::Idle | Phase::Waiting => {}
        }
        slot.socket = None;
        slot.phase = Phase::Idle;
        slot.unsent = Vec::new();
        slot.machine.disconnected(now, &mut |event| audience.event(device, &event, now));
        self.stir(device);
    }

    /// Whose time has come.
    fn ring(&mut self, audience: &mut impl Audience) {
        let now = self.now();
        while let Some(device) = self.timers.take_due(now) {
            match self.devices[device].phase {
                Phase::Opening(until) if until <= now => self.lose(device, audience),
                Phase::Open => {
                    let slot = &mut self.devices[device];
                    slot.machine.tick(now, &mut |event| audience.event(device, &event, now));
                }
                Phase::Held | Phase::Idle | Phase::Waiting | Phase::Opening(_) => {}
            }
            self.stir(device);
        }
    }
}

enum ReadEnd {
    Empty,
    More,
    Closed,
}

/// Gives whether everything is out.
fn flush(socket: &mut TcpStream, unsent: &mut Vec<u8>) -> io::Result<bool> {
    if unsent.is_empty() {
        return Ok(true);
    }
    let sent = send_some(socket, unsent)?;
    unsent.drain(..sent);
    Ok(unsent.is_empty())
}

/// Gives whether everything is out; what is not goes to `unsent`.
fn send(socket: &mut TcpStream, bytes: &[u8], unsent: &mut Vec<u8>) -> io::Result<bool> {
    let sent = send_some(socket, bytes)?;
    unsent.extend_from_slice(&bytes[sent..]);
    Ok(unsent.is_empty())
}

fn send_some(socket: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut sent = 0;
    while sent < bytes.len() {
        match socket.write(&bytes[sent..]) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}
