//! The list of erasures: any text is refused, or read and written as it was; and whatever is asked, taken and done, nothing is
//! forgotten that is not done.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::collections::BTreeSet;
use tidegate_ids::{ConversationId, Sequence, StreamId, UserId, WallMs};
use tidegate_storage_files::Erasures;
use tidegate_storage_log::{ErasedRanges, SequenceRange, crc32c};

fuzz_target!(|data: &[u8]| {
    text(data);
    let mut body = data.to_vec();
    if !body.is_empty() && body.last() != Some(&b'\n') {
        body.push(b'\n');
    }
    text(&sealed(&body));
    text(&sealed(lines(data).as_bytes()));
    requests(data);
});

/// With the first line, and a right checksum.
fn sealed(lines: &[u8]) -> Vec<u8> {
    let mut bytes = b"tidegate-erasures 1\n".to_vec();
    bytes.extend_from_slice(lines);
    let sum = crc32c(&bytes);
    bytes.extend_from_slice(format!("crc32c {sum:08x}\n").as_bytes());
    bytes
}

/// Lines that are nearly right, of six bytes each.
fn lines(data: &[u8]) -> String {
    let mut text = String::new();
    for &[what, which, from, count, erased, more] in data.as_chunks::<6>().0.iter().take(64) {
        let word = ["asked", "taken", "done", "gone"][usize::from(what % 16) * 3 / 15];
        let stream =
            ["00000000000000010000000000000002", "8a8a8a8a8a8a8a8a8a8a8a8a8a8a8a8a"][usize::from(which & 1)];
        let to = u64::from(from) + u64::from(count % 16);
        text.push_str(&format!("{word} {stream} {from} {to} 5 {}", erased % 4));
        if word == "done" {
            text.push_str(&format!(" {more}"));
        }
        if which & 2 == 2 {
            text.push_str(" a reason");
        }
        text.push('\n');
    }
    text
}

/// What is read is written the same, and its ranges rise and do not touch.
fn text(bytes: &[u8]) {
    let Ok(list) = Erasures::decode(bytes) else { return };
    assert!(list.encode() == bytes, "there is one text for each list");
    for part in [list.pending(), list.done()] {
        for two in part.windows(2) {
            let same = two[0].stream == two[1].stream;
            assert!(two[0].stream <= two[1].stream);
            assert!(!same || (two[0].range < two[1].range && !two[0].range.touches(two[1].range)));
        }
    }
}

/// Requests of four bytes, over two conversations and a few sequences.
fn requests(data: &[u8]) {
    let stream =
        |bit: u8| StreamId::conversation(ConversationId::direct(UserId(1), UserId(u64::from(bit & 1) + 2)));
    let (mut list, mut model) = (Erasures::default(), BTreeSet::new());
    for &[verb, which, from, count] in data.as_chunks::<4>().0.iter().take(64) {
        let of = stream(which);
        let first = u64::from(from % 60) + 1;
        let last = first + u64::from(count % 9);
        let Some(range) = SequenceRange::new(Sequence(first), Sequence(last)) else { return };
        match verb % 5 {
            0 => _ = list.take(),
            1 => {
                let mut erased = ErasedRanges::new();
                erased.insert(of, range);
                list.count(&erased);
            }
            2 if !list.pending().is_empty() => {
                let one = list.pending()[usize::from(from) % list.pending().len()].clone();
                assert!(list.finish(&one.stream, one.range, WallMs(u64::from(count))));
                (one.range.from().0..=one.range.to().0).for_each(|at| _ = model.remove(&(one.stream, at)));
            }
            _ => {
                list.ask(of, range, WallMs(u64::from(count)), "").expect("few ranges, and no reason");
                model.extend((first..=last).map(|at| (of, at)));
            }
        }
        assert_eq!(Erasures::decode(&list.encode()).as_ref(), Ok(&list));
    }
    let (pending, all) = (list.pending_ranges(), list.all_ranges());
    for of in [stream(0), stream(1)] {
        for at in 1..80 {
            assert_eq!(pending.holds(&of, Sequence(at)), model.contains(&(of, at)));
            assert!(!pending.holds(&of, Sequence(at)) || all.holds(&of, Sequence(at)));
        }
    }
}
