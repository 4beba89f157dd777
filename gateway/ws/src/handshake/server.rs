//! The server's half of the opening handshake (RFC 6455, 4.2).

use super::accept::{KEY_CHARS, accept_text, is_key};
use super::fields::{Repeated, is_field_text, is_token, list, list_holds, single, values};
use crate::limits::{HANDSHAKE_BYTES_MAX, HANDSHAKE_FIELDS_MAX, PROTOCOLS_MAX, REJECT_TEXT_BYTES_MAX};
use std::fmt;

#[cfg(test)]
mod tests;

/// A valid request to upgrade. It borrows the received bytes, which may hold frames behind it already.
#[derive(Clone, Copy, Debug)]
pub struct Upgrade<'a> {
    /// The path, always beginning with `/`, percent-encoding untouched.
    pub path: &'a str,
    /// What stands behind the first `?`, if there is one.
    pub query: Option<&'a str>,
    /// The host, and port if given, that the client wanted.
    pub host: &'a str,
    /// The origin of the page that asks, sent by browsers; the caller decides which may.
    pub origin: Option<&'a str>,
    /// The key, to be given to [`accept_response`].
    pub key: Key,
    /// Bytes of the request; what follows in the input are frames.
    pub consumed: usize,
    head: &'a [u8],
}

/// A valid `Sec-WebSocket-Key`, as its characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key([u8; KEY_CHARS]);

impl<'a> Upgrade<'a> {
    /// The subprotocols offered, in the client's order of preference.
    pub fn protocols(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        list(self.head, "sec-websocket-protocol").filter_map(|name| std::str::from_utf8(name).ok())
    }

    /// Whether the client offers the subprotocol `name`; the case counts.
    pub fn offers(&self, name: &str) -> bool {
        self.protocols().any(|offered| offered == name)
    }

    /// The value of the first field called `name`, whatever its case.
    pub fn field(&self, name: &str) -> Option<&'a [u8]> {
        values(self.head, name).next()
    }
}

/// Why a request is no valid upgrade. Answer with [`HandshakeError::response`] and drop the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HandshakeError {
    /// Not HTTP.
    NotHttp,
    /// Not HTTP/1.1.
    Version,
    /// Longer than [`HANDSHAKE_BYTES_MAX`].
    TooLong,
    /// More fields than [`HANDSHAKE_FIELDS_MAX`].
    TooManyFields,
    /// A method other than GET.
    Method,
    /// A request target without a path, with a fragment, or not ASCII.
    Target,
    /// No `Host`, several, or one that is no text.
    Host,
    /// A plain request: `Upgrade` does not name `websocket`.
    NotUpgrade,
    /// `Connection` does not name `upgrade`.
    Connection,
    /// No `Sec-WebSocket-Version: 13`.
    WebSocketVersion,
    /// No `Sec-WebSocket-Key`, several, or one that is not base64 of 16 bytes.
    Key,
    /// A malformed or repeated name in `Sec-WebSocket-Protocol`, or more than [`PROTOCOLS_MAX`].
    Protocol,
    /// Several `Origin` fields, or one that is no text.
    Origin,
    /// A body, which a handshake has not; what follows the head must be frames.
    Body,
}

impl HandshakeError {
    /// The status to answer with.
    pub const fn status(self) -> Status {
        match self {
            Self::Method => Status::MethodNotAllowed,
            Self::NotUpgrade | Self::WebSocketVersion => Status::UpgradeRequired,
            Self::TooLong | Self::TooManyFields => Status::FieldsTooLarge,
            _ => Status::BadRequest,
        }
    }

    /// Appends the whole response that refuses the request.
    pub fn response(self, out: &mut Vec<u8>) {
        reject_response(out, self.status(), self.text());
    }

    const fn text(self) -> &'static str {
        match self {
            Self::NotHttp => "This is not HTTP.",
            Self::Version => "WebSocket needs HTTP/1.1.",
            Self::TooLong => "The request is longer than 8 KiB.",
            Self::TooManyFields => "The request has more than 64 fields.",
            Self::Method => "WebSocket needs GET.",
            Self::Target => "The request target is no path.",
            Self::Host => "The Host field is missing, repeated or malformed.",
            Self::NotUpgrade => "This is a WebSocket endpoint: ask for an upgrade.",
            Self::Connection => "The Connection field does not ask for an upgrade.",
            Self::WebSocketVersion => "The WebSocket version must be 13.",
            Self::Key => "The Sec-WebSocket-Key field is missing, repeated or malformed.",
            Self::Protocol => "The Sec-WebSocket-Protocol field is malformed.",
            Self::Origin => "The Origin field is repeated or malformed.",
            Self::Body => "A WebSocket handshake has no body.",
        }
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for HandshakeError {}

impl From<httparse::Error> for HandshakeError {
    fn from(error: httparse::Error) -> Self {
        match error {
            httparse::Error::TooManyHeaders => Self::TooManyFields,
            httparse::Error::Version => Self::Version,
            _ => Self::NotHttp,
        }
    }
}

/// The HTTP statuses with which a handshake may be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Status {
    /// The request is malformed.
    BadRequest = 400,
    /// A token is missing or not valid.
    Unauthorized = 401,
    /// The origin or the user may not.
    Forbidden = 403,
    /// There is no such path.
    NotFound = 404,
    /// The method is not GET.
    MethodNotAllowed = 405,
    /// The request took too long to come.
    RequestTimeout = 408,
    /// The request does not ask for WebSocket version 13.
    UpgradeRequired = 426,
    /// Too many connections or attempts.
    TooManyRequests = 429,
    /// The head is too long or has too many fields.
    FieldsTooLarge = 431,
    /// The node does not take connections now.
    ServiceUnavailable = 503,
}

impl Status {
    const fn line(self) -> &'static str {
        match self {
            Self::BadRequest => "400 Bad Request",
            Self::Unauthorized => "401 Unauthorized",
            Self::Forbidden => "403 Forbidden",
            Self::NotFound => "404 Not Found",
            Self::MethodNotAllowed => "405 Method Not Allowed",
            Self::RequestTimeout => "408 Request Timeout",
            Self::UpgradeRequired => "426 Upgrade Required",
            Self::TooManyRequests => "429 Too Many Requests",
            Self::FieldsTooLarge => "431 Request Header Fields Too Large",
            Self::ServiceUnavailable => "503 Service Unavailable",
        }
    }

    /// The field the status obliges us to add.
    const fn field(self) -> &'static str {
        match self {
            Self::MethodNotAllowed => "Allow: GET\r\n",
            Self::UpgradeRequired => "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
            _ => "",
        }
    }
}

/// Reads a request from the front of `input`: nothing yet while its head is incomplete. The caller keeps the bytes, adds
/// to them and calls again; a head above [`HANDSHAKE_BYTES_MAX`] is an error as soon as that many bytes are there. Each
/// call reads from the start, which that limit bounds.
///
/// # Errors
/// The request can never become a valid upgrade.
pub fn parse(input: &[u8]) -> Result<Option<Upgrade<'_>>, HandshakeError> {
    let head = &input[..input.len().min(HANDSHAKE_BYTES_MAX)];
    let mut table = [httparse::EMPTY_HEADER; HANDSHAKE_FIELDS_MAX];
    let mut request = httparse::Request::new(&mut table);
    let consumed = match request.parse(head)? {
        httparse::Status::Complete(consumed) => consumed,
        httparse::Status::Partial if head.len() == HANDSHAKE_BYTES_MAX => {
            return Err(HandshakeError::TooLong);
        }
        httparse::Status::Partial => return Ok(None),
    };
    let head = &head[..consumed];
    if request.method != Some("GET") {
        return Err(HandshakeError::Method);
    }
    if request.version != Some(1) {
        return Err(HandshakeError::Version);
    }
    let (path, query) = split_target(request.path.unwrap_or_default())?;
    let host = text_field(head, "host", HandshakeError::Host)?.ok_or(HandshakeError::Host)?;
    if values(head, "content-length").any(|length| length != b"0")
        || values(head, "transfer-encoding").next().is_some()
    {
        return Err(HandshakeError::Body);
    }
    let key = check_upgrade(head)?;
    check_protocols(head)?;
    let origin = text_field(head, "origin", HandshakeError::Origin)?;
    Ok(Some(Upgrade { path, query, host, origin, key, consumed, head }))
}

/// Appends the response that completes the handshake, with the subprotocol chosen among those offered.
pub fn accept_response(out: &mut Vec<u8>, key: &Key, protocol: Option<&str>) {
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ",
    );
    out.extend_from_slice(&accept_text(&key.0));
    if let Some(protocol) = protocol {
        debug_assert!(is_token(protocol.as_bytes()));
        out.extend_from_slice(b"\r\nSec-WebSocket-Protocol: ");
        out.extend_from_slice(protocol.as_bytes());
    }
    out.extend_from_slice(b"\r\n\r\n");
}

/// Appends the response that refuses the handshake and ends the connection; `text` is the body, for a human.
pub fn reject_response(out: &mut Vec<u8>, status: Status, text: &str) {
    let text = &text[..text.floor_char_boundary(REJECT_TEXT_BYTES_MAX)];
    let length = text.len() + 1;
    let digits = [100, 10, 1].map(|place| b'0' + (length / place % 10) as u8);
    let leading_zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    for part in [
        b"HTTP/1.1 ".as_slice(),
        status.line().as_bytes(),
        b"\r\n",
        status.field().as_bytes(),
        b"Connection: close\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: ",
        &digits[leading_zeros..],
        b"\r\n\r\n",
        text.as_bytes(),
        b"\n",
    ] {
        out.extend_from_slice(part);
    }
}

/// Path and query of a request target in origin form (`/path?query`) or absolute form (`ws://host/path?query`).
fn split_target(target: &str) -> Result<(&str, Option<&str>), HandshakeError> {
    let target = match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains(['/', '?']) => {
            if !["ws", "wss", "http", "https"].iter().any(|known| known.eq_ignore_ascii_case(scheme)) {
                return Err(HandshakeError::Target);
            }
            match rest.find(['/', '?']) {
                Some(end) if rest[end..].starts_with('/') => &rest[end..],
                None => "/",
                Some(_) => return Err(HandshakeError::Target),
            }
        }
        _ => target,
    };
    if !target.starts_with('/') || !target.is_ascii() || target.contains('#') {
        return Err(HandshakeError::Target);
    }
    Ok(match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    })
}

/// The value of a field that may stand once and must be printable ASCII.
fn text_field<'a>(
    head: &'a [u8],
    name: &str,
    error: HandshakeError,
) -> Result<Option<&'a str>, HandshakeError> {
    let Some(value) = single(head, name).map_err(|Repeated| error)? else {
        return Ok(None);
    };
    match std::str::from_utf8(value) {
        Ok(text) if is_field_text(text) => Ok(Some(text)),
        _ => Err(error),
    }
}

/// The fields that make a request a WebSocket handshake (RFC 6455, 4.2.1, 3 to 6).
fn check_upgrade(head: &[u8]) -> Result<Key, HandshakeError> {
    if !list_holds(head, "upgrade", "websocket") {
        return Err(HandshakeError::NotUpgrade);
    }
    if !list_holds(head, "connection", "upgrade") {
        return Err(HandshakeError::Connection);
    }
    let version =
        single(head, "sec-websocket-version").map_err(|Repeated| HandshakeError::WebSocketVersion)?;
    if version != Some(b"13") {
        return Err(HandshakeError::WebSocketVersion);
    }
    let value = single(head, "sec-websocket-key").map_err(|Repeated| HandshakeError::Key)?;
    let key = value.filter(|value| is_key(value)).and_then(|value| <[u8; KEY_CHARS]>::try_from(value).ok());
    key.map(Key).ok_or(HandshakeError::Key)
}

/// Every offered subprotocol is a token, and none is offered twice (RFC 6455, 4.1, 10). Quadratic, hence the limit.
fn check_protocols(head: &[u8]) -> Result<(), HandshakeError> {
    let names = || list(head, "sec-websocket-protocol");
    for (index, name) in names().enumerate() {
        if index == PROTOCOLS_MAX || !is_token(name) || names().take(index).any(|earlier| earlier == name) {
            return Err(HandshakeError::Protocol);
        }
    }
    Ok(())
}
