//! The proof that the server read the key (RFC 6455, 4.2.2).

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use sha1::{Digest as _, Sha1};

const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Base64 of the 16 bytes of a key, with its padding.
pub(super) const KEY_CHARS: usize = 24;
/// Base64 of the 20 bytes of a SHA-1, with its padding.
pub(super) const ACCEPT_CHARS: usize = 28;

/// Padding is required; the four bits of a key's last character that stand for nothing may be anything, since there are
/// clients that draw all 22 characters at random.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// A `Sec-WebSocket-Key` as the server must hash it: its characters, known to be base64 of 16 bytes.
pub(super) fn is_key(value: &[u8]) -> bool {
    let mut decoded = [0; KEY_CHARS];
    value.len() == KEY_CHARS && BASE64.decode_slice(value, &mut decoded) == Ok(16)
}

/// The characters a client sends for its 16 random bytes.
pub(super) fn key_text(key: &[u8; 16]) -> [u8; KEY_CHARS] {
    let mut text = [b'='; KEY_CHARS];
    let written = BASE64.encode_slice(key, &mut text);
    debug_assert_eq!(written, Ok(KEY_CHARS));
    text
}

/// The value of `Sec-WebSocket-Accept` for the characters of a key.
pub(super) fn accept_text(key: &[u8]) -> [u8; ACCEPT_CHARS] {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    let mut text = [b'='; ACCEPT_CHARS];
    let written = BASE64.encode_slice(digest, &mut text);
    debug_assert_eq!(written, Ok(ACCEPT_CHARS));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc() {
        assert_eq!(&accept_text(b"dGhlIHNhbXBsZSBub25jZQ=="), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(&key_text(b"the sample nonce"), b"dGhlIHNhbXBsZSBub25jZQ==");
    }

    #[test]
    fn keys() {
        let check = |value: &[u8], wanted: bool| assert_eq!(is_key(value), wanted, "{value:?}");
        check(b"dGhlIHNhbXBsZSBub25jZQ==", true);
        check(b"dGhlIHNhbXBsZSBub25jZR==", true);
        check(b"dGhlIHNhbXBsZSBub25jZQ", false);
        check(b"dGhlIHNhbXBsZSBub25jZQ= ", false);
        check(b"dGhlIHNhbXBsZSBub25j!Q==", false);
        check(b"dGhlIHNhbXBsZSBub25jZSE=", false);
        check(b"", false);
    }
}
