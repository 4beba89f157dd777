//! Programs that tasks start: run to their end, or ended with the task.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How often a wait looks whether a program has ended.
const POLL: Duration = Duration::from_millis(50);

/// A program with arguments, to be run to its end.
pub struct Program {
    command: Command,
    shown: String,
}

impl Program {
    /// `program` in `folder`.
    pub fn new(program: impl AsRef<OsStr>, folder: &Path) -> Program {
        let program = program.as_ref();
        let mut command = Command::new(program);
        command.current_dir(folder).stdin(Stdio::null());
        let name = Path::new(program).file_name().unwrap_or(program);
        Program { command, shown: name.to_string_lossy().into_owned() }
    }

    /// The cargo that runs this task.
    pub fn cargo(folder: &Path) -> Program {
        Program::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()), folder)
    }

    /// Adds arguments.
    pub fn args<I, S>(mut self, arguments: I) -> Program
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        for argument in arguments {
            self.shown.push(' ');
            self.shown.push_str(&argument.as_ref().to_string_lossy());
            self.command.arg(argument);
        }
        self
    }

    /// Adds an option that takes a path.
    pub fn arg_path(self, option: &str, path: &Path) -> Program {
        self.args([OsStr::new(option), path.as_os_str()])
    }

    /// Sets a variable of its environment.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Program {
        self.command.env(name, value);
        self
    }

    /// Runs it; an exit code other than 0 is an error.
    pub fn run(mut self) -> Result<()> {
        let status = self.command.status().with_context(|| format!("cannot start `{}`", self.shown))?;
        self.judge(status)
    }

    /// Runs it with its standard error passed on line by line, and returns the last line that `wanted` accepts.
    pub fn run_keeping_line(mut self, wanted: impl Fn(&str) -> bool) -> Result<Option<String>> {
        let mut child = self
            .command
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start `{}`", self.shown))?;
        let mut kept = None;
        if let Some(stderr) = child.stderr.take() {
            for line in BufReader::new(stderr).split(b'\n') {
                let line = line.with_context(|| format!("the output of `{}` broke off", self.shown))?;
                let line = String::from_utf8_lossy(&line).into_owned();
                eprintln!("{line}");
                if wanted(&line) {
                    kept = Some(line);
                }
            }
        }
        let status = child.wait().with_context(|| format!("cannot wait for `{}`", self.shown))?;
        self.judge(status)?;
        Ok(kept)
    }

    /// Runs it; an exit code other than 0, or no end within `longest`, is an error.
    pub fn run_within(mut self, longest: Duration) -> Result<()> {
        let mut child = self.command.spawn().with_context(|| format!("cannot start `{}`", self.shown))?;
        match wait_at_most(&mut child, longest)? {
            Some(status) => self.judge(status),
            None => bail!("`{}` did not end within {} s", self.shown, longest.as_secs()),
        }
    }

    /// Runs it without a word; its output is told only if it fails.
    pub fn run_quietly(mut self, longest: Duration) -> Result<()> {
        let log = tempfile::NamedTempFile::new().context("no temporary file")?;
        let out = log.reopen().context("no temporary file")?;
        let both = out.try_clone().context("no temporary file")?;
        self.command.stdout(out).stderr(both);
        self.run_within(longest).with_context(|| fs::read_to_string(log.path()).unwrap_or_default())
    }

    /// Whether it starts and ends with 0; its output is dropped.
    pub fn succeeds(mut self) -> bool {
        let status = self.command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    }

    fn judge(&self, status: ExitStatus) -> Result<()> {
        if !status.success() {
            bail!("`{}` ended with {status}", self.shown);
        }
        Ok(())
    }
}

/// Waits for a child; `None` if it had to be killed after `longest`.
pub fn wait_at_most(child: &mut std::process::Child, longest: Duration) -> Result<Option<ExitStatus>> {
    let end = Instant::now() + longest;
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for a child")? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            child.kill().context("cannot kill a child")?;
            child.wait().context("cannot wait for a child")?;
            return Ok(None);
        }
        thread::sleep(POLL);
    }
}
