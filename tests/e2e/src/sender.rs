//! Load that remembers: a device that sends as fast as it is answered, across the deaths of its gateway.

use crate::frame::Arrived;
use crate::limits::UNANSWERED_MAX;
use crate::wire::{Wire, client_id, message};
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use tidegate_ids::{CommandNumber, ConversationId, DeviceId, UserId};
use tidegate_schema::{ErrorCode, Send, SendAck, ServerFrame};

/// A send that the gateway said is synced.
#[derive(Clone, Debug)]
pub struct Acknowledged {
    /// Where.
    pub conversation: ConversationId,
    /// What the gateway said.
    pub ack: SendAck,
    /// What was sent.
    pub message: Vec<u8>,
}

#[derive(Clone, Debug)]
struct Command {
    conversation: ConversationId,
    number: u64,
    message: Vec<u8>,
}

/// A device that sends to its conversations in turn. Commands without an answer are sent again with their number and
/// client id when it connects the next time, as PROTOCOL has it.
#[derive(Debug)]
pub struct Sender {
    user: UserId,
    device: DeviceId,
    token: Vec<u8>,
    attempt: u64,
    numbers: Vec<(ConversationId, u64)>,
    unanswered: VecDeque<Command>,
    /// Everything that was acknowledged.
    pub acknowledged: Vec<Acknowledged>,
}

impl Sender {
    /// A device that has not sent anything yet. All its messages differ from those of every other device.
    #[must_use]
    pub fn new(user: UserId, device: DeviceId, token: Vec<u8>, conversations: &[ConversationId]) -> Self {
        let numbers = conversations.iter().map(|conversation| (*conversation, 0)).collect();
        let (unanswered, acknowledged) = (VecDeque::new(), Vec::new());
        Self { user, device, token, attempt: 0, numbers, unanswered, acknowledged }
    }

    /// Connects and sends until the socket ends, by the gateway's death or by a refusal that may be temporary: what
    /// has no answer is then sent in the next run. Every acknowledgement is also counted for who watches.
    pub fn run(&mut self, address: SocketAddr, watched: &AtomicU64) {
        self.attempt += 1;
        let mut wire = Wire::open(address);
        let hello = wire.say_hello(&self.token, self.device, self.attempt);
        loop {
            match wire.arrive() {
                Arrived::Frame(frame) if frame.header.id == hello => break,
                Arrived::Frame(_) => {}
                Arrived::Closed(_) | Arrived::Ended => return,
            }
        }
        let mut flying: HashMap<u64, Command> = HashMap::new();
        let mut again = std::mem::take(&mut self.unanswered);
        loop {
            while flying.len() < UNANSWERED_MAX {
                let command = again.pop_front().unwrap_or_else(|| self.next());
                let request = send(&mut wire, &command);
                flying.insert(request, command);
            }
            match wire.arrive() {
                Arrived::Frame(frame) if frame.header.is_numbered() => wire.acknowledge(),
                Arrived::Frame(frame) => {
                    let Some(command) = flying.get(&frame.header.id) else { continue };
                    match frame.read() {
                        ServerFrame::SendAck(ack) => {
                            let Command { conversation, message, .. } = command.clone();
                            self.acknowledged.push(Acknowledged { conversation, ack, message });
                            flying.remove(&frame.header.id);
                            watched.fetch_add(1, Ordering::Relaxed);
                        }
                        ServerFrame::Error(error) if is_pause(error.code) => break,
                        other => panic!("user {}: {command:?} got {other:?}", self.user),
                    }
                }
                Arrived::Closed(_) | Arrived::Ended => break,
            }
        }
        let mut left: Vec<Command> = flying.into_values().chain(again).collect();
        left.sort_by_key(|command| (command.conversation, command.number));
        self.unanswered = left.into();
    }

    fn next(&mut self) -> Command {
        // The conversation that was used least is next.
        let least = self.numbers.iter_mut().min_by_key(|(_, number)| *number);
        let (conversation, last) = least.expect("a sender has conversations");
        *last += 1;
        let text = format!("{} of device {} of user {}", last, self.device, self.user);
        Command { conversation: *conversation, number: *last, message: message(&text) }
    }
}

fn send(wire: &mut Wire, command: &Command) -> u64 {
    wire.request(&Send {
        conversation: command.conversation,
        number: CommandNumber(command.number),
        client_id: client_id(command.number),
        message: &command.message,
    })
}

/// Whether a gateway that is well, or about to go, may answer this to a command that is as it should be.
fn is_pause(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::Unavailable | ErrorCode::Overloaded)
}
