//! Who is in the channel of a log, line by line.
//!
//! A log begins in the middle of a day: most of those who speak in it are there already, and their first change is that
//! they leave. Whoever joins first, or first appears by a rename, has not been there before, unless they have spoken.

use super::presence::Logs;
use crate::script::Script;

/// The people of one log.
pub struct Channel {
    /// By seat.
    here: Vec<bool>,
    next_change: usize,
}

impl Channel {
    /// As the log begins.
    pub fn new(script: &Script) -> Self {
        let mut here = vec![true; script.members.len()];
        let mut is_known = vec![false; script.members.len()];
        let mut lines = script.lines.iter().enumerate().peekable();
        for change in &script.changes {
            while let Some((_, line)) = lines.next_if(|(index, _)| *index < change.before as usize) {
                if let Some(seat) = script.seat(line.speaker) {
                    is_known[seat] = true;
                }
            }
            let Some(seat) = script.seat(change.person) else { continue };
            if !std::mem::replace(&mut is_known[seat], true) {
                here[seat] = !change.here;
            }
        }
        Self { here, next_change: 0 }
    }

    /// Who came and went before a line; `tell` gets the person, and whether they are here from now on.
    pub fn go_on(&mut self, script: &Script, line: usize, mut tell: impl FnMut(u32, bool)) {
        while let Some(change) = script.changes.get(self.next_change) {
            if change.before as usize > line {
                return;
            }
            self.next_change += 1;
            let Some(seat) = script.seat(change.person) else { continue };
            if std::mem::replace(&mut self.here[seat], change.here) != change.here {
                tell(change.person, change.here);
            }
        }
    }

    /// The log is over: everybody comes back to it.
    pub fn end(&mut self, script: &Script, mut tell: impl FnMut(u32, bool)) {
        for (person, here) in script.members.iter().zip(&mut self.here) {
            if !std::mem::replace(here, true) {
                tell(*person, true);
            }
        }
    }
}

/// The logs of each person, as they begin.
pub fn logs(people: usize, scripts: &[Script], channels: &[Channel]) -> Vec<Logs> {
    let mut logs = vec![Logs::default(); people];
    for (script, channel) in scripts.iter().zip(channels) {
        for (person, here) in script.members.iter().zip(&channel.here) {
            let logs = &mut logs[*person as usize];
            logs.playing += 1;
            logs.here += u32::from(*here);
        }
    }
    logs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::presence::Presence;
    use crate::script::tests::scripts;

    /// Who is there as the log begins, and what happens before each line, then at the end.
    fn check(text: &str, there: &[&str], changes: &[&str]) {
        let (scripts, roster) = scripts(&[text]);
        let script = &scripts[0];
        let nick = |person: u32| String::from_utf8_lossy(&roster.person(person as usize).nick).into_owned();
        let mut channel = Channel::new(script);
        let members = script.members.iter().zip(&channel.here);
        let seen: Vec<_> = members.filter(|(_, here)| **here).map(|(person, _)| nick(*person)).collect();
        assert_eq!(seen, there, "{text}");
        let mut seen = Vec::new();
        for line in 0..=script.lines.len() {
            let mut told = Vec::new();
            let mut tell =
                |person, here| told.push(format!("{}{}", if here { '+' } else { '-' }, nick(person)));
            channel.go_on(script, line, &mut tell);
            if line == script.lines.len() {
                channel.end(script, &mut tell);
            }
            seen.push(told.join(" "));
        }
        assert_eq!(seen, changes, "{text}");
        assert!(channel.here.iter().all(|here| *here), "{text}");
    }

    /// Everybody was there from the start, and a join of somebody who is there is no change: the first join of a person
    /// connected nobody, so whoever came in the course of the day had been online since its beginning.
    #[test]
    fn whoever_joins_first_was_not_there() {
        check(
            "[09:00] <will> one\n=== anna [x@y]  has joined #c\n[09:01] <will> two\n[09:02] <anna> three",
            &["will"],
            &["", "+anna", "", ""],
        );
        // Before the first line of all.
        check("=== anna [x@y]  has joined #c\n[09:01] <anna> one", &[], &["+anna", ""]);
        check(
            "[09:00] <will> one\n=== old is now known as anna\n[09:02] <anna> two",
            &["will"],
            &["", "+anna", ""],
        );
    }

    #[test]
    fn whoever_leaves_or_speaks_first_was_there() {
        check(
            "=== anna [x@y]  has left #c\n[09:00] <will> one\n=== anna [x@y]  has joined #c\n[09:02] <anna> two",
            &["will", "anna"],
            &["-anna", "+anna", ""],
        );
        // They spoke before they joined: the log has missed how they went.
        check(
            "[09:00] <anna> one\n=== anna [x@y]  has joined #c\n[09:02] <anna> two",
            &["anna"],
            &["", "", ""],
        );
        check(
            "[09:00] <will> one\n=== will is now known as bob\n[09:01] <bob> two\n=== bob is now known as will",
            &["will"],
            &["", "-will +bob", "-bob +will +bob"],
        );
    }

    #[test]
    fn whoever_left_comes_back_at_the_end() {
        check(
            "[09:00] <will> one\n[09:01] <anna> two\n=== anna [x@y]  has quit [bye]\n[09:02] <will> three",
            &["will", "anna"],
            &["", "", "-anna", "+anna"],
        );
    }

    /// Whoever is there in one log is online, though another has them join later; and at the end everybody is online, or
    /// their devices could never have stored everything.
    #[test]
    fn a_person_is_online_while_one_log_has_them() {
        let (scripts, roster) = scripts(&[
            "[09:00] <will> one\n=== anna [x@y]  has joined #c\n=== zoe [x@y]  has joined #c\n[09:01] <anna> two\n[09:02] <zoe> three",
            "[09:00] <anna> one\n=== anna [x@y]  has left #d\n[09:01] <paul> two",
        ]);
        let mut channels: Vec<_> = scripts.iter().map(Channel::new).collect();
        let mut presence = Presence::new(&logs(roster.len(), &scripts, &channels), 0.0, 1);
        let person =
            |nick: &str| roster.iter().position(|person| person.nick == nick.as_bytes()).expect(nick);
        let changes =
            |presence: &mut Presence| std::iter::from_fn(|| presence.next_change()).collect::<Vec<_>>();
        assert_eq!(changes(&mut presence), [(person("zoe"), false)]);
        channels[1].go_on(&scripts[1], 1, |person, here| presence.change(person, here));
        assert_eq!(changes(&mut presence), [(person("anna"), false)]);
        // Whose line is next is online for it, wherever the log has them.
        presence.want(person("zoe") as u32);
        assert_eq!(changes(&mut presence), [(person("zoe"), true)]);
        presence.release(person("zoe") as u32);
        assert_eq!(changes(&mut presence), [(person("zoe"), false)]);
        channels[0].go_on(&scripts[0], 1, |person, here| presence.change(person, here));
        let mut both = changes(&mut presence);
        both.sort_unstable();
        assert_eq!(both, [(person("anna"), true), (person("zoe"), true)]);
    }

    /// Whether its log has ended, or the replay: whoever is away then comes back, also without ever having joined.
    #[test]
    fn everybody_is_online_in_the_end() {
        let (scripts, roster) =
            scripts(&["[09:00] <will> one\n=== anna [x@y]  has joined #c\n[09:01] <anna> two"]);
        let away = || {
            let channels: Vec<_> = scripts.iter().map(Channel::new).collect();
            let mut presence = Presence::new(&logs(roster.len(), &scripts, &channels), 0.0, 1);
            assert_eq!(presence.next_change(), Some((1, false)));
            (channels, presence)
        };
        let (mut channels, mut presence) = away();
        channels[0].end(&scripts[0], |person, here| presence.change(person, here));
        assert_eq!((presence.next_change(), presence.next_change()), (Some((1, true)), None));
        let (_, mut presence) = away();
        presence.settle();
        assert_eq!((presence.next_change(), presence.next_change()), (Some((1, true)), None));
    }
}
