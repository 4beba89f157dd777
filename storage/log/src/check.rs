//! Checking every byte of a rewritten segment, both copies of its header and table too: for tools, and before a rewritten
//! segment takes the place of the old one.

use crate::block_table::BlockTable;
use crate::descriptor::{REWRITTEN_BLOCK_BYTES, SEGMENT_HEADER_BYTES};
use crate::medium::{Medium, MediumError};
use crate::recover::{Damage, DamageKind};
use zstd::bulk::Decompressor;

/// Damage in a rewritten segment, as its file lies there: `raw` does not inflate. `None` if it is a plain one.
///
/// # Errors
/// Those of the medium.
pub fn check_rewritten<M: Medium>(raw: &mut M, segment: u32) -> Result<Option<Vec<Damage>>, MediumError> {
    debug_assert!(!raw.inflates(), "the file itself is to be checked");
    let Some(table) = BlockTable::load(raw, segment)? else { return Ok(None) };
    let copies = table.copies(raw)?;
    let [front, back] = table.table_places();
    let table_end = back + (back_len(&table)) as u64;
    let mut damage = Vec::new();
    let mut note = |is_sound: bool, kind, from: u64, to: u64| {
        if !is_sound {
            damage.push(Damage::new(kind, segment, from as u32, to as u32));
        }
    };
    let header_bytes = SEGMENT_HEADER_BYTES as u64;
    note(copies.front_header, DamageKind::Copy, 0, header_bytes);
    note(copies.front_table, DamageKind::Copy, front, front + back_len(&table) as u64);
    note(copies.back_table, DamageKind::Copy, back, table_end);
    note(copies.back_header, DamageKind::Copy, table_end, table_end + header_bytes);
    let (mut stored, mut block_bytes) = (Vec::new(), Vec::new());
    let mut decoder = Decompressor::default();
    for block in 0..table.blocks() {
        let held = table.inflate(raw, &mut decoder, block, &mut stored, &mut block_bytes);
        let from = (block * REWRITTEN_BLOCK_BYTES) as u64;
        let to = (from + REWRITTEN_BLOCK_BYTES as u64).min(table.end() as u64);
        note(held.is_ok(), DamageKind::Unreadable, from, to);
    }
    Ok(Some(damage))
}

const fn back_len(table: &BlockTable) -> usize {
    table.blocks() * crate::descriptor::BLOCK_ENTRY_BYTES
}
