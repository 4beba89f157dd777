//! However received bytes are cut into pieces, the decoder gives the same messages and the same end.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_ws::{CloseError, Decoder, Item, Role};

/// A small message limit, so that it is reached.
const MESSAGE_BYTES_MAX: u32 = 4096;

fuzz_target!(|data: &[u8]| {
    let Some(([shape, piece], bytes)) = data.split_first_chunk::<2>().map(|(head, rest)| (*head, rest))
    else {
        return;
    };
    let role = if shape & 1 == 0 { Role::Server } else { Role::Client };
    let whole = decode(role, bytes, bytes.len().max(1));
    let pieces = decode(role, bytes, usize::from(piece).max(1));
    assert_eq!(whole, pieces, "cut into pieces of {piece}");
});

type Decoded = (Vec<String>, Option<CloseError>);

fn decode(role: Role, bytes: &[u8], piece: usize) -> Decoded {
    let mut decoder = Decoder::new(role, MESSAGE_BYTES_MAX, MESSAGE_BYTES_MAX);
    let mut held = Vec::new();
    let mut items = Vec::new();
    for part in bytes.chunks(piece) {
        let mut input = part.to_vec();
        let mut at = 0;
        loop {
            let step = match decoder.decode(&mut input[at..], &mut held) {
                Ok(step) => step,
                Err(error) => return (items, Some(error)),
            };
            at += step.consumed;
            let Some(item) = step.item else { break };
            items.push(shown(&item));
        }
        assert_eq!(at, part.len(), "a decoder that needs more has taken everything");
    }
    assert!(held.len() <= MESSAGE_BYTES_MAX as usize + 256, "{} bytes held", held.len());
    (items, None)
}

fn shown(item: &Item<'_>) -> String {
    match item {
        Item::Text(text) => {
            assert!(std::str::from_utf8(text).is_ok(), "text that is not UTF-8");
            format!("text {text:?}")
        }
        Item::Ping(bytes) | Item::Pong(bytes) => {
            assert!(bytes.len() <= 125, "a long control frame");
            format!("{item:?}")
        }
        Item::Binary(_) | Item::Close { .. } => format!("{item:?}"),
    }
}
