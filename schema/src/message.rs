//! What travels as bytes inside `Send` and `Deliver`: a `Message`, and the `GroupChange` inside a system message.
//! Both are roots of their own, verified before they are read.

use crate::encoder::{Encoder, Root, TooLarge, Writer};
use crate::error::DecodeError;
use crate::limits::{
    ATTACHMENTS_MAX, MENTIONS_MAX, MESSAGE_BODY_BYTES_MAX, MESSAGE_BYTES_MAX, NAME_BYTES_MAX, TEXT_BYTES_MAX,
    USERS_MAX,
};
use crate::list::{Item, List, Users};
use crate::verify::{bytes, count, integer, integers, root};
use crate::wire_enum::wire_enum;
use flatbuffers::{ForwardsUOffset, WIPOffset};
use tidegate_ids::{ConversationId, Sequence, UserId};
use tidegate_schema_generated as wire;

/// The recipient's device makes no sound.
pub const FLAG_SILENT: u16 = wire::MessageFlag::Silent.bits();

/// The recipient's device makes itself heard.
pub const FLAG_URGENT: u16 = wire::MessageFlag::Urgent.bits();

/// What a message is; an unknown kind is passed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// UTF-8 by convention.
    #[default]
    Text,
    /// A picture.
    Image,
    /// A moving picture.
    Video,
    /// Sound.
    Audio,
    /// Somebody speaks.
    Voice,
    /// Something to read.
    Document,
    /// Any file.
    File,
    /// Encrypted between devices.
    Sealed,
    /// Made by the gateway: the body is a `GroupChange`.
    System,
    /// A kind of a newer version.
    Other(u16),
}

wire_enum! {
    /// What happened to a group.
    Change = Change {
        /// A change of a newer version.
        Unspecified,
        /// It was created with these users.
        Created,
        /// They joined.
        Added,
        /// They were removed.
        Removed,
        /// They left.
        Left,
    }
}

/// Media that a message refers to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attachment<'a> {
    /// Opaque reference to the stored media.
    pub media: &'a [u8],
    /// Its type.
    pub mime: &'a [u8],
    /// Its name.
    pub name: &'a [u8],
    /// Its bytes.
    pub size: u64,
}

/// Where a forwarded message came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The conversation.
    pub conversation: ConversationId,
    /// The place there.
    pub sequence: Sequence,
}

/// A message: written by [`Encoder::message`], read by [`MessageFields::verify`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageFields<'a> {
    /// What it is.
    pub kind: MessageKind,
    /// What it says; at most [`MESSAGE_BODY_BYTES_MAX`] bytes.
    pub body: &'a [u8],
    /// At most [`ATTACHMENTS_MAX`].
    pub attachments: Attachments<'a>,
    /// At most [`MENTIONS_MAX`] users.
    pub mentions: Users<'a>,
    /// Which record it answers; 0: none.
    pub reply_to: Sequence,
    /// Which record its thread starts with; 0: none.
    pub thread_root: Sequence,
    /// Where it was before.
    pub forwarded_from: Option<Origin>,
    /// Milliseconds after the stamp's time when it is gone; 0: never.
    pub expiry_ms: u64,
    /// [`FLAG_SILENT`], [`FLAG_URGENT`].
    pub flags: u16,
}

/// A verified message.
pub type MessageView<'a> = MessageFields<'a>;

/// A change of a group: written by [`Encoder::group_change`], read by [`GroupChange::verify`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupChange<'a> {
    /// What happened.
    pub change: Change,
    /// Who did it.
    pub actor: UserId,
    /// To whom.
    pub users: Users<'a>,
    /// The group's name, if it is about that.
    pub name: &'a [u8],
}

/// A verified change of a group.
pub type GroupChangeView<'a> = GroupChange<'a>;

/// The media of a message.
pub type Attachments<'a> = List<'a, Attachment<'a>, ForwardsUOffset<wire::Attachment<'a>>>;

impl MessageKind {
    const fn from_wire(wire: wire::MessageKind) -> Self {
        match wire {
            wire::MessageKind::Text => Self::Text,
            wire::MessageKind::Image => Self::Image,
            wire::MessageKind::Video => Self::Video,
            wire::MessageKind::Audio => Self::Audio,
            wire::MessageKind::Voice => Self::Voice,
            wire::MessageKind::Document => Self::Document,
            wire::MessageKind::File => Self::File,
            wire::MessageKind::Sealed => Self::Sealed,
            wire::MessageKind::System => Self::System,
            wire::MessageKind(other) => Self::Other(other),
        }
    }

    /// The number on the wire.
    #[must_use]
    pub const fn get(self) -> u16 {
        match self {
            Self::Text => wire::MessageKind::Text.0,
            Self::Image => wire::MessageKind::Image.0,
            Self::Video => wire::MessageKind::Video.0,
            Self::Audio => wire::MessageKind::Audio.0,
            Self::Voice => wire::MessageKind::Voice.0,
            Self::Document => wire::MessageKind::Document.0,
            Self::File => wire::MessageKind::File.0,
            Self::Sealed => wire::MessageKind::Sealed.0,
            Self::System => wire::MessageKind::System.0,
            Self::Other(other) => other,
        }
    }
}

impl From<u16> for MessageKind {
    fn from(value: u16) -> Self {
        Self::from_wire(wire::MessageKind(value))
    }
}

impl<'a> Item<'a, ForwardsUOffset<wire::Attachment<'a>>> for Attachment<'a> {
    fn read(table: wire::Attachment<'a>) -> Self {
        Self {
            media: table.media().bytes(),
            mime: table.mime().map_or(&[], |mime| mime.bytes()),
            name: table.name().map_or(&[], |name| name.bytes()),
            size: table.size(),
        }
    }
}

impl Attachment<'_> {
    /// Checks what [`Item::read`] then takes as it is.
    fn check(&self) -> Result<(), DecodeError> {
        count(self.media.len(), TEXT_BYTES_MAX, "attachments.media")?;
        count(self.mime.len(), TEXT_BYTES_MAX, "attachments.mime")?;
        count(self.name.len(), TEXT_BYTES_MAX, "attachments.name")?;
        integer(self.size, "attachments.size")?;
        Ok(())
    }

    fn write(&self, writer: &mut Writer) -> WIPOffset<wire::Attachment<'static>> {
        let args = wire::AttachmentArgs {
            media: Some(writer.fbb.create_vector(self.media)),
            mime: writer.bytes(self.mime),
            name: writer.bytes(self.name),
            size: self.size,
        };
        wire::Attachment::create(&mut writer.fbb, &args)
    }
}

impl<'a> MessageFields<'a> {
    /// Reads an encoded message, once verified.
    ///
    /// # Errors
    /// [`DecodeError::TooLarge`] above a limit, [`DecodeError::IntegerTooLarge`] above 2^53 − 1, otherwise
    /// [`DecodeError::Malformed`].
    pub fn verify(message: &'a [u8]) -> Result<Self, DecodeError> {
        count(message.len(), MESSAGE_BYTES_MAX, "message")?;
        let table = root::<wire::Message<'a>>(message)?;
        integers(table.mentions(), MENTIONS_MAX, "mentions")?;
        let attachments: Attachments<'a> = List::from_wire(table.attachments());
        count(attachments.len(), ATTACHMENTS_MAX, "attachments")?;
        attachments.iter().try_for_each(|attachment| attachment.check())?;
        let forwarded_from = match table.forwarded_from() {
            Some(origin) => Some(Origin {
                conversation: ConversationId(origin.conversation().0),
                sequence: Sequence(integer(origin.sequence(), "forwarded_from")?),
            }),
            None => None,
        };
        Ok(Self {
            kind: MessageKind::from_wire(table.kind()),
            body: bytes(table.body(), MESSAGE_BODY_BYTES_MAX, "body")?,
            attachments,
            mentions: List::from_wire(table.mentions()),
            reply_to: Sequence(integer(table.reply_to(), "reply_to")?),
            thread_root: Sequence(integer(table.thread_root(), "thread_root")?),
            forwarded_from,
            expiry_ms: integer(table.expiry_ms(), "expiry_ms")?,
            flags: table.flags().bits(),
        })
    }

    fn build(&self, writer: &mut Writer) -> Root {
        let mentions = (!self.mentions.is_empty()).then(|| writer.users(self.mentions));
        let attachments = (!self.attachments.is_empty())
            .then(|| writer.tables(self.attachments, |writer, attachment| attachment.write(writer)));
        let origin = self
            .forwarded_from
            .map(|origin| wire::Origin::new(&wire::ConversationId(origin.conversation.0), origin.sequence.0));
        let args = wire::MessageArgs {
            kind: wire::MessageKind(self.kind.get()),
            body: writer.bytes(self.body),
            attachments,
            mentions,
            reply_to: self.reply_to.0,
            thread_root: self.thread_root.0,
            forwarded_from: origin.as_ref(),
            expiry_ms: self.expiry_ms,
            flags: wire::MessageFlag::from_bits_retain(self.flags),
        };
        wire::Message::create(&mut writer.fbb, &args).as_union_value()
    }
}

impl<'a> GroupChange<'a> {
    /// Reads the body of a system message, once verified.
    ///
    /// # Errors
    /// As [`MessageFields::verify`].
    pub fn verify(body: &'a [u8]) -> Result<Self, DecodeError> {
        count(body.len(), MESSAGE_BODY_BYTES_MAX, "body")?;
        let table = root::<wire::GroupChange<'a>>(body)?;
        integers(table.users(), USERS_MAX, "users")?;
        Ok(Self {
            change: Change::from_wire(table.change()).unwrap_or_default(),
            actor: UserId(integer(table.actor(), "actor")?),
            users: List::from_wire(table.users()),
            name: bytes(table.name(), NAME_BYTES_MAX, "name")?,
        })
    }

    fn build(&self, writer: &mut Writer) -> Root {
        let args = wire::GroupChangeArgs {
            change: self.change.to_wire(),
            actor: self.actor.0,
            users: Some(writer.users(self.users)),
            name: writer.bytes(self.name),
        };
        wire::GroupChange::create(&mut writer.fbb, &args).as_union_value()
    }
}

impl Encoder {
    /// Appends an encoded message, a multiple of 8 bytes; gives its length.
    ///
    /// # Errors
    /// [`TooLarge`] above [`MESSAGE_BYTES_MAX`] or with a body above [`MESSAGE_BODY_BYTES_MAX`]; nothing is
    /// appended.
    pub fn message(&mut self, out: &mut Vec<u8>, message: &MessageFields<'_>) -> Result<usize, TooLarge> {
        let bytes = message.body.len();
        if bytes > MESSAGE_BODY_BYTES_MAX {
            return Err(TooLarge { bytes, bytes_max: MESSAGE_BODY_BYTES_MAX });
        }
        self.root(out, MESSAGE_BYTES_MAX, |writer| message.build(writer))
    }

    /// Appends the body of a system message; it goes into [`MessageFields::body`] with [`MessageKind::System`].
    ///
    /// # Errors
    /// [`TooLarge`] above [`MESSAGE_BODY_BYTES_MAX`]; nothing is appended.
    pub fn group_change(&mut self, out: &mut Vec<u8>, change: &GroupChange<'_>) -> Result<usize, TooLarge> {
        self.root(out, MESSAGE_BODY_BYTES_MAX, |writer| change.build(writer))
    }
}
