//! Random bytes, at every depth that a stranger gets to.

use crate::SHARDS;
use crate::bad_input::Bystanders;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use std::io::Write;
use std::net::TcpStream;
use tidegate_ids::{ConversationId, DeviceId, UserId};
use tidegate_schema::{FrameHeader, FrameKind};
use tidegate_tests_e2e::{Gateway, Wire, message};

const CONNECTIONS: usize = 2000;

/// How often the bystanders show that they are not disturbed.
const CHAT_EVERY: usize = 100;

fn noise(random: &mut StdRng, bytes_max: usize) -> Vec<u8> {
    let mut bytes = vec![0; random.random_range(0..=bytes_max)];
    random.fill_bytes(&mut bytes);
    bytes
}

/// A frame of a kind that exists, with a body of noise.
fn noisy_frame(random: &mut StdRng) -> Vec<u8> {
    let kind = FrameKind::ALL[random.random_range(0..FrameKind::ALL.len())];
    let mut body = noise(random, 256);
    body.truncate(body.len() & !7);
    let header = FrameHeader {
        body_len: body.len() as u32,
        kind: kind as u16,
        flags: 0,
        id: random.random_range(0..100),
    };
    [&header.to_bytes()[..], &body].concat()
}

/// A message that is sound, with some bits turned.
fn damaged_send(random: &mut StdRng, wire: &mut Wire) {
    let mut payload = Vec::new();
    let message = message("damaged on the way");
    let conversation = ConversationId::direct(UserId(7), UserId(random.random_range(1..9)));
    let send = tidegate_schema::Send {
        conversation,
        number: tidegate_ids::CommandNumber(random.random_range(0..5)),
        client_id: tidegate_ids::ClientId(random.random()),
        message: &message,
    };
    wire.append(&mut payload, &send);
    for _ in 0..random.random_range(1..8) {
        let at = random.random_range(0..payload.len());
        payload[at] ^= 1 << random.random_range(0..8);
    }
    wire.say(&payload);
}

/// One connection that goes as deep as its draw says, says noise there, and goes.
fn visit(gateway: &Gateway, token: &[u8], random: &mut StdRng, attempt: u64) {
    match random.random_range(0..6) {
        0 => {
            let mut stream = TcpStream::connect(gateway.ws).unwrap();
            let _ = stream.write_all(&noise(random, 4096));
        }
        1 => {
            let mut stream = TcpStream::connect(gateway.ws).unwrap();
            let _ = stream.write_all(b"GET /ws HTTP/1.1\r\nHost: ");
            let _ = stream.write_all(&noise(random, 1024));
            let _ = stream.write_all(b"\r\n\r\n");
        }
        2 => Wire::open(gateway.ws).say_raw(&noise(random, 8192)),
        3 => Wire::open(gateway.ws).say(&noise(random, 8192)),
        4 => {
            // A Hello, and noise that travels with the connection to its home.
            let mut wire = Wire::open(gateway.ws);
            wire.say_hello(token, DeviceId(random.random_range(1..4)), attempt);
            wire.say_raw(&noise(random, 2048));
        }
        _ => {
            let mut wire = Wire::greeted(gateway.ws, token, DeviceId(1), attempt);
            for _ in 0..random.random_range(1..6) {
                damaged_send(random, &mut wire);
                wire.say(&noisy_frame(random));
            }
            wire.say_raw(&noise(random, 512));
        }
    }
}

#[test]
fn two_thousand_noisy_connections_disturb_nobody() {
    for shards in SHARDS {
        let seed = rand::random();
        println!("seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let dir = tempfile::tempdir().unwrap();
        let gateway = Gateway::start(dir.path(), shards);
        let token = gateway.token(UserId(7));
        let mut bystanders = Bystanders::new(&gateway);
        for index in 0..CONNECTIONS / SHARDS.len() {
            visit(&gateway, &token, &mut random, index as u64 + 1);
            if index % CHAT_EVERY == 0 {
                bystanders.chat();
            }
        }
        bystanders.chat();
        assert!(gateway.is_healthy());
        gateway.wait_for_gauge("sockets", Bystanders::COUNT);
        gateway.stop();
        crate::stop::verify_log(dir.path());
    }
}
