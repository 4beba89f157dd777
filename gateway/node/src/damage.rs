//! What the log says of damaged bytes.

use tidegate_storage_log::{Damage, DamageKind};

/// What damage has hit, and what that costs.
pub(crate) fn words(damage: &Damage) -> String {
    let words = match damage.kind {
        DamageKind::SegmentHeader => "the header of a segment; its records are read all the same",
        DamageKind::Batch => "a batch; its sound records are kept, the others follow one by one",
        DamageKind::Record => {
            return format!("{} is lost: members who ask for it are told so", damage.record_name());
        }
        DamageKind::Links => return format!("the links of {}; the record is kept", damage.record_name()),
        DamageKind::Batches { first, last } => {
            return format!("batches {} to {}; all their records are lost", first.0, last.0);
        }
        DamageKind::Footer => "an index, a footer or a seal; no record is lost",
        DamageKind::Unreadable => "bytes that the disk does not give; what lies there is lost",
        DamageKind::Segment => "a whole segment is gone, with all its records",
        DamageKind::Copy => "one of two copies of a table; nothing is lost",
    };
    words.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_ids::{ConversationId, Sequence, StreamId, UserId};

    /// The lines of the log said where in the files something was damaged, and not whose it was.
    #[test]
    fn a_record_that_was_hit_is_named_as_far_as_it_is_known() {
        let check = |kind, record, expected: &str| {
            let damage = Damage { record, ..Damage::new(kind, 1, 512, 640) };
            assert_eq!(words(&damage), expected);
        };
        let conversation = StreamId::conversation(ConversationId::direct(UserId(3), UserId(1003)));
        check(
            DamageKind::Record,
            Some((conversation, Sequence(5))),
            "a record of conversation 3:1003 (sequence 5) is lost: members who ask for it are told so",
        );
        let of_user = Some((StreamId::user(UserId(7)), Sequence(0)));
        check(DamageKind::Links, of_user, "the links of a record of user 7; the record is kept");
        check(DamageKind::Record, None, "a record is lost: members who ask for it are told so");
    }
}
