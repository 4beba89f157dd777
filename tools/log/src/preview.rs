//! What can be read of a body without knowing what it is: its runs of printable characters.

use crate::limits::{PREVIEW_CHARS_MAX, PREVIEW_RUN_CHARS_MIN};

/// The printable runs of a body, with a middle dot for what lies between them.
pub(crate) fn preview(body: &[u8]) -> String {
    let mut shown = String::new();
    let mut chars = 0;
    for chunk in body.utf8_chunks() {
        for run in chunk.valid().split(|c: char| c.is_control()) {
            if run.chars().count() < PREVIEW_RUN_CHARS_MIN {
                continue;
            }
            if chars > 0 {
                shown.push('·');
            }
            for c in run.chars() {
                if chars >= PREVIEW_CHARS_MAX {
                    shown.push('…');
                    return shown;
                }
                shown.push(c);
                chars += 1;
            }
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::preview;

    #[test]
    fn text_is_found_among_numbers() {
        let check = |body: &[u8], expected: &str| assert_eq!(preview(body), expected);
        check(b"", "");
        check(b"\x01\x00abc\x00", "");
        check(b"\x01\x00hello\xff\xfe\x00there \xc3\xa4h\x07", "hello·there äh");
        check(b"line\x1b[31m\nnext", "line·[31m·next");
        check(&[b'x'; 100], &format!("{}…", "x".repeat(64)));
    }
}
