//! What must hold in the end: every device has exactly what it should have, and everything that it submitted is settled.
//! What must hold at every moment is judged as it happens (`ledger`, `device`).

use crate::device::Device;
use crate::ledger::{Ledger, Logged};
use tidegate_ids::{ConversationId, Sequence};

/// Checks all devices; the first thing that does not hold.
pub(crate) fn check(devices: &[Device], ledger: &Ledger) -> Result<(), String> {
    for device in devices {
        if !device.machine.is_ready() {
            let state = device.machine.connection();
            return Err(format!("liveness: device {} is not connected: {state:?}", device.id));
        }
        let waiting = device.machine.outbox_commands();
        if waiting > 0 {
            return Err(format!("liveness: device {} still waits for {waiting} answers", device.id));
        }
        for (conversation, records) in ledger.iter() {
            check_deliveries(device, conversation, records, ledger)?;
        }
    }
    Ok(())
}

/// Order, content and whether it was owed were judged with each record; what is left is whether one is missing.
fn check_deliveries(
    device: &Device,
    conversation: &ConversationId,
    records: &[Logged],
    ledger: &Ledger,
) -> Result<(), String> {
    let notebook = &device.notebook;
    let first = match notebook.first(conversation) {
        Some(first) if device.late => first,
        None if device.late => return Ok(()),
        _ => Sequence::FIRST,
    };
    let from = (first.0 as usize - 1).min(records.len());
    for record in &records[from..] {
        let own = record.sender == device.user && record.device == device.id;
        let sequence = record.sequence;
        if own || !ledger.is_owed(conversation, device.user, sequence) {
            continue;
        }
        // At the end of a conversation no gap tells of what is erased.
        if !notebook.has(conversation, sequence) && record.erased.is_none() {
            return Err(format!("LOST: device {} never got {conversation} {sequence}", device.id));
        }
        let is_missing =
            !notebook.is_seen(conversation, sequence) && notebook.is_skipped(conversation, sequence);
        if is_missing && !record.is_gone() {
            return Err(format!(
                "device {} was told to skip {conversation} {sequence}, which is there",
                device.id
            ));
        }
    }
    Ok(())
}
