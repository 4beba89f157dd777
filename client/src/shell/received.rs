//! Events that own what they say.

use crate::event::{ConnectionState, Event, RequestFailure, RequestHandle, Source};
use tidegate_ids::{ClientId, CommandNumber, ConversationId, Sequence};
use tidegate_schema::{
    ConversationRow, ErrorCode, GoAway, GroupCreated, Member, ReadSync, Receipt, SendAck, SkipReason,
    SkipSpan, Stamp, Throttle, Typing, Welcome,
};

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Conversation, sequence, sender, times.
    pub stamp: Stamp,
    /// An encoded `Message`; read it with `MessageFields::verify`.
    pub message: Vec<u8>,
}

/// As [`Event`], whose documentation says what each means.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the fields are those of Event")]
pub enum Received {
    /// The connection changed.
    State(ConnectionState),
    /// A token is wanted: `set_token`.
    TokenNeeded,
    /// The new token was taken.
    TokenTaken,
    /// The gateway knows us.
    Welcomed(Welcome),
    /// A record of a conversation, in order, once.
    Message(Record),
    /// A record that was fetched: as `Message`.
    Fetched(Record),
    /// Records that are not to be had.
    Skipped { conversation: ConversationId, from: Sequence, to: Sequence, reason: SkipReason },
    /// Records that will be fetched.
    Duty { conversation: ConversationId, from: Sequence, to: Sequence, mentions: u32 },
    /// Where a conversation begins.
    Begins { conversation: ConversationId, next: Sequence },
    /// Records above the head are gone.
    DropAbove { conversation: ConversationId, head: Sequence },
    /// A command is synced.
    Sent { conversation: ConversationId, client_id: ClientId, number: CommandNumber, ack: SendAck },
    /// A command was refused for good.
    Refused { conversation: Option<ConversationId>, client_id: ClientId, code: ErrorCode, text: String },
    /// A command is on the failed list.
    Parked { conversation: Option<ConversationId>, client_id: ClientId },
    /// An outbox starts at another number.
    Renumbered { conversation: ConversationId, number: CommandNumber },
    /// A group was created.
    GroupCreated { client_id: ClientId, created: GroupCreated },
    /// The answer to `history`.
    History {
        request: RequestHandle,
        records: Vec<Record>,
        skips: Vec<SkipSpan>,
        head: Sequence,
        complete: bool,
    },
    /// The answer to `members`.
    Members { request: RequestHandle, members: Vec<Member>, member_version: u64, more: bool },
    /// A row of the user's list.
    Conversation(ConversationRow),
    /// A request failed.
    RequestFailed { request: RequestHandle, failure: RequestFailure },
    /// What waited at `Welcome` has been pushed or announced.
    DrainDone,
    /// Somebody types.
    Typing(Typing),
    /// How far others are.
    Receipts { conversation: ConversationId, rows: Vec<Receipt> },
    /// How far the user has read on another device.
    ReadSync(ReadSync),
    /// The gateway asks to slow down.
    Throttled(Throttle),
    /// The gateway closes soon.
    GoingAway(GoAway),
    /// An error that belongs to nothing.
    Notice { code: ErrorCode, text: String },
}

impl Received {
    /// An event with what it borrows copied. Records of a history that do not read are left out.
    pub(super) fn from_event(event: &Event<'_>) -> Option<Self> {
        Some(match *event {
            Event::State(state) => Self::State(state),
            Event::TokenNeeded => Self::TokenNeeded,
            Event::TokenTaken => Self::TokenTaken,
            Event::Welcomed(welcome) => Self::Welcomed(*welcome),
            Event::Message { stamp, message, source } => {
                let record = Record { stamp: *stamp, message: message.to_vec() };
                match source {
                    Source::Push => Self::Message(record),
                    Source::Fetch => Self::Fetched(record),
                }
            }
            Event::Skipped { conversation, from, to, reason } => {
                Self::Skipped { conversation, from, to, reason }
            }
            Event::Duty { conversation, from, to, mentions } => {
                Self::Duty { conversation, from, to, mentions }
            }
            Event::Begins { conversation, next } => Self::Begins { conversation, next },
            Event::DropAbove { conversation, head } => Self::DropAbove { conversation, head },
            Event::Sent { conversation, client_id, number, ack } => {
                Self::Sent { conversation, client_id, number, ack: *ack }
            }
            Event::Refused { conversation, client_id, error } => {
                Self::Refused { conversation, client_id, code: error.code, text: text(error.text) }
            }
            Event::Parked { conversation, client_id } => Self::Parked { conversation, client_id },
            Event::Renumbered { conversation, number } => Self::Renumbered { conversation, number },
            Event::GroupCreated { client_id, created } => Self::GroupCreated { client_id, created: *created },
            Event::Members { request, page } => Self::Members {
                request,
                members: page.members.iter().collect(),
                member_version: page.member_version,
                more: page.more,
            },
            Event::Conversation(row) => Self::Conversation(*row),
            Event::RequestFailed { request, failure } => Self::RequestFailed { request, failure },
            Event::DrainDone => Self::DrainDone,
            Event::Typing(typing) => Self::Typing(*typing),
            Event::ReadSync(read) => Self::ReadSync(*read),
            Event::Throttled(throttle) => Self::Throttled(*throttle),
            Event::GoingAway(go_away) => Self::GoingAway(*go_away),
            Event::Notice(error) => Self::Notice { code: error.code, text: text(error.text) },
            Event::History { .. } | Event::Receipts(_) => return Self::from_list(event),
        })
    }

    fn from_list(event: &Event<'_>) -> Option<Self> {
        match *event {
            Event::History { request, range } => {
                let records = range.iter().map_while(Result::ok);
                let records =
                    records.map(|record| Record { stamp: record.stamp, message: record.message.to_vec() });
                Some(Self::History {
                    request,
                    records: records.collect(),
                    skips: range.skips.iter().collect(),
                    head: range.head,
                    complete: range.complete,
                })
            }
            Event::Receipts(receipts) => {
                let rows = receipts.rows.iter().collect();
                Some(Self::Receipts { conversation: receipts.conversation, rows })
            }
            _ => None,
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
