//! What travels between shards: requests to a conversation's home, results to a user's home.
//!
//! The edge extracts what a home must know into fixed fields, so that homes, logs and recipients' shards never read
//! FlatBuffers (DECISIONS, Mesh). Both ends are this process, of this version: a frame that does not decode is our bug.

use crate::bytes::{Reader, UserList, Writer};
use crate::event::TransferKey;
use tidegate_domain::{Answer, Author, Member};
use tidegate_ids::{
    Attempt, ClientId, CommandNumber, ConversationId, DeviceId, Generation, Position, RequestId, Sequence,
    UserId, WallMs,
};

/// Who asked, on which connection, and under which id: every request, answer and acknowledgement carries it, and the
/// user's home drops what belongs to another generation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) user: UserId,
    pub(crate) device: DeviceId,
    pub(crate) generation: Generation,
    pub(crate) request: RequestId,
    /// The item of a `SendBatch`, or the row of a list.
    pub(crate) index: u16,
}

impl Origin {
    pub(crate) const fn author(&self) -> Author {
        Author { user: self.user, device: self.device }
    }
}

/// Which part of a conversation a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Span {
    Before(Sequence),
    After(Sequence),
    Between(Sequence, Sequence),
}

/// A membership command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MemberCommand<'a> {
    Add { version: Sequence, users: UserList<'a> },
    Remove { version: Sequence, users: UserList<'a> },
    Leave,
}

/// From the edge to a conversation's home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request<'a> {
    Send {
        origin: Origin,
        conversation: ConversationId,
        number: CommandNumber,
        client_id: ClientId,
        countable: bool,
        message: &'a [u8],
    },
    Drain {
        origin: Origin,
        conversation: ConversationId,
        from: Sequence,
    },
    Range {
        origin: Origin,
        conversation: ConversationId,
        span: Span,
        limit: u16,
    },
    Create {
        origin: Origin,
        conversation: ConversationId,
        client_id: ClientId,
        name: &'a [u8],
        users: UserList<'a>,
    },
    Members {
        origin: Origin,
        conversation: ConversationId,
        number: CommandNumber,
        client_id: ClientId,
        command: MemberCommand<'a>,
    },
    MembersGet {
        origin: Origin,
        conversation: ConversationId,
        after: UserId,
        limit: u16,
    },
    Row {
        origin: Origin,
        conversation: ConversationId,
    },
    HandOver {
        key: TransferKey,
        origin: Origin,
        attempt: Attempt,
        credit: u16,
        active: bool,
        unlimited: bool,
        expires: WallMs,
        version: u16,
        leftover: &'a [u8],
    },
}

/// What a reply settles at the user's home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplyClass {
    /// One unanswered command.
    Command,
    /// One range in flight.
    Range,
}

/// Who is to get a shipped record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recipients<'a> {
    Listed(UserList<'a>),
    /// The target walks its slice.
    Sliced,
}

/// What a shipped record means for its recipients' lists of conversations and for slices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect<'a> {
    None,
    Joined(UserList<'a>),
    Left(UserList<'a>),
}

/// A committed record on its way to the recipients of one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shipped<'a> {
    /// Where it lies in the source's log; the default for a record that is fed again from an older log.
    pub(crate) position: Position,
    pub(crate) conversation: ConversationId,
    pub(crate) sequence: Sequence,
    pub(crate) author: Author,
    pub(crate) recipients: Recipients<'a>,
    pub(crate) effect: Effect<'a>,
    /// Stamp and message in their stored form.
    pub(crate) stored: &'a [u8],
}

/// One row of a conversation list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) head: Sequence,
    pub(crate) last_number: CommandNumber,
    pub(crate) last_activity: WallMs,
    /// Where the user's first stay begins.
    pub(crate) joined: Sequence,
}

/// From a conversation's home to a user's home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome<'a> {
    Record(Shipped<'a>),
    Slice {
        conversation: ConversationId,
        first: bool,
        stays: Stays<'a>,
    },
    SliceDrop {
        conversation: ConversationId,
    },
    Position(Position),
    RefeedDone,
    Reply {
        origin: Origin,
        class: ReplyClass,
        frame: &'a [u8],
    },
    Answer {
        origin: Origin,
        answer: Answer,
        dirty: bool,
        records: &'a [u8],
    },
    /// `None`: the conversation cannot be read now.
    Row {
        origin: Origin,
        conversation: ConversationId,
        row: Option<Row>,
    },
}

/// Stays as they lie in a frame: user, joined, left (0: lasts).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stays<'a>(pub(crate) &'a [u8]);

/// Bytes of one stay.
pub(crate) const STAY_BYTES: usize = 24;

impl Stays<'_> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = Member> + '_ {
        self.0.chunks_exact(STAY_BYTES).filter_map(|chunk| read_stay(&mut Reader(chunk)))
    }
}

pub(crate) fn write_stay(out: &mut Vec<u8>, member: &Member) {
    let left = member.interval.left.unwrap_or(Sequence(0));
    Writer(out).put(member.user).put(member.interval.joined).put(left);
}

pub(crate) fn read_stay(from: &mut Reader<'_>) -> Option<Member> {
    let (user, joined, left) = (from.take()?, from.take()?, from.take::<Sequence>()?);
    let left = (left.0 > 0).then_some(left);
    Some(Member { user, interval: tidegate_domain::Interval { joined, left } })
}

fn put_origin(out: &mut Writer<'_>, origin: &Origin) {
    out.put(origin.user).put(origin.device).put(origin.generation).put(origin.request).put(origin.index);
}

fn take_origin(from: &mut Reader<'_>) -> Option<Origin> {
    Some(Origin {
        user: from.take()?,
        device: from.take()?,
        generation: from.take()?,
        request: from.take()?,
        index: from.take()?,
    })
}

impl<'a> Request<'a> {
    /// Who asked; a hand-over asks for itself.
    pub(crate) const fn origin(&self) -> &Origin {
        match self {
            Self::Send { origin, .. }
            | Self::Drain { origin, .. }
            | Self::Range { origin, .. }
            | Self::Create { origin, .. }
            | Self::Members { origin, .. }
            | Self::MembersGet { origin, .. }
            | Self::Row { origin, .. }
            | Self::HandOver { origin, .. } => origin,
        }
    }

    /// The conversation it is about; a hand-over is about none.
    pub(crate) const fn conversation(&self) -> Option<&ConversationId> {
        match self {
            Self::Send { conversation, .. }
            | Self::Drain { conversation, .. }
            | Self::Range { conversation, .. }
            | Self::Create { conversation, .. }
            | Self::Members { conversation, .. }
            | Self::MembersGet { conversation, .. }
            | Self::Row { conversation, .. } => Some(conversation),
            Self::HandOver { .. } => None,
        }
    }

    /// Writes the fixed part; what is left over (message, leftover) follows as a part of its own.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) -> &'a [u8] {
        out.clear();
        let mut to = Writer(out);
        match *self {
            Self::Send { ref origin, conversation, number, client_id, countable, message } => {
                put_origin(to.put(1_u8), origin);
                to.put(conversation).put(number).put(client_id).put(countable);
                message
            }
            Self::Drain { ref origin, conversation, from } => {
                put_origin(to.put(2_u8), origin);
                to.put(conversation).put(from);
                &[]
            }
            Self::Range { ref origin, conversation, span, limit } => {
                put_origin(to.put(3_u8), origin);
                let (what, low, high) = match span {
                    Span::Before(at) => (0_u8, at, at),
                    Span::After(at) => (1, at, at),
                    Span::Between(low, high) => (2, low, high),
                };
                to.put(conversation).put(what).put(low).put(high).put(limit);
                &[]
            }
            Self::Create { ref origin, conversation, client_id, name, users } => {
                put_origin(to.put(4_u8), origin);
                to.put(conversation).put(client_id).put(name.len() as u16).bytes(name);
                users.0
            }
            Self::Members { ref origin, conversation, number, client_id, command } => {
                put_origin(to.put(5_u8), origin);
                let (what, version, users) = match command {
                    MemberCommand::Add { version, users } => (0_u8, version, users.0),
                    MemberCommand::Remove { version, users } => (1, version, users.0),
                    MemberCommand::Leave => (2, Sequence(0), &[][..]),
                };
                to.put(conversation).put(number).put(client_id).put(what).put(version);
                users
            }
            Self::MembersGet { ref origin, conversation, after, limit } => {
                put_origin(to.put(6_u8), origin);
                to.put(conversation).put(after).put(limit);
                &[]
            }
            Self::Row { ref origin, conversation } => {
                put_origin(to.put(7_u8), origin);
                to.put(conversation);
                &[]
            }
            Self::HandOver {
                key,
                ref origin,
                attempt,
                credit,
                active,
                unlimited,
                expires,
                version,
                leftover,
            } => {
                put_origin(to.put(8_u8), origin);
                to.put(key.0).put(attempt.0).put(credit).put(active).put(unlimited).put(expires).put(version);
                leftover
            }
        }
    }

    /// Reads a frame of the requests' lane.
    pub(crate) fn decode(frame: &'a [u8]) -> Option<Self> {
        let mut from = Reader(frame);
        let kind: u8 = from.take()?;
        let origin = take_origin(&mut from)?;
        Some(match kind {
            1 => Self::Send {
                origin,
                conversation: from.take()?,
                number: from.take()?,
                client_id: from.take()?,
                countable: from.take()?,
                message: from.0,
            },
            2 => Self::Drain { origin, conversation: from.take()?, from: from.take()? },
            3 => Self::decode_range(origin, from)?,
            4 => {
                let (conversation, client_id) = (from.take()?, from.take()?);
                let name_len: u16 = from.take()?;
                let name = from.bytes(name_len.into())?;
                Self::Create { origin, conversation, client_id, name, users: UserList(from.0) }
            }
            5 => Self::decode_members(origin, from)?,
            6 => Self::MembersGet {
                origin,
                conversation: from.take()?,
                after: from.take()?,
                limit: from.take()?,
            },
            7 => Self::Row { origin, conversation: from.take()? },
            8 => Self::HandOver {
                key: TransferKey(from.take()?),
                origin,
                attempt: Attempt(from.take()?),
                credit: from.take()?,
                active: from.take()?,
                unlimited: from.take()?,
                expires: from.take()?,
                version: from.take()?,
                leftover: from.0,
            },
            _ => return None,
        })
    }

    fn decode_range(origin: Origin, mut from: Reader<'a>) -> Option<Self> {
        let conversation = from.take()?;
        let what: u8 = from.take()?;
        let (low, high) = (from.take()?, from.take()?);
        let span = match what {
            0 => Span::Before(low),
            1 => Span::After(low),
            _ => Span::Between(low, high),
        };
        Some(Self::Range { origin, conversation, span, limit: from.take()? })
    }

    fn decode_members(origin: Origin, mut from: Reader<'a>) -> Option<Self> {
        let (conversation, number, client_id) = (from.take()?, from.take()?, from.take()?);
        let what: u8 = from.take()?;
        let version = from.take()?;
        let users = UserList(from.0);
        let command = match what {
            0 => MemberCommand::Add { version, users },
            1 => MemberCommand::Remove { version, users },
            _ => MemberCommand::Leave,
        };
        Some(Self::Members { origin, conversation, number, client_id, command })
    }
}

impl<'a> Outcome<'a> {
    /// Writes the fixed part; what is left over (stored record, frame, records) follows as a part of its own.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) -> &'a [u8] {
        out.clear();
        let mut to = Writer(out);
        match *self {
            Self::Record(ref shipped) => {
                let effect = match shipped.effect {
                    Effect::None => (0_u8, UserList(&[])),
                    Effect::Joined(users) => (1, users),
                    Effect::Left(users) => (2, users),
                };
                let (sliced, listed) = match shipped.recipients {
                    Recipients::Listed(users) => (false, users),
                    Recipients::Sliced => (true, UserList(&[])),
                };
                to.put(1_u8).put(shipped.position).put(shipped.conversation).put(shipped.sequence);
                to.put(shipped.author.user).put(shipped.author.device).put(effect.0).put(sliced);
                to.put(effect.1.len() as u32).bytes(effect.1.0).put(listed.len() as u32).bytes(listed.0);
                shipped.stored
            }
            Self::Slice { conversation, first, stays } => {
                to.put(2_u8).put(conversation).put(first);
                stays.0
            }
            Self::SliceDrop { conversation } => {
                to.put(3_u8).put(conversation);
                &[]
            }
            Self::Position(position) => {
                to.put(4_u8).put(position);
                &[]
            }
            Self::RefeedDone => {
                to.put(5_u8);
                &[]
            }
            Self::Reply { ref origin, class, frame } => {
                put_origin(to.put(6_u8).put(class == ReplyClass::Range), origin);
                frame
            }
            Self::Answer { ref origin, answer, dirty, records } => {
                put_origin(to.put(7_u8), origin);
                to.put(answer.conversation)
                    .put(answer.from)
                    .put(answer.covered)
                    .put(answer.complete)
                    .put(dirty);
                records
            }
            Self::Row { ref origin, conversation, row } => {
                put_origin(to.put(8_u8), origin);
                to.put(conversation).put(row.is_some());
                if let Some(row) = row {
                    to.put(row.head).put(row.last_number).put(row.last_activity).put(row.joined);
                }
                &[]
            }
        }
    }

    /// Reads a frame of the results' lane.
    pub(crate) fn decode(frame: &'a [u8]) -> Option<Self> {
        let mut from = Reader(frame);
        Some(match from.take::<u8>()? {
            1 => Self::Record(Self::decode_record(from)?),
            2 => Self::Slice { conversation: from.take()?, first: from.take()?, stays: Stays(from.0) },
            3 => Self::SliceDrop { conversation: from.take()? },
            4 => Self::Position(from.take()?),
            5 => Self::RefeedDone,
            6 => {
                let class = if from.take()? { ReplyClass::Range } else { ReplyClass::Command };
                Self::Reply { origin: take_origin(&mut from)?, class, frame: from.0 }
            }
            7 => {
                let origin = take_origin(&mut from)?;
                let answer = Answer {
                    conversation: from.take()?,
                    from: from.take()?,
                    covered: from.take()?,
                    complete: from.take()?,
                };
                Self::Answer { origin, answer, dirty: from.take()?, records: from.0 }
            }
            8 => {
                let (origin, conversation) = (take_origin(&mut from)?, from.take()?);
                let is_known: bool = from.take()?;
                let row = if is_known {
                    Some(Row {
                        head: from.take()?,
                        last_number: from.take()?,
                        last_activity: from.take()?,
                        joined: from.take()?,
                    })
                } else {
                    None
                };
                Self::Row { origin, conversation, row }
            }
            _ => return None,
        })
    }

    fn decode_record(mut from: Reader<'a>) -> Option<Shipped<'a>> {
        let (position, conversation, sequence) = (from.take()?, from.take()?, from.take()?);
        let author = Author { user: from.take()?, device: from.take()? };
        let (effect, sliced): (u8, bool) = (from.take()?, from.take()?);
        let count: u32 = from.take()?;
        let changed = UserList(from.bytes(count as usize * 8)?);
        let count: u32 = from.take()?;
        let listed = UserList(from.bytes(count as usize * 8)?);
        let effect = match effect {
            0 => Effect::None,
            1 => Effect::Joined(changed),
            _ => Effect::Left(changed),
        };
        let recipients = if sliced { Recipients::Sliced } else { Recipients::Listed(listed) };
        Some(Shipped { position, conversation, sequence, author, recipients, effect, stored: from.0 })
    }
}

#[cfg(test)]
#[path = "mesh_frame/tests.rs"]
mod tests;
