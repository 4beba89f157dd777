//! Opens sockets. Where the ports of one source address run out, the next address of 127.0.0.0/8 is taken.

use crate::limits::SOURCE_ADDRESSES_MAX;
use mio::net::TcpStream;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, ipproto, socket_with, sockopt};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

pub struct Dialer {
    gateway: SocketAddr,
    /// The last byte of the source address; 0: the system chooses.
    source: u8,
}

impl Dialer {
    pub const fn new(gateway: SocketAddr) -> Self {
        Self { gateway, source: 0 }
    }

    /// Where the gateway is.
    pub const fn gateway(&self) -> SocketAddr {
        self.gateway
    }

    /// A socket that is being connected.
    pub fn dial(&mut self) -> io::Result<TcpStream> {
        loop {
            match self.try_dial() {
                Err(Errno::ADDRNOTAVAIL) if self.may_move() => self.source += 1,
                result => return result.map_err(io::Error::from),
            }
        }
    }

    fn may_move(&self) -> bool {
        let loopback = matches!(self.gateway, SocketAddr::V4(address) if address.ip().is_loopback());
        loopback && self.source < SOURCE_ADDRESSES_MAX
    }

    fn try_dial(&self) -> Result<TcpStream, Errno> {
        let family = match self.gateway {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        if self.source > 0 {
            // 127.0.0.1 has been used up by then.
            let source = Ipv4Addr::new(127, 0, 0, 1 + self.source);
            bind(&socket, &SocketAddrV4::new(source, 0))?;
        }
        match connect(&socket, &self.gateway) {
            Ok(()) | Err(Errno::INPROGRESS) => Ok(TcpStream::from_std(socket.into())),
            Err(error) => Err(error),
        }
    }
}
