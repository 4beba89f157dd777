//! The verdict: in the exit code, in the closing line, and in the file.

use super::*;
use serde_json::Value;
use tidegate_ids::MonotonicNs;

/// A replay of ten messages with nothing to say against it.
fn good() -> Report {
    let figures = Figures { count: 30, p50_us: 1_500, p90_us: 0, p99_us: 25_000, p999_us: 0, max_us: 0 };
    Report {
        logs: 1,
        people: 4,
        lines: 10,
        lines_skipped: 2,
        messages: 10,
        deliveries: 30,
        pushed: 30,
        fetched: 0,
        lost: 0,
        duplicated: 0,
        misordered: 0,
        altered: 0,
        foreign: 0,
        contradicted: 0,
        wire_duplicates: 0,
        complete: true,
        seconds: 1.0,
        messages_per_s: 10.0,
        deliveries_per_s: 30.0,
        leaves: 0,
        outages: 0,
        connects: 4,
        connections_lost: 0,
        counts: Counts::default(),
        latency: Latencies { stored: figures, live: figures, away: figures, acknowledged: figures },
        missing: Vec::new(),
        failure: None,
    }
}

fn written(report: &Report) -> Value {
    let file = tempfile::NamedTempFile::new().expect("a file");
    report.write(file.path()).expect("written");
    serde_json::from_slice(&std::fs::read(file.path()).expect("read")).expect("JSON")
}

const LINE: &str =
    "replay: 10 messages, 30 deliveries, 0 lost, 0 duplicated, 0 misordered, p50 1.50 ms p99 25 ms";

/// One thing that is wrong: the closing line, and the field of the file that says it.
fn check(spoil: impl FnOnce(&mut Report), line: &str, field: &str, value: impl Into<Value>) {
    let mut report = good();
    spoil(&mut report);
    assert!(!report.is_good(), "{field}");
    assert_eq!(report.exit_code(), ExitCode::FAILURE, "{field}");
    assert_eq!(report.to_string(), line);
    let written = written(&report);
    assert_eq!((&written["good"], &written[field]), (&Value::Bool(false), &value.into()), "{field}");
}

#[test]
fn nothing_wrong_is_good() {
    let report = good();
    assert!(report.is_good());
    assert_eq!(report.exit_code(), ExitCode::SUCCESS);
    assert_eq!(report.to_string(), LINE);
    let written = written(&report);
    assert_eq!((&written["good"], &written["failure"]), (&Value::Bool(true), &Value::Null));
}

/// Nothing tied the verdict to what it weighs: with one of these forgotten a replay that had failed would have ended with 0,
/// and whoever trusts the exit code would have taken it for a proof.
#[test]
fn each_thing_that_is_wrong_is_enough() {
    let figure = |name: &str| LINE.replace(&format!("0 {name}"), &format!("3 {name}"));
    check(|report| report.lost = 3, &figure("lost"), "lost", 3);
    check(|report| report.duplicated = 3, &figure("duplicated"), "duplicated", 3);
    check(|report| report.misordered = 3, &figure("misordered"), "misordered", 3);
    check(|report| report.altered = 3, &format!("{LINE}, 3 altered"), "altered", 3);
    check(|report| report.foreign = 3, &format!("{LINE}, 3 sent by nobody"), "foreign", 3);
    check(|report| report.contradicted = 3, &format!("{LINE}, 3 contradicted"), "contradicted", 3);
    check(|report| report.lines = 11, &format!("{LINE}, 10 of 11 acknowledged"), "lines", 11);
    check(|report| report.complete = false, &format!("{LINE}, incomplete"), "complete", false);
    let failed = |report: &mut Report| report.failure = Some("nobody\nanswered".to_owned());
    check(failed, &format!("{LINE}, failed: nobody answered"), "failure", "nobody\nanswered");
}

/// Faults that the verdict weighs are those that the checker counts, each under its own name.
#[test]
fn the_faults_of_the_checker_are_those_of_the_report() {
    let report =
        Report { lost: 1, duplicated: 2, misordered: 3, altered: 4, foreign: 5, contradicted: 6, ..good() };
    let faults = Faults { lost: 1, duplicated: 2, misordered: 3, altered: 4, foreign: 5, contradicted: 6 };
    assert_eq!(report.faults(), faults);
    let line = report.to_string();
    assert!(line.contains("1 lost, 2 duplicated, 3 misordered, p50"), "{line}");
    assert!(line.ends_with("p99 25 ms, 4 altered, 5 sent by nobody, 6 contradicted"), "{line}");
}

/// The closing line left out what was stored by devices that the replay had kept offline, though latency runs from the
/// intended send to stored, wherever a device was meanwhile.
#[test]
fn the_closing_line_takes_every_delivery() {
    let latency = |count: u64, ms: u64| {
        let mut latency = Latency::new().expect("in bounds");
        let end = MonotonicNs(ms * MonotonicNs::MILLISECOND);
        (0..count).for_each(|_| latency.record(MonotonicNs(0), end));
        latency
    };
    let (live, away, acknowledged) = (latency(60, 2), latency(40, 20_000), latency(10, 1));
    let latency = Latencies::new(&live, &away, &acknowledged).expect("in bounds");
    let report = Report { latency, ..good() };
    assert!(report.to_string().ends_with(", p50 2.00 ms p99 20.0 s"), "{report}");
    assert_eq!(
        report.latency.to_string(),
        "stored by who was connected: 60, p50 2.00 ms p99 2.00 ms; by who was offline meanwhile: 40, p50 20.0 s \
         p99 20.0 s; acknowledged: 10, p50 1.00 ms p99 1.00 ms"
    );
    let written = written(&report);
    let counts = ["stored", "live", "away", "acknowledged"].map(|part| &written["latency"][part]["count"]);
    assert_eq!(counts, [100, 60, 40, 10].map(Value::from).each_ref());
}

#[test]
fn a_file_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let error = good().write(folder.path()).expect_err("it is a folder");
    assert!(error.to_string().contains(&folder.path().display().to_string()), "{error}");
}
