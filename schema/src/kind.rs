//! What a frame's body is.

macro_rules! frame_kinds {
    ($($(#[$doc:meta])* $name:ident = $value:literal,)*) => {
        /// The number in a frame's header that names its body; PROTOCOL, "Frames". Never used again.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum FrameKind { $($(#[$doc])* $name = $value,)* }

        impl FrameKind {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The name, as PROTOCOL writes it.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }
        }

        impl TryFrom<u16> for FrameKind {
            type Error = UnknownKind;

            fn try_from(value: u16) -> Result<Self, UnknownKind> {
                match value { $($value => Ok(Self::$name),)* _ => Err(UnknownKind(value)) }
            }
        }

        #[cfg(test)]
        const GENERATED: &[(FrameKind, tidegate_schema_generated::FrameKind)] =
            &[$((FrameKind::$name, tidegate_schema_generated::FrameKind::$name)),*];
    };
}

/// A number that names no kind known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownKind(pub u16);

frame_kinds! {
    /// C: the first frame of a connection.
    Hello = 0x0001,
    /// S: the reply to `Hello`.
    Welcome = 0x0002,
    /// C: a new token.
    Refresh = 0x0003,
    /// S: done.
    Ok = 0x0004,
    /// C, a header alone: everything up to this push number is stored.
    Ack = 0x0005,
    /// C and S, a header alone.
    Ping = 0x0006,
    /// C and S, a header alone.
    Pong = 0x0007,
    /// C: active, inactive, background.
    ClientState = 0x0008,
    /// S: what waited at `Welcome` has been pushed or announced.
    DrainDone = 0x0009,
    /// S: send nothing for a while.
    Throttle = 0x000A,
    /// S: the socket closes soon.
    GoAway = 0x000B,
    /// S: a refused request.
    Error = 0x000C,
    /// C: a message.
    Send = 0x0101,
    /// S: a command that is synced.
    SendAck = 0x0102,
    /// C: messages in order.
    SendBatch = 0x0103,
    /// S: a record.
    Deliver = 0x0104,
    /// S: a range too long to push.
    Dirty = 0x0105,
    /// S: a hole that will not be filled.
    Skip = 0x0106,
    /// C: asks for records.
    GetRange = 0x0107,
    /// S: the reply to `GetRange`.
    Range = 0x0108,
    /// C: asks for conversations.
    ConversationList = 0x0109,
    /// S: the reply to `ConversationList`.
    ConversationPage = 0x010A,
    /// C and S: somebody is typing.
    Typing = 0x010B,
    /// C: reserved, unsupported so far.
    Edit = 0x010C,
    /// C: reserved, unsupported so far.
    Delete = 0x010D,
    /// C: reserved, unsupported so far.
    React = 0x010E,
    /// C: reserved, unsupported so far.
    Pin = 0x010F,
    /// C: a new group.
    GroupCreate = 0x0201,
    /// S: the reply to `GroupCreate`.
    GroupCreated = 0x0202,
    /// C: users join.
    MembersAdd = 0x0203,
    /// C: users are removed.
    MembersRemove = 0x0204,
    /// C: the user leaves.
    Leave = 0x0205,
    /// C: asks for members.
    MembersGet = 0x0206,
    /// S: the reply to `MembersGet`.
    MembersPage = 0x0207,
    /// C: delivered and read up to.
    Mark = 0x0240,
    /// S: how far others are.
    Receipts = 0x0241,
    /// S: how far the user has read on another device.
    ReadSync = 0x0242,
}

impl FrameKind {
    /// Whether such a frame is a header alone.
    #[must_use]
    pub const fn is_header_alone(self) -> bool {
        matches!(self, Self::Ack | Self::Ping | Self::Pong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_schema() {
        for (ours, generated) in GENERATED {
            assert_eq!(*ours as u16, generated.0, "{}", ours.label());
            assert_eq!(FrameKind::try_from(generated.0), Ok(*ours));
        }
        // The schema also names 0, which is no kind.
        assert_eq!(FrameKind::ALL.len() + 1, tidegate_schema_generated::FrameKind::ENUM_VALUES.len());
        assert_eq!(FrameKind::try_from(0), Err(UnknownKind(0)));
    }

    #[test]
    fn the_numbers_rise() {
        assert!(FrameKind::ALL.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
