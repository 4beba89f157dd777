//! Errors of the application's calls. All are the caller's to handle: wait for answers, or say less.

use core::fmt;

/// Why a command was not taken into the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// The outbox has as many commands or bytes as it may; wait for answers.
    OutboxFull,
    /// The encoded message has more than 72 KiB, or a list or name is longer than the protocol takes.
    TooLarge,
    /// The bytes name no conversation, a group command was given a direct one, or a list of users is empty.
    BadConversation,
    /// The device knows as many conversations as it may.
    TooManyConversations,
    /// A command with this client id is in the conversation's outbox.
    DuplicateClientId,
}

/// Why a request was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// The connection is not ready; requests are not kept.
    NotReady,
    /// Too many requests wait for their answer.
    TooMany,
    /// A limit of 0 or above the protocol's.
    BadLimit,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OutboxFull => "the outbox is full",
            Self::TooLarge => "the command is too large",
            Self::BadConversation => "not a conversation for this command",
            Self::TooManyConversations => "too many conversations",
            Self::DuplicateClientId => "a command with this client id waits already",
        })
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotReady => "the connection is not ready",
            Self::TooMany => "too many requests wait",
            Self::BadLimit => "the limit is out of range",
        })
    }
}

impl core::error::Error for SendError {}
impl core::error::Error for RequestError {}
