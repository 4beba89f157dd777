//! The servers that Tidegate is compared with. Each is a process of its own, on one core, and ends when its standard
//! input does.

mod glommio_echo;
mod outbox;
mod ring_echo;
mod ring_relay;

pub use ring_relay::RelaySizes;

use crate::cpu;
use crate::limits::{CONTROL_SLOTS, RECEIVE_BUFFER_BYTES, RECEIVE_BUFFERS};
use anyhow::{Context, Result};
use clap::Subcommand;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::thread;
use tidegate_reactor::{Config, Limits};

/// Which server to be.
#[derive(Clone, Debug, Subcommand)]
pub enum Control {
    /// A bare ring that returns the bytes it receives
    RingEcho,
    /// A bare ring that does the receives, synced writes and sends of direct messages, and nothing else
    RingRelay {
        /// Directory of the file it writes
        #[arg(long)]
        directory: PathBuf,
        /// What it moves
        #[command(flatten)]
        sizes: RelaySizes,
    },
    /// glommio with fastwebsockets, returning messages
    GlommioEcho,
}

impl Control {
    /// Serves on this core, and does not return while there is somebody to serve.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn serve(&self, core: usize) -> Result<()> {
        thread::spawn(end_with_input);
        match self {
            Self::RingEcho => ring_echo::serve(core),
            Self::RingRelay { directory, sizes } => ring_relay::serve(core, directory, sizes),
            Self::GlommioEcho => glommio_echo::serve(core),
        }
    }
}

/// Whoever started this process holds the other end.
fn end_with_input() {
    let mut nothing = [0; 64];
    while std::io::stdin().read(&mut nothing).is_ok_and(|count| count > 0) {}
    std::process::exit(0);
}

/// A free port of the loopback.
fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// The line that the starter waits for.
fn say_ready(address: SocketAddr) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "ready ws={address}").and_then(|()| out.flush()).context("cannot say ready")
}

/// A ring as the gateway makes it for a shard, on a thread that is pinned.
fn shard_ring(core: usize) -> Result<Config> {
    cpu::pin(core)?;
    let wanted = Config {
        slots: CONTROL_SLOTS,
        buffers: RECEIVE_BUFFERS,
        buffer_bytes: RECEIVE_BUFFER_BYTES,
        shard_cpu: Some(core),
        ..Config::default()
    };
    wanted.fitted(1, &Limits::current()).context("no room for a ring")
}
