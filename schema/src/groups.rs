//! Groups and who is in them (PROTOCOL, "Groups").

use crate::encoder::{Body, Root, Writer};
use crate::error::DecodeError;
use crate::frame::Decode;
use crate::kind::FrameKind;
use crate::limits::{MEMBER_ROWS_MAX, NAME_BYTES_MAX, USERS_MAX};
use crate::list::{Item, List, Users};
use crate::verify::{bytes, count, integer, integers};
use crate::wire_enum::wire_enum;
use flatbuffers::{ForwardsUOffset, WIPOffset};
use tidegate_ids::{ClientId, CommandNumber, ConversationId, Sequence, UserId};
use tidegate_schema_generated as wire;

wire_enum! {
    /// What a member may do; a role of a newer version reads as [`Role::Member`].
    Role = Role {
        /// Read and write.
        Member,
        /// Also add and remove.
        Admin,
        /// Also everything else.
        Owner,
    }
}

/// C: a new group. Its id follows from creator, device and client id, so that asking again makes the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupCreate<'a> {
    /// The client's own id.
    pub client_id: ClientId,
    /// UTF-8 by convention.
    pub name: &'a [u8],
    /// Who is in it besides the creator.
    pub users: Users<'a>,
}

/// S: the reply to `GroupCreate`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupCreated {
    /// The group.
    pub conversation: ConversationId,
    /// The first version of its members.
    pub member_version: u64,
    /// Of the record of the creation.
    pub sequence: Sequence,
    /// Whether it was there before.
    pub duplicate: bool,
}

/// C: a change of members. The same struct is the body of `MembersAdd` and of `MembersRemove`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MembersChange<'a> {
    /// Which group.
    pub conversation: ConversationId,
    /// The device's next number there.
    pub number: CommandNumber,
    /// The client's own id.
    pub client_id: ClientId,
    /// The member version that the client saw; 0: whatever it is.
    pub member_version: u64,
    /// Who; at least one.
    pub users: Users<'a>,
}

/// C: users join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MembersAdd<'a>(pub MembersChange<'a>);

/// C: users are removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MembersRemove<'a>(pub MembersChange<'a>);

/// C: the user leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leave {
    /// Which group.
    pub conversation: ConversationId,
    /// The device's next number there.
    pub number: CommandNumber,
    /// The client's own id.
    pub client_id: ClientId,
}

/// C: asks for a page of members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MembersGet {
    /// Which group.
    pub conversation: ConversationId,
    /// The last member of the page before.
    pub after: Option<UserId>,
    /// How many rows at most: 1 to [`MEMBER_ROWS_MAX`].
    pub limit: u16,
}

/// One member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub user: UserId,
    /// What they may do.
    pub role: Role,
    /// With which sequence they joined.
    pub joined: Sequence,
    /// With which sequence they left; 0: still a member.
    pub left: Sequence,
}

/// S: the reply to `MembersGet`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MembersPage<'a> {
    /// Which group.
    pub conversation: ConversationId,
    /// Of the members as they are now.
    pub member_version: u64,
    /// By user id.
    pub members: Members<'a>,
    /// Whether there is another page.
    pub more: bool,
}

/// The rows of a `MembersPage`.
pub type Members<'a> = List<'a, Member, ForwardsUOffset<wire::Member<'a>>>;

impl<'a> Decode<'a> for GroupCreate<'a> {
    type Table = wire::GroupCreate<'a>;

    fn read(table: wire::GroupCreate<'a>) -> Result<Self, DecodeError> {
        integers(table.users(), USERS_MAX, "users")?;
        Ok(Self {
            client_id: ClientId(table.client_id().0),
            name: bytes(table.name(), NAME_BYTES_MAX, "name")?,
            users: List::from_wire(table.users()),
        })
    }
}

impl Body for GroupCreate<'_> {
    const KIND: FrameKind = FrameKind::GroupCreate;

    fn build(&self, writer: &mut Writer) -> Root {
        let args = wire::GroupCreateArgs {
            client_id: Some(&wire::ClientId(self.client_id.0)),
            name: writer.bytes(self.name),
            users: Some(writer.users(self.users)),
        };
        wire::GroupCreate::create(&mut writer.fbb, &args).as_union_value()
    }
}

impl<'a> Decode<'a> for GroupCreated {
    type Table = wire::GroupCreated<'a>;

    fn read(table: wire::GroupCreated<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            conversation: ConversationId(table.conversation().0),
            member_version: integer(table.member_version(), "member_version")?,
            sequence: Sequence(integer(table.sequence(), "sequence")?),
            duplicate: table.duplicate(),
        })
    }
}

impl Body for GroupCreated {
    const KIND: FrameKind = FrameKind::GroupCreated;

    fn build(&self, writer: &mut Writer) -> Root {
        let args = wire::GroupCreatedArgs {
            conversation: Some(&wire::ConversationId(self.conversation.0)),
            member_version: self.member_version,
            sequence: self.sequence.0,
            duplicate: self.duplicate,
        };
        wire::GroupCreated::create(&mut writer.fbb, &args).as_union_value()
    }
}

/// `MembersAdd` and `MembersRemove` have the same fields in tables of their own.
macro_rules! members_change {
    ($name:ident, $args:ident) => {
        impl<'a> Decode<'a> for $name<'a> {
            type Table = wire::$name<'a>;

            fn read(table: wire::$name<'a>) -> Result<Self, DecodeError> {
                let users = table.users();
                integers(Some(users), USERS_MAX, "users")?;
                if users.is_empty() {
                    return Err(DecodeError::BadValue("users"));
                }
                Ok(Self(MembersChange {
                    conversation: ConversationId(table.conversation().0),
                    number: CommandNumber(integer(table.number(), "number")?),
                    client_id: ClientId(table.client_id().0),
                    member_version: integer(table.member_version(), "member_version")?,
                    users: List::from_wire(Some(users)),
                }))
            }
        }

        impl Body for $name<'_> {
            const KIND: FrameKind = FrameKind::$name;

            fn build(&self, writer: &mut Writer) -> Root {
                let args = wire::$args {
                    conversation: Some(&wire::ConversationId(self.0.conversation.0)),
                    number: self.0.number.0,
                    client_id: Some(&wire::ClientId(self.0.client_id.0)),
                    member_version: self.0.member_version,
                    users: Some(writer.users(self.0.users)),
                };
                wire::$name::create(&mut writer.fbb, &args).as_union_value()
            }
        }
    };
}

members_change!(MembersAdd, MembersAddArgs);
members_change!(MembersRemove, MembersRemoveArgs);

impl<'a> Decode<'a> for Leave {
    type Table = wire::Leave<'a>;

    fn read(table: wire::Leave<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            conversation: ConversationId(table.conversation().0),
            number: CommandNumber(integer(table.number(), "number")?),
            client_id: ClientId(table.client_id().0),
        })
    }
}

impl Body for Leave {
    const KIND: FrameKind = FrameKind::Leave;

    fn build(&self, writer: &mut Writer) -> Root {
        let args = wire::LeaveArgs {
            conversation: Some(&wire::ConversationId(self.conversation.0)),
            number: self.number.0,
            client_id: Some(&wire::ClientId(self.client_id.0)),
        };
        wire::Leave::create(&mut writer.fbb, &args).as_union_value()
    }
}

impl<'a> Decode<'a> for MembersGet {
    type Table = wire::MembersGet<'a>;

    fn read(table: wire::MembersGet<'a>) -> Result<Self, DecodeError> {
        let limit = table.limit();
        if limit == 0 || limit > MEMBER_ROWS_MAX {
            return Err(DecodeError::BadValue("limit"));
        }
        let after = table.after().map(|after| integer(after, "after")).transpose()?.map(UserId);
        Ok(Self { conversation: ConversationId(table.conversation().0), after, limit })
    }
}

impl Body for MembersGet {
    const KIND: FrameKind = FrameKind::MembersGet;

    fn build(&self, writer: &mut Writer) -> Root {
        let args = wire::MembersGetArgs {
            conversation: Some(&wire::ConversationId(self.conversation.0)),
            after: self.after.map(|user| user.0),
            limit: self.limit,
        };
        wire::MembersGet::create(&mut writer.fbb, &args).as_union_value()
    }
}

impl<'a> Item<'a, ForwardsUOffset<wire::Member<'a>>> for Member {
    fn read(table: wire::Member<'a>) -> Self {
        Self {
            user: UserId(table.user()),
            role: Role::from_wire(table.role()).unwrap_or_default(),
            joined: Sequence(table.joined()),
            left: Sequence(table.left()),
        }
    }
}

impl Member {
    /// Checks what [`Item::read`] then takes as it is.
    fn check(&self) -> Result<(), DecodeError> {
        integer(self.user.0, "members.user")?;
        integer(self.joined.0, "members.joined")?;
        integer(self.left.0, "members.left")?;
        Ok(())
    }

    fn write(&self, writer: &mut Writer) -> WIPOffset<wire::Member<'static>> {
        let args = wire::MemberArgs {
            user: self.user.0,
            role: self.role.to_wire(),
            joined: self.joined.0,
            left: self.left.0,
        };
        wire::Member::create(&mut writer.fbb, &args)
    }
}

impl<'a> Decode<'a> for MembersPage<'a> {
    type Table = wire::MembersPage<'a>;

    fn read(table: wire::MembersPage<'a>) -> Result<Self, DecodeError> {
        count(table.members().len(), MEMBER_ROWS_MAX as usize, "members")?;
        let members: Members<'a> = List::from_wire(Some(table.members()));
        members.iter().try_for_each(|member| member.check())?;
        Ok(Self {
            conversation: ConversationId(table.conversation().0),
            member_version: integer(table.member_version(), "member_version")?,
            members,
            more: table.more(),
        })
    }
}

impl Body for MembersPage<'_> {
    const KIND: FrameKind = FrameKind::MembersPage;

    fn build(&self, writer: &mut Writer) -> Root {
        let members = Some(writer.tables(self.members, |writer, member| member.write(writer)));
        let args = wire::MembersPageArgs {
            conversation: Some(&wire::ConversationId(self.conversation.0)),
            member_version: self.member_version,
            members,
            more: self.more,
        };
        wire::MembersPage::create(&mut writer.fbb, &args).as_union_value()
    }
}
