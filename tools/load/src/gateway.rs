//! Where the gateway is, and what the system must grant to reach it.

use crate::limits::DESCRIPTORS_SPARE;
use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::net::{SocketAddr, ToSocketAddrs};

/// Path of the upgrade if the URL has none.
const PATH: &str = "/ws";

/// A `ws://` URL.
#[derive(Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Host and port, for the upgrade.
    pub host: String,
    /// Path, for the upgrade.
    pub path: String,
    /// What the host resolves to.
    pub address: SocketAddr,
}

impl Gateway {
    /// Reads a URL.
    ///
    /// # Errors
    /// It is no `ws://` URL, or its host is unknown.
    pub fn parse(url: &str) -> Result<Self> {
        let Some(rest) = url.strip_prefix("ws://") else { bail!("`{url}` does not begin with ws://") };
        let (host, path) = match rest.find('/') {
            Some(at) if rest.len() > at + 1 => (&rest[..at], &rest[at..]),
            Some(at) => (&rest[..at], PATH),
            None => (rest, PATH),
        };
        ensure!(!host.is_empty(), "`{url}` names no host");
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let full = if has_port { host.to_owned() } else { format!("{host}:80") };
        let mut addresses = full.to_socket_addrs().with_context(|| format!("cannot resolve {host}"))?;
        let address = addresses.next().with_context(|| format!("{host} has no address"))?;
        Ok(Self { host: host.to_owned(), path: path.to_owned(), address })
    }
}

/// Allows as many sockets as there are devices.
///
/// # Errors
/// The hard limit is too low; the error says what to raise.
pub fn raise_descriptors(devices: usize) -> Result<()> {
    let needed = devices as u64 + DESCRIPTORS_SPARE;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let hard = limit.maximum;
    ensure!(
        hard.is_none_or(|hard| hard >= needed),
        "{devices} devices need {needed} descriptors, the limit is {}: raise it with `ulimit -Hn {needed}`",
        hard.unwrap_or(0)
    );
    setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum: hard })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, expected: Option<(&str, &str, &str)>) {
        let gateway = Gateway::parse(url).ok();
        let seen =
            gateway.as_ref().map(|gateway| (&*gateway.host, &*gateway.path, gateway.address.to_string()));
        let expected = expected.map(|(host, path, address)| (host, path, address.to_owned()));
        assert_eq!(seen, expected, "{url}");
    }

    #[test]
    fn urls() {
        check("ws://127.0.0.1:8080", Some(("127.0.0.1:8080", "/ws", "127.0.0.1:8080")));
        check("ws://127.0.0.1:8080/", Some(("127.0.0.1:8080", "/ws", "127.0.0.1:8080")));
        check("ws://127.0.0.1:8080/chat", Some(("127.0.0.1:8080", "/chat", "127.0.0.1:8080")));
        check("ws://127.0.0.1", Some(("127.0.0.1", "/ws", "127.0.0.1:80")));
        check("ws://[::1]:99", Some(("[::1]:99", "/ws", "[::1]:99")));
        ["", "ws://", "ws:///ws", "http://127.0.0.1:8080", "wss://127.0.0.1:1", "127.0.0.1:1"]
            .iter()
            .for_each(|url| check(url, None));
    }
}
