//! Opening a file to read it, and reading a stretch of it: signals and short reads are no end of it.

use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Opens what lies at `path` for reading, whatever it is: a FIFO in a file's place would wait for a writer, and reading it
/// refuses then (`ESPIPE`). Of a file this is [`File::open`].
pub(crate) fn open(path: &Path) -> io::Result<File> {
    File::options().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)
}

/// Fills `into` through `read`, which is given what is still to be filled and how much is, as far as there is anything; says
/// how many bytes came. A signal does not end it, and neither does a read that gives only a part.
///
/// # Errors
/// What the system said, and how far the reading had come.
pub(crate) fn fill(
    into: &mut [u8],
    mut read: impl FnMut(&mut [u8], u64) -> Result<usize, Errno>,
) -> Result<usize, (usize, Errno)> {
    let mut filled = 0;
    while filled < into.len() {
        match read(&mut into[filled..], filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err((filled, errno)),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads from a file of `bytes`, each time as the script says.
    fn check(script: &[Result<usize, Errno>], bytes: &[u8], expected: Result<&[u8], (usize, Errno)>) {
        let mut script = script.iter();
        let mut into = [0; 8];
        let filled = fill(&mut into, |part, at| {
            let left = &bytes[bytes.len().min(at as usize)..];
            let count = (*script.next().unwrap_or(&Ok(usize::MAX)))?.min(part.len()).min(left.len());
            part[..count].copy_from_slice(&left[..count]);
            Ok(count)
        });
        assert_eq!(filled.map(|count| &into[..count]), expected);
        assert_eq!(script.next(), None, "the script was played to its end");
    }

    #[test]
    fn signals_and_short_reads_end_nothing_and_a_refusal_says_where() {
        let file = b"0123456789";
        check(&[], file, Ok(b"01234567"));
        check(&[Err(Errno::INTR), Ok(3), Err(Errno::INTR), Ok(1), Ok(2)], file, Ok(b"01234567"));
        check(&[Ok(1), Ok(1)], &file[..3], Ok(b"012"));
        check(&[], b"", Ok(b""));
        check(&[Err(Errno::IO)], file, Err((0, Errno::IO)));
        check(&[Ok(5), Err(Errno::INTR), Err(Errno::IO)], file, Err((5, Errno::IO)));
    }
}
