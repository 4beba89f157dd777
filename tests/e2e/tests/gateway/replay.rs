//! `tidegate-load` as a script runs it: what it ends with, and what it says, also when something is not as it must be.

use std::path::Path;
use std::process::{Command, Output};
use tidegate_tests_e2e::{Gateway, program};

/// Two days at a time: anna comes before the first line of one, zoe after that of the other; will leaves, and bob speaks as
/// soon as he is bob.
const LOGS: [&str; 2] = [
    "[09:00] <will> one\n=== anna [x@y]  has joined #c\n[09:01] <anna> two\n=== zoe [x@y]  has joined #c\n\
     [09:02] <zoe> three\n=== will [x@y]  has quit [bye]\n[09:03]  * anna waves\n",
    "=== anna [x@y]  has joined #d\n[09:00] <anna> four\n=== paul is now known as bob\n[09:01] <bob> five\n[09:02] <bob> six\n",
];

/// Runs `tidegate-load` with a gateway, and the data directory of one.
fn load(command: &str, gateway: &Gateway, data: &Path, arguments: &[&Path]) -> Output {
    let url = format!("ws://{}", gateway.ws);
    let mut load = Command::new(program::program("tidegate-load"));
    load.args([command, "--url", &url, "--data"]).arg(data).args(arguments).output().unwrap()
}

fn replay(gateway: &Gateway, data: &Path, folder: &Path) -> (Output, serde_json::Value) {
    let logs = [folder.join("one.txt"), folder.join("two.txt")];
    logs.iter().zip(LOGS).for_each(|(path, text)| std::fs::write(path, text).unwrap());
    let (acks, report) = (folder.join("acks"), folder.join("report.json"));
    let [one, two] = &logs;
    let arguments =
        ["--acks".as_ref(), &*acks, "--report".as_ref(), &report, "--seed".as_ref(), "3".as_ref(), one, two];
    let output = load("replay", gateway, data, &arguments);
    let written = std::fs::read(&report).unwrap_or_else(|_| panic!("no report: {output:?}"));
    (output, serde_json::from_slice(&written).unwrap())
}

/// The exit code, the last line on stdout, and everything on stderr.
fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let (out, complaint) = (text(&output.stdout), text(&output.stderr));
    (output.status.code(), out.lines().last().unwrap_or_default().to_owned(), complaint)
}

#[test]
fn a_replay_is_proven_and_what_is_not_as_it_was_acknowledged_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let gateway = Gateway::start(&data, 2);
    let (output, report) = replay(&gateway, &data, dir.path());
    let (code, line, complaint) = said(&output);
    assert_eq!(code, Some(0), "{complaint}");
    let begin = "replay: 7 messages, 11 deliveries, 0 lost, 0 duplicated, 0 misordered, p50 ";
    assert!(line.starts_with(begin) && !line[begin.len()..].contains(','), "{line}");
    assert_eq!((&report["good"], &report["latency"]["stored"]["count"]), (&true.into(), &11.into()));
    // Zoe until she came, and will as he left: anna and bob are there, or wanted, before anything is said.
    assert_eq!(report["leaves"], 2, "{report}");

    let path = dir.path().join("acks");
    let acks = std::fs::read_to_string(&path).unwrap();
    let verify = |text: &str| {
        std::fs::write(&path, text).unwrap();
        said(&load("verify", &gateway, &data, &["--acks".as_ref(), &path]))
    };
    let (code, line, complaint) = verify(&acks);
    assert_eq!(
        (code, &*line),
        (Some(0), "verify: 7 acknowledged, 7 found, 0 missing, 0 different"),
        "{complaint}"
    );

    let lines: Vec<&str> = acks.lines().collect();
    let fields: Vec<&str> = lines[2].split(' ').collect();
    let [conversation, sequence, message, hash, user] = fields[..] else { panic!("{}", lines[2]) };
    let place =
        format!("{conversation}, sequence {sequence}: message {message} is not what was acknowledged");
    let other = format!("{}{}", &hash[..31], if hash.ends_with('0') { '1' } else { '0' });
    let changed = acks.replace(hash, &other);
    let (code, line, complaint) = verify(&changed);
    assert_eq!((code, &*line), (Some(1), "verify: 7 acknowledged, 6 found, 0 missing, 1 different"));
    assert!(complaint.contains(&place), "{place} is not in {complaint}");

    let beyond = format!("{acks}{conversation} 99 {message} {hash} {user}\n");
    let (code, line, complaint) = verify(&beyond);
    assert_eq!((code, &*line), (Some(1), "verify: 8 acknowledged, 7 found, 1 missing, 0 different"));
    assert!(
        complaint.contains(&format!("{conversation}, sequence 99: message {message} is missing")),
        "{complaint}"
    );

    // A killed replay leaves half a line: at the end that is told, in the middle it is an error.
    let (code, line, complaint) = verify(&acks[..acks.len() - 2]);
    assert_eq!((code, &*line), (Some(0), "verify: 6 acknowledged, 6 found, 0 missing, 0 different"));
    assert!(complaint.contains("ends in half a line, number 7"), "{complaint}");
    let (code, line, complaint) = verify(&acks.replacen(lines[2], &lines[2][..50], 1));
    assert_eq!((code, &*line), (Some(2), ""));
    assert!(complaint.contains("line 3 of "), "{complaint}");
    gateway.stop();
}

/// Without a failure that only a real gateway brings, nothing shows that the process ends as the report says.
#[test]
fn a_replay_that_fails_ends_with_a_failure_and_says_so_everywhere() {
    let dir = tempfile::tempdir().unwrap();
    let (data, other) = (dir.path().join("data"), dir.path().join("other"));
    Gateway::start(&other, 1).stop();
    let gateway = Gateway::start(&data, 1);
    let (output, report) = replay(&gateway, &other, dir.path());
    let (code, line, complaint) = said(&output);
    assert_eq!(code, Some(1), "{complaint}");
    let end = ", 0 of 7 acknowledged, incomplete, failed: the gateway does not take our tokens: is --data its data directory?";
    assert!(line.starts_with("replay: 0 messages, 0 deliveries, ") && line.ends_with(end), "{line}");
    assert_eq!((&report["good"], &report["complete"]), (&false.into(), &false.into()));
    assert!(
        report["failure"].as_str().is_some_and(|failure| failure.starts_with("the gateway does not take"))
    );
    gateway.stop();
}
