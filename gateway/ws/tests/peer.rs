//! An independent peer over loopback: our server against the client of fastwebsockets, our client against its server,
//! handshakes included. Both sides of our codec read in small pieces, so that every boundary is met.

use fastwebsockets::{FragmentCollector, Frame, OpCode, Payload, WebSocketError};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::error::Error;
use tidegate_ws::{CloseCode, Decoder, Item, Opcode, Role, client, encode, server};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const MESSAGE_BYTES_MAX: u32 = 1 << 20;
const PROTOCOL: &str = "tidegate.v1";
const MASK: [u8; 4] = [0xA5, 0x01, 0x7F, 0xC3];

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

fn run(test: impl Future<Output = Outcome>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(test).expect("both sides agree");
}

/// A stream that sends small pieces at once: the peer writes header and payload apart.
fn prompt(stream: TcpStream) -> std::io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Lengths on both sides of every length form.
fn payloads() -> Vec<Vec<u8>> {
    let lengths = [0, 1, 125, 126, 127, 4096, 65_535, 65_536, 200_001];
    lengths.iter().map(|length| (0..*length).map(|index| (index * 31 % 251) as u8).collect()).collect()
}

fn texts() -> Vec<String> {
    let mixed = "aß語\u{10ffff}";
    vec![String::new(), mixed.to_owned(), mixed.repeat(1000), mixed.repeat(10_000)]
}

/// Our side of a connection: bytes in pieces of `read_bytes`, items out.
struct Ours {
    stream: TcpStream,
    decoder: Decoder,
    held: Vec<u8>,
    /// Received and not yet decoded.
    input: Vec<u8>,
    read_bytes: usize,
}

/// An item that outlives its input.
#[derive(Debug, PartialEq)]
enum Owned {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<CloseCode>, String),
}

impl Ours {
    async fn next(&mut self) -> Result<Owned, Box<dyn Error + Send + Sync>> {
        loop {
            let step = self.decoder.decode(&mut self.input, &mut self.held)?;
            let consumed = step.consumed;
            let owned = step.item.map(|item| match item {
                Item::Text(text) => Owned::Text(String::from_utf8_lossy(text).into_owned()),
                Item::Binary(bytes) => Owned::Binary(bytes.to_vec()),
                Item::Ping(bytes) => Owned::Ping(bytes.to_vec()),
                Item::Pong(bytes) => Owned::Pong(bytes.to_vec()),
                Item::Close { code, reason } => Owned::Close(code, reason.to_owned()),
            });
            self.input.drain(..consumed);
            if let Some(owned) = owned {
                return Ok(owned);
            }
            self.input.resize(self.read_bytes, 0);
            let received = self.stream.read(&mut self.input).await?;
            self.input.truncate(received);
            if received == 0 {
                return Err("the peer left without a close frame".into());
            }
        }
    }

    async fn send(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Outcome {
        let mut out = Vec::new();
        write(&mut out);
        Ok(self.stream.write_all(&out).await?)
    }
}

/// Serves one connection of our server as an echo until its close frame.
async fn echo_with_our_server(mut stream: TcpStream, read_bytes: usize) -> Outcome {
    let mut input = Vec::new();
    let mut out = Vec::new();
    let consumed = loop {
        if let Some(upgrade) = server::parse(&input)? {
            assert_eq!((upgrade.path, upgrade.query), ("/echo", Some("a=1")));
            let protocol = upgrade.offers(PROTOCOL).then_some(PROTOCOL);
            server::accept_response(&mut out, &upgrade.key, protocol);
            break upgrade.consumed;
        }
        let mut piece = vec![0; read_bytes];
        let received = stream.read(&mut piece).await?;
        assert_ne!(received, 0, "the client left");
        input.extend_from_slice(&piece[..received]);
    };
    stream.write_all(&out).await?;
    input.drain(..consumed);
    let decoder = Decoder::new(Role::Server, MESSAGE_BYTES_MAX, MESSAGE_BYTES_MAX);
    let mut ours = Ours { stream, decoder, held: Vec::new(), input, read_bytes };
    loop {
        match ours.next().await? {
            Owned::Text(text) => ours.send(|out| encode::text(out, &text, None)).await?,
            Owned::Binary(bytes) => ours.send(|out| encode::binary(out, &bytes, None)).await?,
            Owned::Ping(bytes) => ours.send(|out| encode::pong(out, &bytes, None)).await?,
            Owned::Pong(_) => {}
            Owned::Close(code, reason) => {
                return ours.send(|out| encode::close(out, code, &reason, None)).await;
            }
        }
    }
}

async fn drive_their_client(stream: TcpStream) -> Outcome {
    let request = hyper::Request::get("/echo?a=1")
        .header("Host", "localhost")
        .header("Upgrade", "websocket")
        .header("Connection", "upgrade")
        .header("Sec-WebSocket-Key", fastwebsockets::handshake::generate_key())
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Protocol", format!("other, {PROTOCOL}"))
        .body(Empty::<Bytes>::new())?;
    let (socket, response) =
        fastwebsockets::handshake::client(&TokioExecutor::new(), request, stream).await?;
    assert_eq!(response.headers()["Sec-WebSocket-Protocol"], PROTOCOL);
    let mut theirs = FragmentCollector::new(socket);
    for payload in payloads() {
        theirs.write_frame(Frame::binary(Payload::Owned(payload.clone()))).await?;
        let echoed = theirs.read_frame().await?;
        assert!(echoed.opcode == OpCode::Binary && *echoed.payload == *payload, "{} bytes", payload.len());
    }
    for text in texts() {
        theirs.write_frame(Frame::text(Payload::Owned(text.clone().into_bytes()))).await?;
        let echoed = theirs.read_frame().await?;
        assert!(echoed.opcode == OpCode::Text && *echoed.payload == *text.as_bytes());
    }
    // Fragments, cut inside characters, with a ping between each two.
    let text = texts().concat();
    let fragments: Vec<&[u8]> = text.as_bytes().chunks(1001).collect();
    for (index, fragment) in fragments.iter().enumerate() {
        let opcode = if index == 0 { OpCode::Text } else { OpCode::Continuation };
        let last = index + 1 == fragments.len();
        theirs.write_frame(Frame::new(last, opcode, None, Payload::Borrowed(fragment))).await?;
        if !last {
            theirs.write_frame(Frame::new(true, OpCode::Ping, None, Payload::Borrowed(b"between"))).await?;
            let pong = theirs.read_frame().await?;
            assert!(pong.opcode == OpCode::Pong && *pong.payload == *b"between");
        }
    }
    assert_eq!(*theirs.read_frame().await?.payload, *text.as_bytes());
    theirs.write_frame(Frame::close(4000, b"done")).await?;
    let closed = theirs.read_frame().await?;
    assert!(closed.opcode == OpCode::Close && *closed.payload == *b"\x0F\xA0done");
    Ok(())
}

#[test]
fn our_server_against_the_client_of_fastwebsockets() {
    for read_bytes in [7, 4096, 1 << 17] {
        run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let address = listener.local_addr()?;
            let serve = async { echo_with_our_server(prompt(listener.accept().await?.0)?, read_bytes).await };
            let drive = async { drive_their_client(prompt(TcpStream::connect(address).await?)?).await };
            let (served, driven) = tokio::join!(serve, drive);
            served.and(driven)
        });
    }
}

/// An echo of fastwebsockets behind hyper, which names our subprotocol.
async fn echo_with_their_server(stream: TcpStream) -> Outcome {
    let (told, echoed) = tokio::sync::oneshot::channel();
    let told = std::sync::Mutex::new(Some(told));
    let service = hyper::service::service_fn(|mut request: hyper::Request<Incoming>| {
        let told = told.lock().expect("not poisoned").take();
        async move {
            assert!(fastwebsockets::upgrade::is_upgrade_request(&request));
            assert_eq!(request.uri(), "/echo?a=1");
            let (mut response, upgraded) = fastwebsockets::upgrade::upgrade(&mut request)?;
            response.headers_mut().insert("Sec-WebSocket-Protocol", PROTOCOL.parse().expect("a value"));
            tokio::spawn(async move {
                let outcome = echo_frames(upgraded).await;
                told.map(|told| told.send(outcome))
            });
            Ok::<_, WebSocketError>(response)
        }
    });
    let http = hyper::server::conn::http1::Builder::new();
    http.serve_connection(TokioIo::new(stream), service).with_upgrades().await?;
    Ok(echoed.await??)
}

async fn echo_frames(upgraded: fastwebsockets::upgrade::UpgradeFut) -> Result<(), WebSocketError> {
    let mut theirs = FragmentCollector::new(upgraded.await?);
    loop {
        let frame = theirs.read_frame().await?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Binary => theirs.write_frame(frame).await?,
            _ => {}
        }
    }
}

async fn drive_our_client(mut stream: TcpStream, read_bytes: usize) -> Outcome {
    let key = *b"0123456789abcdef";
    let mut out = Vec::new();
    let protocols = [PROTOCOL];
    let request =
        client::Request { host: "localhost", path: "/echo?a=1", key, protocols: &protocols, fields: &[] };
    client::request(&mut out, &request)?;
    stream.write_all(&out).await?;
    let mut input = Vec::new();
    let consumed = loop {
        if let Some(accepted) = client::parse_response(&input, &key, &protocols)? {
            assert_eq!(accepted.protocol, Some(PROTOCOL));
            break accepted.consumed;
        }
        let mut piece = vec![0; read_bytes];
        let received = stream.read(&mut piece).await?;
        assert_ne!(received, 0, "the server left");
        input.extend_from_slice(&piece[..received]);
    };
    input.drain(..consumed);
    let decoder = Decoder::new(Role::Client, MESSAGE_BYTES_MAX, MESSAGE_BYTES_MAX);
    let mut ours = Ours { stream, decoder, held: Vec::new(), input, read_bytes };
    for payload in payloads() {
        ours.send(|out| encode::binary(out, &payload, Some(MASK))).await?;
        assert!(ours.next().await? == Owned::Binary(payload));
    }
    for text in texts() {
        ours.send(|out| encode::text(out, &text, Some(MASK))).await?;
        assert!(ours.next().await? == Owned::Text(text));
    }
    let text = texts().concat();
    let (left, right) = text.as_bytes().split_at(2);
    ours.send(|out| {
        encode::frame(out, Opcode::Text, false, left, Some(MASK));
        encode::ping(out, b"between", Some(MASK));
        encode::frame(out, Opcode::Continuation, true, right, Some(MASK));
    })
    .await?;
    assert_eq!(ours.next().await?, Owned::Pong(b"between".to_vec()));
    assert!(ours.next().await? == Owned::Text(text));
    ours.send(|out| {
        let open = encode::begin(out, Some(MASK));
        out.extend_from_slice(b"built in pieces");
        open.finish(out, Opcode::Binary);
    })
    .await?;
    assert_eq!(ours.next().await?, Owned::Binary(b"built in pieces".to_vec()));
    ours.send(|out| encode::close(out, Some(CloseCode::NORMAL), "done", Some(MASK))).await?;
    assert!(matches!(ours.next().await?, Owned::Close(Some(CloseCode::NORMAL), _)));
    Ok(())
}

#[test]
fn our_client_against_the_server_of_fastwebsockets() {
    for read_bytes in [7, 4096, 1 << 17] {
        run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let address = listener.local_addr()?;
            let serve = async { echo_with_their_server(prompt(listener.accept().await?.0)?).await };
            let drive =
                async { drive_our_client(prompt(TcpStream::connect(address).await?)?, read_bytes).await };
            let (served, driven) = tokio::join!(serve, drive);
            served.and(driven)
        });
    }
}
