//! What one device does while a disk fails: it sends, reads back, and remembers what it was told.

use std::collections::BTreeMap;
use std::time::Instant;
use tidegate_ids::{ClientId, CommandNumber, ConversationId, DeviceId, Sequence, UserId};
use tidegate_schema::{
    Body, GetRange, GroupCreate, List, MessageFields, MessageKind, RangeSpan, Send, SendAck, ServerFrame,
    SkipReason, Stamp,
};
use tidegate_tests_e2e::limits::{LOOK_INTERVAL, WAIT};
use tidegate_tests_e2e::{Arrived, Gateway, OwnedFrame, Wire, get, message};

pub(super) const AUTHOR: UserId = UserId(1001);
const OTHER: UserId = UserId(1002);

/// So long that some of them fill a segment.
const TEXT_BYTES: usize = 30_000;

/// A send under its number.
#[derive(Clone, Debug)]
struct Sent {
    conversation: ConversationId,
    number: u64,
    message: Vec<u8>,
    ack: Option<SendAck>,
}

/// What a device remembers, across the lives of its gateway.
#[derive(Clone, Debug, Default)]
pub(super) struct Story {
    attempt: u64,
    group: Option<ConversationId>,
    sent: Vec<Sent>,
    /// What an operator had erased.
    pub(super) erased: Vec<(ConversationId, Sequence)>,
}

/// What a conversation gives out: records, and what is skipped.
type Given = BTreeMap<Sequence, Result<(Stamp, Vec<u8>), SkipReason>>;

/// A device in one life of a gateway.
pub(super) struct Device<'a> {
    gateway: &'a Gateway,
    token: &'a [u8],
    wire: Option<Wire>,
}

impl<'a> Device<'a> {
    pub(super) fn new(gateway: &'a Gateway, token: &'a [u8]) -> Self {
        Self { gateway, token, wire: None }
    }

    /// What is answered; nothing if the gateway closes the connection instead.
    fn ask<B: Body>(&mut self, attempt: &mut u64, body: &B) -> Option<OwnedFrame> {
        if self.wire.is_none() {
            *attempt += 1;
            let mut wire = Wire::open(self.gateway.ws);
            let hello = wire.say_hello(self.token, DeviceId(1), *attempt);
            let answer = answer(&mut wire, hello)?;
            match answer.read() {
                ServerFrame::Welcome(_) => {}
                ServerFrame::Error(error) if error.temporary => return None,
                other => panic!("not welcome: {other:?}"),
            }
            self.wire = Some(wire);
        }
        let wire = self.wire.as_mut()?;
        let id = wire.request(body);
        let answer = answer(wire, id);
        if answer.is_none() {
            self.wire = None;
        }
        answer
    }

    /// Tries until it is done, or the gateway says to everybody that it takes nothing any more: one or the other must be.
    #[track_caller]
    fn insist<T>(&mut self, what: &str, mut attempt: impl FnMut(&mut Self) -> Option<T>) -> Option<T> {
        let end = Instant::now() + WAIT;
        loop {
            if let Some(done) = attempt(self) {
                return Some(done);
            }
            if is_read_only(self.gateway) {
                return None;
            }
            assert!(
                Instant::now() < end,
                "{what}: refused again and again by a gateway that says that it is ready"
            );
            std::thread::sleep(LOOK_INTERVAL);
        }
    }
}

fn answer(wire: &mut Wire, id: u64) -> Option<OwnedFrame> {
    loop {
        match wire.arrive() {
            Arrived::Frame(frame) if frame.header.is_numbered() => wire.acknowledge(),
            Arrived::Frame(frame) if frame.header.id == id => return Some(frame),
            Arrived::Frame(_) => {}
            Arrived::Closed(_) | Arrived::Ended => return None,
        }
    }
}

/// Whether it says so, everywhere where it should.
#[track_caller]
pub(super) fn is_read_only(gateway: &Gateway) -> bool {
    let ready = get(gateway.admin, "/readyz");
    let latched = ready.status == 503 && ready.body.contains("read-only");
    if latched {
        assert_eq!(gateway.metric("tidegate_latched", ""), 1);
        assert!(gateway.metric("tidegate_events_total", "event=\"log_writes_failed\"") > 0);
    }
    latched
}

impl Story {
    /// Sends to a group and to one other user.
    #[track_caller]
    pub(super) fn go_on(&mut self, device: &mut Device<'_>, sends: usize) {
        if self.group.is_none() {
            self.create_group(device);
        }
        for index in 0..sends {
            let direct = ConversationId::direct(AUTHOR, OTHER);
            let conversation = self.group.filter(|_| index % 3 == 0).unwrap_or(direct);
            let own = self.sent.iter().filter(|sent| sent.conversation == conversation);
            let number = own.count() as u64 + 1;
            let text = format!("{number} {}", "long ".repeat(TEXT_BYTES / 5));
            self.sent.push(Sent { conversation, number, message: message(&text), ack: None });
            self.deliver(device);
        }
    }

    #[track_caller]
    fn create_group(&mut self, device: &mut Device<'_>) {
        let create = GroupCreate { client_id: ClientId([9; 16]), name: b"group", users: List::new(&[OTHER]) };
        let attempt = &mut self.attempt;
        self.group = device.insist("a group", |device| {
            let answer = device.ask(attempt, &create)?;
            match answer.read() {
                ServerFrame::GroupCreated(created) => Some(created.conversation),
                ServerFrame::Error(error) if error.temporary => None,
                other => panic!("no group: {other:?}"),
            }
        });
    }

    /// Sends again what has no answer yet, in order, as clients do.
    #[track_caller]
    pub(super) fn deliver(&mut self, device: &mut Device<'_>) {
        let attempt = &mut self.attempt;
        for sent in self.sent.iter_mut().filter(|sent| sent.ack.is_none()) {
            sent.ack = device.insist("a send", |device| {
                let send = Send {
                    conversation: sent.conversation,
                    number: CommandNumber(sent.number),
                    client_id: ClientId(u128::from(sent.number).to_be_bytes()),
                    message: &sent.message,
                };
                let answer = device.ask(attempt, &send)?;
                match answer.read() {
                    ServerFrame::SendAck(ack) => Some(ack),
                    ServerFrame::Error(error) if error.temporary => None,
                    other => panic!("number {} got {other:?}", sent.number),
                }
            });
            if sent.ack.is_none() {
                return;
            }
        }
    }

    /// How many sends were acknowledged.
    pub(super) fn acknowledged(&self) -> usize {
        self.sent.iter().filter(|sent| sent.ack.is_some()).count()
    }

    /// Everything that was acknowledged can be read, also of a gateway that takes nothing any more, and nothing else is given
    /// out but what was sent.
    #[track_caller]
    pub(super) fn read_all(&mut self, device: &mut Device<'_>) {
        for conversation in self.group.into_iter().chain([ConversationId::direct(AUTHOR, OTHER)]) {
            if self.of(conversation).next().is_none() {
                continue;
            }
            let end = Instant::now() + WAIT;
            loop {
                let given = self.read(device, conversation);
                if given.is_some_and(|given| self.judge(conversation, &given)) {
                    break;
                }
                assert!(Instant::now() < end, "what was acknowledged in {conversation} cannot be read");
                std::thread::sleep(LOOK_INTERVAL);
            }
        }
    }

    /// What was acknowledged in a conversation, and with what.
    fn of(&self, conversation: ConversationId) -> impl Iterator<Item = (SendAck, &[u8])> {
        let own = self.sent.iter().filter(move |sent| sent.conversation == conversation);
        own.filter_map(|sent| Some((sent.ack?, &sent.message[..])))
    }

    /// A conversation from its beginning to its head; nothing if it is refused for now.
    fn read(&mut self, device: &mut Device<'_>, conversation: ConversationId) -> Option<Given> {
        let (mut given, mut after) = (Given::new(), Sequence(0));
        loop {
            let body = GetRange { conversation, span: RangeSpan::After(after), limit: 100 };
            let answer = device.ask(&mut self.attempt, &body)?;
            let range = match answer.read() {
                ServerFrame::Range(range) => range,
                ServerFrame::Error(error) if error.temporary => return None,
                other => panic!("no range: {other:?}"),
            };
            for stored in range.iter() {
                let stored = stored.expect("records of a range are sound");
                assert_eq!(stored.stamp.conversation, conversation, "a record of another conversation");
                let again = given.insert(stored.stamp.sequence, Ok((stored.stamp, stored.message.to_vec())));
                assert!(again.is_none(), "{:?} is given twice", stored.stamp);
            }
            for skip in range.skips.iter() {
                given
                    .extend((skip.from.0..=skip.to.0).map(|sequence| (Sequence(sequence), Err(skip.reason))));
            }
            let last = given.keys().next_back().copied().unwrap_or(after);
            if range.complete {
                assert_eq!(given.len() as u64, last.0, "{conversation} is not contiguous");
                return Some(given);
            }
            assert!(last > after, "a page that says nothing");
            after = last;
        }
    }

    /// Whether what was acknowledged is there. What is there otherwise must have been sent, once.
    #[track_caller]
    fn judge(&self, conversation: ConversationId, given: &Given) -> bool {
        let mut left: Vec<&[u8]> = Vec::new();
        left.extend(
            self.sent.iter().filter(|sent| sent.conversation == conversation).map(|sent| &sent.message[..]),
        );
        for (sequence, one) in given {
            match one {
                Ok((_, message)) => {
                    assert!(!self.erased.contains(&(conversation, *sequence)), "{sequence:?} was erased");
                    if is_system(message) {
                        continue;
                    }
                    let at = left.iter().position(|sent| sent == message);
                    left.swap_remove(at.expect("a message that was not sent, or is there twice"));
                }
                Err(SkipReason::Erased) => assert!(self.erased.contains(&(conversation, *sequence))),
                // Damage that one failed read feigned is gone at the next look; who called looks again.
                Err(SkipReason::Damaged) => return false,
                Err(other) => panic!("{sequence:?} is skipped as {other:?}"),
            }
        }
        for (ack, message) in self.of(conversation) {
            if self.erased.contains(&(conversation, ack.sequence)) {
                continue;
            }
            match given.get(&ack.sequence) {
                Some(Ok((stamp, there))) => {
                    assert_eq!((stamp.message_id, stamp.time), (ack.message_id, ack.time), "{ack:?}");
                    assert!(*there == message, "{ack:?} says something else");
                }
                other => panic!("{ack:?} was acknowledged, and is {other:?}"),
            }
        }
        true
    }

    /// The conversation and sequence of the first send to the group.
    pub(super) fn first_of_group(&self) -> (ConversationId, Sequence) {
        let group = self.group.expect("it was created");
        let first = self.of(group).next().expect("it was acknowledged");
        (group, first.0.sequence)
    }
}

fn is_system(message: &[u8]) -> bool {
    MessageFields::verify(message).is_ok_and(|fields| fields.kind == MessageKind::System)
}
