//! One replay of real chat through a gateway: started, replayed, killed and started again where the case says
//! so, verified, stopped, and its log verified.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::chat_logs::MESSAGES_PER_FILE;
use crate::gateway::{Gateway, Settings, lines_of};
use crate::limits::{GATEWAY_STOP_MAX, PROGRESS_EVERY, VERIFY_MAX};
use crate::program::{Program, wait_at_most};
use crate::workspace::Workspace;

mod report;

use report::Report;

/// Devices that go offline for a while, in percent.
const OFFLINE_PERCENT: &str = "20";

/// How often the acknowledgements are counted while a kill is waited for.
const POLL: Duration = Duration::from_millis(50);

/// How a replay is run.
pub struct Case {
    /// Shards at the first start.
    pub shards: u16,
    /// `limits.listed_members_max`.
    pub listed_members_max: u32,
    /// Kills in the middle, in order.
    pub kills: &'static [Kill],
}

/// SIGKILL in the middle, and the start after it.
pub struct Kill {
    /// Share of the messages that are acknowledged when it happens, in percent.
    pub acknowledged_percent: usize,
    /// Shards of the start after it.
    pub shards: u16,
}

/// What a replay said.
pub struct Outcome {
    /// The figures of its closing line.
    pub figures: Figures,
    /// The latency of what was stored by devices that were connected.
    pub connected: String,
    /// How long it took, without verification.
    pub seconds: f64,
}

/// The closing line of `tidegate-load replay`, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Messages sent and acknowledged.
    pub messages: u64,
    /// Messages that reached an application.
    pub deliveries: u64,
    /// Messages that a device did not get.
    pub lost: u64,
    /// Messages that reached an application twice.
    pub duplicated: u64,
    /// Messages out of order.
    pub misordered: u64,
    /// The latency of all deliveries, as it was printed.
    pub latency: String,
}

impl Case {
    /// Name of the case, also of its folder.
    pub fn name(&self) -> String {
        let mut name = format!("{}-shards-listed-{}", self.shards, self.listed_members_max);
        for kill in self.kills {
            name.push_str(&format!("-kill{}-{}", kill.acknowledged_percent, kill.shards));
        }
        name
    }

    /// The kills in words, for a table.
    pub fn kills_in_words(&self) -> String {
        if self.kills.is_empty() {
            return "no".to_owned();
        }
        let word = |kill: &Kill| format!("at {} %, then {}", kill.acknowledged_percent, kill.shards);
        self.kills.iter().map(word).collect::<Vec<_>>().join("; ")
    }
}

/// Runs one case over `files`; its folder is kept if it fails.
pub fn run(workspace: &Workspace, case: &Case, files: &[PathBuf], longest: Duration) -> Result<Outcome> {
    let folder = workspace.own().join("replay").join(case.name());
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot clear {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let run = Run { workspace, case, files, folder: &folder };
    let outcome =
        run.whole(longest).with_context(|| format!("{} failed; see {}", case.name(), folder.display()))?;
    fs::remove_dir_all(&folder).with_context(|| format!("cannot clear {}", folder.display()))?;
    Ok(outcome)
}

struct Run<'a> {
    workspace: &'a Workspace,
    case: &'a Case,
    files: &'a [PathBuf],
    folder: &'a Path,
}

impl Run<'_> {
    fn whole(&self, longest: Duration) -> Result<Outcome> {
        let begin = Instant::now();
        let mut gateway = self.start("127.0.0.1:0", self.case.shards)?;
        let mut load = Load::start(self, &gateway)?;
        let figures = self.replay(&mut gateway, &mut load, begin + longest);
        let figures = figures.map_err(|error| gateway.with_log(error))?;
        let seconds = begin.elapsed().as_secs_f64();
        let report = Report::read(&self.report())?;
        report.judge(&figures).with_context(|| format!("the replay is not complete: {report:?}"))?;
        self.verify(&gateway)?;
        gateway.stop()?;
        self.verify_log()?;
        Ok(Outcome { figures, connected: report.connected(), seconds })
    }

    fn start(&self, listen: &str, shards: u16) -> Result<Gateway> {
        let data = self.data();
        Gateway::start(
            self.workspace,
            &Settings {
                data: &data,
                listen,
                shards,
                listed_members_max: Some(self.case.listed_members_max),
                echo: false,
            },
        )
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn acks(&self) -> PathBuf {
        self.folder.join("acks")
    }

    fn report(&self) -> PathBuf {
        self.folder.join("report.json")
    }

    /// Lets the load run to its end, with the kills of the case on the way.
    fn replay(&self, gateway: &mut Gateway, load: &mut Load, end: Instant) -> Result<Figures> {
        let mut acks = Acks::new(self.acks());
        let expected = self.files.len() * MESSAGES_PER_FILE;
        for kill in self.case.kills {
            let enough = expected * kill.acknowledged_percent / 100;
            load.wait_for_acks(&mut acks, enough, end)?;
            let address = gateway.address.clone();
            println!("   killed with {} acknowledged; starting with {} shards", acks.count, kill.shards);
            self.restart(gateway, &address, kill.shards)?;
        }
        load.wait_to_end(&mut acks, gateway, end)
    }

    /// Kills the gateway and puts a new one in its place, at the same address.
    fn restart(&self, gateway: &mut Gateway, address: &str, shards: u16) -> Result<()> {
        gateway.kill()?;
        *gateway = self.start(address, shards)?;
        Ok(())
    }

    fn verify(&self, gateway: &Gateway) -> Result<()> {
        Program::new(self.workspace.release_binary("tidegate-load"), self.folder)
            .args(["verify", "--url", &gateway.url()])
            .arg_path("--data", &self.data())
            .arg_path("--acks", &self.acks())
            .run_within(VERIFY_MAX)
    }

    fn verify_log(&self) -> Result<()> {
        Program::new(self.workspace.release_binary("tidegate-log"), self.folder)
            .args(["verify".as_ref(), self.data().as_os_str()])
            .run_within(VERIFY_MAX)
    }
}

/// A running `tidegate-load replay`; dropping it kills it.
struct Load {
    child: Child,
    lines: Receiver<String>,
    said: Option<String>,
}

impl Load {
    fn start(run: &Run<'_>, gateway: &Gateway) -> Result<Load> {
        let mut command = Command::new(run.workspace.release_binary("tidegate-load"));
        command
            .args(["replay", "--url", &gateway.url(), "--offline", OFFLINE_PERCENT])
            .arg("--data")
            .arg(run.data())
            .arg("--acks")
            .arg(run.acks())
            .arg("--report")
            .arg(run.report())
            .args(run.files)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start tidegate-load")?;
        let stdout = child.stdout.take().context("tidegate-load has no standard output")?;
        Ok(Load { child, lines: lines_of(stdout), said: None })
    }

    /// Waits until `enough` messages are acknowledged.
    fn wait_for_acks(&mut self, acks: &mut Acks, enough: usize, end: Instant) -> Result<()> {
        while acks.look()? < enough {
            ensure!(Instant::now() < end, "only {} of {enough} messages acknowledged in time", acks.count);
            match self.lines.recv_timeout(POLL) {
                Ok(line) => self.hear(line),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => bail!("tidegate-load ended before the kill was due"),
            }
        }
        Ok(())
    }

    /// Waits for its end and reads its closing line.
    fn wait_to_end(&mut self, acks: &mut Acks, gateway: &mut Gateway, end: Instant) -> Result<Figures> {
        let begin = Instant::now();
        loop {
            match self.lines.recv_timeout(PROGRESS_EVERY) {
                Ok(line) => self.hear(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    println!("   {} acknowledged, {} s", acks.look()?, begin.elapsed().as_secs());
                }
            }
            ensure!(!gateway.ended(), "the gateway ended during the replay");
            ensure!(Instant::now() < end, "the replay did not end in time; {} acknowledged", acks.look()?);
        }
        let status = wait_at_most(&mut self.child, GATEWAY_STOP_MAX)?;
        let said = self.said.take().unwrap_or_default();
        match status {
            Some(status) if status.success() => {
                figures(&said).with_context(|| format!("tidegate-load closed with `{said}`"))
            }
            status => bail!("tidegate-load ended with {status:?}: {said}"),
        }
    }

    fn hear(&mut self, line: String) {
        println!("   {line}");
        if line.starts_with("replay: ") {
            self.said = Some(line);
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Counts the lines of the growing file of acknowledgements, each byte read once.
struct Acks {
    path: PathBuf,
    offset: u64,
    count: usize,
}

impl Acks {
    fn new(path: PathBuf) -> Acks {
        Acks { path, offset: 0, count: 0 }
    }

    fn look(&mut self) -> Result<usize> {
        let Ok(mut file) = File::open(&self.path) else { return Ok(0) };
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(self.offset)).context("cannot read the acknowledgements")?;
        file.read_to_end(&mut bytes).context("cannot read the acknowledgements")?;
        self.offset += bytes.len() as u64;
        self.count += bytes.iter().filter(|byte| **byte == b'\n').count();
        Ok(self.count)
    }
}

/// Takes `replay: M messages, D deliveries, 0 lost, 0 duplicated, 0 misordered, p50 … p99 …` apart.
fn figures(line: &str) -> Option<Figures> {
    let mut parts = line.strip_prefix("replay: ")?.split(", ");
    let mut count = |name: &str| parts.next()?.strip_suffix(name)?.strip_suffix(' ')?.parse().ok();
    let mut figures = Figures {
        messages: count("messages")?,
        deliveries: count("deliveries")?,
        lost: count("lost")?,
        duplicated: count("duplicated")?,
        misordered: count("misordered")?,
        latency: String::new(),
    };
    let latency = parts.next().filter(|latency| latency.starts_with("p50 ") && latency.contains(" p99 "))?;
    figures.latency = latency.to_owned();
    parts.next().is_none().then_some(figures)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{Acks, Case, Figures, Kill, figures};

    #[test]
    fn the_closing_line_is_taken_apart() {
        let expected = Figures {
            messages: 7_600,
            deliveries: 912_345,
            lost: 0,
            duplicated: 1,
            misordered: 2,
            latency: "p50 1.2 ms p99 9.8 ms".to_owned(),
        };
        let line = "replay: 7600 messages, 912345 deliveries, 0 lost, 1 duplicated, 2 misordered, p50 1.2 ms p99 9.8 ms";
        assert_eq!(figures(line), Some(expected));
        for line in [
            "",
            "replay: ",
            "replay: 7 messages",
            "replay: x messages, 1 deliveries, 0 lost, 0 duplicated, 0 misordered, p50 1 ms p99 2 ms",
            "replay: 7 messages, 1 deliveries, 0 lost, 0 duplicated, 0 misordered",
            "replay: 7 messages, 1 deliveries, 0 duplicated, 0 lost, 0 misordered, p50 1 ms p99 2 ms",
            // What is not as it must be is said at the end.
            "replay: 7 messages, 1 deliveries, 0 lost, 0 duplicated, 0 misordered, p50 1 ms p99 2 ms, 3 altered",
        ] {
            assert_eq!(figures(line), None, "{line}");
        }
    }

    #[test]
    fn acknowledgements_are_counted_while_the_file_grows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("acks");
        let mut acks = Acks::new(path.clone());
        assert_eq!(acks.look().unwrap(), 0);
        fs::write(&path, "one\ntwo\nthr").unwrap();
        assert_eq!(acks.look().unwrap(), 2);
        fs::write(&path, "one\ntwo\nthree\n").unwrap();
        assert_eq!(acks.look().unwrap(), 3);
    }

    #[test]
    fn a_case_has_a_name() {
        let kills = &[Kill { acknowledged_percent: 40, shards: 1 }];
        let case = Case { shards: 4, listed_members_max: 32, kills };
        assert_eq!(case.name(), "4-shards-listed-32-kill40-1");
        assert_eq!(case.kills_in_words(), "at 40 %, then 1");
    }
}
