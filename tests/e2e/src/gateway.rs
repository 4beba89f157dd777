//! A gateway: the process, and what it says when it starts and ends.

use crate::admin::{Stats, get};
use crate::limits::{LOOK_INTERVAL, SEGMENT_BYTES, SNAPSHOT_BYTES, START_WAIT, WAIT};
use crate::program::program;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Instant;
use tidegate_ids::UserId;

/// How a gateway is started.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Its data directory.
    pub data: PathBuf,
    /// How many shards it has.
    pub shards: u16,
    /// More of its environment, such as `TIDEGATE_LIMITS__LISTED_MEMBERS_MAX`.
    pub environment: Vec<(String, String)>,
    /// The binary.
    pub binary: PathBuf,
    /// What stands before the binary on the command line, to start it with fewer rights.
    pub prefix: Vec<String>,
}

impl Setup {
    /// A gateway over a data directory.
    #[must_use]
    pub fn new(data: &Path, shards: u16) -> Self {
        let (environment, prefix) = (Vec::new(), Vec::new());
        Self { data: data.to_path_buf(), shards, environment, binary: program("tidegate"), prefix }
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.environment.push((key.to_owned(), value.to_owned()));
        self
    }

    /// A token as the command line makes it.
    #[must_use]
    pub fn token_with(&self, user: UserId, more: &[&str]) -> Vec<u8> {
        let mut command = Command::new(program("tidegate"));
        command.env_clear().args(["token", "--user", &user.0.to_string()]).args(more);
        let output = command.arg("--data").arg(&self.data).output().expect("the command can be started");
        assert!(output.status.success(), "{output:?}");
        output.stdout.trim_ascii().to_vec()
    }

    fn command(&self) -> Command {
        let mut words = self.prefix.iter().map(AsRef::as_ref).chain([self.binary.as_os_str()]);
        let mut command = Command::new(words.next().expect("the binary is one"));
        command.args(words).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("TIDEGATE_STORAGE__SEGMENT_BYTES", SEGMENT_BYTES.to_string());
        command.env("TIDEGATE_STORAGE__SNAPSHOT_BYTES", SNAPSHOT_BYTES.to_string());
        command.env("TIDEGATE_LOG__FILTER", "warn");
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        command.args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        command.args(["--shards", &self.shards.to_string()]).arg("--data").arg(&self.data);
        command
    }

    /// Starts it and waits until it is ready.
    #[must_use]
    pub fn start(&self) -> Gateway {
        match self.try_start() {
            Ok(gateway) => gateway,
            Err(ended) => panic!("the gateway ended instead of being ready: {ended:?}"),
        }
    }

    /// Starts it and waits until it is ready or has ended.
    ///
    /// # Errors
    /// How it ended.
    pub fn try_start(&self) -> Result<Gateway, Ended> {
        self.try_start_watched(|_| {})
    }

    /// The same; meanwhile `watch` is shown again and again what it has said on stderr so far.
    ///
    /// # Errors
    /// How it ended.
    pub fn try_start_watched(&self, watch: impl Fn(&[String])) -> Result<Gateway, Ended> {
        match self.begin().wait(Instant::now() + START_WAIT, watch)? {
            Start::Ready(gateway) => Ok(gateway),
            Start::Unready(Starting { said, complained, .. }) => {
                panic!("the gateway is not ready in time; it said {said:?} and {complained:?}")
            }
        }
    }

    /// Starts it and waits until it is ready or a moment has come; it must not end.
    #[must_use]
    #[track_caller]
    pub fn start_until(&self, moment: Instant) -> Start {
        let start = self.begin().wait(moment, |_| {});
        start.unwrap_or_else(|ended| panic!("the gateway ended while it started: {ended:?}"))
    }

    /// Starts it and does not wait.
    fn begin(&self) -> Starting {
        let child = self.command().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut process = Process(child.expect("the gateway can be started"));
        let lines = follow(process.0.stdout.take().expect("it was piped"), "");
        let errors = follow(process.0.stderr.take().expect("it was piped"), "gateway: ");
        let (said, complained) = (Vec::new(), Vec::new());
        Starting { process, setup: self.clone(), lines, errors, said, complained }
    }
}

/// The process. Dropping it kills it.
#[derive(Debug)]
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A gateway that runs, ready or not.
#[derive(Debug)]
pub enum Start {
    /// It serves.
    Ready(Gateway),
    /// It is still at its start.
    Unready(Starting),
}

/// A gateway that has not said yet that it is ready. Dropping it kills it.
#[derive(Debug)]
pub struct Starting {
    process: Process,
    setup: Setup,
    lines: Receiver<String>,
    errors: Receiver<String>,
    said: Vec<String>,
    complained: Vec<String>,
}

impl Starting {
    /// Waits until it is ready, has ended, or a moment has come.
    fn wait(mut self, end: Instant, watch: impl Fn(&[String])) -> Result<Start, Ended> {
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left.min(LOOK_INTERVAL)) {
                Ok(line) => self.said.push(line),
                Err(RecvTimeoutError::Timeout) if left.is_zero() => return Ok(Start::Unready(self)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    let Self { mut process, said, mut complained, errors, .. } = self;
                    let status = process.0.wait().expect("it is our child");
                    complained.extend(errors.iter());
                    return Err(Ended { status, said, complained });
                }
            }
            self.complained.extend(self.errors.try_iter());
            watch(&self.complained);
            let ready = self.said.last().filter(|line| line.starts_with("ready "));
            if let Some((ws, admin)) = ready.and_then(|line| addresses(line)) {
                let Self { process, setup, lines: later, said, .. } = self;
                return Ok(Start::Ready(Gateway { process, ws, admin, said, setup, later }));
            }
        }
    }
}

/// What a process that ended said.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub status: ExitStatus,
    /// Lines on stdout.
    pub said: Vec<String>,
    /// Lines on stderr.
    pub complained: Vec<String>,
}

/// The lines of a stream, also said again if they have a prefix; the pipe is emptied for as long as it is open.
fn follow(stream: impl Read + Send + 'static, prefix: &'static str) -> Receiver<String> {
    let (lines, received) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if !prefix.is_empty() {
                eprintln!("{prefix}{line}");
            }
            // Nobody may listen any more.
            let _ = lines.send(line);
        }
    });
    received
}

fn addresses(ready: &str) -> Option<(SocketAddr, SocketAddr)> {
    let address = |key: &str| ready.split(' ').find_map(|part| part.strip_prefix(key))?.parse().ok();
    Some((address("ws=")?, address("admin=")?))
}

/// A gateway that has said that it is ready. Dropping it kills it.
#[derive(Debug)]
pub struct Gateway {
    process: Process,
    /// Where WebSockets are.
    pub ws: SocketAddr,
    /// Where operators look.
    pub admin: SocketAddr,
    /// What it said up to the line `ready`.
    pub said: Vec<String>,
    setup: Setup,
    later: Receiver<String>,
}

impl Gateway {
    /// Starts a gateway over a data directory, and waits until it is ready.
    #[must_use]
    pub fn start(data: &Path, shards: u16) -> Self {
        Setup::new(data, shards).start()
    }

    /// How it was started.
    #[must_use]
    pub const fn setup(&self) -> &Setup {
        &self.setup
    }

    /// A token for any device of a user, without a limit of its rate.
    #[must_use]
    pub fn token(&self, user: UserId) -> Vec<u8> {
        self.token_with(user, &["--rate", "unlimited"])
    }

    /// A token as the command line makes it.
    #[must_use]
    pub fn token_with(&self, user: UserId, more: &[&str]) -> Vec<u8> {
        self.setup.token_with(user, more)
    }

    /// Everything it counts.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats::read(self.admin)
    }

    /// Waits until a figure of `/stats`, the sum over all shards, is exactly so much: shards tell their figures a few
    /// times a second. More than that is wrong at once where `rises` says that it never falls.
    #[track_caller]
    fn wait_for(&self, path: &str, expected: u64, rises: bool) {
        let end = Instant::now() + WAIT;
        loop {
            let count = self.stats().total(path);
            if count == expected {
                return;
            }
            let possible = Instant::now() < end && (!rises || count < expected);
            assert!(possible, "{path} is {count} and not {expected}");
            std::thread::sleep(LOOK_INTERVAL);
        }
    }

    /// Waits until a counter is exactly so much.
    #[track_caller]
    pub fn wait_for_count(&self, path: &str, expected: u64) {
        self.wait_for(path, expected, true);
    }

    /// Waits until a gauge is exactly so much.
    #[track_caller]
    pub fn wait_for_gauge(&self, path: &str, expected: u64) {
        self.wait_for(path, expected, false);
    }

    /// A figure of `/metrics` by its name there, the sum of all its samples whose labels contain a text.
    #[must_use]
    #[track_caller]
    pub fn metric(&self, name: &str, labels: &str) -> u64 {
        let body = get(self.admin, "/metrics").body;
        let own = |line: &&str| line.split([' ', '{']).next() == Some(name) && line.contains(labels);
        let value = |line: &str| line.rsplit_once(' ').and_then(|(_, value)| value.parse().ok());
        let values: Vec<u64> = body.lines().filter(own).filter_map(value).collect();
        assert!(!values.is_empty(), "no {name} with {labels} in {body}");
        values.into_iter().sum()
    }

    /// The process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.0.id()
    }

    /// Whether the process answers.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        get(self.admin, "/healthz").status == 200
    }

    /// Sends a signal by the process's id.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process.0), signal).expect("it is our child");
    }

    /// Waits for its end; gives the exit code, none if a signal ended it.
    #[track_caller]
    pub fn wait(&mut self) -> Option<i32> {
        let end = Instant::now() + WAIT;
        loop {
            if let Some(status) = self.process.0.try_wait().expect("it is our child") {
                return status.code();
            }
            assert!(Instant::now() < end, "the gateway does not end; it said {:?}", self.later.try_iter());
            std::thread::sleep(LOOK_INTERVAL);
        }
    }

    /// Stops it as an operator does; it must end well.
    #[track_caller]
    pub fn stop(mut self) {
        self.signal(Signal::TERM);
        assert_eq!(self.wait(), Some(0), "a stop ends well");
    }

    /// Kills it without a word.
    pub fn kill(self) {
        drop(self);
    }
}
