//! A gateway that a task starts, as an operator would, and that ends with the task.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::limits::{GATEWAY_START_MAX, GATEWAY_STOP_MAX};
use crate::program::wait_at_most;
use crate::workspace::Workspace;

/// Lines of the gateway's own log that a failure shows.
const LOG_LINES_SHOWN: usize = 30;

/// How to start it.
pub struct Settings<'a> {
    /// Data directory; also where `gateway.log` is put, beside it.
    pub data: &'a Path,
    /// Address to listen on; `127.0.0.1:0` lets the system choose.
    pub listen: &'a str,
    /// Number of shards.
    pub shards: u16,
    /// The size from which a group is delivered by slices; `None` leaves the default.
    pub listed_members_max: Option<u32>,
    /// Serve `/echo`.
    pub echo: bool,
}

/// A running gateway; dropping it kills it.
pub struct Gateway {
    child: Child,
    /// Address of its WebSocket, as the `ready` line gave it.
    pub address: String,
    log: PathBuf,
}

impl Gateway {
    /// Starts the release build and waits for its `ready` line.
    pub fn start(workspace: &Workspace, settings: &Settings<'_>) -> Result<Gateway> {
        let binary = workspace.release_binary("tidegate");
        ensure!(binary.is_file(), "no {}: run `cargo build --release --workspace` first", binary.display());
        let log = settings.data.with_extension("log");
        let said = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("cannot open {}", log.display()))?;
        let mut command = Command::new(&binary);
        command
            .arg("serve")
            .arg("--data")
            .arg(settings.data)
            .args(["--listen", settings.listen, "--admin", "127.0.0.1:0"])
            .args(["--shards", &settings.shards.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(said);
        if settings.echo {
            command.arg("--echo");
        }
        if let Some(members) = settings.listed_members_max {
            command.env("TIDEGATE_LIMITS__LISTED_MEMBERS_MAX", members.to_string());
        }
        let child = command.spawn().with_context(|| format!("cannot start {}", binary.display()))?;
        let mut gateway = Gateway { child, address: String::new(), log };
        gateway.address = gateway.wait_until_ready().map_err(|error| gateway.with_log(error))?;
        Ok(gateway)
    }

    fn wait_until_ready(&mut self) -> Result<String> {
        let stdout = self.child.stdout.take().context("the gateway has no standard output")?;
        let lines = lines_of(stdout);
        let end = Instant::now() + GATEWAY_START_MAX;
        loop {
            match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    if let Some(address) = ready_address(&line) {
                        return Ok(address);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    bail!("the gateway was not ready within {} s", GATEWAY_START_MAX.as_secs())
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = wait_at_most(&mut self.child, GATEWAY_STOP_MAX)?;
                    bail!("the gateway ended before it was ready ({status:?})")
                }
            }
        }
    }

    /// Its URL for clients.
    pub fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// Whether it has ended by itself.
    pub fn ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// SIGTERM; an operator expects it to end with 0.
    pub fn stop(mut self) -> Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).context("cannot signal the gateway")?;
        match wait_at_most(&mut self.child, GATEWAY_STOP_MAX)? {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(self.with_log(anyhow!("the gateway ended with {status} after SIGTERM"))),
            None => {
                let seconds = GATEWAY_STOP_MAX.as_secs();
                Err(self.with_log(anyhow!("the gateway did not end within {seconds} s after SIGTERM")))
            }
        }
    }

    /// SIGKILL, as a crash would be.
    pub fn kill(&mut self) -> Result<()> {
        ensure!(
            !self.ended(),
            self.with_log(anyhow!("the gateway ended by itself before it was to be killed"))
        );
        self.child.kill().context("cannot kill the gateway")?;
        self.child.wait().context("cannot wait for the gateway")?;
        Ok(())
    }

    /// Adds the end of the gateway's log to an error.
    pub fn with_log(&self, error: anyhow::Error) -> anyhow::Error {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let last = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
        error.context(format!("the end of {}:\n{}\n", self.log.display(), last.join("\n")))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `ready ws=ADDR admin=ADDR` is the last start-up line.
fn ready_address(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    if words.next() != Some("ready") {
        return None;
    }
    words.find_map(|word| word.strip_prefix("ws=")).map(str::to_owned)
}

/// Reads a child's output to its end on a thread, so that the child never waits for us.
pub fn lines_of(output: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines() {
            let Ok(line) = line else { return };
            // Nobody listens any more once the line that was wanted has come; the reading goes on.
            let _ = sender.send(line);
        }
    });
    lines
}

#[cfg(test)]
mod tests {
    use super::ready_address;

    fn check(line: &str, expected: Option<&str>) {
        assert_eq!(ready_address(line).as_deref(), expected, "{line}");
    }

    #[test]
    fn the_ready_line_gives_the_address() {
        check("ready ws=127.0.0.1:4001 admin=127.0.0.1:4002", Some("127.0.0.1:4001"));
        check("ready admin=127.0.0.1:4002 ws=127.0.0.1:4001", Some("127.0.0.1:4001"));
        check("almost ready ws=127.0.0.1:4001", None);
        check("made a secret in data/secret", None);
        check("", None);
    }
}
