//! Somebody comes back to ten thousand conversations.

use std::time::Instant;
use tidegate_ids::{ConversationId, Sequence};
use tidegate_tests_e2e::limits::{LOOK_INTERVAL, WAIT};
use tidegate_tests_e2e::{Device, Gateway, user_at};

/// Conversations that were written to while the device was away.
const CONVERSATIONS: usize = 10_000;

/// Messages of the one that is too long to be pushed: it is announced, and fetched.
const LONG: u64 = 100;

/// Takes what comes until so many records are there; in stages, so that only standing still fails.
fn take(device: &mut Device, from: usize, to: usize) {
    let count = |device: &Device| device.heard.values().map(Vec::len).sum::<usize>();
    for stage in (from..=to).step_by(500).skip(1).chain([to]) {
        device.wait("the next records", |device| count(device) >= stage);
    }
}

/// The device loses its connection twice on the way, and the gateway is killed once. Every record comes once and in order
/// (the device looks at that), short ranges by pushes, the long one by its announcement.
#[test]
fn a_device_comes_back_to_ten_thousand_conversations() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(dir.path(), 2);
    let (reader, writer) = (user_at(2, 0, 0), user_at(2, 1, 0));
    let stored = Device::new(&gateway, reader).close();
    let mut sender = Device::new(&gateway, writer);
    let groups = sender.create_groups(CONVERSATIONS, &[reader]);
    let messages = groups.iter().map(|group| (*group, "one"));
    let long = std::iter::repeat_n((groups[0], "more"), LONG as usize - 2);
    sender.say_all(messages.chain(long));
    let setup = gateway.setup().clone();
    gateway.stop();

    let mut gateway = setup.start();
    let total = 2 * CONVERSATIONS + LONG as usize - 2;
    let mut device = Device::resume(&gateway, reader, stored);
    let mut heard = std::mem::take(&mut device.heard);
    for stage in 1..=3 {
        device.heard = heard;
        take(&mut device, total / 4 * (stage - 1), total / 4 * stage);
        if stage == 2 {
            gateway.kill();
            gateway = setup.start();
        }
        device.take_all();
        heard = std::mem::take(&mut device.heard);
        assert_eq!(device.complaints, Vec::<String>::new());
        device = Device::resume(&gateway, reader, device.close());
    }
    device.heard = heard;
    take(&mut device, total / 4 * 3, total);
    let expected = |group: &ConversationId| if *group == groups[0] { LONG } else { 2 };
    for group in &groups {
        let sequences: Vec<Sequence> = (1..=expected(group)).map(Sequence).collect();
        assert_eq!(device.sequences(*group), sequences, "{group}");
    }
    assert_eq!((device.heard.len(), &device.complaints), (CONVERSATIONS, &Vec::<String>::new()));
    // What the last connection did not acknowledge comes again, and then nothing is open.
    let mut again = Device::resume(&gateway, reader, device.close());
    let end = Instant::now() + WAIT;
    while gateway.stats().total("ranges.open_in_memory") > 0 {
        assert!(Instant::now() < end, "ranges stay open");
        again.take_all();
        std::thread::sleep(LOOK_INTERVAL);
    }
    assert!(again.heard.is_empty(), "nothing is new");
    gateway.stop();
}
