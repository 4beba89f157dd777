//! The page for who writes a client: its tables name every kind and code, with the right number, and nothing else.

use std::collections::BTreeSet;
use tidegate_schema::{CloseCode, ErrorCode, FrameKind};

const PAGE: &str = include_str!("../../../docs/protocol.md");

/// The first `cells` cells of every row under a heading.
fn rows(heading: &str, cells: usize) -> BTreeSet<String> {
    let section = PAGE.split("\n## ").find(|section| section.starts_with(heading));
    let section = section.unwrap_or_else(|| panic!("the page has no section {heading}"));
    let table = section.lines().filter(|line| line.starts_with("| ") && line.contains('`'));
    let row = |line: &str| line.split('|').skip(1).take(cells).map(str::trim).collect::<Vec<_>>().join(" ");
    let rows: Vec<String> = table.map(row).collect();
    let different: BTreeSet<String> = rows.iter().cloned().collect();
    assert_eq!(different.len(), rows.len(), "{heading}: a row stands there twice");
    different
}

fn check(heading: &str, cells: usize, expected: impl Iterator<Item = String>) {
    let (page, code) = (rows(heading, cells), expected.collect::<BTreeSet<_>>());
    let missing: Vec<_> = code.difference(&page).collect();
    let stale: Vec<_> = page.difference(&code).collect();
    assert!(missing.is_empty() && stale.is_empty(), "{heading}: missing {missing:?}, stale {stale:?}");
}

#[test]
fn every_kind_is_named_with_its_number() {
    check(
        "Frames",
        2,
        FrameKind::ALL.iter().map(|kind| format!("0x{:04X} `{}`", *kind as u16, kind.label())),
    );
}

#[test]
fn every_error_is_named_with_its_number_and_whether_it_is_temporary() {
    let row = |code: &ErrorCode| {
        let temporary = if code.is_temporary() { "yes" } else { "no" };
        format!("{} `{}` {temporary}", code.get(), code.label())
    };
    check("Errors", 3, ErrorCode::ALL.iter().map(row));
}

#[test]
fn every_close_is_named_with_its_number() {
    check("Closes", 2, CloseCode::ALL.iter().map(|(code, name)| format!("{} `{name}`", code.0)));
}
