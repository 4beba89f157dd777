//! Listening sockets: one per shard on the same address, among which the kernel spreads connections.

use crate::limits::BACKLOG;
use rustix::net::sockopt::{set_socket_reuseaddr, set_socket_reuseport, set_tcp_nodelay};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, ipproto, listen, socket_with};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

/// `count` listening sockets on one address, and that address with its port, which is chosen here if it is 0. What is
/// accepted from them has TCP_NODELAY.
///
/// # Errors
/// What the system says; `AddrInUse` also if another process listens there and would share it (SO_REUSEPORT).
pub fn listeners(address: SocketAddr, count: usize) -> io::Result<(Vec<OwnedFd>, SocketAddr)> {
    // Without SO_REUSEPORT, so that a taken port is an error; it is free again when the probe is closed.
    let probe = socket(address)?;
    bind(&probe, &address)?;
    let address = local_address(&probe)?;
    drop(probe);
    let sockets = (0..count).map(|_| {
        let socket = socket(address)?;
        set_socket_reuseport(&socket, true)?;
        set_tcp_nodelay(&socket, true)?;
        bind(&socket, &address)?;
        listen(&socket, BACKLOG)?;
        Ok(socket)
    });
    Ok((sockets.collect::<io::Result<_>>()?, address))
}

fn socket(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, Some(ipproto::TCP))?;
    // Connections of an earlier process that are still being wound up do not hold the port.
    set_socket_reuseaddr(&socket, true)?;
    Ok(socket)
}

fn local_address(socket: &OwnedFd) -> io::Result<SocketAddr> {
    SocketAddr::try_from(getsockname(socket)?).map_err(io::Error::from)
}
