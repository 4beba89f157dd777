//! A record: its placement in this log, and the logical record that stays the same for life (DESIGN 5).

use crate::checksum::crc32c;
use crate::descriptor::{
    HEAD_BYTES, PLACEMENT_BYTES, RECORD_ALIGN, RECORD_HEADER_BYTES, array, get_u16, get_u32, get_u64, head,
    placement, put, round_up,
};
use crate::limits::BODY_BYTES_MAX;
use crate::witness::Remnant;
use tidegate_ids::{CommandNumber, Location, Sequence, StreamId, WallMs};

/// The links that a stream's spine gives to its next record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Links {
    /// The stream's record before.
    pub prev: Location,
    /// A record further back, see [`crate::Spine`]; [`Location::NONE`] for none.
    pub jump: Location,
}

/// Whether a record still has its body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecordState {
    /// As it was written.
    #[default]
    Live,
    /// Its time was over: the body is zeroed.
    Expired,
    /// Somebody asked for it: the body is zeroed.
    Erased,
    /// A repair has put this in the place of what was lost: a record whose body is zeroed, or, without a stream, bytes of
    /// which nothing is known. Never given out; a link that leads here leads to damage.
    Lost,
}

/// What belongs to this log only: never replicated, moved or backed up with the record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// The stream's record before.
    pub prev: Location,
    /// A record further back.
    pub jump: Location,
    /// Whether the body is there.
    pub state: RecordState,
}

/// The head of a logical record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordHead {
    /// The stream.
    pub stream: StreamId,
    /// The place in the stream, 0 for records that have none.
    pub sequence: Sequence,
    /// When it was stamped.
    pub time: WallMs,
    /// The device's command number, 0 for none.
    pub number: CommandNumber,
    /// That device's record before this one in this stream.
    pub device_prev: Location,
    /// Bytes of the body.
    pub body_len: u32,
    /// The kind, whose meaning is the domain's.
    pub kind: u16,
    /// Flags of the domain.
    pub flags: u8,
    /// How the body is encoded; 0: as it is.
    pub encoding: u8,
    /// The key that the body is sealed under; 0: none.
    pub key: u32,
    /// The dictionary that the body is compressed with; 0: none.
    pub dictionary: u16,
    /// CRC-32C of the body as stored.
    pub body_checksum: u32,
}

/// One record, its body borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordView<'a> {
    /// Where it is.
    pub location: Location,
    /// Its links and state.
    pub placement: Placement,
    /// Its head.
    pub head: RecordHead,
    /// Its body, opaque here; empty if the record is a hole, whatever length its head tells.
    pub body: &'a [u8],
}

/// What is wrong with stored bytes that should be a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Too short, or a field that cannot be.
    Shape,
    /// The placement's checksum.
    Placement,
    /// The head's checksum: not even the length is known.
    Head,
    /// The body's checksum.
    Body,
}

/// Bytes that a record with such a body takes in a segment.
#[must_use]
pub const fn stored_len(body_len: usize) -> usize {
    round_up(RECORD_HEADER_BYTES + body_len, RECORD_ALIGN)
}

impl RecordState {
    /// Whether the body is gone.
    #[must_use]
    pub const fn is_hole(self) -> bool {
        !matches!(self, Self::Live)
    }

    /// Whether the record is one that a repair gave up.
    pub(crate) const fn is_lost(self) -> bool {
        matches!(self, Self::Lost)
    }
}

impl RecordView<'_> {
    /// Whether the record's body is gone: expired or erased. [`RecordView::body`] is empty then.
    #[must_use]
    pub const fn is_hole(&self) -> bool {
        self.placement.state.is_hole()
    }

    /// Whether a repair gave it up.
    pub(crate) const fn is_lost(&self) -> bool {
        self.placement.state.is_lost()
    }

    /// Bytes that this record takes in a segment; a hole takes as many as the record did.
    #[must_use]
    pub const fn stored_len(&self) -> usize {
        stored_len(self.head.body_len as usize)
    }

    /// Appends the record as a segment holds it: placement, head, body, padding. A hole's body is zeroes.
    pub fn write_stored(&self, out: &mut Vec<u8>) {
        let end = out.len() + self.stored_len();
        let mut header = [0; RECORD_HEADER_BYTES];
        write_header(&mut header, &self.placement, &self.head);
        out.extend_from_slice(&header);
        out.extend_from_slice(self.body);
        out.resize(end, 0);
    }
}

/// Writes placement and head with their checksums; `head.body_checksum` is the caller's.
#[inline]
pub(crate) fn write_header(out: &mut [u8; RECORD_HEADER_BYTES], at: &Placement, record: &RecordHead) {
    put(out, placement::PREV_AT, at.prev.to_u64().to_le_bytes());
    put(out, placement::JUMP_AT, at.jump.to_u64().to_le_bytes());
    put(out, placement::STATE_AT, (at.state as u32).to_le_bytes());
    let sum = crc32c(&out[..placement::CHECKSUM_AT]);
    put(out, placement::CHECKSUM_AT, sum.to_le_bytes());

    let bytes = &mut out[PLACEMENT_BYTES..];
    put(bytes, head::STREAM_AT, record.stream.0);
    put(bytes, head::SEQUENCE_AT, record.sequence.0.to_le_bytes());
    put(bytes, head::TIME_AT, record.time.0.to_le_bytes());
    put(bytes, head::NUMBER_AT, record.number.0.to_le_bytes());
    put(bytes, head::DEVICE_PREV_AT, record.device_prev.to_u64().to_le_bytes());
    put(bytes, head::BODY_LEN_AT, record.body_len.to_le_bytes());
    put(bytes, head::KIND_AT, record.kind.to_le_bytes());
    bytes[head::FLAGS_AT] = record.flags;
    bytes[head::ENCODING_AT] = record.encoding;
    put(bytes, head::KEY_AT, record.key.to_le_bytes());
    put(bytes, head::DICTIONARY_AT, record.dictionary.to_le_bytes());
    put(bytes, head::DICTIONARY_AT + 2, [0; 2]);
    put(bytes, head::BODY_CHECKSUM_AT, record.body_checksum.to_le_bytes());
    let sum = crc32c(&bytes[..head::CHECKSUM_AT]);
    put(bytes, head::CHECKSUM_AT, sum.to_le_bytes());
}

/// Reads the record at the front of `bytes` without looking at its checksums: for bytes that are proven otherwise,
/// by their batch's checksum or by never having left memory.
#[inline]
pub(crate) fn parse(bytes: &[u8], location: Location) -> Option<RecordView<'_>> {
    let header = bytes.first_chunk::<RECORD_HEADER_BYTES>()?;
    let placement = parse_placement(header)?;
    let head = parse_head(header);
    let body = bytes.get(RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + head.body_len as usize)?;
    let fits = stored_len(body.len()) <= bytes.len();
    let body = if placement.state.is_hole() { &[] } else { body };
    fits.then_some(RecordView { location, placement, head, body })
}

/// Reads the header of a record without looking at its checksums, for bytes as [`parse`] takes them: for a hole, of
/// which no more than its header may be there.
pub(crate) fn parse_hole(bytes: &[u8], location: Location) -> Option<RecordView<'_>> {
    let header = bytes.first_chunk::<RECORD_HEADER_BYTES>()?;
    let placement = parse_placement(header)?;
    let head = parse_head(header);
    let is_hole = placement.state.is_hole() && head.body_len as usize <= BODY_BYTES_MAX;
    is_hole.then_some(RecordView { location, placement, head, body: &[] })
}

/// Turns the stored record at the front of `bytes` into a hole: its state changes, its body and its padding are zeroed.
pub(crate) fn hollow(bytes: &mut [u8], state: RecordState) {
    debug_assert!(state.is_hole());
    put(bytes, placement::STATE_AT, (state as u32).to_le_bytes());
    let sum = crc32c(&bytes[..placement::CHECKSUM_AT]);
    put(bytes, placement::CHECKSUM_AT, sum.to_le_bytes());
    bytes[RECORD_HEADER_BYTES..].fill(0);
}

/// The length of the stored record whose header starts `bytes`, if the head's checksum holds.
pub(crate) fn checked_len(bytes: &[u8]) -> Option<usize> {
    let header = bytes.first_chunk::<RECORD_HEADER_BYTES>()?;
    let head = &header[PLACEMENT_BYTES..];
    let sound = crc32c(&head[..head::CHECKSUM_AT]) == get_u32(head, head::CHECKSUM_AT);
    let body_len = get_u32(head, head::BODY_LEN_AT) as usize;
    (sound && body_len <= BODY_BYTES_MAX).then(|| stored_len(body_len))
}

/// Reads the record at the front of `bytes` and checks all of it. A body that is no longer there is not checked.
pub(crate) fn parse_checked(bytes: &[u8], location: Location) -> Result<RecordView<'_>, Flaw> {
    let (record, links_sound) = parse_logical(bytes, location)?;
    if links_sound { Ok(record) } else { Err(Flaw::Placement) }
}

/// Reads the record at the front of `bytes` and checks the logical record, which holds without its placement; says
/// whether that holds too. If it does not, the record is taken for a live one without links.
pub(crate) fn parse_logical(bytes: &[u8], location: Location) -> Result<(RecordView<'_>, bool), Flaw> {
    let header = bytes.first_chunk::<RECORD_HEADER_BYTES>().ok_or(Flaw::Shape)?;
    let stored = checked_len(header).ok_or(Flaw::Head)?;
    if bytes.len() < stored {
        return Err(Flaw::Shape);
    }
    let found = checked_placement(header);
    let placement = found.unwrap_or_default();
    let head = parse_head(header);
    let body = &bytes[RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + head.body_len as usize];
    if placement.state.is_hole() {
        return Ok((RecordView { location, placement, head, body: &[] }, true));
    }
    if crc32c(body) != head.body_checksum {
        return Err(Flaw::Body);
    }
    Ok((RecordView { location, placement, head, body }, found.is_some()))
}

fn parse_placement(header: &[u8; RECORD_HEADER_BYTES]) -> Option<Placement> {
    let state = match get_u32(header, placement::STATE_AT) {
        0 => RecordState::Live,
        1 => RecordState::Expired,
        2 => RecordState::Erased,
        3 => RecordState::Lost,
        _ => return None,
    };
    Some(Placement {
        prev: Location::from_u64(get_u64(header, placement::PREV_AT)),
        jump: Location::from_u64(get_u64(header, placement::JUMP_AT)),
        state,
    })
}

/// What a record that a repair gave up still says of what was there.
pub(crate) fn remnant_of(record: &RecordView<'_>) -> Remnant {
    debug_assert!(record.placement.state.is_lost());
    let Placement { prev, jump, .. } = record.placement;
    let links = Links { prev, jump };
    let is_known = record.head.stream != StreamId::default();
    Remnant { head: is_known.then_some(record.head), links: (links != Links::default()).then_some(links) }
}

/// The placement alone, if its checksum holds: its links lead on past a broken body.
pub(crate) fn checked_placement(bytes: &[u8]) -> Option<Placement> {
    let header = bytes.first_chunk::<RECORD_HEADER_BYTES>()?;
    let sound = crc32c(&header[..placement::CHECKSUM_AT]) == get_u32(header, placement::CHECKSUM_AT);
    if sound { parse_placement(header) } else { None }
}

pub(crate) fn parse_head(header: &[u8; RECORD_HEADER_BYTES]) -> RecordHead {
    let bytes: [u8; HEAD_BYTES] = array(header, PLACEMENT_BYTES);
    RecordHead {
        stream: StreamId(array(&bytes, head::STREAM_AT)),
        sequence: Sequence(get_u64(&bytes, head::SEQUENCE_AT)),
        time: WallMs(get_u64(&bytes, head::TIME_AT)),
        number: CommandNumber(get_u64(&bytes, head::NUMBER_AT)),
        device_prev: Location::from_u64(get_u64(&bytes, head::DEVICE_PREV_AT)),
        body_len: get_u32(&bytes, head::BODY_LEN_AT),
        kind: get_u16(&bytes, head::KIND_AT),
        flags: bytes[head::FLAGS_AT],
        encoding: bytes[head::ENCODING_AT],
        key: get_u32(&bytes, head::KEY_AT),
        dictionary: get_u16(&bytes, head::DICTIONARY_AT),
        body_checksum: get_u32(&bytes, head::BODY_CHECKSUM_AT),
    }
}
