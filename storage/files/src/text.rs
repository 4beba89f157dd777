//! What the small text files of a data directory have in common: a name and a version in the first line, a checksum in the
//! last, words between single spaces, and one way only to write a value.

use std::fmt::Write as _;
use tidegate_storage_log::crc32c;

const CHECKSUM: &str = "crc32c";

/// The file's bytes: `text` and the line of its checksum.
pub(crate) fn summed(mut text: String) -> Vec<u8> {
    let sum = crc32c(text.as_bytes());
    // Writing to a String does not fail.
    let _ = writeln!(text, "{CHECKSUM} {sum:08x}");
    text.into_bytes()
}

/// Everything before the checksum line, if that line is right and the last.
pub(crate) fn checked(text: &str) -> Option<&str> {
    let whole = text.strip_suffix('\n')?;
    let start = whole.rfind('\n').map_or(0, |at| at + 1);
    let (body, last) = whole.split_at(start);
    let sum = words(last, CHECKSUM)?;
    (sum == format!("{:08x}", crc32c(body.as_bytes()))).then_some(body)
}

/// What follows `name` and a space.
pub(crate) fn words<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.strip_prefix(name)?.strip_prefix(' ')
}

/// A number as these formats write it: no sign, no leading zero.
pub(crate) fn number<T: std::str::FromStr + ToString>(text: &str) -> Option<T> {
    let value: T = text.parse().ok()?;
    (value.to_string() == text).then_some(value)
}

/// Appends sixteen bytes as 32 lowercase hex digits.
pub(crate) fn put_hex16(bytes: &[u8; 16], out: &mut String) {
    bytes.iter().for_each(|byte| _ = write!(out, "{byte:02x}"));
}

/// Sixteen bytes as 32 lowercase hex digits.
pub(crate) fn hex16(text: &str) -> Option<[u8; 16]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let pairs = text.as_bytes().as_chunks::<2>();
    let mut bytes = [0; 16];
    if text.len() != 32 {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs.0) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}
