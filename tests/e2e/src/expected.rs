//! What a gateway under load must hold, in a file beside its directory: every send is written down before it is sent, every
//! acknowledgement when it arrives. Proofs read the file, and so may who looks into a run that failed.
//!
//! Text, one line each, conversations and message ids in hexadecimal, the text that was sent last:
//!
//! ```text
//! founded CONVERSATION USER DEVICE 0 MEMBER …
//! sent CONVERSATION USER DEVICE NUMBER TEXT
//! acknowledged CONVERSATION USER DEVICE NUMBER SEQUENCE MESSAGE_ID TIME
//! ```

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use tidegate_ids::{CommandNumber, ConversationId, DeviceId, MessageId, Sequence, UserId, WallMs};

/// What names a numbered send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Command {
    /// Where.
    pub conversation: ConversationId,
    /// Who.
    pub user: UserId,
    /// On which device.
    pub device: DeviceId,
    /// Of the device's sends to the conversation.
    pub number: CommandNumber,
}

/// A send that the gateway said is synced, and what it said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// Which.
    pub command: Command,
    /// Its place in the conversation.
    pub sequence: Sequence,
    /// The message's id.
    pub message_id: MessageId,
    /// The stamp's time.
    pub time: WallMs,
}

/// A group that was made, which its first record tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founded {
    /// Who made it.
    pub user: UserId,
    /// On which device.
    pub device: DeviceId,
    /// Everybody in it, in rising order.
    pub members: Vec<UserId>,
}

/// The file, written by all devices of a test. Nothing is held back, so it is whole also when the test is killed.
#[derive(Debug)]
pub struct ExpectedFile {
    path: PathBuf,
    file: File,
}

impl ExpectedFile {
    /// Makes the file, which must not be there.
    #[must_use]
    #[track_caller]
    pub fn create(path: &Path) -> Self {
        let file = File::options().append(true).create_new(true).open(path).expect("the file can be made");
        Self { path: path.to_path_buf(), file }
    }

    /// Writes down that a group was made. Its id is known only then.
    pub fn found(&self, conversation: ConversationId, founded: &Founded) {
        let Founded { user, device, members } = founded;
        let (user, device, number) = (*user, *device, CommandNumber(0));
        let command = Command { conversation, user, device, number };
        let members: Vec<String> = members.iter().map(UserId::to_string).collect();
        self.write(&format!("founded {} {}\n", words(&command), members.join(" ")));
    }

    /// Writes down what is about to be sent.
    pub fn send(&self, command: &Command, text: &str) {
        assert!(!text.contains('\n'), "a send is one line");
        self.write(&format!("sent {} {text}\n", words(command)));
    }

    /// Writes down what was acknowledged.
    pub fn acknowledge(&self, acknowledged: &Acknowledged) {
        let Acknowledged { command, sequence, message_id, time } = acknowledged;
        self.write(&format!("acknowledged {} {sequence} {message_id} {time}\n", words(command)));
    }

    fn write(&self, line: &str) {
        // One write to a file open for appending: lines of several threads are not mixed.
        (&self.file).write_all(line.as_bytes()).expect("the file can be written");
    }

    /// Everything written down so far, read from the file.
    #[must_use]
    #[track_caller]
    pub fn read(&self) -> Expected {
        let text = std::fs::read_to_string(&self.path).expect("the file can be read");
        Expected::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", self.path.display()))
    }
}

fn words(command: &Command) -> String {
    let Command { conversation, user, device, number } = command;
    format!("{:032x} {user} {device} {number}", u128::from_be_bytes(conversation.0))
}

/// What is expected of a gateway: the file, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    founded: HashMap<ConversationId, Founded>,
    sent: HashMap<Command, String>,
    /// In the order in which it was written down.
    pub acknowledged: Vec<Acknowledged>,
}

impl Expected {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// A line is none, a command was sent twice, or was acknowledged and not sent.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut expected = Self::default();
        for (index, line) in text.lines().enumerate() {
            expected.take(line).map_err(|error| format!("line {}, `{line}`: {error}", index + 1))?;
        }
        Ok(expected)
    }

    fn take(&mut self, line: &str) -> Result<(), String> {
        let mut words = line.splitn(6, ' ');
        let mut word = || words.next().ok_or_else(|| "a word is missing".to_owned());
        let what = word()?;
        let command = Command {
            conversation: ConversationId(sixteen(word()?)?),
            user: UserId(parse(word()?)?),
            device: DeviceId(parse(word()?)?),
            number: CommandNumber(parse(word()?)?),
        };
        let rest = word()?;
        match what {
            "founded" => {
                let members = rest.split(' ').map(|member| parse(member).map(UserId));
                let Command { conversation, user, device, .. } = command;
                let founded = Founded { user, device, members: members.collect::<Result<_, _>>()? };
                self.founded.insert(conversation, founded);
                Ok(())
            }
            "sent" if self.sent.insert(command, rest.to_owned()).is_some() => Err("sent before".to_owned()),
            "sent" => Ok(()),
            "acknowledged" if !self.sent.contains_key(&command) => Err("it was not sent".to_owned()),
            "acknowledged" => {
                let [sequence, message_id, time] = rest.split(' ').collect::<Vec<_>>()[..] else {
                    return Err("these are not three words at its end".to_owned());
                };
                self.acknowledged.push(Acknowledged {
                    command,
                    sequence: Sequence(parse(sequence)?),
                    message_id: MessageId(sixteen(message_id)?),
                    time: WallMs(parse(time)?),
                });
                Ok(())
            }
            _ => Err("nothing that is written down".to_owned()),
        }
    }

    /// Who made a group, if it is one.
    #[must_use]
    pub fn founded(&self, conversation: &ConversationId) -> Option<&Founded> {
        self.founded.get(conversation)
    }

    /// What a command said, if it was ever sent.
    #[must_use]
    pub fn text(&self, command: &Command) -> Option<&str> {
        self.sent.get(command).map(String::as_str)
    }
}

fn parse<T: FromStr<Err: std::fmt::Display>>(word: &str) -> Result<T, String> {
    word.parse().map_err(|error| format!("`{word}`: {error}"))
}

fn sixteen(digits: &str) -> Result<[u8; 16], String> {
    let value = u128::from_str_radix(digits, 16).map_err(|error| format!("`{digits}`: {error}"))?;
    Ok(value.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(number: u64) -> Command {
        let conversation = ConversationId::direct(UserId(3), UserId(1 << 40));
        Command { conversation, user: UserId(3), device: DeviceId(1), number: CommandNumber(number) }
    }

    #[test]
    fn what_is_written_down_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = ExpectedFile::create(&folder.path().join("expected"));
        file.send(&command(1), "one, in words");
        file.send(&command(2), "");
        let group = Command { conversation: ConversationId::group([9; 16]), ..command(1) };
        let members = vec![UserId(3), UserId(5)];
        let founded = Founded { user: UserId(3), device: DeviceId(4), members };
        file.found(group.conversation, &founded);
        file.send(&group, "to all");
        let (sequence, time) = (Sequence(5), WallMs(1_700_000_000_000));
        let acknowledged = Acknowledged { command: group, sequence, message_id: MessageId([0xab; 16]), time };
        file.acknowledge(&acknowledged);
        let read = file.read();
        assert_eq!(read.acknowledged, [acknowledged]);
        assert_eq!(read.founded(&group.conversation), Some(&founded));
        assert_eq!(read.founded(&command(1).conversation), None);
        let texts =
            [command(1), command(2), group, command(3)].map(|command| read.text(&command).map(str::to_owned));
        assert_eq!(texts, [Some("one, in words".into()), Some(String::new()), Some("to all".into()), None]);
    }

    #[test]
    fn a_file_that_cannot_be_is_refused() {
        let sent = format!("sent {} text\n", words(&command(1)));
        let id = "0".repeat(32);
        assert_eq!(Expected::parse(&sent).map(|read| read.acknowledged), Ok(Vec::new()));
        let check = |text: String, expected: &str| {
            let error = Expected::parse(&text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        check(format!("{sent}{sent}"), "line 2");
        check(format!("acknowledged {} 1 {id} 1\n", words(&command(1))), "it was not sent");
        check(format!("{sent}acknowledged {} 1 {id}\n", words(&command(1))), "three words");
        check(format!("{sent}acknowledged {} 1 id 1\n", words(&command(1))), "`id`");
        check("sent 00 1 1".to_owned(), "a word is missing");
        check(format!("took {} text\n", words(&command(1))), "nothing that is");
        check(format!("founded {} 1 x\n", words(&command(0))), "`x`");
        check("\n".to_owned(), "a word is missing");
    }
}
