//! What somebody asked to erase is not given out any more, from the moment this shard is told: the log goes on holding it
//! until its segment is rewritten, and what loads and folds read of it stays as it is.
//!
//! Pages, drains and look-ups by number all read records through [`Shard::served`], whether they come from staging or from
//! a segment. A live push is none of these (decision 0016).

use crate::records::RecordKind;
use crate::shard::{Shard, Turn};
use tidegate_storage_log::{ErasedRanges, PackedRecords, Placement, RecordHead, RecordState, RecordView};

/// Whether a record holds what people said, or the name of a group: a message or a change of a group. States, queues and
/// checkpoints hold ids and places only.
#[must_use]
pub fn has_content(head: &RecordHead) -> bool {
    RecordKind::of(head).is_some_and(RecordKind::is_sequenced)
}

impl Shard {
    /// From now on these records are given out as holes, and those that were told before and are not among them as they are.
    pub fn erase(&mut self, ranges: ErasedRanges) {
        self.erased = ranges;
    }

    /// Records that were read for somebody, as they may be given out.
    pub(crate) fn served<'s, 'a>(
        &'s self,
        records: &'a [u8],
    ) -> impl Iterator<Item = RecordView<'a>> + use<'s, 'a> {
        PackedRecords(records).iter().map(|record| serve(&self.erased, record))
    }

    /// Ends the open segment before it is full, so that a snapshot can hold it: a checkpoint behind it moves every shard on
    /// into the next one. Without a spare segment commands would be refused; then nothing is done.
    pub(crate) fn on_close_segment(&mut self, turn: &mut Turn<'_>) {
        let may = self.boot.is_ready() && !self.latched && !self.shutdown.is_begun();
        if !may || self.log.spare_segments() == 0 {
            return;
        }
        self.log.seal();
        if !self.checkpoint.is_under_way() {
            self.begin_checkpoint(turn);
        }
    }
}

fn serve<'a>(erased: &ErasedRanges, record: RecordView<'a>) -> RecordView<'a> {
    let (head, placement) = (record.head, record.placement);
    let is_told = !erased.is_empty() && erased.holds(&head.stream, head.sequence);
    if !is_told || record.is_hole() || !has_content(&head) {
        return record;
    }
    RecordView { placement: Placement { state: RecordState::Erased, ..placement }, body: &[], ..record }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_ids::{Sequence, StreamId};
    use tidegate_storage_log::SequenceRange;

    #[test]
    fn only_what_was_told_and_has_content_becomes_a_hole() {
        let stream = StreamId([0x80; 16]);
        let mut erased = ErasedRanges::new();
        erased.insert(stream, SequenceRange::new(Sequence(3), Sequence(4)).unwrap());
        let check = |kind: RecordKind, state: RecordState, sequence: u64, expected: RecordState| {
            let head = RecordHead {
                stream,
                sequence: Sequence(sequence),
                kind: kind as u16,
                ..RecordHead::default()
            };
            let placement = Placement { state, ..Placement::default() };
            let body: &[u8] = if state.is_hole() { &[] } else { b"body" };
            let record = RecordView { location: Default::default(), placement, head, body };
            let served = serve(&erased, record);
            assert_eq!(served.placement.state, expected, "{kind:?} {sequence}");
            assert_eq!(served.body.is_empty(), expected.is_hole(), "{kind:?} {sequence}");
            assert_eq!(serve(&ErasedRanges::new(), record), record);
        };
        let (live, erased, expired) = (RecordState::Live, RecordState::Erased, RecordState::Expired);
        check(RecordKind::Message, live, 2, live);
        check(RecordKind::Message, live, 3, erased);
        check(RecordKind::Created, live, 4, erased);
        check(RecordKind::Message, live, 5, live);
        check(RecordKind::Message, expired, 3, expired);
        // A state repeats the sequence of the record before it, and a load needs it.
        check(RecordKind::ConversationState, live, 3, live);
    }
}
