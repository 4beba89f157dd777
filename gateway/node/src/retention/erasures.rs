//! Requests to erase, between the thread that notices them and the one that works them off: a pass of retention takes minutes or
//! hours, and nobody is to be given such a record that long.

use crate::pump::Order;
use crate::stats::Board;
use std::collections::BTreeMap;
use std::sync::Arc;
use tidegate_domain::Route;
use tidegate_ids::{LogId, ShardIndex, WallMs};
use tidegate_storage_files::{ErasureError, ErasureKeeper, Retention};
use tidegate_storage_log::{ErasedRanges, PreviousEnd};

/// What the shards are told, and what a pass was told last.
pub(super) struct Erasures {
    keeper: ErasureKeeper,
    route: Route,
    order: Box<dyn Fn(ShardIndex, Order) + Send>,
    board: Arc<Board>,
    /// What the last pass was told to erase, and what it was allowed to touch.
    passed: (u64, BTreeMap<LogId, PreviousEnd>),
    /// The complaint about the list that was made last.
    complaint: String,
}

/// What a pass is told to erase.
pub(super) struct ToErase {
    pub(super) version: u64,
    pub(super) ranges: ErasedRanges,
}

impl Erasures {
    /// With the list that the shards began with.
    pub(super) fn new(
        keeper: ErasureKeeper,
        route: Route,
        order: Box<dyn Fn(ShardIndex, Order) + Send>,
        board: Arc<Board>,
    ) -> Self {
        Self { keeper, route, order, board, passed: (0, BTreeMap::new()), complaint: String::new() }
    }

    /// Looks at the list. Shards are told of what is new at once, or began with it; a look later, when each has surely had its
    /// turn, the list says so.
    pub(super) fn look(&mut self) {
        let looked = self.keeper.look();
        let is_new = looked.as_ref().is_ok_and(|is_new| *is_new);
        self.complain(looked.err());
        if is_new {
            let all = self.keeper.list().all_ranges();
            for shard in (0..self.route.shards()).map(ShardIndex) {
                (self.order)(shard, Order::Erased(erased_of(&all, self.route, shard)));
            }
            let pending = self.keeper.list().pending().len();
            tracing::info!(pending, "the list of erasures has changed");
        }
        self.board.note_erasures(self.keeper.list().pending().len(), 0);
        if !is_new && self.keeper.is_asked() {
            let taken = self.keeper.taken();
            self.complain(taken.err());
        }
    }

    /// Whether a pass would find what the last one did not: something new to erase, or something new that it may touch.
    pub(super) fn is_due(&self, covered: &BTreeMap<LogId, PreviousEnd>) -> bool {
        let version = self.keeper.version();
        version != 0 && (version != self.passed.0 || *covered != self.passed.1)
    }

    /// What a pass that begins now is to erase, if anything is.
    pub(super) fn begin(&mut self, covered: BTreeMap<LogId, PreviousEnd>) -> Option<ToErase> {
        let version = self.keeper.version();
        self.passed = (version, covered);
        (version != 0).then(|| ToErase { version, ranges: self.keeper.list().pending_ranges() })
    }

    /// Writes down what a pass has erased, and which requests are done if it came to its end.
    pub(super) fn settle(&mut self, retention: &mut Retention, whole: Option<&ToErase>, now: WallMs) {
        let settled = self.keeper.settle(retention, whole.map(|whole| &whole.ranges), now);
        let (settled, error) = match settled {
            Ok(settled) => (settled, None),
            Err(error) => (Default::default(), Some(error)),
        };
        for one in &settled.done {
            tracing::info!(stream = %one.stream, records = %one.range, "erased on request");
        }
        self.board.note_erasures(self.keeper.list().pending().len(), settled.records);
        self.complain(error);
    }

    /// Has a shard end its open segment.
    pub(super) fn close(&self, shard: ShardIndex) {
        (self.order)(shard, Order::CloseSegment);
    }

    /// Says what is wrong with the list, once; it is tried again with the next look.
    fn complain(&mut self, error: Option<ErasureError>) {
        // The tool holds the list for a moment.
        let error = error.filter(|error| !matches!(error, ErasureError::Busy(_)));
        let complaint = error.map(|error| error.to_string()).unwrap_or_default();
        if complaint != self.complaint && !complaint.is_empty() {
            tracing::error!("what is to be erased cannot be read or written down: {complaint}");
        }
        self.complaint = complaint;
    }
}

/// What of the erased records is a shard's to give out as holes.
#[must_use]
pub fn erased_of(all: &ErasedRanges, route: Route, shard: ShardIndex) -> ErasedRanges {
    let mut own = ErasedRanges::new();
    let of_shard = all.iter().filter(|(stream, _)| route.stream(stream) == Some(shard));
    of_shard.for_each(|(stream, range)| own.insert(stream, range));
    own
}
