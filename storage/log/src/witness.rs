//! Who is told what lies in a log, in its order: what holds, and what is lost and where.

use crate::batch::BatchHeader;
use crate::record::{Links, RecordHead, RecordView};
use core::ops::Range;
use tidegate_ids::{BatchNumber, Location};

/// A place in a segment from which nothing can be given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The segment.
    pub segment: u32,
    /// The first byte concerned.
    pub from: u32,
    /// Behind the last byte concerned.
    pub to: u32,
    /// What was there.
    pub what: LostWhat,
}

/// What was where nothing can be given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LostWhat {
    /// A record, as far as it is known, or several whose bounds are not known.
    Record(Remnant),
    /// Batches of which neither header nor trailer is left.
    Batches {
        /// The first batch.
        first: BatchNumber,
        /// The last batch.
        last: BatchNumber,
    },
    /// An earlier repair has given it up: a record whose state is [`crate::RecordState::Lost`].
    GivenUp(Remnant),
}

/// What is left of a lost record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remnant {
    /// Its head.
    pub head: Option<RecordHead>,
    /// Its links.
    pub links: Option<Links>,
}

impl Lost {
    /// Where it begins.
    #[must_use]
    pub const fn location(&self) -> Location {
        Location::new(self.segment, self.from)
    }
}

/// Who is told, by [`crate::recover_telling`] and [`crate::judge`].
pub trait Witness {
    /// A record that holds. Without `has_links` its placement is bad, and it is given without links.
    fn record(&mut self, record: &RecordView<'_>, has_links: bool);

    /// A place where something is lost.
    fn lost(&mut self, lost: &Lost);
}

/// Who is told even how it lies there: what [`crate::repair`] makes a segment from.
pub(crate) trait Observe {
    /// As of [`Witness`].
    fn record(&mut self, record: &RecordView<'_>, has_links: bool);

    /// As of [`Witness`].
    fn lost(&mut self, _lost: &Lost) {}

    /// A batch, before its records. If it is not whole, no more than its header, from either end, holds for sure.
    fn batch(&mut self, _header: &BatchHeader, _bytes: &[u8], _is_whole: bool) {}

    /// Bytes of batches of which nothing is left.
    fn gone(&mut self, _range: Range<u32>, _numbers: Range<BatchNumber>) {}
}

impl<F: FnMut(RecordView<'_>)> Observe for F {
    fn record(&mut self, record: &RecordView<'_>, _has_links: bool) {
        self(*record);
    }
}

/// A witness that observes.
pub(crate) struct Telling<'w, W>(pub(crate) &'w mut W);

impl<W: Witness> Observe for Telling<'_, W> {
    fn record(&mut self, record: &RecordView<'_>, has_links: bool) {
        self.0.record(record, has_links);
    }

    fn lost(&mut self, lost: &Lost) {
        self.0.lost(lost);
    }
}
