//! What a shard counts. Every counter has an id and a label; nothing here is read by the rules.

use tidegate_schema::ErrorCode;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident = $label:literal,)*) => {
        /// A count that only rises.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Counter { $($(#[$doc])* $name,)* }

        impl Counter {
            /// All of them, in the order of their ids.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The label in metrics.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label),* }
            }
        }
    };
}

counters! {
    /// Sockets accepted.
    Accepted = "sockets_accepted",
    /// Connections that became a device's.
    Greeted = "sessions_opened",
    /// Sessions that ended.
    SessionsEnded = "sessions_ended",
    /// Connections handed over to their user's home.
    HandedOver = "connections_handed_over",
    /// Of these, with bytes that came behind the `Hello`.
    HandedOverWithBytes = "handed_over_with_bytes",
    /// Sessions closed because a newer socket of the same device came.
    SessionsReplaced = "sessions_replaced",
    /// Frames received from clients.
    FramesReceived = "frames_received",
    /// Bytes received from clients.
    BytesReceived = "bytes_received",
    /// Frames sent to clients.
    FramesSent = "frames_sent",
    /// Bytes sent to clients.
    BytesSent = "bytes_sent",
    /// Upgrade requests refused.
    HandshakesRefused = "handshakes_refused",
    /// Tokens refused.
    TokensRefused = "tokens_refused",
    /// Connections closed for breaking the protocol.
    ProtocolErrors = "protocol_errors",
    /// Connections closed for silence.
    HeartbeatsMissed = "heartbeats_missed",
    /// Connections closed because their socket stayed full.
    SlowConsumers = "slow_consumers",
    /// Times a connection was not read on because it does not take what it is sent.
    ReadsPaused = "reads_paused",
    /// Connections closed because a table or pool was full.
    ConnectionsRefused = "connections_refused",
    /// Commands appended.
    CommandsAppended = "commands_appended",
    /// Commands that were duplicates.
    Duplicates = "commands_duplicate",
    /// Requests refused with an error.
    Refused = "requests_refused",
    /// Records pushed to devices.
    Pushed = "records_pushed",
    /// Records that a connected device had no credit for: they wait in a range.
    WithoutCredit = "pushes_without_credit",
    /// Pushes that were not acknowledged when their connection ended: they wait in ranges.
    WindowsToRanges = "windows_turned_into_ranges",
    /// Ranges announced as `Dirty`.
    Dirty = "ranges_announced",
    /// Times a range was not announced because its conversation was announced to the device less than a second ago.
    RangesHeld = "ranges_held",
    /// Ranges asked for by a queue.
    Asked = "ranges_asked",
    /// Ranges opened or widened in a stream.
    QueueRecords = "queue_records",
    /// Records shipped to shards.
    Shipped = "records_shipped",
    /// Times a cursor found its ring full.
    CursorLagging = "cursor_lagging",
    /// Chunks a lagging cursor read from the log.
    CursorReads = "cursor_reads",
    /// Records fed again after a start.
    Refed = "records_refed",
    /// Records not fed again because their conversation could not be loaded.
    Unfed = "records_unfed",
    /// Members walked.
    Walked = "members_walked",
    /// Slices copied to this shard.
    Slices = "slices_received",
    /// Requests refused at the edge because a ring was full.
    RingFull = "requests_ring_full",
    /// Times requests were left in their rings for want of a place.
    IntakeStopped = "intake_stopped",
    /// Commits.
    Commits = "commits",
    /// Batches that could not be written or synced: one at most, the shard is read-only from then on.
    WritesFailed = "log_writes_failed",
    /// Commands refused because the disk is nearly full.
    RefusedForSpace = "commands_refused_for_space",
    /// Commands refused because the table of streams is full.
    RefusedForStreams = "commands_refused_for_streams",
    /// Sessions closed because their token had expired.
    TokensExpired = "tokens_expired",
    /// Bytes committed, padding included.
    CommitBytes = "commit_bytes",
    /// Streams loaded.
    Loads = "streams_loaded",
    /// Entries of users' states and streams that loads folded.
    LoadEntries = "load_entries",
    /// Streams begun from the snapshot.
    SnapshotLoads = "snapshot_loads",
    /// Streams evicted.
    Evictions = "streams_evicted",
    /// States written.
    States = "states_written",
    /// Checkpoints written.
    Checkpoints = "checkpoints",
    /// Reads that met damage or were refused by the disk, those made again included.
    ReadsFailed = "reads_failed",
    /// Reads that did so each time they were made: what they did not give counts as lost.
    ReadsDamaged = "reads_damaged",
    /// Answers and acknowledgements of another generation, dropped.
    StaleGenerations = "generations_stale",
}

/// Bounds of the commit latency histogram, in nanoseconds: powers of two from 16 µs.
pub const LATENCY_BUCKETS: usize = 20;

/// The upper bound of a bucket, in nanoseconds; the last one takes the rest.
#[must_use]
pub const fn latency_bucket_ns(index: usize) -> u64 {
    16_384 << index
}

/// Everything a shard counts and measures, as plain numbers.
#[derive(Clone, Debug)]
pub struct ShardStats {
    /// By [`Counter`].
    pub counters: [u64; Counter::ALL.len()],
    /// Errors sent, by [`ErrorCode::index`].
    pub errors: [u64; ErrorCode::COUNT],
    /// Commits by latency, from the take of the batch to its sync; see [`latency_bucket_ns`].
    pub commit_latency: [u64; LATENCY_BUCKETS],
    /// The sum of all commit latencies.
    pub commit_latency_ns_total: u64,
    /// Sockets now.
    pub sockets: u64,
    /// Sessions now.
    pub sessions: u64,
    /// Open ranges of users in memory now.
    pub open_ranges: u64,
    /// Users in memory.
    pub hot_users: u64,
    /// Conversations in memory.
    pub hot_conversations: u64,
    /// Streams with a locator: not whole in the newest snapshot, or in memory when it was swept.
    pub streams: u64,
    /// Answers that wait for a commit or for room.
    pub pending: u64,
    /// Requests that wait for a cold stream.
    pub parked: u64,
    /// Reads that wait or are under way.
    pub reads: u64,
    /// Pushes that are not acknowledged, of all connections.
    pub window_entries: u64,
    /// Bytes copied aside for incomplete frames and greetings.
    pub held_bytes: u64,
    /// Bytes the slowest cursor lags behind the last commit.
    pub cursor_lag_bytes: u64,
    /// Whether the log failed and the shard is read-only.
    pub latched: bool,
    /// Whether the log has no segment to append to: commands are refused, and records of queues wait.
    pub no_segment: bool,
    /// Whether commands are refused because the disk is nearly full.
    pub low_space: bool,
    /// Whether the table of streams is full: commands that need another place in it are refused.
    pub streams_full: bool,
    /// Whether connections may be accepted.
    pub ready: bool,
}

impl Default for ShardStats {
    fn default() -> Self {
        Self {
            counters: [0; Counter::ALL.len()],
            errors: [0; ErrorCode::COUNT],
            commit_latency: [0; LATENCY_BUCKETS],
            commit_latency_ns_total: 0,
            sockets: 0,
            sessions: 0,
            open_ranges: 0,
            hot_users: 0,
            hot_conversations: 0,
            streams: 0,
            pending: 0,
            parked: 0,
            reads: 0,
            window_entries: 0,
            held_bytes: 0,
            cursor_lag_bytes: 0,
            latched: false,
            no_segment: false,
            low_space: false,
            streams_full: false,
            ready: false,
        }
    }
}

impl ShardStats {
    /// One counter.
    #[must_use]
    pub const fn get(&self, counter: Counter) -> u64 {
        self.counters[counter as usize]
    }

    pub(crate) fn count(&mut self, counter: Counter) {
        self.counters[counter as usize] += 1;
    }

    pub(crate) fn add(&mut self, counter: Counter, by: u64) {
        self.counters[counter as usize] += by;
    }

    pub(crate) fn error(&mut self, code: ErrorCode) {
        self.errors[code.index()] += 1;
    }

    pub(crate) fn commit(&mut self, latency_ns: u64, bytes: u64) {
        let above = |index: &usize| latency_bucket_ns(*index) < latency_ns;
        let bucket = (0..LATENCY_BUCKETS - 1).take_while(above).count();
        self.commit_latency[bucket] += 1;
        self.commit_latency_ns_total += latency_ns;
        self.count(Counter::Commits);
        self.add(Counter::CommitBytes, bytes);
    }
}
