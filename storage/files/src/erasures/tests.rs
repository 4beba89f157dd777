use super::*;
use crate::text::summed;
use tidegate_ids::{ConversationId, UserId};

fn direct(low: u64, high: u64) -> StreamId {
    StreamId::conversation(ConversationId::direct(UserId(low), UserId(high)))
}

fn group() -> StreamId {
    StreamId::conversation(ConversationId::group([0x8a; 16]))
}

fn range(from: u64, to: u64) -> SequenceRange {
    SequenceRange::new(Sequence(from), Sequence(to)).unwrap()
}

fn sample() -> Erasures {
    let mut all = Erasures::default();
    all.ask(direct(7, 12), range(1, 500), WallMs(1_764_144_000_000), "").unwrap();
    all.ask(group(), range(3, 3), WallMs(1_764_144_001_000), "case 4711, letter of 26 November").unwrap();
    all.take();
    let mut erased = ErasedRanges::new();
    erased.insert(direct(7, 12), range(2, 400));
    erased.insert(group(), range(1, 9));
    all.count(&erased);
    all.finish(&group(), range(3, 3), WallMs(1_764_144_060_000));
    all.ask(direct(1, 2), range(1, 9_007_199_254_740_991), WallMs(1_764_144_002_000), "für immer").unwrap();
    all
}

/// What version 1 looks like; `docs/formats/erasures.md` explains it.
const GOLDEN: &[u8] = include_bytes!("../../tests/golden/v1.erasures");

#[test]
fn version_1_is_these_bytes() {
    assert_eq!(String::from_utf8(sample().encode()).unwrap(), std::str::from_utf8(GOLDEN).unwrap());
    assert_eq!(Erasures::decode(GOLDEN), Ok(sample()));
    let none = Erasures::default();
    assert_eq!(Erasures::decode(&none.encode()), Ok(none));
}

#[test]
fn any_changed_byte_is_noticed() {
    for at in 0..GOLDEN.len() {
        for bit in [0x01, 0x10, 0x80] {
            let mut bytes = GOLDEN.to_vec();
            bytes[at] ^= bit;
            assert!(Erasures::decode(&bytes).is_err(), "bit {bit:#x} of byte {at}");
        }
        assert!(Erasures::decode(&GOLDEN[..at]).is_err(), "cut at {at}");
    }
    let mut longer = GOLDEN.to_vec();
    longer.push(b'\n');
    assert!(Erasures::decode(&longer).is_err());
}

#[test]
fn what_is_no_list_is_refused_with_its_line() {
    let a = "8a8a8a8a8a8a8a8a8a8a8a8a8a8a8a8a";
    let head = "tidegate-erasures 1\n";
    let check = |body: String, line: usize, problem: &'static str| {
        let expected = Err(ErasuresFormatError::Line { line, problem });
        assert_eq!(Erasures::decode(&summed(body.clone())), expected, "{body}");
    };
    check("tidegate-manifest 1\n".into(), 1, "not a tidegate list of erasures");
    check(format!("{head}wanted {a} 1 2 3 0\n"), 2, "neither asked, nor taken, nor done");
    check(format!("{head}asked 8a 1 2 3 0\n"), 2, "the conversation is not 32 hex digits");
    check(format!("{head}asked 40000000000000000000000000000007 1 2 3 0\n"), 2, "no conversation");
    check(format!("{head}asked {a} 2 1 3 0\n"), 2, "the range is empty");
    check(format!("{head}asked {a} 0 1 3 0\n"), 2, "the range is empty");
    check(format!("{head}asked {a} 1 02 3 0\n"), 2, "the last sequence is none");
    check(format!("{head}asked {a} 1 9007199254740992 3 0\n"), 2, "the last sequence is none");
    check(format!("{head}asked {a} 1 2 3\n"), 2, "the number of erased records is none");
    check(format!("{head}asked {a} 1 2 3 3\n"), 2, "more records were erased than there are");
    check(format!("{head}asked {a} 1 2 3 0 \n"), 2, "the reason is none");
    check(format!("{head}asked {a} 1 2 3 0  two\n"), 2, "the reason is none");
    check(format!("{head}done {a} 1 2 3 0\n"), 2, "the time when it was done is none");
    check(format!("{head}done {a} 1 2 3 0 x why\n"), 2, "the time when it was done is none");
    check(format!("{head}\n"), 2, "the conversation is not 32 hex digits");
    let touching = format!("{head}asked {a} 1 2 3 0\nasked {a} 3 4 3 0\n");
    check(touching, 3, "ranges rise and do not touch");
    let order = format!("{head}done {a} 1 2 3 0 4\nasked {a} 8 9 3 0\n");
    check(order, 3, "what is pending stands before what is done");
    let newer = summed("tidegate-erasures 2\n".into());
    assert_eq!(Erasures::decode(&newer), Err(ErasuresFormatError::Newer { found: 2, supported: 1 }));
    let large = vec![b'x'; crate::limits::ERASURES_BYTES_MAX as usize + 1];
    assert_eq!(Erasures::decode(&large), Err(ErasuresFormatError::TooLarge));
}

/// What is pending after these requests, the ones before `|` taken.
fn check_asked(taken: &[(u64, u64, &str)], asked: &[(u64, u64, &str)], expected: &str) {
    let mut all = Erasures::default();
    let ask = |all: &mut Erasures, list: &[(u64, u64, &str)]| {
        for (from, to, reason) in list {
            all.ask(group(), range(*from, *to), WallMs(5), reason).unwrap();
        }
    };
    ask(&mut all, taken);
    all.take();
    ask(&mut all, asked);
    let told: Vec<String> =
        all.pending().iter().map(|one| format!("{:?} {} {}", one.state, one.range, one.reason)).collect();
    assert_eq!(told.join(", "), expected, "{taken:?} {asked:?}");
}

#[test]
fn requests_that_touch_are_one() {
    check_asked(&[], &[(1, 3, ""), (9, 9, "x")], "Asked 1..3 , Asked 9..9 x");
    check_asked(&[], &[(1, 3, "a"), (4, 9, "b")], "Asked 1..9 a; b");
    check_asked(&[], &[(1, 3, "a"), (5, 9, "a"), (2, 6, "")], "Asked 1..9 a");
    // What is taken and grows has to be taken again; what is asked for twice has not.
    check_asked(&[(1, 9, "a")], &[(2, 3, "b")], "Taken 1..9 a; b");
    check_asked(&[(1, 9, "")], &[(9, 10, "b")], "Asked 1..10 b");
    check_asked(&[(1, 2, ""), (8, 9, "")], &[(4, 5, "")], "Taken 1..2 , Asked 4..5 , Taken 8..9 ");
    let long = "x".repeat(ERASURE_REASON_BYTES_MAX);
    check_asked(&[], &[(1, 1, &long), (2, 2, "y")], "Asked 1..2 y");
}

#[test]
fn a_reason_is_a_line() {
    let mut all = Erasures::default();
    let mut check = |reason: &str, is_one: bool| {
        let asked = all.ask(group(), range(1, 1), WallMs(5), reason);
        assert_eq!(asked.is_ok(), is_one, "{reason:?}");
    };
    check("", true);
    check("case 4711", true);
    check(&"ü".repeat(100), true);
    for wrong in ["two\nlines", " before", "after ", "bell\u{7}", &"ü".repeat(101)] {
        check(wrong, false);
    }
}

#[test]
fn both_lists_are_bounded() {
    let mut all = Erasures::default();
    for at in 0..ERASURES_PENDING_MAX as u64 {
        all.ask(group(), range(2 * at + 1, 2 * at + 1), WallMs(at), "").unwrap();
    }
    let before = all.clone();
    assert_eq!(all.ask(direct(1, 2), range(1, 1), WallMs(1), ""), Err(ErasureRefused::TooMany));
    assert_eq!(all, before);
    // One that makes them fewer is taken, and so is one that makes them no more.
    all.ask(group(), range(2, 2), WallMs(1), "").unwrap();
    assert_eq!(all.pending().len(), ERASURES_PENDING_MAX - 1);
    assert_eq!(Erasures::decode(&all.encode()).as_ref(), Ok(&all));
    for (at, one) in all.pending().to_vec().into_iter().enumerate() {
        assert!(all.finish(&one.stream, one.range, WallMs(1000 - (at as u64 % 1000))));
    }
    assert!(all.pending().is_empty());
    assert_eq!(all.done().len(), ERASURES_DONE_MAX);
    let oldest = all.done().iter().map(|one| one.state).min_by_key(|state| match state {
        ErasureState::Done(at) => at.0,
        _ => 0,
    });
    assert!(matches!(oldest, Some(ErasureState::Done(at)) if at.0 > 700), "{oldest:?}");
    // A copy of it asks for both, at the most that there can be.
    let mut copy = before;
    copy.ask_again(&all);
    assert!(Erasures::decode(&copy.encode()).is_ok() && copy.done().is_empty());
}

#[test]
fn what_was_widened_meanwhile_is_not_done() {
    let mut all = Erasures::default();
    all.ask(group(), range(1, 5), WallMs(1), "").unwrap();
    all.ask(group(), range(6, 9), WallMs(2), "").unwrap();
    assert!(!all.finish(&group(), range(1, 5), WallMs(3)));
    assert!(all.finish(&group(), range(1, 9), WallMs(3)));
    assert_eq!((all.pending().len(), all.done().len()), (0, 1));
    assert!(all.pending_ranges().is_empty() && all.all_ranges().holds(&group(), Sequence(6)));
}

fn generator(mut state: u64) -> impl FnMut(usize) -> usize {
    move |below| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    }
}

/// Against plain sets: whatever is asked, taken and done in which order, nothing is forgotten that is not done.
#[test]
fn nothing_that_was_asked_is_forgotten() {
    use std::collections::BTreeSet;
    for seed in 0..200 {
        let mut below = generator(seed);
        let (mut all, mut model) = (Erasures::default(), BTreeSet::new());
        for _ in 0..40 {
            match below(5) {
                0 => _ = all.take(),
                1 if !all.pending().is_empty() => {
                    let one = all.pending()[below(all.pending().len())].clone();
                    assert!(all.finish(&one.stream, one.range, WallMs(9)));
                    (one.range.from().0..=one.range.to().0)
                        .for_each(|at| _ = model.remove(&(one.stream, at)));
                }
                _ => {
                    let stream = [group(), direct(1, 2)][below(2)];
                    let from = below(30) as u64 + 1;
                    let to = from + below(6) as u64;
                    all.ask(stream, range(from, to), WallMs(1), "").unwrap();
                    model.extend((from..=to).map(|at| (stream, at)));
                }
            }
            assert_eq!(Erasures::decode(&all.encode()).as_ref(), Ok(&all), "seed {seed}");
            let pending = all.pending_ranges();
            for stream in [group(), direct(1, 2)] {
                for at in 1..40 {
                    let is_pending = model.contains(&(stream, at));
                    assert_eq!(pending.holds(&stream, Sequence(at)), is_pending, "seed {seed}: {at}");
                }
            }
        }
    }
}

/// The twin of the fuzz target `files_erasures`: texts that are nearly right are refused, or read and written as they were.
#[test]
fn what_is_read_is_written_the_same() {
    let lines: Vec<String> = std::str::from_utf8(GOLDEN).unwrap().lines().map(str::to_owned).collect();
    let words = ["0", "1", "2", "500", "9007199254740991", "asked", "taken", "done", "", "x", "case 4711"];
    let mut taken = 0;
    for seed in 0..5000 {
        let mut below = generator(seed);
        let mut lines = lines[..lines.len() - 1].to_vec();
        for _ in 0..=below(2) {
            let at = 1 + below(lines.len() - 1);
            match below(4) {
                0 if lines.len() > 2 => _ = lines.remove(at),
                1 => lines.insert(at, lines[1 + below(lines.len() - 1)].clone()),
                _ => {
                    let mut parts: Vec<&str> = lines[at].split(' ').collect();
                    let place = below(parts.len());
                    parts[place] = words[below(words.len())];
                    lines[at] = parts.join(" ");
                }
            }
        }
        let bytes = summed(lines.join("\n") + "\n");
        if let Ok(erasures) = Erasures::decode(&bytes) {
            taken += 1;
            assert_eq!(erasures.encode(), bytes, "seed {seed}");
        }
    }
    assert!(taken > 500, "the texts are near enough to a list: {taken}");
}
