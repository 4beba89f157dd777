//! What an application chooses. One configuration serves all machines of a process.

use crate::limits;
use tidegate_schema::ClientState;
use tidegate_schema::limits::{CREDIT_FRAMES_MAX, UNANSWERED_MAX};

/// Where a device begins with conversations that were there before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backfill {
    /// At the head: only what comes is delivered; the application pages back with `history`.
    #[default]
    Heads,
    /// At the join or the first available record: everything is fetched.
    All,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Config {
    /// `Host` of the upgrade, with the port unless it is the default one.
    pub host: String,
    /// Path of the upgrade.
    pub path: String,
    /// What the client runs on, at most 128 bytes.
    pub platform: String,
    /// What the person does when the machine starts.
    pub state: ClientState,
    /// Pushes that the gateway may leave unacknowledged, at most 256.
    pub credit_frames: u16,
    /// Where a new device begins.
    pub backfill: Backfill,
    /// Whether changed conversations (heads, watermarks) are asked for after every `DrainDone`.
    pub follow_list: bool,
    /// Unanswered commands per conversation, at most 256.
    pub unanswered_max: u16,
    /// Commands in the outbox.
    pub outbox_commands_max: usize,
    /// Bytes in the outbox.
    pub outbox_bytes_max: usize,
    /// Out-of-order records held per conversation.
    pub reorder_max: usize,
    /// How long a hole waits before it is asked for, in nanoseconds.
    pub hole_wait_ns: u64,
    /// How long an acknowledgement waits for company, in nanoseconds.
    pub ack_wait_ns: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            host: "localhost".to_owned(),
            path: "/ws".to_owned(),
            platform: concat!("tidegate-client/", env!("CARGO_PKG_VERSION")).to_owned(),
            state: ClientState::Active,
            credit_frames: CREDIT_FRAMES_MAX,
            backfill: Backfill::Heads,
            follow_list: true,
            unanswered_max: UNANSWERED_MAX,
            outbox_commands_max: limits::OUTBOX_COMMANDS_MAX,
            outbox_bytes_max: limits::OUTBOX_BYTES_MAX,
            reorder_max: limits::REORDER_MAX,
            hole_wait_ns: limits::HOLE_WAIT_NS,
            ack_wait_ns: limits::ACK_WAIT_NS,
        }
    }
}
