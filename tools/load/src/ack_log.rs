//! The file of acknowledged sends: text, one line each, `conversation sequence message-id hash user`. Ids and the hash
//! (xxh3-128 of the encoded message) in hexadecimal, the others in decimal. `user` is a member to read it back as.

use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
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
pub struct AckLog {
    file: BufWriter<File>,
}

impl AckLog {
    /// Opens the file, which is made if it is not there.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(path);
        let file = file.with_context(|| format!("cannot open {}", path.display()))?;
        Ok(Self { file: BufWriter::new(file) })
    }

    /// Appends one.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn append(&mut self, acknowledged: &Acknowledged) -> std::io::Result<()> {
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

/// Reads the file.
///
/// # Errors
/// It cannot be read, or a line is none of [`AckLog`].
pub fn read(path: &Path) -> Result<Vec<Acknowledged>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let lines = BufReader::new(file).lines().enumerate();
    let parsed = lines.map(|(index, line)| {
        parse(&line?).with_context(|| format!("line {} of {}", index + 1, path.display()))
    });
    parsed.collect()
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

    #[test]
    fn what_is_appended_is_read_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("acks");
        let one = Acknowledged {
            conversation: ConversationId::group([7; 16]),
            sequence: Sequence(12),
            message_id: MessageId([1; 16]),
            hash: hash(b"hello"),
            user: UserId(77),
        };
        let other = Acknowledged { conversation: ConversationId::direct(UserId(3), UserId(4)), ..one };
        for entry in [one, other] {
            let mut log = AckLog::open(&path).expect("opened");
            log.append(&entry).and_then(|()| log.flush()).expect("written");
        }
        assert_eq!(read(&path).expect("read"), [one, other]);
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
