//! Frames through one ring: order, wrap, padding, a full ring.

use super::*;

fn push(writer: &mut Writer, byte: u8, len: usize) -> bool {
    writer.try_push(len, |bytes| bytes.fill(byte))
}

#[track_caller]
fn take(reader: &mut Reader, byte: u8, len: usize) {
    let frame = reader.peek().expect("a frame waits");
    assert_eq!(frame.len(), len);
    assert!(frame.iter().all(|&found| found == byte));
    assert_eq!(frame.as_ptr().addr() % WORD_BYTES, 0);
    assert_eq!(reader.pop(), Some(len));
}

#[test]
fn frames_come_out_in_order() {
    let (mut writer, mut reader) = ring(64);
    assert!(reader.is_empty() && reader.peek().is_none() && reader.pop().is_none());
    for (index, len) in [0, 1, 7, 8, 9, 64].into_iter().enumerate() {
        assert!(push(&mut writer, index as u8, len));
    }
    for (index, len) in [0, 1, 7, 8, 9, 64].into_iter().enumerate() {
        take(&mut reader, index as u8, len);
    }
    assert!(reader.is_empty());
    assert_eq!(writer.depth(), 0);
}

#[test]
fn padding_is_skipped() {
    let (mut writer, mut reader) = ring(16);
    assert!(push(&mut writer, 1, 9 * 8));
    take(&mut reader, 1, 72);
    // Ten words in, six before the end: seven words do not fit there and start at the front.
    assert!(push(&mut writer, 2, 6 * 8));
    assert_eq!(writer.depth(), (6 + 7) * 8);
    take(&mut reader, 2, 48);
    assert_eq!(writer.depth(), 0);
    // A frame that ends exactly at the end leaves no padding.
    assert!(push(&mut writer, 3, 8 * 8));
    assert_eq!(writer.depth(), 9 * 8);
    take(&mut reader, 3, 64);
    assert!(push(&mut writer, 4, 14 * 8));
    assert_eq!(writer.depth(), 15 * 8);
    take(&mut reader, 4, 14 * 8);
}

#[test]
fn a_full_ring_refuses_and_recovers() {
    let (mut writer, mut reader) = ring(8);
    assert_eq!(writer.room(), 7 * 8);
    assert!(push(&mut writer, 1, 24));
    assert!(push(&mut writer, 2, 24));
    assert_eq!(writer.room(), 0);
    assert!(!push(&mut writer, 3, 0));
    take(&mut reader, 1, 24);
    assert_eq!(writer.room(), 24);
    assert!(!push(&mut writer, 3, 25));
    assert!(push(&mut writer, 3, 24));
    take(&mut reader, 2, 24);
    take(&mut reader, 3, 24);
}

#[test]
fn room_is_exactly_what_is_taken() {
    // At every offset of the buffer, with and without a frame in the way.
    for offset in 0..32 {
        for held in 0..3 {
            let (mut writer, mut reader) = ring(32);
            (0..offset).for_each(|_| {
                assert!(push(&mut writer, 0, 0));
                assert!(reader.pop().is_some());
            });
            (0..held).for_each(|_| assert!(push(&mut writer, 9, 8)));
            let room = writer.room();
            assert!(room >= 8 * (16 - 1 - 2 * held), "offset {offset}, held {held}, room {room}");
            assert!(!push(&mut writer, 7, room + 1));
            assert!(push(&mut writer, 7, room));
            (0..held).for_each(|_| take(&mut reader, 9, 8));
            take(&mut reader, 7, room);
        }
    }
}

#[test]
fn two_threads_agree_on_every_byte() {
    const FRAMES: u64 = 20_000;
    let (mut writer, mut reader) = ring(128);
    let len = |number: u64| (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as usize;
    let sender = std::thread::spawn(move || {
        for number in 0..FRAMES {
            while !writer.try_push(len(number), |bytes| bytes.fill(number as u8)) {
                std::thread::yield_now();
            }
        }
    });
    for number in 0..FRAMES {
        while reader.peek().is_none() {
            std::thread::yield_now();
        }
        take(&mut reader, number as u8, len(number));
    }
    sender.join().expect("the sender ends");
    assert!(reader.is_empty());
}
