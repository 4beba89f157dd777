//! One line of a chat log.
//!
//! `[hh:mm] <nick> text` is a message, `[hh:mm]  * nick text` an action (the time may be missing before it), and
//! `=== nick [address]  has joined #channel` and the like are changes of presence. Lines are bytes: the logs were made
//! before everybody used UTF-8. A nickname may hold blanks, because the logs do.

/// What a line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// Somebody says something; an action keeps its `* nick`, so that it reads as one.
    Message {
        /// Who.
        nick: &'a [u8],
        /// What.
        body: &'a [u8],
    },
    /// Somebody comes.
    Join(&'a [u8]),
    /// Somebody leaves or quits.
    Leave(&'a [u8]),
    /// Somebody changes their name.
    Rename {
        /// The old one.
        from: &'a [u8],
        /// The new one.
        to: &'a [u8],
    },
    /// Anything else.
    Other,
}

/// Reads a line, without its line end.
pub fn parse(line: &[u8]) -> Line<'_> {
    if let Some(change) = line.strip_prefix(b"=== ") {
        return presence(change);
    }
    let (timed, said) = match after_time(line) {
        Some(said) => (true, said),
        None => (false, line),
    };
    if let Some(said) = said.strip_prefix(b"<").filter(|_| timed) {
        return message(said);
    }
    match said.trim_ascii_start().strip_prefix(b"* ") {
        Some(acted) => action(acted, said.trim_ascii_start()),
        None => Line::Other,
    }
}

/// What follows `[hh:mm] `.
fn after_time(line: &[u8]) -> Option<&[u8]> {
    let (time, said) = line.split_at_checked(8)?;
    let shape = time.iter().zip(b"[00:00] ");
    let fits = |(byte, shape): (&u8, &u8)| match shape {
        b'0' => byte.is_ascii_digit(),
        _ => byte == shape,
    };
    shape.clone().all(fits).then_some(said)
}

/// `nick> text`; without a text the line ends with the bracket.
fn message(said: &[u8]) -> Line<'_> {
    let (nick, body) = match find(said, b"> ") {
        Some(at) => (&said[..at], &said[at + 2..]),
        None => match said.strip_suffix(b">") {
            Some(nick) => (nick, &said[said.len()..]),
            None => return Line::Other,
        },
    };
    if nick.is_empty() { Line::Other } else { Line::Message { nick, body } }
}

fn action<'a>(acted: &'a [u8], body: &'a [u8]) -> Line<'a> {
    let end = acted.iter().position(|byte| *byte == b' ').unwrap_or(acted.len());
    let nick = &acted[..end];
    if nick.is_empty() { Line::Other } else { Line::Message { nick, body } }
}

fn presence(change: &[u8]) -> Line<'_> {
    const RENAMED: &[u8] = b" is now known as ";
    const LEFT: [&[u8]; 2] = [b" has left #", b" has quit"];
    if let Some(at) = find(change, RENAMED) {
        let (from, to) = (change[..at].trim_ascii(), change[at + RENAMED.len()..].trim_ascii());
        return if from.is_empty() || to.is_empty() { Line::Other } else { Line::Rename { from, to } };
    }
    if let Some(nick) = find(change, b" has joined #").and_then(|at| with_address(&change[..at])) {
        return Line::Join(nick);
    }
    let left = LEFT.iter().find_map(|verb| find(change, verb));
    left.and_then(|at| with_address(&change[..at])).map_or(Line::Other, Line::Leave)
}

/// The nickname of `nick [address]`.
fn with_address(who: &[u8]) -> Option<&[u8]> {
    let who = who.trim_ascii_end().strip_suffix(b"]")?;
    let nick = who[..rfind(who, b" [")?].trim_ascii_end();
    (!nick.is_empty()).then_some(nick)
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn rfind(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).rposition(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &[u8], expected: Line<'_>) {
        assert_eq!(parse(line), expected, "{}", String::from_utf8_lossy(line));
    }

    fn says<'a>(nick: &'a [u8], body: &'a [u8]) -> Line<'a> {
        Line::Message { nick, body }
    }

    #[test]
    fn messages_and_actions_have_a_speaker() {
        check(b"[09:14] <will> hello", says(b"will", b"hello"));
        check(b"[09:14] <|QuaD-> <- me", says(b"|QuaD-", b"<- me"));
        check(b"[06:03] <bur[n] er> a > b", says(b"bur[n] er", b"a > b"));
        check(b"[07:15] <[optik] > hola", says(b"[optik] ", b"hola"));
        check(b"[09:43] <drcode>", says(b"drcode", b""));
        check(b"[09:43] <drcode> ", says(b"drcode", b""));
        check(b"[09:43] <a>b> c", says(b"a>b", b"c"));
        check(b"[09:43] <caf\xe9> \xff\xfe", says(b"caf\xe9", b"\xff\xfe"));
        check(b"[12:01]  * nick waves", says(b"nick", b"* nick waves"));
        check(b"[12:01] * nick waves", says(b"nick", b"* nick waves"));
        check(b" * nick waves", says(b"nick", b"* nick waves"));
        check(b"[12:01]  * nick", says(b"nick", b"* nick"));
        check(b"[09:14] <a> === b [x]  has joined #c", says(b"a", b"=== b [x]  has joined #c"));
    }

    #[test]
    fn presence_has_a_nickname() {
        check(b"=== spiv [~andrew@213.151.107.243]  has joined #ubuntu", Line::Join(b"spiv"));
        check(
            b"=== [Night_wolf]  [n=daniel@200.113.154.144]  has joined #ubuntu",
            Line::Join(b"[Night_wolf]"),
        );
        check(
            b"=== [cc] smart [n=[cc] smar@gw.ch]  has left #ubuntu [\"Leaving\"]",
            Line::Leave(b"[cc] smart"),
        );
        check(b"=== a [b@c]  has quit [Ping timeout]", Line::Leave(b"a"));
        check(
            b"=== Quetzal2_afk is now known as Quetzal2",
            Line::Rename { from: b"Quetzal2_afk", to: b"Quetzal2" },
        );
        check(b"=== Bart]  is now known as _Bart_", Line::Rename { from: b"Bart]", to: b"_Bart_" });
    }

    #[test]
    fn everything_else_is_skipped() {
        let odd: [&[u8]; 15] = [
            b"",
            b"=== ",
            b"===",
            b"=== jiyuu0 here to witness...",
            b"=== a has joined #ubuntu",
            b"===  is now known as b",
            b"=== mode/#ubuntu [+r]  by BearPerson",
            b"[05:12] -xuawwqxjizz:#ubuntu- happy",
            b"[01:09] (soundray/#ubuntu) thomas: have you seen",
            b"[09:14] <nobody says anything",
            b"[09:14] <> text",
            b"[9:14] <a> text",
            b"<a> no time",
            b"[09:14]",
            b"[12:01]  * ",
        ];
        odd.iter().for_each(|line| check(line, Line::Other));
    }
}
