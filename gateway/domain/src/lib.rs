//! The rules about people and conversations.
//!
//! Each feature file holds a state, `decide` (what a command becomes) and `apply` (the only mutation, the same
//! live, in recovery and when a stream is loaded). This room knows no byte of the wire or the disk, no clock and
//! no randomness of its own; nothing here waits.
#![forbid(unsafe_code)]

mod conversation;
mod devices;
mod fit;
mod group_id;
mod limits;
mod membership;
mod message_id;
mod number;
mod queue;
mod quota;
mod reject;
mod route;
mod user;
mod window;

pub use conversation::{Author, Change, Conversation, Record};
pub use devices::{Device, Devices, Registration};
pub use fit::{GivenUp, UserStateBytes};
pub use group_id::group_id;
pub use limits::{
    CREDIT_BYTES_MAX, CREDIT_FRAMES_MAX, DEVICE_UNSEEN_MS_MAX, DEVICES_PER_USER_MAX, DUPLICATES_ANSWERED_MAX,
    DomainLimits, GROUP_NAME_BYTES_MAX, INTERVALS_PER_GROUP_MAX, NUMBERS_PER_CONVERSATION_MAX,
};
pub use membership::{Interval, Member, Membership};
pub use message_id::{Generator, message_id};
pub use number::{DeviceNumbers, LastCommand, NumberVerdict};
pub use queue::{
    AboveWindow, Announcement, Answer, AskedRange, Consumed, DeviceQueue, NoCredit, Push, QueueChange,
};
pub use quota::{Quota, RateClass};
pub use reject::Reject;
pub use route::{HASH_VERSION, Route, virtual_shard};
pub use user::{ConversationEntry, User, UserRecord};
pub use window::{Window, WindowEntry, WindowPool};
