//! Limits of the rules, each with its reason and what recovers a refusal.

use tidegate_ids::MonotonicNs;

/// Devices of one user. An eleventh evicts the one unseen longest (DECISIONS, Identity); if all are connected the
/// newcomer is refused with `QUOTA` and comes back when one has gone.
pub const DEVICES_PER_USER_MAX: usize = 10;

/// A device unseen this long loses its queue and synchronises from heads (DESIGN 6): 30 days.
pub const DEVICE_UNSEEN_MS_MAX: u64 = 30 * 24 * 3600 * 1000;

/// Pushes a device may leave unacknowledged (PROTOCOL, Credit); past it ranges open.
pub const CREDIT_FRAMES_MAX: u16 = 256;

/// Bytes a device may leave unacknowledged (PROTOCOL, Credit).
pub const CREDIT_BYTES_MAX: u32 = 256 * 1024;

/// Ranges of a connected device that its user's stream does not say yet. The end of the connection and a checkpoint tell
/// them all at once, so past it the oldest is told with each that opens.
pub const UNTOLD_RANGES_MAX: usize = 256;

/// Records of an open range that are pushed before others have their turn (DESIGN 6), as many as a home answers at once.
pub const TURN_RECORDS_MAX: u64 = 64;

/// How long after a conversation was announced to a device it may be announced to it again (PROTOCOL, `Dirty`). What grows by
/// hundreds of messages a second is announced each time that 64 of them have gathered otherwise, and each of these takes
/// a push, an acknowledgement, a record of the queue and a duty that the device stores, for the same pages.
pub const ANNOUNCE_INTERVAL_NS_MIN: u64 = MonotonicNs::SECOND;

/// Conversations announced to a connection within [`ANNOUNCE_INTERVAL_NS_MIN`] that are remembered: as many as may be
/// unacknowledged at once, some 12 KiB. Past it the oldest is forgotten and may be announced again before its second is over:
/// so a device that comes back to ten thousand long ranges is announced all of them as fast as it takes them.
pub const ANNOUNCED_MAX: usize = 256;

const _: () = assert!(ANNOUNCED_MAX >= CREDIT_FRAMES_MAX as usize);

/// How far back a duplicate is answered exactly (PROTOCOL, Semantics); an older one gets sequence 0.
pub const DUPLICATES_ANSWERED_MAX: u64 = 256;

/// A group's name, bytes (REQUIREMENTS 50).
pub const GROUP_NAME_BYTES_MAX: usize = 200;

/// Intervals a group's membership keeps, former members included: rejoining adds one. Past it nobody can be added
/// (`GROUP_FULL`). 16 bytes each, so at most 128 KiB a group.
pub const INTERVALS_PER_GROUP_MAX: usize = 8192;

/// (user, device) pairs whose last number a conversation keeps. 500 members with ten devices are 5,000; former
/// members stay. Past it a device that never sent is refused with `QUOTA`.
pub const NUMBERS_PER_CONVERSATION_MAX: usize = 16_384;

const _: () = assert!(NUMBERS_PER_CONVERSATION_MAX >= 500 * DEVICES_PER_USER_MAX);

/// Records a user of the default class may cause at once: 100 messages a minute (REQUIREMENTS 156).
pub const RECORDS_BURST: u64 = 100;

/// How long one of them takes to come back: a hundredth of a minute.
pub const RECORD_REFILL_NS: u64 = 60 * MonotonicNs::SECOND / 100;

/// Users that a user of the default class may add to groups at once: two groups of the 500 members that are usual. Each may
/// be a stream of its own at its home, whether anybody is behind the id or not (decision 0011).
pub const INVITATIONS_BURST: u64 = 1000;

/// How long one of them takes to come back: 100 a minute, as many as records, so that inviting makes no more streams than
/// writing to strangers does.
pub const INVITATION_REFILL_NS: u64 = RECORD_REFILL_NS;

/// Limits an operator may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DomainLimits {
    /// Current members of a group at most.
    pub group_members_max: usize,
    /// Devices of a user at most.
    pub devices_max: usize,
}

impl Default for DomainLimits {
    fn default() -> Self {
        Self { group_members_max: 500, devices_max: DEVICES_PER_USER_MAX }
    }
}
