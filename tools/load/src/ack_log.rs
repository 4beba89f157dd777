//! The file of acknowledged sends: text, one line each, `conversation sequence message-id hash user`. Ids and the hash
//! (xxh3-128 of the encoded message) in hexadecimal, the others in decimal. `user` is a member to read it back as.
//!
//! Only whole lines are written, but whoever kills a process, or fills a disk, may cut a write anywhere. So a last line
//! without its end is none: its last number may lack digits. It is cut away before anything is appended.

use crate::limits::{ACKS_BUFFER_BYTES, ACKS_LINE_BYTES_MAX};
use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;
use tidegate_ids::{ConversationId, MessageId, Sequence, UserId};
use xxhash_rust::xxh3::xxh3_128;

/// An acknowledged send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// Where.
    pub conversation: ConversationId,
    /// Its place there.
    pub sequence: Sequence,
    /// Its id.
    pub message_id: MessageId,
    /// Of the encoded message.
    pub hash: u128,
    /// Who sent it.
    pub user: UserId,
}

/// The hash of an encoded message.
pub fn hash(message: &[u8]) -> u128 {
    xxh3_128(message)
}

/// Appends to the file.
pub struct AckLog<W: Write = File> {
    file: BufWriter<W>,
}

impl AckLog {
    /// Opens the file, which is made if it is not there; a torn last line is cut away, and that is said.
    ///
    /// # Errors
    /// It cannot be opened, or what stands at its end is no part of a line.
    pub fn open(path: &Path) -> Result<Self> {
        let open = || -> Result<File> {
            let mut file = File::options().create(true).read(true).append(true).open(path)?;
            let torn = torn_bytes(&mut file)?;
            if torn > 0 {
                file.set_len(file.metadata()?.len() - torn)?;
                eprintln!("tidegate-load: {} ended in half a line, which is cut away", path.display());
            }
            Ok(file)
        };
        Ok(Self::over(open().with_context(|| format!("cannot open {}", path.display()))?))
    }
}

impl<W: Write> AckLog<W> {
    fn over(file: W) -> Self {
        Self { file: BufWriter::with_capacity(ACKS_BUFFER_BYTES, file) }
    }

    /// Appends one.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn append(&mut self, acknowledged: &Acknowledged) -> std::io::Result<()> {
        // The buffer writes itself where it is full, which may be in the middle of a line.
        if self.file.capacity() - self.file.buffer().len() < ACKS_LINE_BYTES_MAX {
            self.file.flush()?;
        }
        let Acknowledged { conversation, sequence, message_id, hash, user } = acknowledged;
        conversation.0.iter().try_for_each(|byte| write!(self.file, "{byte:02x}"))?;
        writeln!(self.file, " {sequence} {message_id} {hash:032x} {user}")
    }

    /// Everything appended is in the file after this.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

/// How much of a line without an end stands at the end of a file.
fn torn_bytes(file: &mut (impl Read + Seek)) -> Result<u64> {
    let end = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(end.saturating_sub(ACKS_LINE_BYTES_MAX as u64)))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    let torn = tail.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    // Nothing is cut that we cannot have written: the path may be a mistake.
    let is_ours = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b' ');
    ensure!(
        torn.len() < ACKS_LINE_BYTES_MAX && torn.iter().all(is_ours),
        "it does not end in a line of acknowledged sends"
    );
    Ok(torn.len() as u64)
}

/// What a file of acknowledged sends holds.
#[derive(Debug, PartialEq, Eq)]
pub struct Contents {
    /// Its lines.
    pub acknowledged: Vec<Acknowledged>,
    /// The number of the last line if it is torn; it is not among them.
    pub torn: Option<usize>,
}

/// Reads the file.
///
/// # Errors
/// It cannot be read, or a line with an end is none of [`AckLog`].
pub fn read(path: &Path) -> Result<Contents> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let (mut file, mut line) = (BufReader::new(file), Vec::new());
    let mut acknowledged = Vec::new();
    loop {
        let number = acknowledged.len() + 1;
        let place = || format!("line {number} of {}", path.display());
        line.clear();
        if file.read_until(b'\n', &mut line).with_context(place)? == 0 {
            return Ok(Contents { acknowledged, torn: None });
        }
        let Some(line) = line.strip_suffix(b"\n") else {
            return Ok(Contents { acknowledged, torn: Some(number) });
        };
        let text = std::str::from_utf8(line).context("it is no text").with_context(place)?;
        acknowledged.push(parse(text).with_context(place)?);
    }
}

fn parse(line: &str) -> Result<Acknowledged> {
    let mut fields = line.split(' ');
    let mut field = || fields.next().context("a field is missing");
    let acknowledged = Acknowledged {
        conversation: ConversationId(sixteen(field()?)?.to_be_bytes()),
        sequence: Sequence(field()?.parse()?),
        message_id: MessageId(sixteen(field()?)?.to_be_bytes()),
        hash: sixteen(field()?)?,
        user: UserId(field()?.parse()?),
    };
    ensure!(fields.next().is_none(), "there is more than five fields");
    Ok(acknowledged)
}

fn sixteen(digits: &str) -> Result<u128> {
    ensure!(digits.len() == 32, "`{digits}` has not 32 hexadecimal digits");
    Ok(u128::from_str_radix(digits, 16)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(user: u64) -> Acknowledged {
        Acknowledged {
            conversation: ConversationId::group([7; 16]),
            sequence: Sequence(12),
            message_id: MessageId([1; 16]),
            hash: hash(b"hello"),
            user: UserId(user),
        }
    }

    /// The line of an entry, with its end.
    fn line(entry: &Acknowledged) -> Vec<u8> {
        let mut log = AckLog::over(Vec::new());
        log.append(entry).and_then(|()| log.flush()).expect("written");
        log.file.get_ref().clone()
    }

    fn append(path: &Path, entry: &Acknowledged) -> Result<()> {
        let mut log = AckLog::open(path)?;
        Ok(log.append(entry).and_then(|()| log.flush())?)
    }

    #[test]
    fn what_is_appended_is_read_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("acks");
        let one = entry(77);
        let other = Acknowledged { conversation: ConversationId::direct(UserId(3), UserId(4)), ..one };
        [one, other].iter().for_each(|entry| append(&path, entry).expect("appended"));
        assert_eq!(read(&path).expect("read"), Contents { acknowledged: vec![one, other], torn: None });
    }

    #[test]
    fn no_line_is_longer_than_the_longest() {
        let longest = Acknowledged { sequence: Sequence(u64::MAX), ..entry(u64::MAX) };
        assert_eq!(line(&longest).len(), ACKS_LINE_BYTES_MAX);
    }

    /// Notes each write of its own.
    #[derive(Default)]
    struct Writes(Vec<Vec<u8>>);

    impl Write for Writes {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.push(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// The buffer wrote itself whenever it was full, every 8 KiB, wherever that was in a line: a replay that was killed
    /// between two of its flushes left half a line.
    #[test]
    fn every_write_ends_where_a_line_ends() {
        let mut log = AckLog::over(Writes::default());
        let lines = 3 * ACKS_BUFFER_BYTES / line(&entry(1)).len();
        (0..lines as u64).for_each(|user| log.append(&entry(user)).expect("appended"));
        log.flush().expect("written");
        let writes = &log.file.get_ref().0;
        assert!(writes.len() >= 3, "{} writes", writes.len());
        writes.iter().for_each(|bytes| assert_eq!(bytes.last(), Some(&b'\n')));
        let expected: Vec<u8> = (0..lines as u64).flat_map(|user| line(&entry(user))).collect();
        assert!(writes.concat() == expected);
    }

    /// A replay that was killed in a write left half a line; the next one appended to it, and the file could never be
    /// verified again. Wherever the line is torn, also where it still reads as one: `7` is what is left of `77`.
    #[test]
    fn a_torn_last_line_is_left_out_and_cut_away_before_the_next() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("acks");
        let (one, torn, next) = (entry(5), line(&entry(77)), entry(6));
        for length in 0..torn.len() {
            std::fs::write(&path, [&line(&one), &torn[..length]].concat()).expect("written");
            let number = (length > 0).then_some(2);
            assert_eq!(read(&path).expect("read"), Contents { acknowledged: vec![one], torn: number });
            append(&path, &next).expect("appended");
            let whole = std::fs::read(&path).expect("read");
            assert_eq!(whole, [line(&one), line(&next)].concat(), "torn after {length} bytes");
        }
        // The first line of all.
        std::fs::write(&path, &torn[..40]).expect("written");
        assert_eq!(read(&path).expect("read"), Contents { acknowledged: Vec::new(), torn: Some(1) });
        append(&path, &next).expect("appended");
        assert_eq!(std::fs::read(&path).expect("read"), line(&next));
    }

    #[test]
    fn a_torn_line_in_the_middle_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("acks");
        let whole = line(&entry(5));
        for torn in [&whole[..40], b"\xff"] {
            std::fs::write(&path, [&whole, torn, &whole].concat()).expect("written");
            let error = read(&path).expect_err("it is torn").to_string();
            assert_eq!(error, format!("line 2 of {}", path.display()));
        }
    }

    /// `--acks` with the path of something else must not shorten it.
    #[test]
    fn nothing_is_cut_that_is_no_part_of_a_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("acks");
        let digits = "0".repeat(ACKS_LINE_BYTES_MAX);
        for text in ["one line\nanother", "\u{0}", &digits] {
            std::fs::write(&path, text).expect("written");
            let error = append(&path, &entry(5)).expect_err("it is none of ours");
            assert!(
                format!("{error:#}").ends_with("does not end in a line of acknowledged sends"),
                "{error:#}"
            );
            assert_eq!(std::fs::read_to_string(&path).expect("read"), text);
        }
    }

    #[test]
    fn a_line_that_is_none_is_refused() {
        let id = "00".repeat(16);
        let lines = [
            String::new(),
            format!("{id} 1 {id} {id}"),
            format!("{id} 1 {id} {id} 7 8"),
            format!("{id} x {id} {id} 7"),
            format!("{} 1 {id} {id} 7", &id[2..]),
        ];
        lines.iter().for_each(|line| assert!(parse(line).is_err(), "{line}"));
    }
}
