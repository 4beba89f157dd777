//! What the kinds of records are called, as `docs/formats/log.md` lists them.

/// The name of a kind, `None` for one that this version does not know.
pub(crate) const fn name(kind: u16) -> Option<&'static str> {
    Some(match kind {
        1 => "message",
        2 => "created",
        3 => "added",
        4 => "removed",
        5 => "left",
        16 => "conversation-state",
        32 => "device-registered",
        33 => "device-removed",
        34 => "device-seen",
        35 => "queue-widen",
        36 => "queue-set",
        37 => "queue-widen-all",
        38 => "user-joined",
        39 => "user-left",
        40 => "user-state",
        48 => "checkpoint",
        _ => return None,
    })
}

/// Whether a record of this kind takes the next sequence of its stream. Those of states repeat the last one.
pub(crate) const fn is_sequenced(kind: u16) -> bool {
    kind < 16
}

/// Whether a record of this kind is a part of a folded state.
pub(crate) const fn is_state(kind: u16) -> bool {
    matches!(kind, 16 | 40)
}

/// Which part of how many a state's body is.
pub(crate) fn state_part(body: &[u8]) -> Option<(u16, u16)> {
    let (index, rest) = body.split_first_chunk()?;
    let (count, _) = rest.split_first_chunk()?;
    Some((u16::from_le_bytes(*index), u16::from_le_bytes(*count)))
}

/// Whether a record of this kind says nothing that is folded but its place.
pub(crate) const fn is_message(kind: u16) -> bool {
    kind == 1
}
