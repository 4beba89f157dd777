//! What a stream's records come to: the rules are the caller's, storage never looks inside.

use crate::record::RecordView;
use tidegate_ids::{Location, Sequence, StreamId, VirtualShard};

/// The rules of folding. For each stream that has new records the calls are `begin`, `apply` for each record, `finish`.
///
/// They must be the same function as the one that folds live and in recovery, and depend on nothing but their arguments:
/// a snapshot that was begun again must come out the same.
pub trait Fold {
    /// Where a stream's entry is sorted; `None`: it has none (a shard's own stream). Its records are passed over.
    fn place(&self, stream: &StreamId) -> Option<VirtualShard>;

    /// Appends to `out` what folding needs of a record, a few dozen bytes at most; `false`: the record means nothing here.
    fn reduce(&self, record: &RecordView<'_>, out: &mut Vec<u8>) -> bool;

    /// Appends to `out` that everything of a stream up to a sequence was there and is lost; `false`: that means nothing here.
    fn reduce_lost(&self, stream: &StreamId, through: Sequence, out: &mut Vec<u8>) -> bool {
        let _ = (stream, through, out);
        false
    }

    /// Begins a stream, from its state in the previous snapshot if it had one.
    fn begin(&mut self, stream: &StreamId, base: Option<&[u8]>);

    /// The stream's next record, in the order of locations, as `reduce` gave it.
    fn apply(&mut self, location: Location, reduced: &[u8]);

    /// Ends the stream and appends its state to `out`; `false`: it is worth no entry.
    fn finish(&mut self, out: &mut Vec<u8>) -> bool;
}

impl<F: Fold + ?Sized> Fold for &mut F {
    fn place(&self, stream: &StreamId) -> Option<VirtualShard> {
        (**self).place(stream)
    }

    fn reduce(&self, record: &RecordView<'_>, out: &mut Vec<u8>) -> bool {
        (**self).reduce(record, out)
    }

    fn reduce_lost(&self, stream: &StreamId, through: Sequence, out: &mut Vec<u8>) -> bool {
        (**self).reduce_lost(stream, through, out)
    }

    fn begin(&mut self, stream: &StreamId, base: Option<&[u8]>) {
        (**self).begin(stream, base);
    }

    fn apply(&mut self, location: Location, reduced: &[u8]) {
        (**self).apply(location, reduced);
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> bool {
        (**self).finish(out)
    }
}
