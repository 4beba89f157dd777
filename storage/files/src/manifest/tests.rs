use super::*;
use crate::replace::Replacement;
use tidegate_storage_log::Loss;

fn sample() -> Manifest {
    let log = |epoch, shard| LogId { epoch, shard: ShardIndex(shard) };
    Manifest {
        directory: *b"0123456789abcdef",
        incarnation: Incarnation(123_456_789),
        next_segment: 12,
        epochs: vec![Epoch { number: 1, shards: 2 }, Epoch { number: 2, shards: 1 }],
        segments: [(1, log(1, 0)), (2, log(1, 1)), (5, log(1, 0)), (9, log(2, 0)), (10, log(2, 0))].into(),
        restored: false,
        lost: Lost::default(),
    }
}

fn with_lost() -> Manifest {
    let mut manifest = sample();
    for (segment, from, to) in [(9, 4096, 8192), (5, 512, 1024), (9, 16_384, 20_000)] {
        manifest.lost.note(&Loss { segment, from, to, record: None });
    }
    manifest
}

const GOLDEN: &str = "tidegate-manifest 1\nhash 1\ndirectory 30313233343536373839616263646566\n\
                      incarnation 123456789\nnext-segment 12\nepoch 1 2\nlog 1 0 1 5\nlog 1 1 2\nepoch 2 1\nlog 2 0 9 10\ncrc32c 82c648ed\n";

const GOLDEN_2: &str = "tidegate-manifest 2\nhash 1\ndirectory 30313233343536373839616263646566\n\
                        incarnation 123456789\nnext-segment 12\nepoch 1 2\nlog 1 0 1 5\nlog 1 1 2\nepoch 2 1\nlog 2 0 9 10\n\
                        lost 5 512-1024\nlost 9 4096-8192 16384-20000\ncrc32c b79f3fbb\n";

#[test]
fn version_1_is_these_bytes() {
    assert_eq!(String::from_utf8(sample().encode()).unwrap(), GOLDEN);
    assert_eq!(Manifest::decode(GOLDEN.as_bytes()), Ok(sample()));
}

/// Version 2 is written only by a directory that has lost something, so that every other one can be read by what reads
/// version 1.
#[test]
fn version_2_is_these_bytes() {
    assert_eq!(String::from_utf8(with_lost().encode()).unwrap(), GOLDEN_2);
    assert_eq!(Manifest::decode(GOLDEN_2.as_bytes()), Ok(with_lost()));
}

#[test]
fn what_is_lost_is_refused_where_it_is_not_as_it_is_written() {
    let head = "tidegate-manifest 2\nhash 1\ndirectory 30313233343536373839616263646566\nincarnation 7\nnext-segment 9\nepoch 1 1\n";
    let check = |rest: &str, line: usize, problem| {
        check_refused(&format!("{head}{rest}"), &ManifestError::Line { line, problem });
    };
    check("lost x 1-2\n", 7, "what is lost has a segment");
    check("lost 9 1-2\n", 7, "lost segments rise, and are below the next one");
    check("lost 0 1-2\n", 7, "lost segments rise, and are below the next one");
    check("lost 3 1-2\nlost 3 4-5\n", 8, "lost segments rise, and are below the next one");
    check("lost 3\n", 7, "a lost segment has no stretch, or too many");
    check("lost 3 1\n", 7, "a lost stretch has two ends");
    check("lost 3 1-02\n", 7, "an end of a lost stretch is no number");
    check("lost 3 2-2\n", 7, "lost stretches rise and do not touch");
    check("lost 3 1-2 2-3\n", 7, "lost stretches rise and do not touch");
    check("lost 3 1-2\nlog 1 0 4\n", 8, "what is lost comes last");
    let old = head.replace("manifest 2", "manifest 1");
    let unknown = ManifestError::Line { line: 7, problem: "neither an epoch nor a log" };
    check_refused(&format!("{old}lost 3 1-2\n"), &unknown);
}

#[test]
fn a_restored_directory_says_so_in_one_line() {
    let restored = Manifest { restored: true, ..sample() };
    let text = String::from_utf8(restored.encode()).unwrap();
    assert!(text.contains("next-segment 12\nrestored\nepoch 1 2\n"), "{text}");
    assert_eq!(Manifest::decode(text.as_bytes()), Ok(restored));
}

#[test]
fn any_changed_byte_is_noticed() {
    for sound in [sample().encode(), with_lost().encode()] {
        check_every_byte(&sound);
    }
}

fn check_every_byte(sound: &[u8]) {
    for at in 0..sound.len() {
        for bit in [0x01, 0x10, 0x80] {
            let mut bytes = sound.to_vec();
            bytes[at] ^= bit;
            assert!(Manifest::decode(&bytes).is_err(), "bit {bit:#x} of byte {at}");
        }
        assert!(Manifest::decode(&sound[..at]).is_err(), "cut at {at}");
    }
    let mut longer = sound.to_vec();
    longer.push(b'\n');
    assert!(Manifest::decode(&longer).is_err());
}

fn check_refused(body: &str, expected: &ManifestError) {
    assert_eq!(Manifest::decode(&summed(body.to_owned())).as_ref(), Err(expected), "{body}");
}

#[test]
fn what_is_not_a_manifest_is_refused_with_its_line() {
    let head = "tidegate-manifest 1\nhash 1\ndirectory 30313233343536373839616263646566\nincarnation 7\nnext-segment 9\n";
    let line = |line, problem| ManifestError::Line { line, problem };
    let with = |rest: &str| format!("{head}{rest}");
    let other = |from: &str, to: &str| with("epoch 1 1\n").replace(from, to);
    check_refused("something else 1\n", &line(1, "not a tidegate manifest"));
    check_refused("tidegate-manifest 01\n", &line(1, "not a tidegate manifest"));
    check_refused(&other("hash 1", "hash 2"), &ManifestError::Hash { found: 2, supported: 1 });
    check_refused(&other("646566\n", "64656\n"), &line(3, "the directory id is not 32 hex digits"));
    check_refused(&other("646566\n", "64656G\n"), &line(3, "the directory id is not 32 hex digits"));
    check_refused(&other("incarnation 7", "incarnation 0"), &line(4, "the incarnation is out of range"));
    check_refused(
        &other("next-segment 9", "next-segment 4294967295"),
        &line(5, "the next segment is out of range"),
    );
    check_refused(&other("next-segment", "next"), &line(5, "no next segment"));
    check_refused(head, &line(6, "no epoch"));
    check_refused(&with("epoch 2 1\n"), &line(6, "epochs are out of order"));
    check_refused(&with("epoch 1 0\n"), &line(6, "the number of shards is out of range"));
    check_refused(&with("epoch 1 1025\n"), &line(6, "the number of shards is out of range"));
    check_refused(&with("log 1 0 1\n"), &line(6, "a log stands once, below its epoch"));
    check_refused(&with("epoch 1 1\nlog 1 1 1\n"), &line(7, "a log stands once, below its epoch"));
    check_refused(&with("epoch 1 1\nlog 1 0 1\nlog 1 0 2\n"), &line(8, "a log stands once, below its epoch"));
    let unique = "segment numbers are unique, above 0 and below the next one";
    check_refused(&with("epoch 1 2\nlog 1 0 1\nlog 1 1 1\n"), &line(8, unique));
    check_refused(&with("epoch 1 1\nlog 1 0 9\n"), &line(7, unique));
    check_refused(&with("epoch 1 1\nlog 1 0 0\n"), &line(7, unique));
    let once = "that this was restored is said once, before the epochs";
    check_refused(&with("restored\nrestored\nepoch 1 1\n"), &line(7, once));
    check_refused(&with("epoch 1 1\nrestored\n"), &line(7, once));
    check_refused(&with("epoch 1 1\nsurprise\n"), &line(7, "neither an epoch nor a log"));
}

#[test]
fn a_newer_version_is_named_whatever_follows() {
    let error = Manifest::decode(b"tidegate-manifest 7\nunheard of\n").unwrap_err();
    assert_eq!(error, ManifestError::Newer { found: 7, supported: 2 });
    let message = error.to_string();
    assert!(message.contains('7') && message.contains('2'), "{message}");
}

/// A crash between any two steps of a replacement leaves the old manifest or the new one, and the next replacement
/// works.
#[test]
fn a_crash_at_any_step_leaves_the_old_or_the_new_manifest() {
    let old = Manifest::first([7; 16], Incarnation(5), 2);
    let new = sample();
    let later = Manifest::first([7; 16], Incarnation(6), 3);
    for crash_after in 0..4 {
        let dir = tempfile::tempdir().unwrap();
        store(dir.path(), &old).unwrap();
        let replacement = Replacement::new(dir.path(), layout::MANIFEST);
        match crash_after {
            0 => std::fs::write(dir.path().join("MANIFEST.tmp"), &new.encode()[..20]).unwrap(),
            _ => replacement.write_temporary(&new.encode(), 0o644).unwrap(),
        }
        if crash_after >= 2 {
            replacement.rename().unwrap();
        }
        if crash_after >= 3 {
            replacement.sync_directory().unwrap();
        }
        let expected = if crash_after >= 2 { &new } else { &old };
        assert_eq!(load(dir.path()).unwrap().as_ref(), Some(expected), "crash after step {crash_after}");
        store(dir.path(), &later).unwrap();
        assert_eq!(load(dir.path()).unwrap().as_ref(), Some(&later));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
    }
}

#[test]
fn a_directory_without_one_has_none() {
    let dir = tempfile::tempdir().unwrap();
    assert!(load(dir.path()).unwrap().is_none());
    std::fs::create_dir(dir.path().join(layout::MANIFEST)).unwrap();
    assert!(load(dir.path()).unwrap_err().to_string().contains("MANIFEST"));
}

/// The checksum keeps rot out, not a manifest that somebody wrote: any text ends in a value, and what is taken is
/// written back as the same manifest.
#[test]
fn any_text_with_a_right_checksum_ends_in_a_value() {
    let words = [
        "tidegate-manifest",
        "hash",
        "directory",
        "incarnation",
        "next-segment",
        "epoch",
        "log",
        "0",
        "1",
        "2",
        "3",
        "12",
        "65535",
        "65536",
        "4294967294",
        "4294967296",
        "-1",
        "01",
        "",
        " ",
        "ff",
        "9007199254740992",
        "lost",
        "512-1024",
        "1024-2048",
    ];
    let sound: Vec<&str> = GOLDEN_2.lines().collect();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    // An xorshift (Marsaglia 2003): the same texts in every run.
    let mut below = |limit: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize % limit
    };
    let mut taken = 0;
    for _ in 0..20_000 {
        let mut lines: Vec<String> =
            sound[..sound.len() - 1].iter().map(|line| String::from(*line)).collect();
        for _ in 0..=below(3) {
            let at = below(lines.len());
            match below(4) {
                0 => _ = lines.remove(at),
                1 => lines.insert(at, lines[below(lines.len())].clone()),
                _ => {
                    let mut parts: Vec<&str> = lines[at].split(' ').collect();
                    let place = below(parts.len());
                    parts[place] = words[below(words.len())];
                    lines[at] = parts.join(" ");
                }
            }
        }
        let body = lines.join("\n") + "\n";
        if let Ok(manifest) = Manifest::decode(&summed(body.clone())) {
            taken += 1;
            assert_eq!(Manifest::decode(&manifest.encode()).as_ref(), Ok(&manifest), "{body}");
        }
    }
    assert!(taken > 100, "the texts are near enough to a manifest: {taken}");
}
