//! The bytes of every frame, kept in `tests/golden` as hex. They never change: what an old client wrote must be
//! read for ever. `UPDATE_EXPECT=1` writes new ones.

use crate::samples::{self, only};
use expect_test::expect_file;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use tidegate_schema::{ClientFrame, Encoder, FrameKind, GroupChange, MessageFields, ServerFrame};

/// The kinds that have a number but no body so far.
const RESERVED: [FrameKind; 4] = [FrameKind::Edit, FrameKind::Delete, FrameKind::React, FrameKind::Pin];

/// Sixteen bytes a line, in groups of eight.
fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for line in bytes.chunks(16) {
        for (index, byte) in line.iter().enumerate() {
            let gap = if index == 0 {
                ""
            } else if index == 8 {
                "  "
            } else {
                " "
            };
            write!(text, "{gap}{byte:02x}").expect("text grows");
        }
        text.push('\n');
    }
    text
}

fn unhex(text: &str) -> Vec<u8> {
    text.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect("hex")).collect()
}

fn golden_path(name: &str) -> String {
    format!("{}/tests/golden/{name}.hex", env!("CARGO_MANIFEST_DIR"))
}

/// Compares with the file, then reads what the file says.
fn check(name: &str, bytes: &[u8], read: impl FnOnce(&[u8])) {
    expect_file![golden_path(name)].assert_eq(&hex(bytes));
    let golden = std::fs::read_to_string(golden_path(name)).expect("the file");
    read(&unhex(&golden));
}

#[test]
fn frames_of_the_client() {
    for (name, id, frame) in samples::client() {
        check(name, &samples::client_bytes(&frame, id), |golden| {
            let read = only(golden);
            assert_eq!((read.header.id, read.header.flags), (id, 0), "{name}");
            assert_eq!(ClientFrame::decode(&read), Ok(frame), "{name}");
        });
    }
}

#[test]
fn frames_of_the_gateway() {
    for (name, id, frame) in samples::server() {
        check(name, &samples::server_bytes(&frame, id), |golden| {
            let read = only(golden);
            let numbered = ["deliver", "dirty", "skip"].contains(&name);
            assert_eq!((read.header.id, read.header.is_numbered()), (id, numbered), "{name}");
            assert_eq!(ServerFrame::decode(&read), Ok(frame), "{name}");
        });
    }
}

#[test]
fn roots_that_travel_as_bytes() {
    let mut encoder = Encoder::new();
    let mut message = Vec::new();
    encoder.message(&mut message, &samples::MESSAGE_FIELDS).expect("small enough");
    check("message", &message, |golden| {
        assert_eq!(MessageFields::verify(golden), Ok(samples::MESSAGE_FIELDS));
    });
    let mut change = Vec::new();
    encoder.group_change(&mut change, &samples::GROUP_CHANGE).expect("small enough");
    check("group_change", &change, |golden| {
        assert_eq!(GroupChange::verify(golden), Ok(samples::GROUP_CHANGE));
    });
}

#[test]
fn every_kind_has_golden_bytes() {
    let kind = |bytes: &[u8]| FrameKind::try_from(only(bytes).header.kind).expect("known");
    let clients =
        samples::client().into_iter().map(|(_, id, frame)| kind(&samples::client_bytes(&frame, id)));
    let servers =
        samples::server().into_iter().map(|(_, id, frame)| kind(&samples::server_bytes(&frame, id)));
    let sampled: BTreeSet<FrameKind> = clients.chain(servers).chain(RESERVED).collect();
    let all: BTreeSet<FrameKind> = FrameKind::ALL.iter().copied().collect();
    assert_eq!(sampled, all);
}

#[test]
fn every_golden_file_has_a_test() {
    let mut named: BTreeSet<String> = ["message", "group_change"].map(String::from).into();
    named.extend(samples::client().iter().map(|(name, ..)| (*name).to_owned()));
    named.extend(samples::server().iter().map(|(name, ..)| (*name).to_owned()));
    let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden")).expect("the folder");
    let found: BTreeSet<String> = folder
        .map(|entry| {
            entry.expect("an entry").file_name().to_string_lossy().trim_end_matches(".hex").to_owned()
        })
        .collect();
    assert_eq!(named, found);
}
