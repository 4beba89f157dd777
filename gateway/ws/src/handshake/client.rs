//! The client's half of the opening handshake (RFC 6455, 4.1).

use super::accept::{accept_text, key_text};
use super::fields::{Repeated, is_field_text, is_token, list_holds, single, values};
use crate::limits::{HANDSHAKE_BYTES_MAX, HANDSHAKE_FIELDS_MAX};
use std::fmt;

#[cfg(test)]
mod tests;

/// What to ask for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Host, with the port unless it is the default one.
    pub host: &'a str,
    /// Path and query, beginning with `/`.
    pub path: &'a str,
    /// 16 random bytes, fresh for every handshake.
    pub key: [u8; 16],
    /// Subprotocols, the preferred one first.
    pub protocols: &'a [&'a str],
    /// Further fields: name and value, such as `Origin` or `Authorization`.
    pub fields: &'a [(&'a str, &'a str)],
}

/// A part of a [`Request`] that must not be written, because it would change what the other lines mean. The caller's
/// mistake; nothing was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequestError {
    /// The host is empty or not printable.
    Host,
    /// The path does not begin with `/`, or holds a space, a `#` or what is not printable.
    Path,
    /// A subprotocol is no token.
    Protocol,
    /// A further field has a name that is no token or a value that is not printable.
    Field,
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "the host is malformed",
            Self::Path => "the path is malformed",
            Self::Protocol => "a subprotocol is malformed",
            Self::Field => "a field is malformed",
        })
    }
}

impl std::error::Error for RequestError {}

/// A completed handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted<'a> {
    /// The subprotocol the server chose.
    pub protocol: Option<&'a str>,
    /// Bytes of the response; what follows in the input are frames.
    pub consumed: usize,
}

/// Why there is no connection. Drop it; whether to try again depends on the variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResponseError {
    /// Not an HTTP/1.1 response, or one without end within the limits.
    NotHttp,
    /// The server refused with this status: 401 and 403 need another token, 429 and 503 time.
    Refused(u16),
    /// `Upgrade` or `Connection` do not confirm the upgrade.
    NotUpgrade,
    /// `Sec-WebSocket-Accept` does not prove that our key was read.
    Accept,
    /// A subprotocol that was not offered, or several.
    Protocol,
    /// An extension, though none was offered.
    Extension,
}

impl fmt::Display for ResponseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotHttp => f.write_str("the response is not HTTP/1.1"),
            Self::Refused(status) => write!(f, "the server refused with status {status}"),
            Self::NotUpgrade => f.write_str("the response does not confirm the upgrade"),
            Self::Accept => f.write_str("the response does not prove that the key was read"),
            Self::Protocol => f.write_str("the response names a subprotocol that was not offered"),
            Self::Extension => f.write_str("the response names an extension that was not offered"),
        }
    }
}

impl std::error::Error for ResponseError {}

/// Appends a handshake request.
///
/// # Errors
/// A part is malformed; `out` is unchanged.
pub fn request(out: &mut Vec<u8>, request: &Request<'_>) -> Result<(), RequestError> {
    check_request(request)?;
    for part in ["GET ", request.path, " HTTP/1.1\r\nHost: ", request.host] {
        out.extend_from_slice(part.as_bytes());
    }
    out.extend_from_slice(b"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: ");
    out.extend_from_slice(&key_text(&request.key));
    out.extend_from_slice(b"\r\nSec-WebSocket-Version: 13\r\n");
    for (index, protocol) in request.protocols.iter().enumerate() {
        out.extend_from_slice(if index == 0 { b"Sec-WebSocket-Protocol: " } else { b", " });
        out.extend_from_slice(protocol.as_bytes());
    }
    if !request.protocols.is_empty() {
        out.extend_from_slice(b"\r\n");
    }
    for (name, value) in request.fields {
        for part in [name, ": ", value, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Reads the response to a request with `key` and `protocols` from the front of `input`: nothing yet while its head is
/// incomplete.
///
/// # Errors
/// The server does not speak WebSocket with us.
pub fn parse_response<'a>(
    input: &'a [u8],
    key: &[u8; 16],
    protocols: &[&str],
) -> Result<Option<Accepted<'a>>, ResponseError> {
    let head = &input[..input.len().min(HANDSHAKE_BYTES_MAX)];
    let mut table = [httparse::EMPTY_HEADER; HANDSHAKE_FIELDS_MAX];
    let mut response = httparse::Response::new(&mut table);
    let consumed = match response.parse(head) {
        Ok(httparse::Status::Complete(consumed)) => consumed,
        Ok(httparse::Status::Partial) if head.len() < HANDSHAKE_BYTES_MAX => return Ok(None),
        _ => return Err(ResponseError::NotHttp),
    };
    let head = &head[..consumed];
    if response.version != Some(1) {
        return Err(ResponseError::NotHttp);
    }
    match response.code {
        Some(101) => {}
        Some(status) => return Err(ResponseError::Refused(status)),
        None => return Err(ResponseError::NotHttp),
    }
    if !list_holds(head, "upgrade", "websocket") || !list_holds(head, "connection", "upgrade") {
        return Err(ResponseError::NotUpgrade);
    }
    let wanted = accept_text(&key_text(key));
    match single(head, "sec-websocket-accept") {
        Ok(Some(accept)) if accept == wanted => {}
        _ => return Err(ResponseError::Accept),
    }
    if values(head, "sec-websocket-extensions").any(|value| !value.is_empty()) {
        return Err(ResponseError::Extension);
    }
    let protocol = single(head, "sec-websocket-protocol").map_err(|Repeated| ResponseError::Protocol)?;
    let protocol = match protocol.map(std::str::from_utf8) {
        None => None,
        Some(Ok(chosen)) if protocols.contains(&chosen) => Some(chosen),
        Some(_) => return Err(ResponseError::Protocol),
    };
    Ok(Some(Accepted { protocol, consumed }))
}

fn check_request(request: &Request<'_>) -> Result<(), RequestError> {
    let is_word = |text: &str| !text.is_empty() && is_field_text(text) && !text.contains(' ');
    if !is_word(request.host) {
        return Err(RequestError::Host);
    }
    if !is_word(request.path) || !request.path.starts_with('/') || request.path.contains('#') {
        return Err(RequestError::Path);
    }
    if !request.protocols.iter().all(|protocol| is_token(protocol.as_bytes())) {
        return Err(RequestError::Protocol);
    }
    let field_is_good = |(name, value): &(&str, &str)| is_token(name.as_bytes()) && is_field_text(value);
    if !request.fields.iter().all(field_is_good) {
        return Err(RequestError::Field);
    }
    Ok(())
}
