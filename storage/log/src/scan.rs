//! Scanning a recovered log in order: for feeding again what a crash took (DESIGN 6).

use crate::batch::{BatchHeader, BatchKind};
use crate::medium::Medium;
use crate::packed::pack;
use crate::record::RecordView;
use crate::recover::{Damage, DamageKind, Recovered, SegmentExtent};
use crate::replay::give_out;
use crate::salvage::salvage;
use crate::window::Window;
use tidegate_ids::{BatchNumber, Position};

/// How far a scan came, and what it went round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scanned {
    /// Where to go on: the end of the last extent when there is nothing left.
    pub next: Position,
    /// How many times damage was met. Perhaps it is read well another time: only the caller can ask again.
    pub damage_count: u64,
    /// The first of it.
    pub damage: Option<Damage>,
}

impl Scanned {
    fn note(&mut self, found: &Recovered) {
        self.damage_count += found.damage_count;
        self.damage = self.damage.or(found.damage.first().copied());
    }
}

/// Appends records at `from` and after to `out`, whole batches of them until `bytes_max` is passed, and says where to
/// go on. Damage is gone round and told: what is sound in a bad stretch is given out, and a segment that is not there costs
/// only itself.
pub fn scan_chunk<M: Medium>(
    medium: &mut M,
    extents: &[SegmentExtent],
    from: Position,
    bytes_max: usize,
    out: &mut Vec<u8>,
) -> Scanned {
    let full = out.len() + bytes_max;
    let mut scanned = Scanned { next: from, ..Scanned::default() };
    let first = extents.partition_point(|one| Position::new(one.segment, one.end) <= from);
    for extent in &extents[first..] {
        let at = scanned.next;
        let start = if at.segment == extent.segment { at.offset } else { 0 };
        let mut scan = Scan::new(medium, extent);
        scan.find(start);
        while scan.at < extent.end {
            if out.len() >= full {
                scanned.next = Position::new(extent.segment, scan.at);
                scanned.note(&scan.found);
                return scanned;
            }
            scan.step(|record| {
                if record.location >= from {
                    pack(&record, out);
                }
            });
        }
        scanned.note(&scan.found);
        scanned.next = Position::new(extent.segment, extent.end);
    }
    scanned
}

/// Goes through the batches of one segment.
pub(crate) struct Scan<'m, M> {
    window: Window<'m, M>,
    extent: &'m SegmentExtent,
    /// Where the batch at hand starts.
    pub(crate) at: u32,
    /// What was damaged on the way.
    pub(crate) found: Recovered,
}

impl<'m, M: Medium> Scan<'m, M> {
    pub(crate) fn new(medium: &'m mut M, extent: &'m SegmentExtent) -> Self {
        let mut found = Recovered::default();
        let mut at = extent.block_bytes;
        if medium.segment_len(extent.segment).is_err() {
            let (kind, from, to) = (DamageKind::Segment, 0, extent.end);
            found.note(Damage::new(kind, extent.segment, from, to));
            at = extent.end;
        }
        let mut window = Window::new(medium, extent.guard);
        window.open(extent.segment);
        Self { window, extent, at, found }
    }

    /// Finds the batch that holds `offset`: itself a batch's start, or somewhere behind one.
    fn find(&mut self, offset: u32) {
        if self.at >= self.extent.end {
            return;
        }
        let block = self.extent.block_bytes;
        if offset >= block
            && offset.is_multiple_of(block)
            && self.window.header(offset, self.extent.end).is_some()
        {
            self.at = offset;
            return;
        }
        self.at = block;
        while self.at < self.extent.end {
            let end = self.batch_end();
            if end > offset {
                return;
            }
            self.at = end;
        }
    }

    fn batch_end(&mut self) -> u32 {
        let header = self.window.header(self.at, self.extent.end);
        header.map_or(self.at + self.extent.block_bytes, |header: BatchHeader| header.offset + header.length)
    }

    /// Gives out the records of the batch at hand and goes on behind it.
    pub(crate) fn step(&mut self, mut take: impl FnMut(RecordView<'_>)) {
        let extent = self.extent;
        let end = self.batch_end();
        let whole = match self.window.batch(self.at, extent.end) {
            Some((header, bytes)) if header.kind == BatchKind::Records => {
                give_out(&header, bytes, &mut take).is_some()
            }
            Some(_) => true,
            None => false,
        };
        if whole {
            self.at = end;
            return;
        }
        let to = self.next_sound(end);
        let numbers = BatchNumber(0)..BatchNumber(u64::MAX);
        salvage(&mut self.window, &mut self.found, &mut take, extent.segment, self.at..to, numbers);
        self.at = to;
    }

    /// Where the next batch with a sound header starts.
    fn next_sound(&mut self, mut at: u32) -> u32 {
        while at < self.extent.end && self.window.header(at, self.extent.end).is_none() {
            at += self.extent.block_bytes;
        }
        at.min(self.extent.end)
    }
}
