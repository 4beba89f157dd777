//! Direct messages through Tidegate: `Send`, `SendAck`, `Deliver`, `Ack`.
//!
//! User 2i + 1 on an even connection writes to user 2i + 2 on the next odd one, which acknowledges what every receive
//! brought with one `Ack`.

use super::{Progress, Talk, socket};
use crate::control::RelaySizes;
use crate::limits::MESSAGE_BYTES;
use anyhow::{Context, Result, anyhow, bail, ensure};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;
use tidegate_ids::{
    Attempt, ClientId, CommandNumber, ConversationId, DeviceId, INTEGER_MAX, PushNumber, UserId,
};
use tidegate_node::config::{Config, Environment};
use tidegate_node::token::{Secret, TokenRequest, issue};
use tidegate_schema::{
    ClientFrame, ClientState, Deliver, Encoder, FLAG_NUMBERED, Hello, MessageFields, Send, SendAck,
    ServerFrame, frames,
};
use tidegate_ws::{Decoder, Item, Role, encode};

const SUBPROTOCOL: &str = "tidegate.v1";
/// Any mask but zeros, which would be for free.
const MASK: [u8; 4] = [0x5a, 0x13, 0xc7, 0x2e];
const PAYLOAD_BYTES_MAX: u32 = tidegate_schema::limits::PAYLOAD_BYTES_MAX as u32;
const TOKEN_TTL: Duration = Duration::from_secs(3600);

/// Direct messages in one direction of every pair of connections.
pub struct DirectTalk {
    secret: Secret,
    encoder: Encoder,
    message: Vec<u8>,
    /// The frame under construction.
    frame: Vec<u8>,
    peers: Vec<Peer>,
    greeted: bool,
}

struct Peer {
    conversation: ConversationId,
    decoder: Decoder,
    held: Vec<u8>,
    /// Of the last message sent.
    number: CommandNumber,
    /// Of the last message answered or delivered.
    answered: u64,
}

fn user(connection: usize) -> UserId {
    UserId(connection as u64 + 1)
}

impl DirectTalk {
    /// For so many connections to a gateway with this data directory.
    ///
    /// # Errors
    /// It has no secret.
    pub fn new(connections: usize, data: &Path) -> Result<Self> {
        let config = Config::of_data(None, Some(data), &Environment::of_process())?;
        let secret = Secret::load(&config.token, &config.data)?;
        let mut encoder = Encoder::new();
        let message = chat_message(&mut encoder)?;
        let peer = |connection: usize| Peer {
            conversation: ConversationId::direct(user(connection & !1), user(connection | 1)),
            decoder: Decoder::new(Role::Client, PAYLOAD_BYTES_MAX, PAYLOAD_BYTES_MAX),
            held: Vec::new(),
            number: CommandNumber(0),
            answered: 0,
        };
        let peers = (0..connections).map(peer).collect();
        Ok(Self { secret, encoder, message, frame: Vec::new(), peers, greeted: false })
    }

    fn token(&self, connection: usize) -> Result<String> {
        let request = TokenRequest {
            user: user(connection).0,
            device: None,
            rate: Some("unlimited"),
            ttl: TOKEN_TTL,
            now: tidegate_node::clock::wall(),
        };
        Ok(issue(&self.secret, &request)?)
    }

    fn frames_in(&mut self, connection: usize, payload: &[u8], answer: &mut Answer) -> Result<()> {
        for frame in frames(payload) {
            let frame = frame.map_err(|error| anyhow!("a bad frame: {error:?}"))?;
            let numbered = frame.header.is_numbered().then_some(frame.header.id);
            let decoded = ServerFrame::decode(&frame).map_err(|error| anyhow!("a bad body: {error:?}"))?;
            answer.push = numbered.or(answer.push);
            let peer = &mut self.peers[connection];
            match decoded {
                ServerFrame::Welcome(_) => self.greeted = true,
                ServerFrame::SendAck(ack) => {
                    ensure!(!ack.duplicate, "an answer to what was never sent twice");
                    ensure!(frame.header.id == peer.answered + 1, "answers out of order");
                    peer.answered += 1;
                    answer.progress.answered += 1;
                }
                ServerFrame::Deliver(deliver) => {
                    ensure!(deliver.message == self.message, "a message that nobody wrote");
                    ensure!(deliver.stamp.sequence.0 == peer.answered + 1, "a gap in what is delivered");
                    peer.answered += 1;
                    answer.progress.arrived += 1;
                }
                ServerFrame::Ping => answer.pong = true,
                ServerFrame::Error(error) => bail!("the gateway refused: {error:?}"),
                ServerFrame::Throttle(throttle) => bail!("the gateway throttles: {throttle:?}"),
                ServerFrame::GoAway(_) => bail!("the gateway goes away"),
                ServerFrame::Dirty(_) => bail!("the gateway announces what it should deliver"),
                _ => {}
            }
        }
        Ok(())
    }

    fn append(&mut self, out: &mut Vec<u8>, frame: &ClientFrame<'_>, id: u64) {
        self.frame.clear();
        frame.encode(&mut self.encoder, &mut self.frame, id);
        encode::binary(out, &self.frame, Some(MASK));
    }
}

/// What received bytes ask for.
#[derive(Default)]
struct Answer {
    progress: Progress,
    push: Option<u64>,
    pong: bool,
}

impl Talk for DirectTalk {
    fn open(&mut self, connection: usize, stream: &mut TcpStream) -> Result<()> {
        socket::upgrade(stream, "/ws", &[SUBPROTOCOL])?;
        let token = self.token(connection)?;
        let hello = Hello {
            protocol_min: 1,
            protocol_max: 1,
            token: token.as_bytes(),
            device: DeviceId(connection as u64 + 1),
            attempt: Attempt(1),
            platform: b"bench",
            state: ClientState::Active,
            credit_frames: 256,
        };
        let mut out = Vec::new();
        self.append(&mut out, &ClientFrame::Hello(hello), 1);
        stream.write_all(&out)?;
        self.greeted = false;
        let mut bytes = [0; 4096];
        while !self.greeted {
            let count = stream.read(&mut bytes).context("no answer to Hello")?;
            ensure!(count > 0, "the gateway closed after Hello");
            out.clear();
            self.take(connection, &mut bytes[..count], &mut out)?;
            stream.write_all(&out)?;
        }
        Ok(())
    }

    fn is_sender(&self, connection: usize) -> bool {
        connection.is_multiple_of(2)
    }

    fn sender_to(&self, connection: usize) -> usize {
        connection - 1
    }

    fn compose(&mut self, connection: usize, out: &mut Vec<u8>) {
        let peer = &mut self.peers[connection];
        peer.number = peer.number.next();
        let (number, conversation) = (peer.number, peer.conversation);
        let mut client_id = [0; 16];
        client_id[..8].copy_from_slice(&number.0.to_le_bytes());
        client_id[8..].copy_from_slice(&(connection as u64).to_le_bytes());
        let message = std::mem::take(&mut self.message);
        let send = Send { conversation, number, client_id: ClientId(client_id), message: &message };
        self.append(out, &ClientFrame::Send(send), number.0);
        self.message = message;
    }

    fn take(&mut self, connection: usize, bytes: &mut [u8], out: &mut Vec<u8>) -> Result<Progress> {
        let peer = &mut self.peers[connection];
        let mut held = std::mem::take(&mut peer.held);
        let mut decoder = peer.decoder.clone();
        let mut answer = Answer::default();
        let mut at = 0;
        loop {
            let decoded =
                decoder.decode(&mut bytes[at..], &mut held).map_err(|error| anyhow!("{error:?}"))?;
            at += decoded.consumed;
            match decoded.item {
                None => break,
                Some(Item::Binary(payload)) => self.frames_in(connection, payload, &mut answer)?,
                Some(Item::Close { code, reason }) => bail!("the gateway closed: {code:?} {reason}"),
                Some(_) => {}
            }
        }
        let peer = &mut self.peers[connection];
        (peer.held, peer.decoder) = (held, decoder);
        if let Some(push) = answer.push {
            self.append(out, &ClientFrame::Ack(PushNumber(push)), 0);
        }
        if answer.pong {
            self.append(out, &ClientFrame::Pong, 0);
        }
        Ok(answer.progress)
    }
}

fn chat_message(encoder: &mut Encoder) -> Result<Vec<u8>> {
    let mut message = Vec::new();
    let body = [b'x'; MESSAGE_BYTES];
    encoder.message(&mut message, &MessageFields { body: &body, ..MessageFields::default() })?;
    Ok(message)
}

/// Bytes of everything that a direct message moves, for the control that moves the same, and those of an `Ack`.
///
/// # Errors
/// The message is too large for the protocol.
pub fn direct_sizes() -> Result<(RelaySizes, usize)> {
    let mut encoder = Encoder::new();
    let message = chat_message(&mut encoder)?;
    let mut frame = Vec::new();
    let mut on_wire = |masked: bool, encode: &mut dyn FnMut(&mut Encoder, &mut Vec<u8>) -> usize| {
        frame.clear();
        let bytes = encode(&mut encoder, &mut frame);
        bytes + encode::header_len(bytes, masked)
    };
    // The values decide no length but that zeros are left out.
    let conversation = ConversationId::direct(UserId(1), UserId(2));
    let send =
        Send { conversation, number: CommandNumber(9), client_id: ClientId([9; 16]), message: &message };
    let ack = SendAck {
        sequence: tidegate_ids::Sequence(9),
        message_id: tidegate_ids::MessageId([9; 16]),
        time: tidegate_ids::WallMs(INTEGER_MAX),
        ..SendAck::default()
    };
    let deliver = Deliver { message: &message, ..Deliver::default() };
    let stored = tidegate_schema::deliver::stored_len(message.len());
    let sizes = RelaySizes {
        send: on_wire(true, &mut |encoder, out| ClientFrame::Send(send).encode(encoder, out, 9)),
        send_ack: on_wire(false, &mut |encoder, out| ServerFrame::SendAck(ack).encode(encoder, out, 9, 0)),
        deliver: on_wire(false, &mut |encoder, out| {
            ServerFrame::Deliver(deliver).encode(encoder, out, 9, FLAG_NUMBERED)
        }),
        record: tidegate_storage_log::stored_len(stored),
    };
    let ack = on_wire(true, &mut |encoder, out| ClientFrame::Ack(PushNumber(9)).encode(encoder, out, 0));
    Ok((sizes, ack))
}
