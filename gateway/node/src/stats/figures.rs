//! The list of figures: what each is called, what it means, and where its value comes from.

use tidegate_mesh::Counters as MeshCounters;
use tidegate_reactor::Counters as ReactorCounters;
use tidegate_schema::ErrorCode;
use tidegate_shard::{Counter, LATENCY_BUCKETS, ShardStats};
use tidegate_storage_files::RetentionFigures;

/// How a figure behaves, and how those of several shards become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises; shards are added.
    Counter,
    /// Goes up and down; shards are added.
    Gauge,
    /// The largest value seen; of several shards the largest.
    Maximum,
}

/// What a number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figure {
    /// Where it stands in `/stats`, dots between levels; with underscores, its name in `/metrics`.
    pub path: &'static str,
    /// For one of a family: the label's key and value.
    pub label: Option<(&'static str, &'static str)>,
    /// How it behaves.
    pub kind: Kind,
    /// One sentence.
    pub help: &'static str,
}

/// The path of the figure that says that a shard is read-only.
pub const LATCHED: &str = "latched";

/// The paths of the figures that say how many streams are in memory, and how many are in the table.
pub(super) const HOT_STREAMS: &str = "streams.hot";
pub(super) const LOCATED_STREAMS: &str = "streams.located";

/// The path of the figure that says that a shard has no segment to append to.
pub const NO_SEGMENT: &str = "space.no_segment";
/// Shards whose table of streams is full.
pub const STREAMS_FULL: &str = "streams.full";

/// The path of the figure that says that a shard refuses commands because the disk is nearly full.
pub const LOW_SPACE: &str = "space.low";

const fn process_figure(path: &'static str, kind: Kind, help: &'static str) -> Figure {
    Figure { path, label: None, kind, help }
}

/// Figures of the process, not of a shard.
pub const PROCESS_FIGURES: [Figure; 14] = [
    process_figure("snapshot.number", Kind::Gauge, "Number of the newest snapshot, 0 without any"),
    process_figure("snapshot.streams", Kind::Gauge, "Streams in the newest snapshot"),
    process_figure("snapshot.bytes", Kind::Gauge, "Bytes of the newest snapshot"),
    process_figure("snapshot.segment", Kind::Gauge, "The highest segment that the newest snapshot holds"),
    process_figure("snapshot.failures", Kind::Counter, "Snapshots that could not be made"),
    process_figure("recovery.damage", Kind::Gauge, "Damaged places that the start found in the logs it read"),
    process_figure(
        "recovery.lost",
        Kind::Gauge,
        "Of these, places that may have held the newest record of a conversation",
    ),
    process_figure(
        "recovery.renewed",
        Kind::Gauge,
        "1 if this start took a new incarnation because such a place was new to it",
    ),
    process_figure("snapshot.set_aside", Kind::Counter, "Snapshots that turned out to be damaged"),
    process_figure(
        "erasures.pending",
        Kind::Gauge,
        "Ranges of records that are to be erased and may be on the disk",
    ),
    process_figure("erasures.records", Kind::Counter, "Records erased on request since the start"),
    process_figure(
        "snapshot.large_users",
        Kind::Counter,
        "Times a user's state was too large for a snapshot and was made to fit",
    ),
    process_figure(
        "snapshot.devices_forgotten",
        Kind::Counter,
        "Devices that went with their queues for it, and synchronise when they are new to the gateway",
    ),
    process_figure(
        "snapshot.conversations_unlisted",
        Kind::Counter,
        "Conversations that went from users' lists for it",
    ),
];

/// Figures of the thread that lets old messages go, in the order of [`retention_values`].
pub const RETENTION_FIGURES: [Figure; 7] = [
    process_figure("retention.passes", Kind::Counter, "Passes over old segments that came to their end"),
    process_figure("retention.segments_rewritten", Kind::Counter, "Segments rewritten"),
    process_figure(
        "retention.segments_removed",
        Kind::Counter,
        "Segments removed because nothing in them lived",
    ),
    process_figure(
        "retention.segments_damaged",
        Kind::Counter,
        "Times a segment was left as it is for its damage",
    ),
    process_figure("retention.records_expired", Kind::Counter, "Records whose time was over"),
    process_figure("retention.records_erased", Kind::Counter, "Records erased because somebody asked for it"),
    process_figure("retention.saved_bytes", Kind::Counter, "Bytes that files are smaller for it"),
];

/// The values of [`RETENTION_FIGURES`].
#[must_use]
pub const fn retention_values(figures: &RetentionFigures) -> [u64; RETENTION_FIGURES.len()] {
    let RetentionFigures { passes, rewritten, dropped, damaged, expired, erased, saved_bytes } = *figures;
    [passes, rewritten, dropped, damaged, expired, erased, saved_bytes]
}

/// Of all shards and the newest snapshot together.
pub(super) const COLD_STREAMS: Figure = process_figure(
    "streams.cold_at_most",
    Kind::Gauge,
    "Streams not in memory: those of the newest snapshot and those of the table, less those in memory; one that both have counts twice",
);

/// The place of the streams of the newest snapshot among [`PROCESS_FIGURES`].
pub(super) const SNAPSHOT_STREAMS: usize = 1;
/// The place of the count of failures among them.
pub(super) const SNAPSHOTS_FAILED: usize = 4;
/// The first place of what the start found: damage, losses, whether they were news.
pub(super) const RECOVERY_DAMAGE: usize = 5;
/// The place of the count of snapshots that were set aside.
pub(super) const SNAPSHOTS_SET_ASIDE: usize = 8;

/// The place of the count of ranges that are to be erased.
pub(super) const ERASURES_PENDING: usize = 9;
/// The place of the count of erased records.
pub(super) const ERASURES_RECORDS: usize = 10;

/// The first place of what users gave up for snapshots: how many users, devices, conversations.
pub(super) const LARGE_USERS: usize = 11;

/// What the pump counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PumpCounters {
    /// Turns of the loop.
    pub turns: u64,
    /// Turns that found more to do and did not wait.
    pub busy_turns: u64,
    /// Hand-overs that the kernel refused.
    pub hand_overs_failed: u64,
    /// Failures to prepare a segment.
    pub segments_failed: u64,
}

/// Everything that is measured about a shard, as the pump finds it.
#[derive(Clone, Copy, Default)]
pub struct Measured<'a> {
    /// Of the shard; `None` reads as zeroes.
    pub shard: Option<&'a ShardStats>,
    /// Of its end of the mesh.
    pub mesh: MeshCounters,
    /// Bytes waiting in the rings it writes.
    pub mesh_depth_bytes: u64,
    /// Of its ring.
    pub reactor: ReactorCounters,
    /// Of its pump.
    pub pump: PumpCounters,
    /// Bytes that the disk has left.
    pub free_bytes: u64,
}

static NO_LATENCY: [u64; LATENCY_BUCKETS] = [0; LATENCY_BUCKETS];

impl<'a> Measured<'a> {
    /// Commits by latency.
    #[must_use]
    pub fn latency(&self) -> &'a [u64; LATENCY_BUCKETS] {
        self.shard.map_or(&NO_LATENCY, |shard| &shard.commit_latency)
    }

    /// The sum of all commit latencies.
    #[must_use]
    pub fn latency_ns_total(&self) -> u64 {
        self.of_shard(|shard| shard.commit_latency_ns_total)
    }

    fn of_shard(&self, value: impl Fn(&ShardStats) -> u64) -> u64 {
        self.shard.map_or(0, value)
    }

    fn count(&self, counter: Counter) -> u64 {
        self.of_shard(|shard| shard.get(counter))
    }
}

type Each<'e> = &'e mut dyn FnMut(Figure, u64);

/// Gives every figure with its value, always in the same order.
pub fn visit(measured: &Measured<'_>, each: Each<'_>) {
    visit_clients(measured, each);
    visit_log(measured, each);
    visit_streams(measured, each);
    visit_errors(measured, each);
    visit_mesh(measured, each);
    visit_reactor(&measured.reactor, each);
    visit_pump(&measured.pump, each);
    visit_events(measured, each);
}

fn tell(each: Each<'_>, kind: Kind, rows: &[(&'static str, u64, &'static str)]) {
    for (path, value, help) in rows {
        each(Figure { path, label: None, kind, help }, *value);
    }
}

fn visit_clients(measured: &Measured<'_>, each: Each<'_>) {
    tell(
        each,
        Kind::Gauge,
        &[
            ("sockets", measured.of_shard(|shard| shard.sockets), "Sockets open."),
            ("sessions", measured.of_shard(|shard| shard.sessions), "Devices connected."),
        ],
    );
    tell(
        each,
        Kind::Counter,
        &[
            ("frames.received", measured.count(Counter::FramesReceived), "Frames received from clients."),
            ("frames.sent", measured.count(Counter::FramesSent), "Frames sent to clients."),
            ("bytes.received", measured.count(Counter::BytesReceived), "Bytes received from clients."),
            ("bytes.sent", measured.count(Counter::BytesSent), "Bytes sent to clients."),
        ],
    );
}

fn visit_log(measured: &Measured<'_>, each: Each<'_>) {
    tell(
        each,
        Kind::Counter,
        &[
            ("commits.count", measured.count(Counter::Commits), "Batches written and synced."),
            ("commits.bytes", measured.count(Counter::CommitBytes), "Bytes of them, padding included."),
        ],
    );
    let latched = measured.of_shard(|shard| u64::from(shard.latched));
    let no_segment = measured.of_shard(|shard| u64::from(shard.no_segment));
    let low_space = measured.of_shard(|shard| u64::from(shard.low_space));
    let lag = measured.of_shard(|shard| shard.cursor_lag_bytes);
    let pending = measured.of_shard(|shard| shard.pending);
    tell(
        each,
        Kind::Gauge,
        &[
            (LATCHED, latched, "Shards that are read-only because their log failed."),
            (NO_SEGMENT, no_segment, "Shards that have no segment to append to."),
            (LOW_SPACE, low_space, "Shards that refuse commands because the disk is nearly full."),
            ("pending.answers", pending, "Answers that wait for a commit or for room."),
            (
                "pending.parked",
                measured.of_shard(|shard| shard.parked),
                "Requests that wait for a cold stream.",
            ),
            (
                "pending.reads",
                measured.of_shard(|shard| shard.reads),
                "Reads of the log that wait or are under way.",
            ),
            (
                "windows.entries",
                measured.of_shard(|shard| shard.window_entries),
                "Pushes that devices have not acknowledged.",
            ),
            (
                "held.bytes",
                measured.of_shard(|shard| shard.held_bytes),
                "Bytes copied aside for incomplete frames and greetings.",
            ),
        ],
    );
    let free = measured.free_bytes;
    tell(each, Kind::Maximum, &[("space.free_bytes", free, "Bytes that the disk has left.")]);
    tell(each, Kind::Maximum, &[("cursors.lag_bytes", lag, "Bytes the slowest cursor lags behind.")]);
}

fn visit_streams(measured: &Measured<'_>, each: Each<'_>) {
    let users = measured.of_shard(|shard| shard.hot_users);
    let conversations = measured.of_shard(|shard| shard.hot_conversations);
    let full = measured.of_shard(|shard| u64::from(shard.streams_full));
    let ranges = measured.of_shard(|shard| shard.open_ranges);
    let located = measured.of_shard(|shard| shard.streams);
    tell(
        each,
        Kind::Gauge,
        &[
            (
                "ranges.open_in_memory",
                ranges,
                "Open ranges of users in memory; those of other users are not counted.",
            ),
            ("streams.hot_users", users, "Users in memory."),
            ("streams.hot_conversations", conversations, "Conversations in memory."),
            (HOT_STREAMS, users + conversations, "Streams in memory."),
            (
                LOCATED_STREAMS,
                located,
                "Streams in the table (limits.locators_max): not whole in the newest snapshot, or in memory when it was made.",
            ),
            (
                STREAMS_FULL,
                full,
                "Shards whose table of streams is full: commands that need a place are refused.",
            ),
        ],
    );
}

fn visit_errors(measured: &Measured<'_>, each: Each<'_>) {
    for code in ErrorCode::ALL {
        let label = Some(("code", code.label()));
        let value = measured.of_shard(|shard| shard.errors[code.index()]);
        let help = "Errors sent to clients, by code.";
        each(Figure { path: "errors", label, kind: Kind::Counter, help }, value);
    }
}

fn visit_mesh(measured: &Measured<'_>, each: Each<'_>) {
    let mesh = &measured.mesh;
    tell(
        each,
        Kind::Counter,
        &[
            ("mesh.frames", mesh.frames, "Frames pushed into rings."),
            ("mesh.bytes", mesh.bytes, "Bytes of them."),
            ("mesh.frames_consumed", mesh.frames_consumed, "Frames taken from rings."),
            ("mesh.refused", mesh.refused, "Pushes that found no room."),
            ("mesh.wakes", mesh.wakes, "Sleeping shards that had to be woken."),
            ("mesh.sleeps", mesh.sleeps, "Sleeps."),
        ],
    );
    tell(each, Kind::Gauge, &[("mesh.depth_bytes", measured.mesh_depth_bytes, "Bytes waiting in rings.")]);
    let help = "The most bytes seen waiting in one ring.";
    tell(each, Kind::Maximum, &[("mesh.depth_bytes_max", mesh.depth_bytes_max, help)]);
}

fn visit_reactor(ring: &ReactorCounters, each: Each<'_>) {
    tell(
        each,
        Kind::Counter,
        &[
            ("ring.accepts", ring.accepts, "Connections accepted."),
            ("ring.accept_failures", ring.accept_failures, "Accepts that failed."),
            ("ring.receives", ring.receives, "Receives with bytes."),
            ("ring.receive_bytes", ring.receive_bytes, "Bytes received."),
            ("ring.sends", ring.sends, "Sends completed."),
            ("ring.send_bytes", ring.send_bytes, "Bytes that the kernel took."),
            ("ring.short_sends", ring.short_sends, "Sends that the kernel took only in part."),
            ("ring.no_buffers", ring.no_buffers, "Receives that found no free buffer."),
            ("ring.rearms", ring.rearms, "Multishot requests armed again."),
            ("ring.closes", ring.closes, "Slots closed."),
            ("ring.handed_over", ring.handed_over, "Slots passed to another shard."),
            ("ring.adopted", ring.adopted, "Slots that came from another shard."),
            ("ring.wakes_sent", ring.wakes_sent, "Wakes sent to other rings."),
            ("ring.wakes_failed", ring.wakes_failed, "Wakes that could not be delivered."),
            ("ring.wakes_received", ring.wakes_received, "Wakes received."),
            ("ring.writes", ring.writes, "Log writes completed."),
            ("ring.write_bytes", ring.write_bytes, "Bytes of them."),
            ("ring.short_writes", ring.short_writes, "Log writes that the kernel took only in part."),
            ("ring.completion_overflows", ring.completion_overflows, "Completion queues found full."),
            ("ring.submission_full", ring.submission_full, "Submission queues found full."),
            ("ring.enters", ring.enters, "System calls of the ring."),
            (
                "ring.yields",
                ring.yields,
                "Times a busy shard offered its core to the kernel, with a log write in flight.",
            ),
        ],
    );
}

fn visit_pump(pump: &PumpCounters, each: Each<'_>) {
    tell(
        each,
        Kind::Counter,
        &[
            ("pump.turns", pump.turns, "Turns of the loop."),
            ("pump.busy_turns", pump.busy_turns, "Turns that found more to do and did not wait."),
            ("pump.hand_overs_failed", pump.hand_overs_failed, "Hand-overs that the kernel refused."),
            ("pump.segments_failed", pump.segments_failed, "Failures to prepare a segment."),
        ],
    );
}

fn visit_events(measured: &Measured<'_>, each: Each<'_>) {
    for counter in Counter::ALL {
        let label = Some(("event", counter.label()));
        let help = "What the rules of the shard count, by event.";
        each(Figure { path: "events", label, kind: Kind::Counter, help }, measured.count(*counter));
    }
}
