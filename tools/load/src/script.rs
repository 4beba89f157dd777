//! Chat logs as something to be played: who is in each group, who says what in which order, who comes and goes.

use crate::chat::{self, Line};
use crate::limits::{DEVICES_MAX, LOG_BYTES_MAX, MEMBERS_MAX};
use anyhow::{Context, Result, ensure};
use flate2::read::MultiGzDecoder;
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use tidegate_ids::{INTEGER_MAX, UserId};
use tidegate_schema::{Encoder, MessageFields};
use xxhash_rust::xxh3::xxh3_64;

/// What a gzip file starts with (RFC 1952, section 2.3.1).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Everybody who speaks in any of the logs: a nickname is one user with one device.
#[derive(Debug, Default)]
pub struct Roster {
    people: Vec<Person>,
    by_nick: HashMap<Vec<u8>, u32>,
    by_user: HashMap<u64, u32>,
}

/// One of them.
#[derive(Debug)]
pub struct Person {
    /// As logged.
    pub nick: Vec<u8>,
    /// The same in every run.
    pub user: UserId,
}

/// One log.
#[derive(Debug)]
pub struct Script {
    /// Name of the file.
    pub name: String,
    /// Who speaks, as indexes into the roster, sorted.
    pub members: Vec<u32>,
    /// What is said, in order.
    pub lines: Vec<Spoken>,
    /// Who comes and goes, in order.
    pub changes: Vec<Change>,
    /// Lines that are no messages.
    pub skipped: usize,
    /// Encoded messages, one after the other.
    messages: Vec<u8>,
}

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spoken {
    /// Index into the roster.
    pub speaker: u32,
    start: u32,
    end: u32,
}

/// Somebody who speaks in the log comes or leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The index of the message before which it happens.
    pub before: u32,
    /// Index into the roster.
    pub person: u32,
    /// Whether they are here from now on.
    pub here: bool,
}

impl Roster {
    /// How many they are.
    pub fn len(&self) -> usize {
        self.people.len()
    }

    /// One of them.
    pub fn person(&self, index: usize) -> &Person {
        &self.people[index]
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Person> {
        self.people.iter()
    }

    fn find(&self, nick: &[u8]) -> Option<u32> {
        self.by_nick.get(nick).copied()
    }

    /// The index of a nickname, which is entered if it is new.
    fn enter(&mut self, nick: &[u8]) -> Result<u32> {
        if let Some(index) = self.find(nick) {
            return Ok(index);
        }
        let index = self.people.len() as u32;
        ensure!(self.people.len() < DEVICES_MAX, "more than {DEVICES_MAX} people");
        // Two nicknames with one hash: the second takes the next number. Never seen, but people must not be mixed up.
        let mut user = (xxh3_64(nick) & INTEGER_MAX).max(1);
        while self.by_user.contains_key(&user) {
            user = if user == INTEGER_MAX { 1 } else { user + 1 };
        }
        self.by_user.insert(user, index);
        self.by_nick.insert(nick.to_vec(), index);
        self.people.push(Person { nick: nick.to_vec(), user: UserId(user) });
        Ok(index)
    }
}

impl Script {
    /// Reads a log, text or gzip by its first bytes.
    ///
    /// # Errors
    /// The file cannot be read, nobody speaks in it, or too many do.
    pub fn read(path: &Path, roster: &mut Roster, encoder: &mut Encoder) -> Result<Self> {
        let text = read_log(path).with_context(|| format!("cannot read {}", path.display()))?;
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        Self::new(name, &text, roster, encoder).with_context(|| format!("cannot play {}", path.display()))
    }

    fn new(name: String, text: &[u8], roster: &mut Roster, encoder: &mut Encoder) -> Result<Self> {
        let mut script = Self {
            name,
            members: Vec::new(),
            lines: Vec::new(),
            changes: Vec::new(),
            skipped: 0,
            messages: Vec::new(),
        };
        let mut lines = text.strip_suffix(b"\n").unwrap_or(text).split(|byte| *byte == b'\n');
        if text.is_empty() {
            lines.next();
        }
        for line in lines.clone() {
            match chat::parse(line) {
                Line::Message { nick, body } => script.speak(roster.enter(nick)?, body, encoder)?,
                _ => script.skipped += 1,
            }
        }
        script.members = script.lines.iter().map(|line| line.speaker).collect();
        script.members.sort_unstable();
        script.members.dedup();
        ensure!(!script.members.is_empty(), "nobody speaks in it");
        ensure!(
            script.members.len() <= MEMBERS_MAX,
            "{} people speak in it, a group holds {MEMBERS_MAX}",
            script.members.len()
        );
        script.watch(lines, roster);
        Ok(script)
    }

    fn speak(&mut self, speaker: u32, body: &[u8], encoder: &mut Encoder) -> Result<()> {
        let start = self.messages.len();
        encoder.message(&mut self.messages, &MessageFields { body, ..MessageFields::default() })?;
        let end = self.messages.len();
        self.lines.push(Spoken { speaker, start: u32::try_from(start)?, end: u32::try_from(end)? });
        Ok(())
    }

    /// Notes who comes and goes, once it is known who ever speaks.
    fn watch<'a>(&mut self, lines: impl Iterator<Item = &'a [u8]>, roster: &Roster) {
        let mut before = 0;
        for line in lines {
            match chat::parse(line) {
                Line::Message { .. } => before += 1,
                Line::Join(nick) => self.note(before, nick, true, roster),
                Line::Leave(nick) => self.note(before, nick, false, roster),
                Line::Rename { from, to } => {
                    self.note(before, from, false, roster);
                    self.note(before, to, true, roster);
                }
                Line::Other => {}
            }
        }
    }

    fn note(&mut self, before: u32, nick: &[u8], here: bool, roster: &Roster) {
        if let Some(person) = roster.find(nick).filter(|person| self.seat(*person).is_some()) {
            self.changes.push(Change { before, person, here });
        }
    }

    /// Where somebody stands in `members`.
    pub fn seat(&self, person: u32) -> Option<usize> {
        self.members.binary_search(&person).ok()
    }

    /// Who creates the group: the first who speaks.
    pub fn creator(&self) -> u32 {
        self.lines[0].speaker
    }

    /// The encoded message of a line.
    pub fn message(&self, line: usize) -> &[u8] {
        let line = &self.lines[line];
        &self.messages[line.start as usize..line.end as usize]
    }
}

fn read_log(path: &Path) -> Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let mut bytes = Vec::new();
    file.by_ref().take(LOG_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.starts_with(&GZIP_MAGIC) {
        let mut text = Vec::new();
        MultiGzDecoder::new(&bytes[..]).take(LOG_BYTES_MAX + 1).read_to_end(&mut text)?;
        bytes = text;
    }
    ensure!(bytes.len() as u64 <= LOG_BYTES_MAX, "it has more than {LOG_BYTES_MAX} bytes");
    Ok(bytes)
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    /// Plays these texts, each a log.
    pub fn scripts(texts: &[&str]) -> (Vec<Script>, Roster) {
        let (mut roster, mut encoder) = (Roster::default(), Encoder::new());
        let script = |(index, text): (usize, &&str)| {
            Script::new(format!("log {index}"), text.as_bytes(), &mut roster, &mut encoder).expect("playable")
        };
        (texts.iter().enumerate().map(script).collect(), roster)
    }

    const DAY: &str = "\
=== ghost [x@y]  has joined #ubuntu
[09:14] <will> one
=== anna [x@y]  has left #ubuntu
[09:15]  * anna two
[09:15] <will> three
=== will is now known as bob
=== bob is now known as will
";

    #[test]
    fn a_log_becomes_a_group_of_its_speakers() {
        let (scripts, roster) = scripts(&[DAY, "[10:00] <anna> four\n\n[10:00] <zoe> five"]);
        assert_eq!(
            roster.iter().map(|person| &person.nick[..]).collect::<Vec<_>>(),
            [b"will", b"anna", b"zoe" as &[u8]]
        );
        assert_eq!((&scripts[0].members[..], scripts[0].creator(), scripts[0].skipped), (&[0, 1][..], 0, 4));
        assert_eq!((&scripts[1].members[..], scripts[1].creator(), scripts[1].skipped), (&[1, 2][..], 1, 1));
        let speakers: Vec<_> = scripts[0].lines.iter().map(|line| line.speaker).collect();
        assert_eq!(speakers, [0, 1, 0]);
        let body = |line| MessageFields::verify(scripts[0].message(line)).expect("sound").body;
        assert_eq!([body(0), body(1), body(2)], [b"one" as &[u8], b"* anna two", b"three"]);
    }

    #[test]
    fn only_speakers_come_and_go() {
        let (scripts, _) = scripts(&[DAY]);
        let change = |before, person, here| Change { before, person, here };
        assert_eq!(scripts[0].changes, [change(1, 1, false), change(3, 0, false), change(3, 0, true)]);
    }

    #[test]
    fn a_user_is_the_same_in_every_run() {
        let (_, one) = scripts(&["[10:00] <a> x\n[10:00] <b> x"]);
        let (_, other) = scripts(&["[10:00] <b> x\n[10:00] <a> x"]);
        assert_eq!(one.person(0).user, other.person(1).user);
        assert_eq!(one.person(1).user, other.person(0).user);
        assert_ne!(one.person(0).user, one.person(1).user);
    }

    #[test]
    fn gzip_is_told_by_its_first_bytes() {
        let folder = tempfile::tempdir().expect("a folder");
        let (plain, packed) = (folder.path().join("plain.gz"), folder.path().join("packed.txt"));
        std::fs::write(&plain, DAY).expect("written");
        let mut encoder = GzEncoder::new(File::create(&packed).expect("made"), Compression::fast());
        encoder.write_all(DAY.as_bytes()).expect("packed");
        encoder.finish().expect("packed");
        assert_eq!(read_log(&plain).expect("read"), DAY.as_bytes());
        assert_eq!(read_log(&packed).expect("read"), DAY.as_bytes());
    }

    #[test]
    fn a_log_without_a_speaker_is_refused() {
        let (mut roster, mut encoder) = (Roster::default(), Encoder::new());
        for text in ["", "\n", "=== a [b]  has joined #c\n"] {
            assert!(Script::new("log".into(), text.as_bytes(), &mut roster, &mut encoder).is_err());
        }
    }
}
