//! What a shard wants done.

use crate::event::{ConnectionId, ReadToken, TransferKey};
use std::sync::Arc;
use tidegate_ids::{LogId, Position, ShardIndex, StreamId};
use tidegate_storage_log::{Lead, ReadSpec, StagedBatch};

/// How a connection is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiveMode {
    /// One receive: until it has happened nothing is armed, so that the connection can be handed over.
    Once,
    /// A receive that stays armed, fed from the shard's buffer ring.
    Multishot,
    /// Disarm: the peer does not read what it is sent. Bytes already received may still come.
    Pause,
}

/// What is to be read from the log, off the shard's thread.
#[derive(Clone, Debug)]
pub enum ReadRequest {
    /// A page of one stream, and where its last records lie in a segment that has no index yet.
    Page(ReadSpec, Option<Arc<Lead>>),
    /// Records of one log in order, up to a position that is committed: of an older log as it was recovered, of the
    /// shard's own as it was written. `PageEnd::next` says where to go on, `PageEnd::damaged` how many times damage was
    /// met: it is gone round, and never an error.
    Scan {
        /// Which log.
        log: LogId,
        /// From where.
        from: Position,
        /// Up to where, exclusive.
        to: Position,
        /// About how many bytes.
        bytes_max: usize,
    },
    /// A stream's entry in the newest snapshot. `PageEnd::records` says whether there is one, `PageEnd::next` which record
    /// was the last that it holds; the bytes are its folded state.
    Snapshot {
        /// Which stream.
        stream: StreamId,
    },
}

/// Something that a shard asks the shell for.
#[derive(Debug)]
pub enum Output {
    /// Arm or disarm a receive.
    Receive {
        /// Of which connection.
        connection: ConnectionId,
        /// How.
        mode: ReceiveMode,
    },
    /// Send these bytes; at most one send a connection is in flight. Answered by `Event::SendDone`.
    Send {
        /// To where.
        connection: ConnectionId,
        /// What.
        buffer: Vec<u8>,
    },
    /// Close the socket, cancelling what is in flight. Answered by `Event::Closed`.
    Close {
        /// Which.
        connection: ConnectionId,
    },
    /// Hand the descriptor over to another shard; nothing is armed and nothing in flight. Answered by
    /// `Event::HandedOver` here and `Event::Adopted` there.
    HandOver {
        /// Which.
        connection: ConnectionId,
        /// To whom.
        to: ShardIndex,
        /// To be given there.
        key: TransferKey,
    },
    /// Write and sync a batch; one at a time. Answered by `Event::Written` or `Event::WriteFailed`.
    Append {
        /// The bytes and their place.
        batch: StagedBatch,
    },
    /// Read from the log. Answered by `Event::ReadDone`; at most `ShardLimits::reads_in_flight_max` are outstanding.
    Read {
        /// Comes back with the result.
        token: ReadToken,
        /// What.
        request: ReadRequest,
    },
    /// A read's buffer, to be used again.
    Recycle {
        /// Its capacity matters, its content does not.
        buffer: Vec<u8>,
    },
    /// A spare segment is wanted. Answered by `Event::Segment` when there is one.
    NeedSegment,
    /// A checkpoint is committed: up to here this shard has consumed every log. Bounds the next snapshot.
    Checkpointed {
        /// By log.
        fed: Vec<(LogId, Position)>,
    },
    /// The table of streams fills up: a snapshot is wanted.
    WantSnapshot,
    /// What the newest snapshot holds is forgotten here: memory for it is free.
    Swept,
    /// All is recovered, fed and synced: connections may be accepted once every shard has said so.
    Ready,
    /// Everything is committed and sealed: the process may end.
    Stopped,
}
