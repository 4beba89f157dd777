//! Streams made at random, cut at random.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// A message or control frame to be sent, and how it is cut into fragments.
#[derive(Clone, Debug)]
struct Sent {
    item: Owned,
    cuts: Vec<Index>,
    mask: [u8; 4],
}

fn item() -> impl Strategy<Value = Owned> {
    let bytes = vec(any::<u8>(), 0..=MESSAGE_BYTES_MAX as usize / 2);
    let text = vec(any::<char>(), 0..=MESSAGE_BYTES_MAX as usize / 8);
    let control = || vec(any::<u8>(), 0..=CONTROL_BYTES_MAX);
    prop_oneof![
        3 => text.prop_map(|text| Owned::Text(text.into_iter().collect())),
        3 => bytes.prop_map(Owned::Binary),
        2 => control().prop_map(Owned::Ping),
        1 => control().prop_map(Owned::Pong),
    ]
}

fn sent() -> impl Strategy<Value = Sent> {
    let parts = (item(), vec(any::<Index>(), 0..4), any::<[u8; 4]>());
    parts.prop_map(|(item, cuts, mask)| Sent { item, cuts, mask })
}

/// Where indices cut `bytes`: ascending, the end included.
fn ends(cuts: &[Index], bytes: usize) -> Vec<usize> {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes + 1)).collect();
    ends.sort_unstable();
    ends.push(bytes);
    ends
}

/// Appends the frames of one item, a ping between each two fragments; returns the items in the order they are complete.
fn write(out: &mut Vec<u8>, sent: &Sent, mask: Option<[u8; 4]>, ping: &[u8]) -> Vec<Owned> {
    let (opcode, payload) = match &sent.item {
        Owned::Text(text) => (Opcode::Text, text.as_bytes()),
        Owned::Binary(bytes) => (Opcode::Binary, bytes.as_slice()),
        Owned::Ping(bytes) => (Opcode::Ping, bytes.as_slice()),
        Owned::Pong(bytes) => (Opcode::Pong, bytes.as_slice()),
        Owned::Close(..) => unreachable!("not made"),
    };
    let ends = ends(if opcode.is_control() { &[] } else { &sent.cuts }, payload.len());
    let mut items = Vec::new();
    let mut start = 0;
    for (index, end) in ends.iter().copied().enumerate() {
        let opcode = if index == 0 { opcode } else { Opcode::Continuation };
        let fin = index + 1 == ends.len();
        encode::frame(out, opcode, fin, &payload[start..end], mask);
        start = end;
        if !fin {
            encode::ping(out, ping, mask);
            items.push(Owned::Ping(ping.to_vec()));
        }
    }
    items.push(sent.item.clone());
    items
}

fn pieces<'a>(stream: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut start = 0;
    ends(cuts, stream.len()).into_iter().map(|end| &stream[std::mem::replace(&mut start, end)..end]).collect()
}

fn stream_of(role: Role, messages: &[Sent], ping: &[u8]) -> (Vec<u8>, Vec<Owned>) {
    let mut stream = Vec::new();
    let mut items = Vec::new();
    for message in messages {
        let mask = (role == Role::Server).then_some(message.mask);
        items.extend(write(&mut stream, message, mask, ping));
    }
    (stream, items)
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Server), Just(Role::Client)]
}

/// The outcome must not depend on the cuts.
fn check_splits(role: Role, stream: &[u8], cuts: &[Index], wanted: &Outcome) -> Result<(), TestCaseError> {
    prop_assert_eq!(&decode_pieces(role, [stream]), wanted);
    prop_assert_eq!(&decode_pieces(role, pieces(stream, cuts)), wanted);
    prop_assert_eq!(&decode_pieces(role, stream.chunks(1)), wanted);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_split_of_a_valid_stream_gives_the_same_items(
        role in role(),
        messages in vec(sent(), 0..8),
        ping in vec(any::<u8>(), 0..=CONTROL_BYTES_MAX),
        cuts in vec(any::<Index>(), 0..40),
    ) {
        let (stream, items) = stream_of(role, &messages, &ping);
        check_splits(role, &stream, &cuts, &(items, None))?;
    }

    /// Bytes changed in a valid stream may break any rule; which one must not depend on the cuts.
    #[test]
    fn any_split_of_a_damaged_stream_gives_the_same_outcome(
        role in role(),
        messages in vec(sent(), 1..5),
        damage in vec((any::<Index>(), any::<u8>()), 1..4),
        cuts in vec(any::<Index>(), 0..20),
    ) {
        let (mut stream, _) = stream_of(role, &messages, b"ping");
        for (at, bits) in damage {
            let at = at.index(stream.len());
            stream[at] ^= bits;
        }
        check_splits(role, &stream, &cuts, &decode_pieces(role, [stream.as_slice()]))?;
    }

    /// The same for bytes that were never a stream.
    #[test]
    fn any_split_of_noise_gives_the_same_outcome(
        role in role(),
        stream in vec(any::<u8>(), 0..600),
        cuts in vec(any::<Index>(), 0..20),
    ) {
        check_splits(role, &stream, &cuts, &decode_pieces(role, [stream.as_slice()]))?;
    }
}
