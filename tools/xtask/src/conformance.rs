//! `cargo xtask conformance`: the Autobahn test suite, as a client of `/echo`, on loopback.
//!
//! Two programs run the same case files: the original under CPython 2.7, taken where pyenv has one, and
//! `kosoku` under Python 3. Compression (cases 12 and 13) is left out: `/echo` does not negotiate it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use serde::Deserialize;

use crate::gateway::{Gateway, Settings};
use crate::limits::CONFORMANCE_MAX;
use crate::program::Program;
use crate::pypi;
use crate::workspace::Workspace;

/// Cases of compression.
const EXCLUDED: [&str; 2] = ["12.*", "13.*"];

/// What is left of the suite without them.
const CASES: usize = 301;

/// Name of the server in the report.
const AGENT: &str = "tidegate";

/// Starts the suite under Python 2.7; its dependencies need their `.pth` files, so the folder is a site folder.
const START_ORIGINAL: &str = "import site, sys; d = sys.argv[1]; site.addsitedir(d); sys.path.insert(0, d); \
     sys.argv = ['wstest'] + sys.argv[2:]; from autobahntestsuite import wstest; wstest.run()";

/// Starts kosoku from its folder.
const START_KOSOKU: &str = "import sys; sys.path.insert(0, sys.argv[1]); \
     sys.argv = ['kosoku'] + sys.argv[2:]; from kosoku._cli import main; sys.exit(main())";

/// Options of `conformance`.
#[derive(Args)]
pub struct Options {
    /// Which program runs the cases; by default the original where CPython 2.7 is found
    #[arg(long, value_enum)]
    engine: Option<Engine>,
    /// Test a server that runs already, at this loopback URL, instead of starting a gateway
    #[arg(long, value_name = "ws://127.0.0.1:PORT/PATH")]
    url: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Engine {
    /// autobahntestsuite under CPython 2.7
    Autobahn,
    /// kosoku under Python 3
    Kosoku,
}

/// Runs the suite and judges its report.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    println!("{}", closing_line(workspace, options)?);
    Ok(())
}

/// The step of `ci`.
pub fn run_in_ci(workspace: &Workspace) -> Result<Option<String>> {
    closing_line(workspace, &Options { engine: None, url: None }).map(Some)
}

fn closing_line(workspace: &Workspace, options: &Options) -> Result<String> {
    let folder = workspace.own().join("conformance");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot clear {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let report = folder.join("report");
    let tally = match &options.url {
        Some(url) => {
            ensure!(is_loopback(url), "{url} is not on loopback");
            run_suite(workspace, options.engine, url, &report)?
        }
        None => {
            let data = folder.join("data");
            let settings = Settings {
                data: &data,
                listen: "127.0.0.1:0",
                shards: 1,
                listed_members_max: None,
                echo: true,
            };
            let gateway = Gateway::start(workspace, &settings)?;
            let url = format!("{}/echo", gateway.url());
            let tally = run_suite(workspace, options.engine, &url, &report)
                .map_err(|error| gateway.with_log(error))?;
            gateway.stop()?;
            tally
        }
    };
    tally.judge().with_context(|| format!("see {}", report.display()))
}

fn is_loopback(url: &str) -> bool {
    url.strip_prefix("ws://").is_some_and(|rest| rest.starts_with("127.") || rest.starts_with("localhost:"))
}

fn run_suite(workspace: &Workspace, engine: Option<Engine>, url: &str, report: &Path) -> Result<Tally> {
    let python = python_2_7();
    let engine = engine.unwrap_or(if python.is_some() { Engine::Autobahn } else { Engine::Kosoku });
    match engine {
        Engine::Autobahn => {
            let python = python.context("no CPython 2.7 in pyenv; --engine kosoku needs none")?;
            run_original(workspace, &python, url, report)?;
        }
        Engine::Kosoku => run_kosoku(workspace, url, report)?,
    }
    let index = report.join("index.json");
    let text =
        fs::read_to_string(&index).with_context(|| format!("the suite wrote no {}", index.display()))?;
    let agents: BTreeMap<String, BTreeMap<String, Case>> =
        serde_json::from_str(&text).with_context(|| format!("cannot read {}", index.display()))?;
    Ok(Tally::of(agents.into_values().flatten()))
}

/// The newest CPython 2.7 that pyenv has.
fn python_2_7() -> Option<String> {
    let output = Command::new("pyenv").arg("root").output().ok().filter(|output| output.status.success())?;
    let versions = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim()).join("versions");
    let mut found: Vec<PathBuf> = versions
        .read_dir()
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("2.7")))
        .map(|path| path.join("bin/python"))
        .filter(|python| python.is_file())
        .collect();
    found.sort();
    found.pop()?.to_str().map(str::to_owned)
}

fn run_original(workspace: &Workspace, python: &str, url: &str, report: &Path) -> Result<()> {
    println!("   autobahntestsuite {} under {python}", pypi::AUTOBAHN.version);
    let installed = pypi::AUTOBAHN.install_with(workspace, python, "python2.7")?;
    let specification = report.with_extension("json");
    let wanted = serde_json::json!({
        "outdir": report,
        "servers": [{ "url": url, "agent": AGENT }],
        "cases": ["*"],
        "exclude-cases": EXCLUDED,
        "exclude-agent-cases": {},
    });
    fs::write(&specification, wanted.to_string())
        .with_context(|| format!("cannot write {}", specification.display()))?;
    Program::new(python, &workspace.root)
        .args(["-c", START_ORIGINAL])
        .args([installed.as_os_str()])
        .args(["-m", "fuzzingclient"])
        .arg_path("-s", &specification)
        .run_quietly(CONFORMANCE_MAX)
}

fn run_kosoku(workspace: &Workspace, url: &str, report: &Path) -> Result<()> {
    println!("   kosoku {} under python3", pypi::KOSOKU.version);
    let installed = pypi::KOSOKU.install(workspace)?;
    Program::new("python3", &workspace.root)
        .args(["-c", START_KOSOKU])
        .args([installed.as_os_str()])
        .args(["-m", "fuzzingclient", "-p", "1"])
        .args(EXCLUDED.iter().flat_map(|case| ["-x", case]))
        .arg_path("-o", report)
        .args([url])
        .run_quietly(CONFORMANCE_MAX)
}

/// One case of the report.
#[derive(Deserialize)]
struct Case {
    behavior: String,
    #[serde(rename = "behaviorClose", default = "ok")]
    behavior_close: String,
}

fn ok() -> String {
    "OK".to_owned()
}

/// The report, counted.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: usize,
    informational: usize,
    non_strict: Vec<String>,
    failed: Vec<String>,
}

impl Tally {
    fn of(cases: impl Iterator<Item = (String, Case)>) -> Tally {
        let mut tally = Tally::default();
        for (id, case) in cases {
            let behaviors = [case.behavior.as_str(), case.behavior_close.as_str()];
            let fine = |behavior: &&str| matches!(*behavior, "OK" | "INFORMATIONAL" | "NON-STRICT");
            if !behaviors.iter().all(fine) {
                tally.failed.push(format!("{id} ({}, close {})", case.behavior, case.behavior_close));
            } else if behaviors.contains(&"NON-STRICT") {
                tally.non_strict.push(id);
            } else if case.behavior == "INFORMATIONAL" {
                tally.informational += 1;
            } else {
                tally.passed += 1;
            }
        }
        tally
    }

    fn total(&self) -> usize {
        self.passed + self.informational + self.non_strict.len() + self.failed.len()
    }

    /// The closing line, unless a case failed or was not run.
    fn judge(&self) -> Result<String> {
        let line = format!(
            "autobahn: PASSED {} NON-STRICT {} INFO {} FAILED {} TOTAL {}",
            self.passed,
            self.non_strict.len(),
            self.informational,
            self.failed.len(),
            self.total()
        );
        if !self.failed.is_empty() {
            bail!("{line}\nfailed: {}", self.failed.join(", "));
        }
        ensure!(self.total() == CASES, "{line}: {CASES} cases expected");
        if !self.non_strict.is_empty() {
            println!("   non-strict: {}", self.non_strict.join(", "));
        }
        Ok(line)
    }
}

#[cfg(test)]
mod tests {
    use super::{CASES, Case, Tally, is_loopback};

    fn tally(cases: &[(&str, &str)]) -> Tally {
        let case = |(id, (behavior, close)): (usize, &(&str, &str))| {
            let case = Case { behavior: (*behavior).to_owned(), behavior_close: (*close).to_owned() };
            (format!("1.{id}"), case)
        };
        Tally::of(cases.iter().enumerate().map(case))
    }

    #[test]
    fn a_report_is_counted() {
        let tally = tally(&[
            ("OK", "OK"),
            ("OK", "INFORMATIONAL"),
            ("INFORMATIONAL", "OK"),
            ("NON-STRICT", "OK"),
            ("FAILED", "OK"),
            ("OK", "WRONG CODE"),
            ("UNIMPLEMENTED", "OK"),
        ]);
        assert_eq!((tally.passed, tally.informational), (2, 1));
        assert_eq!(tally.non_strict, ["1.3"]);
        assert_eq!(
            tally.failed,
            ["1.4 (FAILED, close OK)", "1.5 (OK, close WRONG CODE)", "1.6 (UNIMPLEMENTED, close OK)"]
        );
    }

    #[test]
    fn every_case_must_have_run_and_none_failed() {
        let mut cases = vec![("OK", "OK"); CASES];
        assert_eq!(
            tally(&cases).judge().unwrap(),
            "autobahn: PASSED 301 NON-STRICT 0 INFO 0 FAILED 0 TOTAL 301"
        );
        cases[7] = ("FAILED", "OK");
        assert!(tally(&cases).judge().unwrap_err().to_string().contains("failed: 1.7"));
        cases.truncate(5);
        assert!(tally(&cases).judge().is_err());
        assert!(tally(&[]).judge().is_err());
    }

    #[test]
    fn only_loopback_is_tested() {
        assert!(is_loopback("ws://127.0.0.1:9/echo") && is_loopback("ws://localhost:9/echo"));
        assert!(!is_loopback("ws://10.0.0.1:9/echo") && !is_loopback("http://127.0.0.1:9/"));
    }
}
