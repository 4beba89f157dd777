//! A terminal chat with one other user, over the SDK's blocking shell.
//!
//! Each run is a device of its own; it begins with the newest messages of the conversation. Lines of standard input are
//! sent; at its end the program waits until all are acknowledged, so that it may stand in a pipe.

use crate::cli;
use crate::clock;
use crate::config::{Config, ConfigError, Environment};
use crate::limits::{CHAT_CONNECT_WAIT, CHAT_HISTORY, CHAT_LINES_AHEAD, CHAT_RECEIVE_WAIT};
use crate::token::{Secret, SecretError, TokenRequest, TokenRequestError, issue};
use std::io::{self, BufRead, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::Duration;
use tidegate_client::shell::{BlockingClient, ConnectError, Options, Received, Record, new_device};
use tidegate_client::{ConnectionState, Stored};
use tidegate_ids::{ConversationId, Sequence, UserId};
use tidegate_schema::{MessageFields, RangeSpan};

/// Why the chat ended early.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// The configuration that names the secret.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The token.
    #[error(transparent)]
    Token(#[from] TokenRequestError),
    /// Not an address of a gateway.
    #[error("`{0}` is no address of a gateway: ws://HOST:PORT/ws is")]
    Url(String),
    /// Nobody is there.
    #[error("nobody listens at {address}: is the gateway running? (tried for {} s)", CHAT_CONNECT_WAIT.as_secs())]
    Nobody {
        /// Where.
        address: String,
    },
    /// No connection.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// Where.
        address: String,
        /// Why.
        source: ConnectError,
    },
    /// The gateway does not want this device any more.
    #[error("the gateway closed the chat: {0}")]
    Stopped(String),
    /// The terminal.
    #[error(transparent)]
    Terminal(#[from] io::Error),
}

/// Chats until standard input ends.
///
/// # Errors
/// See [`ChatError`].
pub fn run(flags: &cli::Chat, out: &mut impl Write) -> Result<(), ChatError> {
    let config = Config::of_data(flags.config.as_deref(), flags.data.as_deref(), &Environment::of_process())?;
    let secret = Secret::find(&config.token, &config.data)?;
    let day = Duration::from_secs(24 * 3600);
    let request = TokenRequest { user: flags.user, device: None, rate: None, ttl: day, now: clock::wall() };
    let token = issue(&secret, &request)?.into_bytes();
    let (address, path) = split_url(&flags.url).ok_or_else(|| ChatError::Url(flags.url.clone()))?;
    let settings = tidegate_client::Config {
        host: address.to_owned(),
        path: path.to_owned(),
        platform: String::from("tidegate chat"),
        ..tidegate_client::Config::default()
    };
    let address = address.to_owned();
    let stored = Stored::new(new_device());
    let mut client =
        BlockingClient::new(Options { address: address.clone(), token, stored, config: settings });
    client.connect(CHAT_CONNECT_WAIT).map_err(|source| match source {
        ConnectError::TimedOut if is_refused(&address) => ChatError::Nobody { address },
        source => ChatError::Connect { address, source },
    })?;
    let (me, other) = (UserId(flags.user), UserId(flags.to));
    let mut chat =
        Chat { me, conversation: ConversationId::direct(me, other), shown: Sequence(0), asked: false };
    writeln!(out, "you are {me}, writing to {other}; end with Ctrl-D")?;
    let done = chat.talk(&mut client, &lines(), out);
    // Nothing is kept between runs: the next one is another device.
    let _ = client.close();
    done
}

/// Host with port, and path, of `ws://HOST:PORT/PATH`.
fn split_url(url: &str) -> Option<(&str, &str)> {
    let rest = url.strip_prefix("ws://")?;
    let (address, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let port = address.rsplit_once(':')?.1;
    port.parse::<u16>().ok()?;
    Some((address, if path.is_empty() { "/ws" } else { path }))
}

/// Whether the address is one at which nobody listens.
fn is_refused(address: &str) -> bool {
    TcpStream::connect(address).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// Lines of standard input, read on a thread because reading blocks. A full channel holds the reader back.
fn lines() -> Receiver<String> {
    let (sender, receiver) = sync_channel(CHAT_LINES_AHEAD);
    std::thread::spawn(move || {
        let lines = io::stdin().lock().lines().map_while(Result::ok);
        for line in lines.filter(|line| !line.is_empty()) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

struct Chat {
    me: UserId,
    conversation: ConversationId,
    /// The highest sequence on the screen.
    shown: Sequence,
    /// Whether the newest messages have been asked for and not come yet.
    asked: bool,
}

impl Chat {
    fn talk(
        &mut self,
        client: &mut BlockingClient,
        lines: &Receiver<String>,
        out: &mut impl Write,
    ) -> Result<(), ChatError> {
        let newest = RangeSpan::Before(Sequence(0));
        let history =
            client.with(|machine, now| machine.history(self.conversation, newest, CHAT_HISTORY, now));
        self.asked = history.is_ok();
        let mut ended = false;
        loop {
            if let Some(received) = client.receive(CHAT_RECEIVE_WAIT) {
                self.show(received, out)?;
                out.flush()?;
                continue;
            }
            ended |= self.send_lines(client, lines, out)?;
            if ended && !self.asked && client.machine().outbox_commands() == 0 {
                return Ok(());
            }
        }
    }

    /// Sends what was typed; true at its end.
    fn send_lines(
        &self,
        client: &mut BlockingClient,
        lines: &Receiver<String>,
        out: &mut impl Write,
    ) -> Result<bool, ChatError> {
        loop {
            match lines.try_recv() {
                Ok(line) => {
                    if let Err(error) = client.send_text(self.conversation, &line) {
                        writeln!(out, "! not sent: {error:?}")?;
                    }
                }
                Err(TryRecvError::Empty) => return Ok(false),
                Err(TryRecvError::Disconnected) => return Ok(true),
            }
        }
    }

    fn show(&mut self, received: Received, out: &mut impl Write) -> Result<(), ChatError> {
        match received {
            Received::Message(record) | Received::Fetched(record) => self.show_record(&record, out)?,
            Received::History { records, .. } => {
                self.asked = false;
                for record in &records {
                    self.show_record(record, out)?;
                }
            }
            // A conversation without messages does not exist yet.
            Received::RequestFailed { .. } => self.asked = false,
            Received::Sent { conversation, ack, .. } if conversation == self.conversation => {
                self.shown = self.shown.max(ack.sequence);
            }
            Received::Refused { code, text, .. } => {
                writeln!(out, "! refused: {} {}", code.label(), printable(text.as_bytes()))?;
            }
            Received::State(ConnectionState::Offline(_)) => writeln!(out, "… connection lost, trying again")?,
            Received::State(ConnectionState::Stopped(reason)) => {
                return Err(ChatError::Stopped(format!("{reason:?}")));
            }
            _ => {}
        }
        Ok(())
    }

    fn show_record(&mut self, record: &Record, out: &mut impl Write) -> io::Result<()> {
        let stamp = &record.stamp;
        if stamp.conversation != self.conversation || stamp.sequence <= self.shown {
            return Ok(());
        }
        self.shown = stamp.sequence;
        let Ok(message) = MessageFields::verify(&record.message) else {
            return writeln!(out, "! message {} does not read", stamp.sequence);
        };
        let who = if stamp.sender == self.me { String::from("you") } else { stamp.sender.to_string() };
        writeln!(out, "{who}: {}", printable(message.body))
    }
}

/// Text without what would steer the terminal.
fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().map(|char| if char.is_control() { '\u{fffd}' } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_a_host_a_port_and_perhaps_a_path() {
        let check = |url: &str, expected| assert_eq!(split_url(url), expected, "{url}");
        check("ws://127.0.0.1:8080/ws", Some(("127.0.0.1:8080", "/ws")));
        check("ws://[::1]:80", Some(("[::1]:80", "/ws")));
        check("ws://host/ws", None);
        check("wss://host:443/ws", None);
        check("host:80", None);
        check("ws://host:many/", None);
    }

    #[test]
    fn a_port_without_a_listener_is_told_apart() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        assert!(!is_refused(&address));
        drop(listener);
        assert!(is_refused(&address));
        assert!(!is_refused("no such name:1"));
    }

    #[test]
    fn a_message_cannot_steer_the_terminal() {
        assert_eq!(printable(b"a\x1b[2Jb\xff"), "a\u{fffd}[2Jb\u{fffd}");
    }
}
