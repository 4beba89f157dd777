//! Load that is written down: a device that sends as fast as it is answered, across the deaths of its gateway.

use crate::expected::{Acknowledged, Command, ExpectedFile};
use crate::frame::Arrived;
use crate::limits::UNANSWERED_MAX;
use crate::wire::{Wire, client_id, message};
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use tidegate_ids::{CommandNumber, ConversationId, DeviceId, UserId};
use tidegate_schema::{ErrorCode, Send, ServerFrame};

#[derive(Clone, Debug)]
struct Sent {
    command: Command,
    message: Vec<u8>,
}

/// A device that sends to its conversations in turn. Commands without an answer are sent again with their number and
/// client id when it connects the next time, as PROTOCOL has it. What it sends and what is acknowledged stands in an
/// [`ExpectedFile`].
#[derive(Debug)]
pub struct Sender {
    user: UserId,
    device: DeviceId,
    token: Vec<u8>,
    attempt: u64,
    numbers: Vec<(ConversationId, u64)>,
    unanswered: VecDeque<Sent>,
}

impl Sender {
    /// A device that has not sent anything yet. All its messages differ from those of every other device.
    #[must_use]
    pub fn new(user: UserId, device: DeviceId, token: Vec<u8>, conversations: &[ConversationId]) -> Self {
        let numbers = conversations.iter().map(|conversation| (*conversation, 0)).collect();
        Self { user, device, token, attempt: 0, numbers, unanswered: VecDeque::new() }
    }

    /// Connects and sends until the socket ends, by the gateway's death or by a refusal that may be temporary: what
    /// has no answer is then sent in the next run. A gateway that is dead already is one that died. Every
    /// acknowledgement is also counted for who watches.
    pub fn run(&mut self, address: SocketAddr, expected: &ExpectedFile, watched: &AtomicU64) {
        self.attempt += 1;
        let Some(mut wire) = Wire::try_open(address) else { return };
        let hello = wire.say_hello(&self.token, self.device, self.attempt);
        loop {
            match wire.arrive() {
                Arrived::Frame(frame) if frame.header.id == hello => break,
                Arrived::Frame(_) => {}
                Arrived::Closed(_) | Arrived::Ended => return,
            }
        }
        let mut flying: HashMap<u64, Sent> = HashMap::new();
        let mut again = std::mem::take(&mut self.unanswered);
        loop {
            while flying.len() < UNANSWERED_MAX {
                let sent = again.pop_front().unwrap_or_else(|| self.next(expected));
                flying.insert(send(&mut wire, &sent), sent);
            }
            match wire.arrive() {
                Arrived::Frame(frame) if frame.header.is_numbered() => wire.acknowledge(),
                Arrived::Frame(frame) => {
                    let Some(&Sent { command, .. }) = flying.get(&frame.header.id) else { continue };
                    match frame.read() {
                        ServerFrame::SendAck(ack) => {
                            let (sequence, message_id, time) = (ack.sequence, ack.message_id, ack.time);
                            expected.acknowledge(&Acknowledged { command, sequence, message_id, time });
                            flying.remove(&frame.header.id);
                            watched.fetch_add(1, Ordering::Relaxed);
                        }
                        ServerFrame::Error(error) if is_pause(error.code) => break,
                        other => panic!("{command:?} got {other:?}"),
                    }
                }
                Arrived::Closed(_) | Arrived::Ended => break,
            }
        }
        let mut left: Vec<Sent> = flying.into_values().chain(again).collect();
        left.sort_by_key(|sent| sent.command);
        self.unanswered = left.into();
    }

    /// The next send, written down.
    fn next(&mut self, expected: &ExpectedFile) -> Sent {
        // The conversation that was used least is next.
        let least = self.numbers.iter_mut().min_by_key(|(_, number)| *number);
        let (conversation, last) = least.expect("a sender has conversations");
        *last += 1;
        let (conversation, number) = (*conversation, CommandNumber(*last));
        let command = Command { conversation, user: self.user, device: self.device, number };
        let text = format!("{number} of device {} of user {} to {conversation}", self.device, self.user);
        expected.send(&command, &text);
        Sent { command, message: message(&text) }
    }
}

fn send(wire: &mut Wire, sent: &Sent) -> u64 {
    let Command { conversation, number, .. } = sent.command;
    wire.request(&Send { conversation, number, client_id: client_id(number.0), message: &sent.message })
}

/// Whether a gateway that is well, or about to go, may answer this to a command that is as it should be.
fn is_pause(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::Unavailable | ErrorCode::Overloaded)
}
