//! What the kernel has finished.

use crate::slots::Slot;
use std::io;

/// Why a slot receives nothing any more.
#[derive(Debug)]
pub enum ReceiveEnd {
    /// The peer has closed its side; bytes may still be sent.
    Eof,
    /// The connection failed, a reset for example.
    Error(io::Error),
}

/// One finished operation.
#[derive(Debug)]
pub enum Completion<'a> {
    /// A connection has come. Nothing is armed.
    Accepted {
        /// Where it is.
        slot: Slot,
    },
    /// A connection could not be accepted. Accepting goes on: at once if the connection is gone, after a rest if the
    /// process lacks something.
    AcceptFailed {
        /// ENFILE: no free slot, the connection was dropped; or the machine has no file left, and it waits.
        error: io::Error,
    },
    /// Bytes have come. After [`Ops::stop_receiving`](crate::Ops::stop_receiving) some may still come; after `close` none.
    Received {
        /// From whom.
        slot: Slot,
        /// Lent until the closure returns; may be written in place.
        bytes: &'a mut [u8],
    },
    /// Nothing more will be received, and nothing is armed. The slot stays open until it is closed.
    ReceiveEnded {
        /// Of whom.
        slot: Slot,
        /// Why.
        end: ReceiveEnd,
    },
    /// A send is over, also when it was cancelled by a close.
    Sent {
        /// To whom.
        slot: Slot,
        /// The buffer, as it was handed in.
        buffer: Vec<u8>,
        /// Whether the kernel took all of it.
        result: io::Result<()>,
    },
    /// The slot is closed and nothing of it is in flight; its index may come again.
    SlotClosed {
        /// Which.
        slot: Slot,
    },
    /// A connection has come from another ring or from [`Ops::insert`](crate::Ops::insert). Nothing is armed.
    Adopted {
        /// Where it is.
        slot: Slot,
        /// What the source named it.
        key: u64,
    },
    /// [`Ops::insert`](crate::Ops::insert) found no slot; the descriptor is closed.
    InsertFailed {
        /// What the caller named it.
        key: u64,
        /// ENFILE: no free slot.
        error: io::Error,
    },
    /// A hand-over is over. If it succeeded the slot is being closed, and [`Completion::SlotClosed`] follows; if not,
    /// it is as before.
    HandedOver {
        /// Which.
        slot: Slot,
        /// What it was named.
        key: u64,
        /// ENFILE: the target had no free slot. Another error: it is gone.
        result: io::Result<()>,
    },
    /// A log write is durable, or has failed. After a failure nothing is known about any byte of it.
    WriteDone {
        /// As handed in.
        token: u64,
        /// Whether all bytes are durable.
        result: io::Result<()>,
    },
    /// Another ring or a helper thread has woken this one.
    Woken,
}
