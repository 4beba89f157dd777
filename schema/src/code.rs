//! Error codes and close codes (PROTOCOL, "Errors" and "Closes").

macro_rules! error_codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal $label:literal $temporary:literal $sentence:literal,)*) => {
        /// Why a request was refused. Never used again for something else.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ErrorCode {
            $($(#[$doc])* $name,)*
            /// A code that this version does not know; the frame says whether it is temporary.
            Other(u16),
        }

        impl ErrorCode {
            /// All that are known, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The number on the wire.
            #[must_use]
            pub const fn get(self) -> u16 {
                match self { $(Self::$name => $value,)* Self::Other(value) => value }
            }

            /// The name, as PROTOCOL writes it.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)* Self::Other(_) => "OTHER" }
            }

            /// What it means, in a sentence for people.
            #[must_use]
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$name => $sentence,)* Self::Other(_) => "The request was refused." }
            }

            /// Whether the same request may succeed later.
            #[must_use]
            pub const fn is_temporary(self) -> bool {
                match self { $(Self::$name => $temporary,)* Self::Other(_) => false }
            }
        }

        impl From<u16> for ErrorCode {
            fn from(value: u16) -> Self {
                match value { $($value => Self::$name,)* _ => Self::Other(value) }
            }
        }

        #[cfg(test)]
        const GENERATED: &[(ErrorCode, tidegate_schema_generated::ErrorCode)] =
            &[$((ErrorCode::$name, tidegate_schema_generated::ErrorCode::$name)),*];
    };
}

error_codes! {
    /// A fault of the gateway.
    Internal = 100 "INTERNAL" true
        "The gateway has made a mistake.",
    /// What the request needs is not reachable now.
    Unavailable = 101 "UNAVAILABLE" true
        "What this needs cannot be reached at the moment.",
    /// A queue or table is full.
    Overloaded = 102 "OVERLOADED" true
        "The gateway is busy at the moment.",
    /// Too many requests; the frame says how long to wait.
    RateLimited = 103 "RATE_LIMITED" true
        "Rate limit exceeded. Please slow down.",
    /// No answer in time.
    Timeout = 104 "TIMEOUT" true
        "There was no answer in time.",
    /// A body that does not verify.
    BadFrame = 200 "BAD_FRAME" false
        "The frame's body is not sound.",
    /// An unknown kind of request.
    Unsupported = 201 "UNSUPPORTED" false
        "The gateway does not support this.",
    /// A field with a value that makes no sense.
    BadArgument = 202 "BAD_ARGUMENT" false
        "A field has a value that makes no sense.",
    /// Above a limit of bytes or counts.
    TooLarge = 203 "TOO_LARGE" false
        "This is larger than the gateway takes.",
    /// No token, or not a valid one.
    Unauthenticated = 300 "UNAUTHENTICATED" false
        "The token is not valid.",
    /// The token has expired: take a new one.
    TokenExpired = 301 "TOKEN_EXPIRED" true
        "The token has expired.",
    /// The user may not do this.
    Forbidden = 302 "FORBIDDEN" false
        "You may not do this.",
    /// The user is suspended.
    Suspended = 303 "SUSPENDED" false
        "Your account is suspended.",
    /// The other side blocks the user.
    Blocked = 304 "BLOCKED" false
        "The other side does not take messages from you.",
    /// There is no such conversation.
    NoConversation = 400 "NO_CONVERSATION" false
        "There is no such conversation.",
    /// The user is not a member.
    NotMember = 401 "NOT_MEMBER" false
        "You are not a member of this conversation.",
    /// The group is full.
    GroupFull = 402 "GROUP_FULL" false
        "The group has as many members as it may have.",
    /// The member version has moved.
    VersionConflict = 403 "VERSION_CONFLICT" false
        "The members have changed meanwhile.",
    /// There is no such thing.
    NotFound = 404 "NOT_FOUND" false
        "There is no such thing.",
    /// Below the first available sequence, or above the head.
    SequenceUnavailable = 405 "SEQUENCE_UNAVAILABLE" false
        "This part of the conversation is not available.",
    /// The same number or client id for something else.
    IdempotencyConflict = 410 "IDEMPOTENCY_CONFLICT" false
        "Another command has this number already.",
    /// Not the next number; the frame says which is.
    OutOfOrder = 411 "OUT_OF_ORDER" true
        "This is not the command that is expected next.",
    /// The sender's list of devices is old.
    StaleDevices = 500 "STALE_DEVICES" false
        "The list of devices is out of date.",
    /// No prekey is left.
    NoPrekeys = 501 "NO_PREKEYS" false
        "No key is left to begin with.",
    /// The encryption epoch has moved.
    EpochConflict = 502 "EPOCH_CONFLICT" false
        "The encryption has moved on meanwhile.",
    /// The conversation takes sealed messages only.
    EncryptionRequired = 503 "ENCRYPTION_REQUIRED" false
        "The conversation takes sealed messages only.",
    /// Refused by moderation.
    Moderated = 600 "MODERATED" false
        "The message was refused by moderation.",
    /// A quota is used up.
    Quota = 601 "QUOTA" false
        "A quota is used up.",
}

impl ErrorCode {
    /// How many places [`ErrorCode::index`] has, [`ErrorCode::Other`] included: the size of a table of counters.
    pub const COUNT: usize = Self::ALL.len() + 1;

    /// A dense index for counters; [`ErrorCode::Other`] has the last one.
    #[must_use]
    pub fn index(self) -> usize {
        Self::ALL.iter().position(|code| *code == self).unwrap_or(Self::ALL.len())
    }
}

macro_rules! close_codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal,)*) => {
        impl CloseCode {
            $($(#[$doc])* pub const $name: Self = Self($value);)*

            /// All that the protocol names, with their names, in the order of their numbers.
            pub const ALL: &'static [(Self, &'static str)] = &[$((Self::$name, stringify!($name)),)*];
        }
    };
}

/// Why a WebSocket closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CloseCode(pub u16);

close_codes! {
    /// RFC 6455: done.
    NORMAL = 1000,
    /// RFC 6455: text on a route that takes binary messages only.
    UNSUPPORTED_DATA = 1003,
    /// RFC 6455: a message above the limit.
    TOO_BIG = 1009,
    /// RFC 6455: a pool is empty; try again later.
    TRY_AGAIN = 1013,
    /// Reconnect after the jitter given.
    GOING_AWAY = 4000,
    /// Get a new token first.
    UNAUTHORIZED = 4001,
    /// A newer socket of the same device; stop.
    REPLACED = 4002,
    /// The socket was full for too long.
    SLOW_CONSUMER = 4008,
    /// Three silent periods; reconnect.
    HEARTBEAT = 4009,
    /// Back off.
    TOO_MANY_CONNECTIONS = 4029,
    /// Stop and report.
    PROTOCOL_ERROR = 4100,
    /// No protocol version in common.
    VERSION_TOO_OLD = 4101,
    /// Suspended or revoked; stop.
    SUSPENDED = 4103,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_those_of_the_schema() {
        for (ours, generated) in GENERATED {
            assert_eq!(ours.get(), generated.0, "{}", ours.label());
            assert_eq!(ErrorCode::from(generated.0), *ours);
        }
        // The schema also names 0, which is no error.
        assert_eq!(ErrorCode::ALL.len() + 1, tidegate_schema_generated::ErrorCode::ENUM_VALUES.len());
    }

    #[test]
    fn the_temporary_codes_are_those_of_the_protocol() {
        let temporary: Vec<u16> =
            ErrorCode::ALL.iter().filter(|code| code.is_temporary()).map(|code| code.get()).collect();
        assert_eq!(temporary, [100, 101, 102, 103, 104, 301, 411]);
    }

    #[test]
    fn indexes_are_dense() {
        for (index, code) in ErrorCode::ALL.iter().enumerate() {
            assert_eq!(code.index(), index);
        }
        assert_eq!(ErrorCode::from(999), ErrorCode::Other(999));
        assert_eq!(ErrorCode::Other(999).index(), ErrorCode::COUNT - 1);
    }
}
