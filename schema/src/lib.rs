//! The wire contract: frames, verification, encoding (PROTOCOL).
//!
//! A WebSocket payload splits into frames ([`frames`]), a frame is verified once and becomes a plain struct
//! ([`ClientFrame::decode`], [`ServerFrame::decode`]), and the same structs are written by an [`Encoder`] into the
//! caller's buffer. A record travels as it is stored ([`deliver`]). Generated accessors do not leave this room;
//! nothing here reads a clock, and no bytes make it panic.
#![forbid(unsafe_code)]

mod code;
mod conversations;
pub mod deliver;
mod encoder;
mod error;
mod frame;
mod groups;
mod header;
mod kind;
pub mod limits;
mod list;
mod message;
mod notice;
mod range;
mod receipts;
mod sending;
mod session;
mod verify;
mod wire_enum;

pub use code::{CloseCode, ErrorCode};
pub use conversations::{ConversationList, ConversationPage, ConversationRow, ConversationRows, ListOrder};
pub use deliver::{Deliver, Stamp, Stored, StoredIter};
pub use encoder::{Body, Encoder, TooLarge};
pub use error::{DecodeError, FrameError};
pub use frame::{ClientFrame, ServerFrame};
pub use groups::{
    GroupCreate, GroupCreated, Leave, Member, Members, MembersAdd, MembersChange, MembersGet, MembersPage,
    MembersRemove, Role,
};
pub use header::{FLAG_NUMBERED, Frame, FrameHeader, FrameIter, frames};
pub use kind::{FrameKind, UnknownKind};
pub use list::{Item, Iter, List, Users};
pub use message::{
    Attachment, Attachments, Change, FLAG_SILENT, FLAG_URGENT, GroupChange, GroupChangeView, MessageFields,
    MessageKind, MessageView, Origin,
};
pub use notice::{Error, GoAway, GoAwayReason, Throttle, ThrottleScope};
pub use range::{Dirty, GetRange, Range, RangeSpan, Skip, SkipReason, SkipSpan, Skips};
pub use receipts::{Mark, ReadSync, Receipt, ReceiptRows, Receipts};
pub use sending::{Send, SendAck, SendBatch, SendItems, Typing};
pub use session::{ClientState, DrainDone, Hello, Limits, Okay, Refresh, Resync, Welcome};
