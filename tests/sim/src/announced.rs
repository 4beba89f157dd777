//! What was announced on a connection: `Dirty` comes at most once a second for a conversation (PROTOCOL, Receive). Judged when
//! the bytes leave the gateway, for whoever they are, so that no delay of the network hides it or makes it up.

use std::collections::BTreeMap;
use tidegate_ids::{ConversationId, MonotonicNs};
use tidegate_schema::{FrameKind, ServerFrame, frames};
use tidegate_ws::{Decoder, Item, Role};

/// What a send may hold.
const BYTES_MAX: u32 = 1 << 22;

/// When conversations were announced on one connection, at the earliest.
#[derive(Debug, Default)]
pub(crate) struct Announced {
    /// When the last send began.
    sent: MonotonicNs,
    last: BTreeMap<ConversationId, MonotonicNs>,
}

impl Announced {
    /// Judges a send that begins now. If the one before it was under way until now, what is in it was decided at any time since
    /// that one began; otherwise, in this very turn.
    ///
    /// # Errors
    /// A conversation is announced less than a second after it was announced before, whenever both were decided.
    pub(crate) fn judge(&mut self, bytes: &[u8], now: MonotonicNs, was_sending: bool) -> Result<(), String> {
        let earliest = if was_sending { self.sent } else { now };
        self.sent = now;
        for conversation in announced_in(bytes)? {
            let before = self.last.insert(conversation, earliest);
            let apart_ns = before.map_or(u64::MAX, |before| now.since(before));
            if apart_ns < MonotonicNs::SECOND {
                let apart_ms = apart_ns / MonotonicNs::MILLISECOND;
                return Err(format!("{conversation} was announced twice within a second: {apart_ms} ms"));
            }
        }
        Ok(())
    }
}

/// The conversations that a send announces: it holds whole messages, perhaps behind the answer to the upgrade. Behind one that
/// refuses it, there is none.
fn announced_in(bytes: &[u8]) -> Result<Vec<ConversationId>, String> {
    let head_bytes = if bytes.starts_with(b"HTTP/1.1 101 ") {
        bytes.windows(4).position(|window| window == b"\r\n\r\n").map_or(bytes.len(), |at| at + 4)
    } else if bytes.starts_with(b"HTTP/") {
        bytes.len()
    } else {
        0
    };
    let mut rest = bytes[head_bytes..].to_vec();
    let mut decoder = Decoder::new(Role::Client, BYTES_MAX, BYTES_MAX);
    let (mut held, mut at, mut found) = (Vec::new(), 0, Vec::new());
    loop {
        let step =
            decoder.decode(&mut rest[at..], &mut held).map_err(|error| format!("a send: {error:?}"))?;
        at += step.consumed;
        let Some(item) = step.item else { break };
        let Item::Binary(payload) = item else { continue };
        for frame in frames(payload) {
            let frame = frame.map_err(|error| format!("a send holds no frame: {error:?}"))?;
            if frame.header.kind != FrameKind::Dirty as u16 {
                continue;
            }
            if let Ok(ServerFrame::Dirty(dirty)) = ServerFrame::decode(&frame) {
                found.push(dirty.conversation);
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_ids::Sequence;
    use tidegate_schema::{Dirty, Encoder, FLAG_NUMBERED};
    use tidegate_ws::encode;

    const MS: u64 = MonotonicNs::MILLISECOND;

    fn dirty(number: u8) -> Vec<u8> {
        let conversation = ConversationId([number; 16]);
        let body = Dirty { conversation, from: Sequence(1), head: Sequence(90), mentions: 0 };
        let (mut frame, mut bytes) = (Vec::new(), Vec::new());
        Encoder::new().frame(&mut frame, 1, FLAG_NUMBERED, &body);
        encode::binary(&mut bytes, &frame, None);
        bytes
    }

    /// Sends by when they begin, which conversation they announce, and whether the one before was under way until then.
    fn check(sends: &[(u64, u8, bool)], holds: bool) {
        let mut announced = Announced::default();
        let judged = sends.iter().map(|(at_ms, number, was_sending)| {
            announced.judge(&dirty(*number), MonotonicNs(at_ms * MS), *was_sending)
        });
        assert_eq!(judged.collect::<Result<Vec<()>, String>>().is_ok(), holds, "{sends:?}");
    }

    #[test]
    fn twice_within_a_second_is_found() {
        check(&[(10, 1, false), (1009, 1, false)], false);
        check(&[(10, 1, false), (1010, 1, false)], true);
        check(&[(10, 1, false), (20, 2, false), (900, 3, false), (1020, 2, false)], true);
    }

    /// What was decided while a send was under way may be as old as that send: two that leave together may be a second apart.
    #[test]
    fn what_waited_for_a_slow_reader_is_as_old_as_it_may_be() {
        check(&[(10, 1, false), (1500, 2, true), (1510, 2, false)], true);
        check(&[(10, 1, false), (600, 2, true), (900, 2, false)], false);
        let both = [dirty(2), dirty(2)].concat();
        for (at_ms, holds) in [(1010, true), (1009, false)] {
            let mut announced = Announced::default();
            announced.judge(&dirty(1), MonotonicNs(10 * MS), false).unwrap();
            assert_eq!(announced.judge(&both, MonotonicNs(at_ms * MS), true).is_ok(), holds);
        }
    }

    #[test]
    fn frames_behind_the_answer_to_an_upgrade_count() {
        let mut bytes = b"HTTP/1.1 101 Switching Protocols\r\n\r\n".to_vec();
        bytes.extend(dirty(1));
        assert_eq!(announced_in(&bytes).unwrap(), [ConversationId([1; 16])]);
        assert_eq!(announced_in(b"HTTP/1.1 400 Bad Request\r\n\r\nno upgrade").unwrap(), []);
    }
}
