use super::*;
use crate::boot::{LogEnd, Recovery};
use crate::event::Event;
use crate::limits::ShardLimits;
use crate::mesh_frame::Origin;
use crate::port::{Claims, MeshPort, TokenError, TokenVerifier};
use crate::shard::ShardSetup;
use tidegate_domain::Route;
use tidegate_ids::{
    Attempt, DeviceId, Incarnation, Location, LogId, Now, ShardIndex, StreamId, UserId, WallMs,
};
use tidegate_schema::CloseCode;
use tidegate_storage_log::{Appender, AppenderConfig, AppenderStart, LogIdentity};

const LOG: LogId = LogId { epoch: 1, shard: ShardIndex(0) };
const NOW: Now = Now { monotonic: MonotonicNs(1), wall: WallMs(1_700_000_000_000) };
const KEY: TransferKey = TransferKey(9);
const PLACE: ConnectionId = ConnectionId(7);

/// Requests that are waiting; there are no results.
#[derive(Default)]
struct Ring(Vec<Vec<u8>>);

impl MeshPort for Ring {
    fn has_room(&self, _to: ShardIndex, _lane: Lane, _bytes: usize) -> bool {
        true
    }

    fn push(&mut self, _to: ShardIndex, _lane: Lane, _parts: &[&[u8]]) -> bool {
        true
    }

    fn peek(&mut self, _from: ShardIndex, lane: Lane) -> Option<&[u8]> {
        self.0.first().filter(|_| lane == Lane::Requests).map(Vec::as_slice)
    }

    fn pop(&mut self, _from: ShardIndex, _lane: Lane) {
        self.0.remove(0);
    }
}

struct NoTokens;

impl TokenVerifier for NoTokens {
    fn verify(&self, _token: &[u8], _now: WallMs) -> Result<Claims, TokenError> {
        Err(TokenError::Invalid)
    }
}

fn shard() -> Shard {
    shard_of(ShardLimits::default())
}

fn shard_of(limits: ShardLimits) -> Shard {
    let ends = [LogEnd { log: LOG, end: Default::default() }];
    let seeds = Recovery::new(Route::new(1), None).finish(&ends, &[(1, 1)]);
    let identity = LogIdentity { log: LOG, ..LogIdentity::default() };
    let start = AppenderStart { identity, ..AppenderStart::default() };
    let mut shard = Shard::new(ShardSetup {
        index: ShardIndex(0),
        route: Route::new(1),
        limits,
        tokens: Box::new(NoTokens),
        seed: 7,
        incarnation: Incarnation(1),
        appender: Appender::new(&AppenderConfig::default(), start).expect("default sizes"),
        seed_of_logs: seeds.into_iter().next().expect("one shard"),
    });
    shard.start(NOW, &mut Ring::default());
    tell(&mut shard, Event::Segment { number: 1 }, &mut Ring::default());
    shard
}

/// The mesh's part of a hand-over of user 5's device 3.
fn frame() -> Vec<u8> {
    frame_of(KEY)
}

fn frame_of(key: TransferKey) -> Vec<u8> {
    let request = Request::HandOver {
        key,
        origin: Origin { user: UserId(5), device: DeviceId(3), ..Origin::default() },
        attempt: Attempt(1),
        credit: 16,
        active: true,
        unlimited: false,
        expires: WallMs(u64::MAX),
        version: 1,
        leftover: b"behind",
    };
    let mut fixed = Vec::new();
    let rest = request.encode(&mut fixed).to_vec();
    [fixed, rest].concat()
}

fn tell(shard: &mut Shard, event: Event<'_>, ring: &mut Ring) {
    shard.handle(event, NOW, ring);
    shard.turn(NOW, ring);
}

#[test]
fn both_parts_of_a_hand_over_make_a_session_in_either_order() {
    for socket_first in [true, false] {
        let (mut shard, mut ring) = (shard(), Ring::default());
        let adopted = Event::Adopted { connection: PLACE, key: KEY };
        if socket_first {
            tell(&mut shard, adopted, &mut ring);
            ring.0.push(frame());
            shard.turn(NOW, &mut ring);
        } else {
            ring.0.push(frame());
            shard.turn(NOW, &mut ring);
            tell(&mut shard, adopted, &mut ring);
        }
        assert_eq!(shard.connections.get(PLACE).map(|one| one.phase), Some(Phase::Greeting));
        assert!(shard.adoptions.sockets.is_empty() && shard.adoptions.frames.is_empty());
    }
}

/// Seed 229 of the simulator. A socket was handed over, and its peer went away before the mesh's part of the hand-over
/// came. Its place was free and given to the next socket that was accepted; then the frame came, and whoever held the
/// place was greeted as the user who had gone.
#[test]
fn a_hand_over_whose_socket_has_gone_does_not_take_the_next_one() {
    let (mut shard, mut ring) = (shard(), Ring::default());
    tell(&mut shard, Event::Adopted { connection: PLACE, key: KEY }, &mut ring);
    tell(&mut shard, Event::Ended { connection: PLACE }, &mut ring);
    tell(&mut shard, Event::Closed { connection: PLACE }, &mut ring);
    tell(&mut shard, Event::Accepted { connection: PLACE }, &mut ring);
    ring.0.push(frame());
    shard.turn(NOW, &mut ring);
    assert_eq!(shard.connections.get(PLACE).map(|one| one.phase), Some(Phase::Upgrading));
    assert_eq!(shard.aside.held_bytes(), 0);
    assert_eq!(shard.stats().get(Counter::Greeted), 0);
}

/// The same, but the frame comes while the socket is being closed.
#[test]
fn a_hand_over_whose_socket_is_closing_does_not_open_it_again() {
    let (mut shard, mut ring) = (shard(), Ring::default());
    tell(&mut shard, Event::Adopted { connection: PLACE, key: KEY }, &mut ring);
    tell(&mut shard, Event::Ended { connection: PLACE }, &mut ring);
    ring.0.push(frame());
    shard.turn(NOW, &mut ring);
    assert_eq!(shard.connections.get(PLACE).map(|one| one.phase), Some(Phase::Closed));
    tell(&mut shard, Event::Closed { connection: PLACE }, &mut ring);
    assert!(shard.connections.get(PLACE).is_none());
    assert_eq!(shard.aside.held_bytes(), 0);
}

/// What came behind a `Hello` was copied at the user's home without a look at the limit, and what waited there for its socket
/// was counted nowhere.
#[test]
fn what_is_handed_over_is_counted_until_it_expires_and_refused_at_the_limit() {
    let leftover_bytes = b"behind".len();
    let mut shard = shard_of(ShardLimits { held_bytes_max: 8, ..ShardLimits::default() });
    let mut ring = Ring(vec![frame()]);
    shard.turn(NOW, &mut ring);
    assert_eq!(shard.stats().held_bytes, leftover_bytes as u64);
    // There is no room for another.
    tell(&mut shard, Event::Adopted { connection: PLACE, key: TransferKey(10) }, &mut ring);
    ring.0.push(frame_of(TransferKey(10)));
    shard.turn(NOW, &mut ring);
    assert_eq!(sent_close(&mut shard), Some(CloseCode::TRY_AGAIN.0));
    assert_eq!(shard.stats().held_bytes, leftover_bytes as u64);
    shard.expire_adoptions(NOW.monotonic.after(ADOPTION_NS_MAX));
    assert_eq!(shard.stats().held_bytes, 0);
}

/// The code of the close frame that is the last thing sent.
fn sent_close(shard: &mut Shard) -> Option<u16> {
    let sent = std::iter::from_fn(|| shard.poll_output()).filter_map(|output| match output {
        Output::Send { buffer, .. } => Some(buffer),
        _ => None,
    });
    match &sent.last()?[..] {
        [0x88, _, high, low, ..] => Some(u16::from_be_bytes([*high, *low])),
        _ => None,
    }
}

/// A socket that its target had no slot for was closed without a word, and its peer came back after a second.
#[test]
fn a_hand_over_that_its_target_cannot_take_is_told_to_back_off() {
    let (mut shard, mut ring) = (shard(), Ring::default());
    tell(&mut shard, Event::Adopted { connection: PLACE, key: KEY }, &mut ring);
    tell(&mut shard, Event::HandedOver { connection: PLACE, sent: false }, &mut ring);
    assert_eq!(shard.connections.get(PLACE).map(|one| one.phase), Some(Phase::Closing));
    assert_eq!(sent_close(&mut shard), Some(CloseCode::TOO_MANY_CONNECTIONS.0));
    assert_eq!(shard.stats().get(Counter::ConnectionsRefused), 1);
}

/// The deadline had closed it meanwhile: it was closed once more.
#[test]
fn a_hand_over_that_fails_while_its_socket_is_closing_closes_it_once() {
    let (mut shard, mut ring) = (shard(), Ring::default());
    tell(&mut shard, Event::Adopted { connection: PLACE, key: KEY }, &mut ring);
    tell(&mut shard, Event::Ended { connection: PLACE }, &mut ring);
    tell(&mut shard, Event::HandedOver { connection: PLACE, sent: false }, &mut ring);
    let outputs = std::iter::from_fn(|| shard.poll_output());
    assert_eq!(outputs.filter(|output| matches!(output, Output::Close { .. })).count(), 1);
}

/// `connections_max` was looked at only where a socket was accepted.
#[test]
fn a_full_shard_adopts_nobody_and_says_so() {
    for socket_first in [true, false] {
        let mut shard = shard_of(ShardLimits { connections_max: 1, ..ShardLimits::default() });
        let mut ring = Ring::default();
        tell(&mut shard, Event::Accepted { connection: ConnectionId(1) }, &mut ring);
        if socket_first {
            tell(&mut shard, Event::Adopted { connection: PLACE, key: KEY }, &mut ring);
        }
        ring.0.push(frame());
        shard.turn(NOW, &mut ring);
        if !socket_first {
            tell(&mut shard, Event::Adopted { connection: PLACE, key: KEY }, &mut ring);
        }
        assert_eq!(sent_close(&mut shard), Some(CloseCode::TOO_MANY_CONNECTIONS.0));
        let stats = shard.stats();
        assert_eq!((stats.get(Counter::ConnectionsRefused), stats.held_bytes, stats.sockets), (1, 0, 2));
        // With a place again the next is taken.
        tell(&mut shard, Event::Closed { connection: PLACE }, &mut ring);
        tell(&mut shard, Event::Closed { connection: ConnectionId(1) }, &mut ring);
        tell(&mut shard, Event::Adopted { connection: PLACE, key: KEY }, &mut ring);
        ring.0.push(frame());
        shard.turn(NOW, &mut ring);
        assert_eq!(shard.connections.get(PLACE).map(|one| one.phase), Some(Phase::Greeting));
    }
}

/// Users' records and states were stamped with nothing. Retention took them for as old as can be, and let them go as soon as
/// two snapshots held them, where it is to keep them for days.
#[test]
fn what_is_written_of_a_user_says_when() {
    let (mut shard, mut ring) = (shard(), Ring::default());
    tell(&mut shard, Event::Adopted { connection: PLACE, key: KEY }, &mut ring);
    ring.0.push(frame());
    shard.turn(NOW, &mut ring);
    let stream = StreamId::user(UserId(5));
    let check = |shard: &Shard, at: Location, time: WallMs| {
        let head = shard.log.read(at).map(|record| record.head);
        assert_eq!(head.map(|head| (head.stream, head.time)), Some((stream, time)));
    };
    check(&shard, shard.streams.locator(&stream).last, NOW.wall);
    let later = Now { wall: WallMs(NOW.wall.0 + 5), ..NOW };
    shard.turn(later, &mut ring);
    assert!(shard.write_user_state(UserId(5)));
    check(&shard, shard.streams.locator(&stream).state, later.wall);
}
