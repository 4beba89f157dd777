//! Interesting branches: a batch of seeds that does not reach all of them proves less than it says.

use crate::plan::{Fault, Report};

/// What a batch of a few hundred seeds must reach: a label of a shard's counter, of an error that was sent, or a mark of the
/// simulator itself.
pub const REQUIRED: &[&str] = &[
    // The disk and the log.
    "sectors_lost",
    "tail_cut",
    "damage_found",
    "log_writes_failed",
    "checkpoints",
    "states_written",
    "streams_loaded",
    "snapshot_loads",
    "devices_forgotten",
    "streams_evicted",
    "commands_refused_for_space",
    "reads_failed",
    // The mesh and the fan-out.
    "requests_ring_full",
    "intake_stopped",
    "cursor_lagging",
    "cursor_reads",
    "slices_received",
    "members_walked",
    "records_refed",
    // Queues.
    "queue_records",
    "ranges_asked",
    "ranges_announced",
    "ranges_held",
    "generations_stale",
    "pushes_without_credit",
    "windows_turned_into_ranges",
    // Connections.
    "connections_handed_over",
    "handed_over_with_bytes",
    "connections_refused",
    "sessions_replaced",
    "heartbeats_missed",
    "slow_consumers",
    "reads_paused",
    "protocol_errors",
    "handshakes_refused",
    "tokens_refused",
    // Answers.
    "commands_duplicate",
    "OUT_OF_ORDER",
    "IDEMPOTENCY_CONFLICT",
    "NOT_MEMBER",
    "BAD_FRAME",
    "BAD_ARGUMENT",
    "UNSUPPORTED",
    "RATE_LIMITED",
    "OVERLOADED",
    "UNAVAILABLE",
    "TOO_LARGE",
    // What devices were told.
    "sdk_skipped",
    "sdk_repeats",
    "sdk_refused",
    "sdk_pages",
    "sdk_told_of_erasure",
];

/// Marks and faults that a batch of seeds has not reached.
#[must_use]
pub fn missing(report: &Report) -> Vec<&'static str> {
    let reached = |mark: &&&'static str| report.marks.get(**mark).copied().unwrap_or(0) > 0;
    let marks = REQUIRED.iter().filter(|mark| !reached(mark)).copied();
    let faults = Fault::ALL.into_iter().filter(|fault| !report.faults.contains_key(fault));
    marks.chain(faults.map(Fault::name)).collect()
}
