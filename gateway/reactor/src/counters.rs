//! What a ring has done since it was made.

/// Counters of one ring; none goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections accepted.
    pub accepts: u64,
    /// Accepts that failed, connections dropped for want of a slot among them.
    pub accept_failures: u64,
    /// Receive completions with bytes.
    pub receives: u64,
    /// Their bytes.
    pub receive_bytes: u64,
    /// Sends completed, failed ones included.
    pub sends: u64,
    /// Bytes that the kernel took.
    pub send_bytes: u64,
    /// Sends that the kernel took only in part, and that were continued.
    pub short_sends: u64,
    /// Receives that found no free buffer, and that were armed again.
    pub no_buffers: u64,
    /// Multishot requests that ended by themselves and were armed again, for want of a buffer included.
    pub rearms: u64,
    /// Slots closed.
    pub closes: u64,
    /// Slots passed to another ring.
    pub handed_over: u64,
    /// Slots that came from another ring.
    pub adopted: u64,
    /// Wakes sent to other rings.
    pub wakes_sent: u64,
    /// Wakes that the kernel refused. One to a ring that is gone is not refused: nobody hears it.
    pub wakes_failed: u64,
    /// Wakes received from other rings and helper threads.
    pub wakes_received: u64,
    /// Log writes completed, failed ones included.
    pub writes: u64,
    /// Their bytes.
    pub write_bytes: u64,
    /// Log writes that the kernel took only in part, and that were continued.
    pub short_writes: u64,
    /// Times the completion queue was seen to have overflowed: the kernel holds the rest and nothing is lost, but
    /// the queue is too small.
    pub completion_overflows: u64,
    /// Times the submission queue was full and had to be submitted in the middle of a turn.
    pub submission_full: u64,
    /// Completions of a slot that had been closed: never attributed to its next owner.
    pub stale: u64,
    /// Calls of `io_uring_enter`.
    pub enters: u64,
    /// Times the core was offered to other threads, since a log write was in flight and the thread may not have slept.
    pub yields: u64,
}
