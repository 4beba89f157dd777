//! Bytes without WebSocket, for the bare rings.

use super::{Progress, Talk};
use crate::control::RelaySizes;
use crate::limits::MESSAGE_BYTES;
use anyhow::{Context, Result};
use std::io::Write;
use std::net::TcpStream;

/// Bytes that come back.
#[derive(Debug)]
pub struct RawEchoTalk {
    message: [u8; MESSAGE_BYTES],
    partial: Vec<usize>,
}

impl RawEchoTalk {
    /// For so many connections.
    #[must_use]
    pub fn new(connections: usize) -> Self {
        Self { message: [7; MESSAGE_BYTES], partial: vec![0; connections] }
    }
}

impl Talk for RawEchoTalk {
    fn open(&mut self, _connection: usize, _stream: &mut TcpStream) -> Result<()> {
        Ok(())
    }

    fn is_sender(&self, _connection: usize) -> bool {
        true
    }

    fn sender_to(&self, connection: usize) -> usize {
        connection
    }

    fn compose(&mut self, _connection: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.message);
    }

    fn take(&mut self, connection: usize, bytes: &mut [u8], _out: &mut Vec<u8>) -> Result<Progress> {
        let count = complete(&mut self.partial[connection], bytes.len(), MESSAGE_BYTES);
        Ok(Progress { answered: count, arrived: count })
    }
}

/// The bytes of direct messages, without their meaning.
#[derive(Debug)]
pub struct RelayTalk {
    sizes: RelaySizes,
    message: Vec<u8>,
    ack: Vec<u8>,
    partial: Vec<usize>,
}

impl RelayTalk {
    /// For so many connections; acknowledgements have `ack` bytes.
    #[must_use]
    pub fn new(connections: usize, sizes: RelaySizes, ack: usize) -> Self {
        Self { sizes, message: vec![7; sizes.send], ack: vec![7; ack], partial: vec![0; connections] }
    }
}

impl Talk for RelayTalk {
    fn open(&mut self, connection: usize, stream: &mut TcpStream) -> Result<()> {
        stream.write_all(&(connection as u64).to_le_bytes()).context("cannot say who this is")
    }

    fn is_sender(&self, connection: usize) -> bool {
        connection.is_multiple_of(2)
    }

    fn sender_to(&self, connection: usize) -> usize {
        connection - 1
    }

    fn compose(&mut self, _connection: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.message);
    }

    fn take(&mut self, connection: usize, bytes: &mut [u8], out: &mut Vec<u8>) -> Result<Progress> {
        let partial = &mut self.partial[connection];
        if connection.is_multiple_of(2) {
            return Ok(Progress {
                answered: complete(partial, bytes.len(), self.sizes.send_ack),
                arrived: 0,
            });
        }
        let arrived = complete(partial, bytes.len(), self.sizes.deliver);
        if arrived > 0 {
            out.extend_from_slice(&self.ack);
        }
        Ok(Progress { answered: 0, arrived })
    }
}

/// How many messages of `size` bytes are complete with `count` more.
fn complete(partial: &mut usize, count: usize, size: usize) -> u32 {
    *partial += count;
    let complete = *partial / size;
    *partial %= size;
    complete as u32
}

#[cfg(test)]
mod tests {
    use super::complete;

    #[test]
    fn messages_are_complete_with_their_last_byte() {
        let mut partial = 0;
        assert_eq!(complete(&mut partial, 95, 96), 0);
        assert_eq!(complete(&mut partial, 1, 96), 1);
        assert_eq!(complete(&mut partial, 200, 96), 2);
        assert_eq!(partial, 8);
    }
}
