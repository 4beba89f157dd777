//! A TCP socket with waits that end.

use core::time::Duration;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};

/// How long one address is tried.
const CONNECT_WAIT: Duration = Duration::from_secs(10);

/// How long a full socket may stay full before it counts as dead.
const WRITE_WAIT: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Socket(TcpStream);

/// What a read gave.
pub(super) enum Read {
    Nothing,
    Bytes(usize),
    End,
}

impl Socket {
    pub(super) fn open(address: &str) -> io::Result<Self> {
        let mut last = io::Error::from(ErrorKind::AddrNotAvailable);
        for address in address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CONNECT_WAIT) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    stream.set_write_timeout(Some(WRITE_WAIT))?;
                    return Ok(Self(stream));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    pub(super) fn read(&mut self, into: &mut [u8], wait: Duration) -> Read {
        // Zero would mean for ever.
        let wait = wait.max(Duration::from_millis(1));
        if self.0.set_read_timeout(Some(wait)).is_err() {
            return Read::End;
        }
        match self.0.read(into) {
            Ok(0) => Read::End,
            Ok(count) => Read::Bytes(count),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => Read::Nothing,
                _ => Read::End,
            },
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }
}
