//! What operators see: the admin endpoint, asked over a plain socket.

use crate::limits::WAIT;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

/// An answer to a `GET`.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Field lines, as they came.
    pub head: String,
    /// The body.
    pub body: String,
}

/// Asks for a path.
#[must_use]
pub fn get(address: SocketAddr, path: &str) -> Answer {
    let mut stream = TcpStream::connect(address).expect("the gateway listens");
    stream.set_read_timeout(Some(WAIT)).expect("a wait can be set");
    let request = format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("the gateway reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the gateway answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Answer { status: status.expect("a head has a status"), head: head.to_owned(), body: body.to_owned() }
}

/// `/stats`.
#[derive(Clone, Debug)]
pub struct Stats(pub Value);

impl Stats {
    pub(crate) fn read(address: SocketAddr) -> Self {
        let answer = get(address, "/stats");
        assert_eq!(answer.status, 200, "{answer:?}");
        Self(serde_json::from_str(&answer.body).expect("/stats is JSON"))
    }

    /// A figure over all shards, by its path with dots, such as `errors.BAD_FRAME`.
    #[must_use]
    #[track_caller]
    pub fn total(&self, path: &str) -> u64 {
        let found = path.split('.').try_fold(&self.0["total"], |value, name| value.get(name));
        found.and_then(Value::as_u64).unwrap_or_else(|| panic!("/stats has no number {path}"))
    }
}
