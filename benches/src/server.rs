//! Servers as processes of their own, on one core.

use crate::control::RelaySizes;
use crate::cpu;
use crate::limits::START_TIME_MAX;
use anyhow::{Context, Result, bail, ensure};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use tempfile::TempDir;

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The control of echoes.
    RingEcho,
    /// glommio with fastwebsockets.
    GlommioEcho,
    /// The control of direct messages.
    RingRelay,
    /// The gateway itself, one shard.
    Tidegate,
}

/// A running server; dropping it ends it.
pub struct Server {
    child: Child,
    /// Controls end with it.
    _input: Option<ChildStdin>,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its data directory, for Tidegate and the relay.
    pub data: TempDir,
}

/// Where servers come from and where they run.
#[derive(Clone, Debug)]
pub struct Ground {
    /// The gateway's binary.
    pub tidegate: PathBuf,
    /// A directory on the disk to be measured.
    pub disk: PathBuf,
    /// The servers' core.
    pub server_core: usize,
    /// The generator's core.
    pub load_core: usize,
}

impl Server {
    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// It does not start, or not in time; what it said is in the error.
    pub fn start(ground: &Ground, kind: Kind) -> Result<Self> {
        let data = tempfile::Builder::new().prefix("bench-").tempdir_in(&ground.disk)?;
        let mut command = command(ground, kind, data.path())?;
        let said = data.path().join("stderr");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(&said)?);
        // A process inherits the cores of the thread that starts it.
        cpu::allow(&[ground.server_core])?;
        let spawned = command.spawn().with_context(|| format!("cannot start {kind:?}"));
        cpu::allow(&[ground.load_core])?;
        let mut child = spawned?;
        let input = child.stdin.take();
        let ready = wait_until_ready(&mut child);
        let mut server = Self { child, _input: input, address: ([0, 0, 0, 0], 0).into(), data };
        server.address = ready.with_context(|| {
            format!("{kind:?} said: {}", std::fs::read_to_string(&said).unwrap_or_default())
        })?;
        Ok(server)
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(ground: &Ground, kind: Kind, data: &Path) -> Result<Command> {
    let myself = std::env::current_exe().context("where is this program?")?;
    let control = |name: &str| {
        let mut command = Command::new(&myself);
        command.args(["serve", "--core", &ground.server_core.to_string(), name]);
        command
    };
    Ok(match kind {
        Kind::RingEcho => control("ring-echo"),
        Kind::GlommioEcho => control("glommio-echo"),
        Kind::RingRelay => {
            let (sizes, _): (RelaySizes, usize) = crate::load::direct_sizes()?;
            let mut command = control("ring-relay");
            command.arg("--directory").arg(data).args(sizes.arguments());
            command
        }
        Kind::Tidegate => {
            let tidegate = &ground.tidegate;
            ensure!(tidegate.is_file(), "no {}: build tidegate-node in release first", tidegate.display());
            let mut command = Command::new(tidegate);
            command.args([
                "serve",
                "--echo",
                "--shards",
                "1",
                "--listen",
                "127.0.0.1:0",
                "--admin",
                "127.0.0.1:0",
            ]);
            command.arg("--data").arg(data.join("data"));
            command
        }
    })
}

/// `ready ws=ADDRESS …` is the last start-up line of every server here.
pub(crate) fn wait_until_ready(child: &mut Child) -> Result<SocketAddr> {
    let stdout = child.stdout.take().context("no standard output")?;
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        // Reads to the end, so that the server never waits for us.
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    loop {
        let Ok(line) = lines.recv_timeout(START_TIME_MAX) else { bail!("not ready") };
        let mut words = line.split_whitespace();
        if words.next() == Some("ready") {
            let address = words.find_map(|word| word.strip_prefix("ws=")).context("no address")?;
            return address.parse().context("a bad address");
        }
    }
}
