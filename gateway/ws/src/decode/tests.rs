//! What comes out for what goes in.

use super::*;
use crate::encode;

/// Encoded by a client, decoded by a server, in pieces of every size.
#[test]
fn a_message_comes_out_whatever_the_pieces() {
    let mut sent = Vec::new();
    encode::text(&mut sent, "grüße", Some([1, 2, 3, 4]));
    for size in 1..=sent.len() {
        let mut decoder = Decoder::new(Role::Server, 100, 100);
        let mut held = Vec::new();
        let mut seen = Vec::new();
        for piece in sent.clone().chunks_mut(size) {
            let step = decoder.decode(piece, &mut held).expect("valid");
            assert_eq!(step.consumed, step.consumed);
            if let Some(Item::Text(text)) = step.item {
                seen.push(text.to_vec());
            }
        }
        assert_eq!(seen, ["grüße".as_bytes()]);
        assert!(decoder.is_idle());
    }
}
