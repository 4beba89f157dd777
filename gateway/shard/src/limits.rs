//! Every queue, table and loop of a shard, with its reason and what recovers a drop.

use tidegate_domain::DomainLimits;
use tidegate_ids::MonotonicNs;

/// How often at least the shell ticks: half the shortest thing a client may wait for (50 ms for typing).
pub const TICK_MS: u64 = 25;

/// Bytes of a request or result frame in the mesh, unless configured smaller. The largest is a record: stamp, client id, the largest message, and
/// the recipients of one shard (4096 x 8 B); doubled for ranges, which end early at 64 KiB or one record.
pub const MESH_FRAME_BYTES_MAX: usize = 256 * 1024;

/// Frames taken from one ring in a turn, so that no peer starves another. The rest waits in the ring.
pub const MESH_FRAMES_PER_TURN: usize = 256;

/// Members walked in one turn (REQUIREMENTS 54). The rest follows in the next turn.
pub const WALK_MEMBERS_PER_TURN: usize = 1000;

/// Records a cursor looks at in a turn, so that shipping does not starve receiving.
pub const CURSOR_RECORDS_PER_TURN: usize = 512;

/// Records of an open range answered at once (DESIGN 6); a longer range is announced as `Dirty`.
pub const DRAIN_RECORDS_MAX: u64 = 64;

/// Bytes of an answer or a range: it ends early here, or after one record (PROTOCOL, `GetRange`).
pub const RANGE_BYTES_MAX: usize = 64 * 1024;

/// Unsent bytes above which a connection is not read (DESIGN 4).
pub const UNSENT_BYTES_MAX: usize = 256 * 1024;

/// Bytes of a new buffer for frames and sends: most acknowledgements and pushes of short messages fit, and grow none.
pub const BUFFER_BYTES_MIN: usize = 512;

/// Bytes of the largest buffer that is kept for reuse: a send of a few pushes. A larger one goes back to the heap.
pub const BUFFER_BYTES_KEPT_MAX: usize = 64 * 1024;

/// Bytes of all buffers that are kept for reuse: those of a thousand large sends, or of sends to a hundred thousand
/// connections at once. Past it they go back to the heap.
pub const BUFFERS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes a connection may leave over at its hand-over: what fits one mesh frame beside the head. More closes with 4029.
pub const LEFTOVER_BYTES_MAX: usize = 64 * 1024;

/// One part in so many of `held_bytes_max` is for who has shown no token: a quarter, 16 MiB, has a thousand whole Hellos.
pub const STRANGERS_HELD_SHARE: usize = 4;

/// The same where `/echo` is served: a half has two of its largest messages.
pub const STRANGERS_HELD_SHARE_WITH_ECHO: usize = 2;

/// Bytes of an upgrade request (PROTOCOL names none; what browsers send is below 4 KiB).
pub const HANDSHAKE_BYTES_MAX: usize = 8 * 1024;

/// Records a stream may collect since its last folded state before another is written, so that loading a cold stream
/// reads at most about as many. A state of 500 members is 20 KiB against 1024 records of 200 B and more: a tenth.
pub const RECORDS_PER_STATE: u64 = 1024;

/// The same for a user whose memory is given to another, with a state of a few kilobytes: loading them again reads at most
/// about as many records, each a read of its own where the log is cold.
pub const USER_RECORDS_PER_STATE: u64 = 32;

/// Ranges and conversations of a state that is written in one turn for that reason: 40 B each, so 160 KiB. A user with more
/// has all of it in their stream, and the next snapshot makes a state of that off the shard's thread.
pub const STATE_ENTRIES_MAX: usize = 4096;

/// How often the largest state a user may have while their records are folded for a snapshot: two of 16 MiB are 1.4 million
/// ranges, about 130 MiB of memory. More is given up before all records are folded.
pub const FOLDING_STATES: usize = 2;

/// Users that a snapshot names of those whose states were too large; the others are counted.
pub const LARGE_USERS_NAMED_MAX: usize = 100;

/// Entries of users' states and streams that are folded in a turn, of all loads together: a user with a hundred thousand
/// ranges takes fifty turns of some hundred microseconds, and holds up nobody.
pub const LOAD_ENTRIES_PER_TURN: usize = 2048;

/// Entries of large users who leave memory that are forgotten in a turn.
pub const LEAVING_ENTRIES_PER_TURN: usize = 2048;

/// Large users who are leaving memory: some fifty megabytes each if their states fill an entry of a snapshot. Past it others
/// make room for a newcomer.
pub const LEAVING_USERS_MAX: usize = 2;

/// Conversations that make room for one at most: the largest group has 8,192 stays, large ones 500. If these hold fewer the
/// next insertion goes on, so what is above the limit is what those in between brought.
pub const EVICTIONS_PER_INSERTION: usize = 32;

/// Users whose open ranges are counted at a time.
pub const COUNT_USERS_PER_CALL: usize = 4096;

/// Entries of a table of hot streams that are looked at for one that may go. With none among them the newcomer is refused
/// for the moment, and the next looks further on.
pub const VICTIM_STEPS_MAX: usize = 4096;

/// Bytes read at once for a load or a refeed.
pub const LOAD_BYTES_MAX: usize = 1024 * 1024;

/// Connections looked at in one tick: a table of a million is swept in 10 s.
pub const SWEEP_CONNECTIONS_PER_TICK: usize = 2560;

/// Devices that are looked at once a tick because an announcement to them is held back. A walk over so many takes 9 µs.
/// Past it the sweep lets them ask, up to 10 s later.
pub const HELD_DEVICES_MAX: usize = 4096;

/// Places of the table of users that a checkpoint looks at in a turn (decision 0003).
pub const CHECKPOINT_USERS_PER_TURN: usize = 256;

/// Records after which a checkpoint's turn ends (decision 0003). One user's are not parted: ten devices with two full
/// windows and as many ranges untold add 7,680 at most.
pub const CHECKPOINT_RECORDS_PER_TURN: usize = 1024;

/// Frames unanswered on one connection. PROTOCOL allows 256 in each conversation; this bounds all of them.
pub const UNANSWERED_PER_CONNECTION_MAX: u32 = 1024;

/// Ranges in flight on one connection (PROTOCOL, `GetRange`).
pub const RANGES_PER_CONNECTION_MAX: u8 = 2;

/// Ranges of cold users that are known to be in their streams: 72 B each, 2.3 MiB. A full table is emptied; then a range is
/// written once more, which changes nothing.
pub const WIDENED_MAX: usize = 32_768;

/// User records that wait for room in the log: 64 B each, 4 MiB. Past it results stay in their rings until there is room;
/// it takes a full disk and a range of 65,536 devices each to get there.
pub const OWED_RECORDS_MAX: usize = 65_536;

/// How long who is refused for the moment is told to wait. Without it a client asks again as fast as it is answered, and a
/// shard that is read-only has nothing to slow it down.
pub const RETRY_AFTER_MS: u32 = 1000;

/// How long a cursor waits for a conversation that could not be loaded after the log failed, before it asks again.
pub const COLD_RETRY_NS: u64 = MonotonicNs::SECOND;

/// How often a read meets damage before it is believed: as often as a snapshot reads a segment before it is made without
/// what is bad in it (decision 0015).
pub const READS_UNTIL_BELIEVED: u8 = 3;

/// How long a read waits that is made again. Half a second in all, then who waits is answered; and what stays bad is asked
/// for a few times a second at most, however often somebody wants it.
pub const READ_AGAIN_NS: u64 = 250 * MonotonicNs::MILLISECOND;

/// A full table of streams still has place for users who connect and have none: one part in so many above its size. They
/// show a token each, and are no more than sockets; what others write to them makes their place only once. When snapshots
/// have made room the reserve is whole again.
pub const LOCATORS_RESERVE_SHARE: usize = 16;

/// How long a session goes on after its token has expired: its commands get `TOKEN_EXPIRED`, and a `Refresh` in time costs
/// nothing. Then it is closed with 4001.
pub const TOKEN_GRACE_MS: u64 = 60_000;

/// Rows of one `ConversationList` page.
pub const CONVERSATION_ROWS_MAX: usize = 50;

/// Limits and choices an operator may set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardLimits {
    /// Sockets of this shard. More are closed at once if they come from outside, with 4029 if from another shard.
    pub connections_max: usize,
    /// Bytes of a frame in the mesh, at most half a ring. Larger commands get `TOO_LARGE`; answers end early.
    pub mesh_frame_bytes_max: usize,
    /// Users in memory; connected ones stay. Past it the newcomer is told to back off (4029).
    pub hot_users_max: usize,
    /// Conversations in memory. Past it, with none to evict, commands get `OVERLOADED`.
    pub hot_conversations_max: usize,
    /// Stays of the groups in memory that are larger than `listed_members_max`, 32 bytes each, and as much again in slices on all
    /// shards together. Past it a group that becomes hot takes the place of others, as many as its members need; these are loaded
    /// again for their next message.
    pub hot_stays_max: usize,
    /// Streams with a locator: those with records that the newest snapshot does not hold. Three quarters full starts a
    /// snapshot; full answers `OVERLOADED`.
    pub locators_max: usize,
    /// Bytes of staging that a lagging cursor keeps from being reused. Past it the cursor reads the log again.
    pub cursor_lag_bytes_max: u64,
    /// Up to this many members the home lists recipients; above, slices are walked (DESIGN 2).
    pub listed_members_max: usize,
    /// Window entries of all connections; an empty pool counts as no credit.
    pub window_entries_max: usize,
    /// Answers that wait for a commit or for room. At the limit requests stay in their rings.
    pub pending_max: usize,
    /// Commands that wait for a cold stream. At the limit requests stay in their rings. Beside them so many connections wait for
    /// their user as a shard has sockets at most; past it the newcomer is told to back off (4029).
    pub parked_max: usize,
    /// Reads outstanding. At the limit loads and ranges wait.
    pub reads_in_flight_max: usize,
    /// Bytes copied aside of incomplete messages, incomplete upgrade requests and what came behind a `Hello`. A part is for who
    /// has shown no token ([`STRANGERS_HELD_SHARE`]), the rest for who has. Past either the newest offender is closed with
    /// 1013, an upgrade request gets 503.
    pub held_bytes_max: usize,
    /// From accept to `Hello`, from there until what was sent before is taken, and for an incomplete frame.
    pub hello_deadline_ns: u64,
    /// A socket full for this long closes with 4008.
    pub send_stall_ns: u64,
    /// Heartbeat of an active client, told in `Welcome`; three silent periods close with 4009.
    pub heartbeat_active_ms: u32,
    /// Heartbeat of a client in the background.
    pub heartbeat_background_ms: u32,
    /// How often a checkpoint is begun if anything was consumed.
    pub checkpoint_interval_ns: u64,
    /// How long a stopping gateway waits for its clients to go.
    pub shutdown_grace_ns: u64,
    /// Whether `/echo` is served.
    pub echo: bool,
    /// Limits of the rules.
    pub domain: DomainLimits,
}

impl Default for ShardLimits {
    fn default() -> Self {
        Self {
            connections_max: 20_000,
            mesh_frame_bytes_max: MESH_FRAME_BYTES_MAX,
            hot_users_max: 262_144,
            hot_conversations_max: 131_072,
            hot_stays_max: 131_072,
            locators_max: 2_097_152,
            cursor_lag_bytes_max: 2 * 1024 * 1024,
            listed_members_max: 64,
            window_entries_max: 262_144,
            pending_max: 16_384,
            parked_max: 4096,
            reads_in_flight_max: 64,
            held_bytes_max: 64 * 1024 * 1024,
            hello_deadline_ns: 10 * MonotonicNs::SECOND,
            send_stall_ns: 10 * MonotonicNs::SECOND,
            heartbeat_active_ms: 30_000,
            heartbeat_background_ms: 300_000,
            checkpoint_interval_ns: 5 * MonotonicNs::SECOND,
            shutdown_grace_ns: MonotonicNs::SECOND,
            echo: false,
            domain: DomainLimits::default(),
        }
    }
}

/// What a record adds to its command on the way to recipients: fixed fields, stamp, client id.
const RECORD_OVERHEAD_BYTES: usize = 1024;

impl ShardLimits {
    /// Of `held_bytes_max`, what is for who has shown no token.
    pub(crate) const fn strangers_held_bytes_max(&self) -> usize {
        let share = if self.echo { STRANGERS_HELD_SHARE_WITH_ECHO } else { STRANGERS_HELD_SHARE };
        self.held_bytes_max / share
    }

    /// Bytes of records in one answer, whatever the mesh carries: the rest of the frame is one record and fixed fields.
    pub(crate) fn answer_bytes_max(&self) -> usize {
        RANGE_BYTES_MAX.min(self.mesh_frame_bytes_max / 3)
    }

    /// Whether a request and the record that comes of it fit the mesh. A membership change names its users twice.
    pub(crate) const fn fits_mesh(&self, request_bytes: usize, names_users: bool) -> bool {
        let record_bytes = if names_users { 2 * request_bytes } else { request_bytes };
        record_bytes + 8 * self.listed_members_max + RECORD_OVERHEAD_BYTES <= self.mesh_frame_bytes_max / 2
    }
}
