//! What an application keeps between two runs, so that a device continues where it was.

use tidegate_ids::{
    Attempt, ClientId, CommandNumber, ConversationId, DeviceId, Incarnation, Sequence, UserId, UserVersion,
};

/// The durable state of one device. `Stored::new` with a device id that was never used before is a new installation;
/// an id whose state was lost is best replaced by a new one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// The installation: random, below 2^53, made once.
    pub device: DeviceId,
    /// Of the last connect.
    pub attempt: Attempt,
    /// Who the last `Welcome` said it is; 0: none yet.
    pub user: UserId,
    /// Of the gateway's data at the last completed synchronisation; 0: none yet.
    pub incarnation: Incarnation,
    /// A synchronisation was begun and did not come to its end, or may have been asked for by a `Welcome` that never came:
    /// the gateway asks once. It is done at the next connect.
    pub owes_sync: bool,
    /// Of the user's list of conversations.
    pub user_version: UserVersion,
    /// Conversations that were seen.
    pub conversations: Vec<StoredConversation>,
    /// Creations of groups without an answer.
    pub creations: Vec<StoredCreation>,
}

/// One conversation of a [`Stored`]. `number` and `outbox` belong together, and so do `next` and `duty_to`: each pair is
/// written at once, as [`crate::Machine::stored_conversation`] gives it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredConversation {
    /// Which.
    pub conversation: ConversationId,
    /// The number of the outbox's first command, or of the next command if it is empty. At least 1.
    pub number: CommandNumber,
    /// The lowest sequence not yet stored by the application; 0: where it begins is not known yet.
    pub next: Sequence,
    /// The duty: everything from `next` to here is to be fetched. Below `next`: none.
    pub duty_to: Sequence,
    /// Commands without an answer, in order.
    pub outbox: Vec<StoredCommand>,
}

/// A command of an outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCommand {
    /// The client's own id.
    pub client_id: ClientId,
    /// What to do.
    pub command: Command,
}

/// A numbered command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// An encoded `Message`.
    Send(Vec<u8>),
    /// Users join.
    MembersAdd(MembersCommand),
    /// Users are removed.
    MembersRemove(MembersCommand),
    /// The user leaves.
    Leave,
}

/// A change of members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembersCommand {
    /// The version that was seen; 0: whatever it is.
    pub member_version: u64,
    /// Who.
    pub users: Vec<UserId>,
}

/// A creation of a group without an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCreation {
    /// The client's own id, from which the group's id follows.
    pub client_id: ClientId,
    /// UTF-8 by convention.
    pub name: Vec<u8>,
    /// Who is in it besides the creator.
    pub users: Vec<UserId>,
}

impl Stored {
    /// A new installation.
    #[must_use]
    pub fn new(device: DeviceId) -> Self {
        Self { device, ..Self::default() }
    }
}

impl Command {
    /// Bytes that it takes in the outbox, about.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        match self {
            Self::Send(message) => message.len(),
            Self::MembersAdd(change) | Self::MembersRemove(change) => change.users.len() * 8,
            Self::Leave => 0,
        }
    }
}
