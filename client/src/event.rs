//! What the machine tells the application. Events borrow; what is to be kept is copied by whoever keeps it.

use tidegate_ids::{ClientId, CommandNumber, ConversationId, MonotonicNs, Sequence};
use tidegate_schema::{
    ConversationRow, Error, ErrorCode, GoAway, GroupCreated, MembersPage, Range, ReadSync, Receipts, SendAck,
    SkipReason, Stamp, Throttle, Typing, Welcome,
};

/// Who takes the events of a call.
pub type Sink<'s> = dyn FnMut(Event<'_>) + 's;

/// A request of the application; its answer carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestHandle(pub u64);

/// Where the connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    /// No connection; the next attempt is made at this time.
    Offline(MonotonicNs),
    /// A connection is being opened, up to `Welcome`.
    Connecting,
    /// `Welcome` came; the list of conversations is paged before anything is sent.
    Syncing,
    /// Commands are sent.
    Ready,
    /// No connection until the application gives a new token.
    NeedsToken,
    /// No connection until the application calls `resume`.
    Stopped(StopReason),
}

/// Why the machine does not come back by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The application closed it.
    Closed,
    /// 4002: a newer socket of the same device took over.
    Replaced,
    /// 4100: the gateway found a protocol error; report it.
    Protocol,
    /// 4101: no protocol version in common.
    VersionTooOld,
    /// 4103: suspended or revoked.
    Suspended,
    /// The token is for another user than the stored state.
    AnotherUser,
    /// `GoAway` without coming back.
    GoneAway,
    /// The platform, the host or the path of the configuration cannot be sent.
    Configuration,
    /// More conversations than the limit.
    TooManyConversations,
}

/// Whether a record was pushed or fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// `Deliver`.
    Push,
    /// `GetRange`, to fill a hole or to do a duty.
    Fetch,
}

/// Why a request of the application has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestFailure {
    /// The gateway refused.
    Refused(ErrorCode),
    /// No answer in time.
    NoAnswer,
    /// The connection ended before.
    Disconnected,
}

/// Something happened. The word *store* says what must be durable before `stored` is called.
#[derive(Debug)]
pub enum Event<'a> {
    /// The connection changed.
    State(ConnectionState),
    /// A token is wanted: `set_token`.
    TokenNeeded,
    /// The gateway knows us. Comes before the synchronisation, if there is one.
    Welcomed(&'a Welcome),
    /// **Store** the record, and that the conversation's `next` is one above it. In order, each once.
    Message {
        /// Conversation, sequence, sender, times.
        stamp: &'a Stamp,
        /// An encoded `Message`, not verified: read it with `MessageFields::verify`.
        message: &'a [u8],
        /// How it came.
        source: Source,
    },
    /// **Store** that `next` is one above `to`: these records are not to be had.
    Skipped {
        /// Where.
        conversation: ConversationId,
        /// The first.
        from: Sequence,
        /// The last.
        to: Sequence,
        /// As the gateway said, or `Unspecified`.
        reason: SkipReason,
    },
    /// **Store** the duty to fetch up to `to` (`duty_to`). The machine fetches by itself.
    Duty {
        /// Where.
        conversation: ConversationId,
        /// The lowest sequence missing.
        from: Sequence,
        /// The highest sequence to fetch.
        to: Sequence,
        /// How many of them mention the user, as far as known.
        mentions: u32,
    },
    /// **Store** that the conversation's `next` is now this: where the device begins, or after a `DropAbove`.
    Begins {
        /// Where.
        conversation: ConversationId,
        /// The lowest sequence that will be delivered.
        next: Sequence,
    },
    /// The gateway was restored: records above `head` do not exist any more. Drop them, **store** it.
    DropAbove {
        /// Where.
        conversation: ConversationId,
        /// The highest sequence that is left.
        head: Sequence,
    },
    /// A command is synced; its record stands at `ack.sequence` (0: long ago, not known) and is not delivered to this
    /// device: store the message there. If the record came by a fetch before, it is the same (conversation, sequence).
    Sent {
        /// Where.
        conversation: ConversationId,
        /// Which command.
        client_id: ClientId,
        /// Under which number.
        number: CommandNumber,
        /// What the gateway said.
        ack: &'a SendAck,
    },
    /// A command was refused for good and has left the outbox. Store it before the next `transmit`.
    Refused {
        /// Where; none for the creation of a group.
        conversation: Option<ConversationId>,
        /// Which command.
        client_id: ClientId,
        /// Why.
        error: &'a Error<'a>,
    },
    /// A command was not answered in time, five times again: it is on the failed list until the next connection or `retry`.
    Parked {
        /// Where; none for the creation of a group.
        conversation: Option<ConversationId>,
        /// Which command.
        client_id: ClientId,
    },
    /// The outbox of the conversation starts at another number. Store it before the next `transmit`.
    Renumbered {
        /// Where.
        conversation: ConversationId,
        /// Of the first command.
        number: CommandNumber,
    },
    /// A group was created.
    GroupCreated {
        /// Which creation.
        client_id: ClientId,
        /// The group.
        created: &'a GroupCreated,
    },
    /// The answer to `history`.
    History {
        /// Which request.
        request: RequestHandle,
        /// Records, skips.
        range: &'a Range<'a>,
    },
    /// The answer to `members`.
    Members {
        /// Which request.
        request: RequestHandle,
        /// A page.
        page: &'a MembersPage<'a>,
    },
    /// A row of the user's list, while synchronising or after a change.
    Conversation(&'a ConversationRow),
    /// A request of the application failed.
    RequestFailed {
        /// Which one.
        request: RequestHandle,
        /// Why.
        failure: RequestFailure,
    },
    /// The new token was taken.
    TokenTaken,
    /// What waited at `Welcome` has been pushed or announced.
    DrainDone,
    /// Somebody types.
    Typing(&'a Typing),
    /// How far others are.
    Receipts(&'a Receipts<'a>),
    /// How far the user has read on another device.
    ReadSync(&'a ReadSync),
    /// The gateway asks to slow down; the machine does.
    Throttled(&'a Throttle),
    /// The gateway closes soon; the machine comes back in the range given.
    GoingAway(&'a GoAway),
    /// An error that belongs to no command or request.
    Notice(&'a Error<'a>),
}
