//! From bytes to frames and back.

use super::Repeat;
use crate::limits::MESSAGE_BYTES;
use anyhow::{Result, anyhow};
use std::hint::black_box;
use tidegate_ids::{
    ClientId, CommandNumber, ConversationId, INTEGER_MAX, MessageId, PushNumber, Sequence, UserId, WallMs,
};
use tidegate_schema::{
    ClientFrame, Deliver, Encoder, MessageFields, Send, SendAck, ServerFrame, Stamp, frames,
};
use tidegate_ws::{Decoder, Item, Role, encode};

const PAYLOAD_BYTES_MAX: u32 = 256 * 1024;

/// A masked binary frame of 96 bytes.
fn masked_frame() -> Vec<u8> {
    let mut frame = Vec::new();
    encode::binary(&mut frame, &[7; MESSAGE_BYTES], Some([0x5a, 0x13, 0xc7, 0x2e]));
    frame
}

pub(super) fn copy_frame() -> Result<Repeat> {
    copy(masked_frame())
}

/// Decoding unmasks in place, so every repetition needs the bytes anew.
pub(super) fn decode() -> Result<Repeat> {
    let frame = masked_frame();
    let mut input = frame.clone();
    let mut held = Vec::new();
    let mut decoder = Decoder::new(Role::Server, PAYLOAD_BYTES_MAX, PAYLOAD_BYTES_MAX);
    Ok(Box::new(move |repetitions| {
        for _ in 0..repetitions {
            input.copy_from_slice(black_box(&frame));
            match decoder.decode(&mut input, &mut held) {
                Ok(decoded) => assert!(matches!(black_box(decoded.item), Some(Item::Binary(_)))),
                Err(error) => unreachable!("a sound frame: {error:?}"),
            }
        }
    }))
}

fn message() -> Result<Vec<u8>> {
    let mut message = Vec::new();
    let fields = MessageFields { body: &[b'x'; MESSAGE_BYTES], ..MessageFields::default() };
    Encoder::new().message(&mut message, &fields)?;
    Ok(message)
}

fn send_frame() -> Result<Vec<u8>> {
    let message = message()?;
    let send = Send {
        conversation: ConversationId::direct(UserId(1), UserId(2)),
        number: CommandNumber(9),
        client_id: ClientId([9; 16]),
        message: &message,
    };
    let mut frame = Vec::new();
    ClientFrame::Send(send).encode(&mut Encoder::new(), &mut frame, 9);
    Ok(frame)
}

pub(super) fn copy_send() -> Result<Repeat> {
    copy(send_frame()?)
}

/// What the edge does with a payload: header, body, and the message in it.
pub(super) fn verify() -> Result<Repeat> {
    let payload = send_frame()?;
    Ok(Box::new(move |repetitions| {
        for _ in 0..repetitions {
            for frame in frames(black_box(&payload)) {
                let verified =
                    frame.map_err(|error| anyhow!("{error:?}")).and_then(|frame| match ClientFrame::decode(
                        &frame,
                    )
                    .map_err(|error| anyhow!("{error:?}"))?
                    {
                        ClientFrame::Send(send) => Ok(MessageFields::verify(send.message).is_ok()),
                        _ => Ok(false),
                    });
                assert!(matches!(black_box(verified), Ok(true)), "a sound Send");
            }
        }
    }))
}

pub(super) fn encode_ack() -> Result<Repeat> {
    let mut encoder = Encoder::new();
    let mut out = Vec::new();
    let ack = SendAck {
        sequence: Sequence(9),
        message_id: MessageId([9; 16]),
        time: WallMs(INTEGER_MAX),
        ..SendAck::default()
    };
    Ok(Box::new(move |repetitions| {
        for id in 0..repetitions {
            out.clear();
            ServerFrame::SendAck(black_box(ack)).encode(&mut encoder, &mut out, id, 0);
            black_box(&out);
        }
    }))
}

pub(super) fn encode_deliver() -> Result<Repeat> {
    let message = message()?;
    let mut out = Vec::new();
    Ok(Box::new(move |repetitions| {
        for push in 0..repetitions {
            out.clear();
            let stamp = Stamp { sequence: Sequence(9), ..Stamp::default() };
            Deliver { stamp, message: black_box(&message) }.write_frame(&mut out, PushNumber(push));
            black_box(&out);
        }
    }))
}

fn copy(bytes: Vec<u8>) -> Result<Repeat> {
    let mut copied = bytes.clone();
    Ok(Box::new(move |repetitions| {
        for _ in 0..repetitions {
            copied.copy_from_slice(black_box(&bytes));
            black_box(&copied);
        }
    }))
}
