//! Opening handshakes, on a blocking socket.

use crate::limits::HANDSHAKE_TIME_MAX;
use anyhow::{Context, Result, ensure};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use tidegate_ws::client::{Request, parse_response, request};

/// A connection with TCP_NODELAY, whose reads and writes end.
pub(super) fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(HANDSHAKE_TIME_MAX))?;
    stream.set_write_timeout(Some(HANDSHAKE_TIME_MAX))?;
    Ok(stream)
}

/// The WebSocket handshake; the server must not have said more than its response.
pub(super) fn upgrade(stream: &mut TcpStream, path: &str, protocols: &[&str]) -> Result<()> {
    // The key protects proxies, not benchmarks.
    let key = [7; 16];
    let mut out = Vec::new();
    request(&mut out, &Request { host: "127.0.0.1", path, key, protocols, fields: &[] })?;
    stream.write_all(&out)?;
    let mut head = Vec::new();
    loop {
        let mut bytes = [0; 1024];
        let count = stream.read(&mut bytes).context("no answer to the handshake")?;
        ensure!(count > 0, "the server closed during the handshake");
        head.extend_from_slice(&bytes[..count]);
        if let Some(accepted) = parse_response(&head, &key, protocols)? {
            ensure!(accepted.consumed == head.len(), "the server spoke before it was spoken to");
            return Ok(());
        }
    }
}
