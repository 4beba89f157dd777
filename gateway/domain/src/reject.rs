//! Why a command is refused. The edge turns these into PROTOCOL's codes.

use tidegate_ids::CommandNumber;

/// A refusal. A refused command consumes no number, so order holds through refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    /// The number is not the next: the device resends from `expected`.
    OutOfOrder {
        /// The number that is accepted next.
        expected: CommandNumber,
    },
    /// The same number was taken by a command with another client id: the device takes a new number.
    IdempotencyConflict {
        /// The number that is accepted next.
        expected: CommandNumber,
    },
    /// No such conversation.
    NoConversation,
    /// The sender is not a member now (or, for a range, never was).
    NotMember,
    /// The group has as many members, or intervals, as it may.
    GroupFull,
    /// The member version that the command saw has moved: read the members again.
    VersionConflict,
    /// The member's role does not allow this.
    Forbidden,
    /// The command names nothing that can be done.
    BadArgument,
    /// A count of this user's or conversation's is used up.
    Quota,
}
