//! Newtypes over integers and 16-byte ids.

use core::fmt;

/// The largest integer that may stand in a `u64` field on the wire: 2^53 − 1, what a browser holds exactly.
pub const INTEGER_MAX: u64 = (1 << 53) - 1;

/// How many virtual shards users and conversations hash to (DESIGN 1).
pub const VIRTUAL_SHARDS: u16 = 1024;

macro_rules! integer {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl $name {
            /// The value as an integer.
            #[must_use]
            pub const fn get(self) -> $inner {
                self.0
            }
        }

        impl From<$inner> for $name {
            fn from(value: $inner) -> Self {
                Self(value)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

macro_rules! successor {
    ($($name:ident),*) => { $(impl $name {
        /// The first one of its kind; 0 means none.
        pub const FIRST: Self = Self(1);

        /// The one after this.
        #[must_use]
        pub const fn next(self) -> Self {
            Self(self.0 + 1)
        }
    })* };
}

integer!(/// A person. Below 2^53.
    UserId, u64);
integer!(/// An installation of a client, made once per installation, scoped to its user. Below 2^53.
    DeviceId, u64);
integer!(/// A place in a conversation's total order: 1, 2, 3 …; 0 means none.
    Sequence, u64);
integer!(/// The number of a device's command in one conversation: 1, 2, 3 …; 0 asks for the expected one.
    CommandNumber, u64);
integer!(/// A running count of the countable records of a conversation.
    Countable, u64);
integer!(/// The number of a push on one connection: 1, 2, 3 …
    PushNumber, u64);
integer!(/// A request id that the client chose; replies carry it.
    RequestId, u64);
integer!(/// A counter that the client keeps, rising with every connect; the higher socket wins.
    Attempt, u64);
integer!(/// A connection of a device at its user's home; never used twice while a shard lives.
    Generation, u64);
integer!(/// The number of a batch in one log: 1, 2, 3 …; 0 means before the first.
    BatchNumber, u64);
integer!(/// The version of a user's list of conversations.
    UserVersion, u64);
integer!(/// The incarnation of a data directory; changes with a restore or a repair.
    Incarnation, u64);
integer!(/// One of the node's pinned threads.
    ShardIndex, u16);
integer!(/// One of [`VIRTUAL_SHARDS`] places that users and conversations hash to.
    VirtualShard, u16);
successor!(Sequence, CommandNumber, PushNumber, Generation, BatchNumber);

macro_rules! bytes16 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 16]);

        impl $name {
            /// The sixteen bytes, as they stand on the wire.
            #[must_use]
            pub const fn bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }
    };
}

bytes16!(/// A message's id: a UUIDv7, made by the conversation's home.
    MessageId);
bytes16!(/// A client's own id of a command, 128 bits.
    ClientId);
