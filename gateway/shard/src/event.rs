//! What happens to a shard.

use tidegate_ids::BatchNumber;
use tidegate_storage_log::{ErasedRanges, PageEnd, ReadError};

/// A connection's place in the shell's table of sockets; reused only after [`Event::Closed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u32);

/// Joins the parts of a connection that is handed over: the descriptor and the mesh frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransferKey(pub u64);

/// Joins a read and its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadToken(pub u64);

/// Something that the shell tells a shard. Frames of the mesh are no events: the shard takes them in its turn.
#[derive(Debug)]
pub enum Event<'a> {
    /// A socket was accepted. Nothing is armed until the shard asks for it.
    Accepted {
        /// Its place.
        connection: ConnectionId,
    },
    /// A descriptor that another shard handed over has arrived.
    Adopted {
        /// Its place here.
        connection: ConnectionId,
        /// As the source gave it.
        key: TransferKey,
    },
    /// A hand-over has left (the place is free; no [`Event::Closed`] follows), or could not.
    HandedOver {
        /// Its place here.
        connection: ConnectionId,
        /// Whether it left. If not, the connection is still here.
        sent: bool,
    },
    /// Bytes were received. They are lent for this call and unmasked in place. A single-shot receive is spent by it.
    Bytes {
        /// From where.
        connection: ConnectionId,
        /// At least one.
        bytes: &'a mut [u8],
    },
    /// The peer has closed its side, or the socket failed. The shard answers with `Output::Close`.
    Ended {
        /// Which.
        connection: ConnectionId,
    },
    /// The place is free: nothing of this connection is in flight any more.
    Closed {
        /// Which.
        connection: ConnectionId,
    },
    /// A send is done; its buffer comes back to be used again.
    SendDone {
        /// To where.
        connection: ConnectionId,
        /// As it was given.
        buffer: Vec<u8>,
        /// Whether all of it was taken by the kernel.
        sent: bool,
    },
    /// A batch is written and synced.
    Written {
        /// Which; batches are written one at a time, in order.
        batch: BatchNumber,
    },
    /// A batch could not be written or synced: the shard latches read-only.
    WriteFailed {
        /// Which.
        batch: BatchNumber,
    },
    /// A spare segment is ready, answering `Output::NeedSegment` or unasked at boot.
    Segment {
        /// Its number.
        number: u32,
    },
    /// The disk has become nearly full, or has room again. Commands are refused while it is: what is left is for what
    /// follows from those already taken.
    Space {
        /// Whether it is nearly full.
        low: bool,
    },
    /// A read is done.
    ReadDone {
        /// As it was asked.
        token: ReadToken,
        /// Packed records, oldest first; the buffer is handed back by `Output::Recycle`.
        records: Vec<u8>,
        /// How the page ended.
        result: Result<PageEnd, ReadError>,
    },
    /// A newer snapshot is there, and reads already use it: it holds every record of this shard's streams in segments up to
    /// `through`.
    Snapshot {
        /// The last segment.
        through: u32,
    },
    /// Somebody asked to erase records: these are all of this shard's, those told before included. Pages, drains and look-ups
    /// give them out as holes from now on.
    Erased {
        /// Which.
        ranges: ErasedRanges,
    },
    /// The open segment is to end before it is full, because it holds what is to go.
    CloseSegment,
    /// Time has passed; due at least every [`crate::TICK_MS`] milliseconds.
    Tick,
    /// Stop: say `GoAway`, close, commit, checkpoint, seal, then `Output::Stopped`.
    Shutdown,
}
