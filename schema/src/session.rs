//! Session frames: who is there, in which state, and when to come back (PROTOCOL, "Session").

use crate::encoder::{Body, Root, Writer};
use crate::error::DecodeError;
use crate::frame::Decode;
use crate::kind::FrameKind;
use crate::limits::{
    BATCH_ITEMS_MAX, CONVERSATION_ROWS_MAX, CREDIT_BYTES_MAX, CREDIT_FRAMES_MAX, FRAMES_MAX, MEMBERS_MAX,
    MESSAGE_BYTES_MAX, PAYLOAD_BYTES_MAX, PLATFORM_BYTES_MAX, RANGE_RECORDS_MAX, TOKEN_BYTES_MAX,
    UNANSWERED_MAX,
};
use crate::verify::{bytes, integer};
use crate::wire_enum::wire_enum;
use tidegate_ids::{Attempt, DeviceId, Incarnation, UserId, UserVersion, WallMs};
use tidegate_schema_generated as wire;

wire_enum! {
    /// What the person at the device does.
    ClientState = ClientActivity {
        /// The application is in front.
        Active,
        /// The application is in front but not used.
        Inactive,
        /// The application is in the background.
        Background,
    }
}

wire_enum! {
    /// What a client does before it sends.
    Resync = Resync {
        /// Nothing.
        None,
        /// The device is new: page `ConversationList`.
        NewDevice,
        /// The device was away too long: page `ConversationList`.
        QueueExpired,
        /// The data was restored or repaired: page `ConversationList`, drop what lies above each head.
        NewIncarnation,
    }
}

/// C: the first frame of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello<'a> {
    /// The oldest protocol version that the client speaks.
    pub protocol_min: u16,
    /// The newest one.
    pub protocol_max: u16,
    /// A JWT.
    pub token: &'a [u8],
    /// The installation.
    pub device: DeviceId,
    /// Rises with every connect of the device.
    pub attempt: Attempt,
    /// What the client runs on; UTF-8 by convention.
    pub platform: &'a [u8],
    /// What the person does.
    pub state: ClientState,
    /// How many unacknowledged pushes the client takes.
    pub credit_frames: u16,
}

/// What the gateway takes, told in `Welcome`. The default is `limits.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of an encoded `Message`.
    pub message_bytes_max: u32,
    /// Bytes of a WebSocket message.
    pub payload_bytes_max: u32,
    /// Frames in a WebSocket message.
    pub frames_max: u16,
    /// Items of a `SendBatch`.
    pub batch_items_max: u16,
    /// Unanswered commands per conversation.
    pub unanswered_max: u16,
    /// Records of a `Range`.
    pub range_records_max: u16,
    /// Rows of a `ConversationPage`.
    pub conversation_rows_max: u16,
    /// Members of a group.
    pub members_max: u32,
    /// Unacknowledged pushes.
    pub credit_frames: u16,
    /// Bytes of unacknowledged pushes.
    pub credit_bytes: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes_max: MESSAGE_BYTES_MAX as u32,
            payload_bytes_max: PAYLOAD_BYTES_MAX as u32,
            frames_max: FRAMES_MAX as u16,
            batch_items_max: BATCH_ITEMS_MAX as u16,
            unanswered_max: UNANSWERED_MAX,
            range_records_max: RANGE_RECORDS_MAX,
            conversation_rows_max: CONVERSATION_ROWS_MAX,
            members_max: MEMBERS_MAX,
            credit_frames: CREDIT_FRAMES_MAX,
            credit_bytes: CREDIT_BYTES_MAX,
        }
    }
}

/// S: the reply to `Hello`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Welcome {
    /// The protocol version spoken from here on.
    pub version: u16,
    /// Who the token says it is.
    pub user: UserId,
    /// Of the gateway's data.
    pub incarnation: Incarnation,
    /// What the gateway takes.
    pub limits: Limits,
    /// How often an active client lets hear of itself.
    pub heartbeat_active_ms: u32,
    /// How often one in the background does.
    pub heartbeat_background_ms: u32,
    /// The gateway's clock.
    pub server_time: WallMs,
    /// Of the user's list of conversations.
    pub user_version: UserVersion,
    /// How many conversations have something for this device.
    pub ranges_waiting: u32,
    /// What to do before sending.
    pub resync: Resync,
}

/// C: a new token without a reconnect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refresh<'a> {
    /// A JWT.
    pub token: &'a [u8],
}

/// S: done, nothing to say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Okay;

/// S: what waited at `Welcome` has been pushed or announced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DrainDone;

impl<'a> Decode<'a> for Hello<'a> {
    type Table = wire::Hello<'a>;

    fn read(table: wire::Hello<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            protocol_min: table.protocol_min(),
            protocol_max: table.protocol_max(),
            token: bytes(Some(table.token()), TOKEN_BYTES_MAX, "token")?,
            device: DeviceId(integer(table.device(), "device")?),
            attempt: Attempt(integer(table.attempt(), "attempt")?),
            platform: bytes(table.platform(), PLATFORM_BYTES_MAX, "platform")?,
            state: ClientState::from_wire(table.state()).ok_or(DecodeError::BadValue("state"))?,
            credit_frames: table.credit_frames(),
        })
    }
}

impl Body for Hello<'_> {
    const KIND: FrameKind = FrameKind::Hello;

    fn build(&self, writer: &mut Writer) -> Root {
        let args = wire::HelloArgs {
            protocol_min: self.protocol_min,
            protocol_max: self.protocol_max,
            token: Some(writer.fbb.create_vector(self.token)),
            device: self.device.0,
            attempt: self.attempt.0,
            platform: writer.bytes(self.platform),
            state: self.state.to_wire(),
            credit_frames: self.credit_frames,
        };
        wire::Hello::create(&mut writer.fbb, &args).as_union_value()
    }
}

impl Limits {
    fn read(table: wire::Limits<'_>) -> Self {
        Self {
            message_bytes_max: table.message_bytes_max(),
            payload_bytes_max: table.payload_bytes_max(),
            frames_max: table.frames_max(),
            batch_items_max: table.batch_items_max(),
            unanswered_max: table.unanswered_max(),
            range_records_max: table.range_records_max(),
            conversation_rows_max: table.conversation_rows_max(),
            members_max: table.members_max(),
            credit_frames: table.credit_frames(),
            credit_bytes: table.credit_bytes(),
        }
    }

    const fn args(&self) -> wire::LimitsArgs {
        wire::LimitsArgs {
            message_bytes_max: self.message_bytes_max,
            payload_bytes_max: self.payload_bytes_max,
            frames_max: self.frames_max,
            batch_items_max: self.batch_items_max,
            unanswered_max: self.unanswered_max,
            range_records_max: self.range_records_max,
            conversation_rows_max: self.conversation_rows_max,
            members_max: self.members_max,
            credit_frames: self.credit_frames,
            credit_bytes: self.credit_bytes,
        }
    }
}

impl<'a> Decode<'a> for Welcome {
    type Table = wire::Welcome<'a>;

    fn read(table: wire::Welcome<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            version: table.version(),
            user: UserId(integer(table.user(), "user")?),
            incarnation: Incarnation(integer(table.incarnation(), "incarnation")?),
            limits: Limits::read(table.limits()),
            heartbeat_active_ms: table.heartbeat_active_ms(),
            heartbeat_background_ms: table.heartbeat_background_ms(),
            server_time: WallMs(integer(table.server_time(), "server_time")?),
            user_version: UserVersion(integer(table.user_version(), "user_version")?),
            ranges_waiting: table.ranges_waiting(),
            // Whatever a newer version means, a client that pages everything has not missed it.
            resync: Resync::from_wire(table.resync()).unwrap_or(Resync::NewIncarnation),
        })
    }
}

impl Body for Welcome {
    const KIND: FrameKind = FrameKind::Welcome;

    fn build(&self, writer: &mut Writer) -> Root {
        let args = wire::WelcomeArgs {
            version: self.version,
            user: self.user.0,
            incarnation: self.incarnation.0,
            limits: Some(wire::Limits::create(&mut writer.fbb, &self.limits.args())),
            heartbeat_active_ms: self.heartbeat_active_ms,
            heartbeat_background_ms: self.heartbeat_background_ms,
            server_time: self.server_time.0,
            user_version: self.user_version.0,
            ranges_waiting: self.ranges_waiting,
            resync: self.resync.to_wire(),
        };
        wire::Welcome::create(&mut writer.fbb, &args).as_union_value()
    }
}

impl<'a> Decode<'a> for Refresh<'a> {
    type Table = wire::Refresh<'a>;

    fn read(table: wire::Refresh<'a>) -> Result<Self, DecodeError> {
        Ok(Self { token: bytes(Some(table.token()), TOKEN_BYTES_MAX, "token")? })
    }
}

impl Body for Refresh<'_> {
    const KIND: FrameKind = FrameKind::Refresh;

    fn build(&self, writer: &mut Writer) -> Root {
        let token = Some(writer.fbb.create_vector(self.token));
        wire::Refresh::create(&mut writer.fbb, &wire::RefreshArgs { token }).as_union_value()
    }
}

impl<'a> Decode<'a> for Okay {
    type Table = wire::Ok<'a>;

    fn read(_table: wire::Ok<'a>) -> Result<Self, DecodeError> {
        Ok(Self)
    }
}

impl Body for Okay {
    const KIND: FrameKind = FrameKind::Ok;

    fn build(&self, writer: &mut Writer) -> Root {
        wire::Ok::create(&mut writer.fbb, &wire::OkArgs {}).as_union_value()
    }
}

impl<'a> Decode<'a> for ClientState {
    type Table = wire::ClientState<'a>;

    fn read(table: wire::ClientState<'a>) -> Result<Self, DecodeError> {
        Self::from_wire(table.state()).ok_or(DecodeError::BadValue("state"))
    }
}

impl Body for ClientState {
    const KIND: FrameKind = FrameKind::ClientState;

    fn build(&self, writer: &mut Writer) -> Root {
        let args = wire::ClientStateArgs { state: self.to_wire() };
        wire::ClientState::create(&mut writer.fbb, &args).as_union_value()
    }
}

impl<'a> Decode<'a> for DrainDone {
    type Table = wire::DrainDone<'a>;

    fn read(_table: wire::DrainDone<'a>) -> Result<Self, DecodeError> {
        Ok(Self)
    }
}

impl Body for DrainDone {
    const KIND: FrameKind = FrameKind::DrainDone;

    fn build(&self, writer: &mut Writer) -> Root {
        wire::DrainDone::create(&mut writer.fbb, &wire::DrainDoneArgs {}).as_union_value()
    }
}
