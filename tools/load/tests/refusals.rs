//! The program as a script runs it, where it cannot even begin: it ends with 2, which is neither a proof nor a failed one,
//! says why, and says no closing line. What it ends with beside a gateway is shown end to end (`tests/e2e`).
//!
//! It also has the program built by a run over the whole workspace, which the end-to-end tests rely on.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::path::Path;
use std::process::Command;

/// A line of acknowledged sends.
const LINE: &str = "01010101010101010101010101010101 2 02020202020202020202020202020202 03030303030303030303030303030303 7\n";

/// Runs it on a file, with arguments before it; what it says must contain all of this.
#[track_caller]
fn check(arguments: &[&str], file: &Path, expected: &[&str]) {
    let mut load = Command::new(env!("CARGO_BIN_EXE_tidegate-load"));
    let output = load.args(arguments).arg(file).output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{complaint}");
    assert!(output.stdout.is_empty(), "{output:?}");
    expected.iter().for_each(|part| assert!(complaint.contains(part), "{part} is not in {complaint}"));
}

#[test]
fn what_cannot_be_verified_is_no_proof() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("acks");
    let verify = ["verify", "--data", "nowhere", "--acks"];
    check(&verify, &path, &["cannot open"]);
    let half = &LINE[..50];
    for (text, expected) in [
        (String::new(), &["nothing to verify"][..]),
        (half.to_owned(), &["ends in half a line, number 1", "nothing to verify"]),
        (format!("{LINE}{half}\n{LINE}"), &["line 2 of "]),
        (format!("{LINE}{half}"), &["ends in half a line, number 2", "nowhere"]),
    ] {
        std::fs::write(&path, text).unwrap();
        check(&verify, &path, expected);
    }
}

#[test]
fn what_cannot_be_played_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    check(&["replay", "--data", "nowhere"], &path, &["cannot read"]);
    std::fs::write(&path, "=== anna [x@y]  has joined #c\n").unwrap();
    check(&["replay", "--data", "nowhere"], &path, &["nobody speaks in it"]);
    check(&["replay", "--data", "nowhere", "--offline", "96"], &path, &["it must be from 0 to 95"]);
}
