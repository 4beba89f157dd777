//! WebSocket messages that come back.

use super::{Progress, Talk, socket};
use crate::limits::MESSAGE_BYTES;
use anyhow::{Result, ensure};
use std::net::TcpStream;
use tidegate_ws::encode;

/// Any mask but zeros, which would be for free.
const MASK: [u8; 4] = [0x5a, 0x13, 0xc7, 0x2e];

/// Echoes on the path `/echo`.
#[derive(Debug)]
pub struct EchoTalk {
    message: Vec<u8>,
    /// The answer, byte by byte.
    answer: Vec<u8>,
    /// By connection: bytes of the answer under way that have come.
    partial: Vec<usize>,
}

impl EchoTalk {
    /// For so many connections.
    #[must_use]
    pub fn new(connections: usize) -> Self {
        let payload: [u8; MESSAGE_BYTES] = std::array::from_fn(|index| index as u8);
        let (mut message, mut answer) = (Vec::new(), Vec::new());
        encode::binary(&mut message, &payload, Some(MASK));
        encode::binary(&mut answer, &payload, None);
        Self { message, answer, partial: vec![0; connections] }
    }
}

impl Talk for EchoTalk {
    fn open(&mut self, _connection: usize, stream: &mut TcpStream) -> Result<()> {
        socket::upgrade(stream, "/echo", &[])
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

    /// Compares every byte: cheaper than decoding, and stricter.
    fn take(&mut self, connection: usize, bytes: &mut [u8], _out: &mut Vec<u8>) -> Result<Progress> {
        let partial = &mut self.partial[connection];
        let mut rest: &[u8] = bytes;
        let mut complete = 0;
        while !rest.is_empty() {
            let wanted = &self.answer[*partial..];
            let count = wanted.len().min(rest.len());
            ensure!(wanted[..count] == rest[..count], "an echo that is not what was sent");
            rest = &rest[count..];
            *partial += count;
            if *partial == self.answer.len() {
                *partial = 0;
                complete += 1;
            }
        }
        Ok(Progress { answered: complete, arrived: complete })
    }
}

#[cfg(test)]
mod tests {
    use super::EchoTalk;
    use crate::load::Talk;

    #[test]
    fn an_answer_is_compared_byte_by_byte() {
        let mut talk = EchoTalk::new(1);
        let mut answer = talk.answer.clone();
        let mut out = Vec::new();
        let mut take = |bytes: &mut [u8]| talk.take(0, bytes, &mut out).map(|progress| progress.arrived);
        assert!(matches!(take(&mut answer[..40].to_vec()), Ok(0)));
        assert!(matches!(take(&mut answer[40..].to_vec()), Ok(1)));
        assert!(matches!(take(&mut answer.repeat(3)), Ok(3)));
        answer[50] ^= 1;
        assert!(take(&mut answer).is_err());
    }
}
