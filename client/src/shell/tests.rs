//! The shell against a small gateway on a real socket.

use super::*;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use tidegate_ids::{Sequence, UserId};
use tidegate_schema::{
    ClientFrame, ConversationPage, Deliver, FLAG_NUMBERED, SendAck, ServerFrame, Stamp, Welcome, frames,
};
use tidegate_ws::{Decoder, Item, Role, encode, server};

const ME: UserId = UserId(1);

/// Takes sends under even sequences, and says before each of them something of the peer's under the odd one below. Gives
/// up the connection after `frames_max` sends.
struct Gateway {
    sequence: u64,
    encoder: Encoder,
}

impl Gateway {
    fn serve(&mut self, mut stream: TcpStream, mut sends_max: usize) {
        let mut input = vec![0; 65536];
        let mut got = Vec::new();
        let consumed = loop {
            let count = stream.read(&mut input).expect("a request");
            got.extend_from_slice(&input[..count]);
            if let Some(request) = server::parse(&got).expect("sound") {
                let mut out = Vec::new();
                server::accept_response(&mut out, &request.key, Some("tidegate.v1"));
                stream.write_all(&out).expect("written");
                break request.consumed;
            }
        };
        assert_eq!(consumed, got.len());
        let mut decoder = Decoder::new(Role::Server, 1 << 18, 1 << 18);
        let (mut held, mut push) = (Vec::new(), 0);
        while let Ok(count) = stream.read(&mut input) {
            if count == 0 {
                return;
            }
            let mut at = 0;
            loop {
                let step = decoder.decode(&mut input[at..count], &mut held).expect("sound");
                at += step.consumed;
                let Some(item) = step.item else { break };
                let Item::Binary(payload) = item else { return };
                let mut out = Vec::new();
                for frame in frames(payload).map(|frame| frame.expect("a frame")) {
                    let body = ClientFrame::decode(&frame).expect("a client frame");
                    if matches!(body, ClientFrame::Send(_)) {
                        if sends_max == 0 {
                            return;
                        }
                        sends_max -= 1;
                    }
                    self.answer(frame.header.id, &body, &mut push, &mut out);
                }
                stream.write_all(&out).expect("written");
            }
        }
    }

    fn answer(&mut self, id: u64, body: &ClientFrame<'_>, push: &mut u64, out: &mut Vec<u8>) {
        let mut say = |id, flags, frame: &ServerFrame<'_>| {
            let mut payload = Vec::new();
            frame.encode(&mut self.encoder, &mut payload, id, flags);
            encode::binary(out, &payload, None);
        };
        match body {
            ClientFrame::Hello(_) => {
                let incarnation = tidegate_ids::Incarnation(1);
                let welcome = Welcome { version: 1, user: ME, incarnation, ..Welcome::default() };
                say(id, 0, &ServerFrame::Welcome(welcome));
            }
            ClientFrame::ConversationList(_) => {
                say(id, 0, &ServerFrame::ConversationPage(ConversationPage::default()));
            }
            ClientFrame::Send(send) => {
                *push += 1;
                let conversation = send.conversation;
                let sequence = Sequence(self.sequence + 1);
                let stamp = Stamp { conversation, sequence, sender: UserId(2), ..Stamp::default() };
                let deliver = Deliver { stamp, message: send.message };
                say(*push, FLAG_NUMBERED, &ServerFrame::Deliver(deliver));
                let ack = SendAck { sequence: sequence.next(), ..SendAck::default() };
                say(id, 0, &ServerFrame::SendAck(ack));
                self.sequence += 2;
            }
            _ => {}
        }
    }
}

#[test]
fn a_client_sends_receives_and_comes_back() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let gateway = std::thread::spawn(move || {
        let mut gateway = Gateway { sequence: 0, encoder: Encoder::new() };
        // The second send of the first connection is not answered.
        for sends_max in [1, 9] {
            let (stream, _) = listener.accept().expect("a client");
            gateway.serve(stream, sends_max);
        }
    });
    let mut client = BlockingClient::new(Options {
        address,
        token: b"token".to_vec(),
        stored: Stored::new(new_device()),
        config: Config::default(),
    });
    client.connect(Duration::from_secs(20)).expect("a gateway");
    let conversation = ConversationId::direct(client.machine().user(), UserId(2));
    for text in ["one", "two"] {
        client.send_text(conversation, text).expect("room");
    }
    let (mut records, mut sent) = (Vec::new(), Vec::new());
    while sent.len() < 2 {
        match client.receive(Duration::from_secs(20)).expect("an event") {
            Received::Message(record) => records.push(record),
            Received::Sent { ack, .. } => sent.push(ack.sequence.0),
            _ => {}
        }
    }
    assert_eq!(sent, [2, 4]);
    let bodies = records.iter().map(|record| MessageFields::verify(&record.message).expect("a message").body);
    assert!(bodies.eq([&b"one"[..], b"two"]));
    assert_eq!(records.iter().map(|record| record.stamp.sequence.0).collect::<Vec<_>>(), [1, 3]);
    let stored = client.close();
    assert_eq!(stored.attempt.0, 2);
    assert_eq!(stored.conversations[0].next, Sequence(5));
    gateway.join().expect("no fault in the gateway");
}

#[test]
fn nobody_there_is_a_wait_that_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    drop(listener);
    let mut client = BlockingClient::new(Options {
        address,
        token: b"token".to_vec(),
        stored: Stored::new(new_device()),
        config: Config::default(),
    });
    assert_eq!(client.connect(Duration::from_millis(50)), Err(ConnectError::TimedOut));
}
