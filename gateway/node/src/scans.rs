//! Reading logs in order, off the shards' threads: for feeding again after a start, and for a cursor that fell behind
//! what staging holds. One thread serves all shards, because all scans share the disk.

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};
use tidegate_ids::{LogId, Position, ShardIndex};
use tidegate_storage_files::{SegmentReader, Wake};
use tidegate_storage_log::{Damage, Medium, PackedRecords, PageEnd, SegmentExtent, scan_chunk};

/// A piece of a log to read.
#[derive(Debug)]
pub struct ScanRequest {
    /// Who asks.
    pub shard: ShardIndex,
    /// The caller's own; the reply carries it.
    pub token: u64,
    /// Which log.
    pub log: LogId,
    /// From where.
    pub from: Position,
    /// Up to where, exclusive: the end of a batch.
    pub to: Position,
    /// About how many bytes.
    pub bytes_max: usize,
    /// Segments of this log that were written since the start, as far as they are synced.
    pub written: Vec<SegmentExtent>,
    /// Emptied, then filled.
    pub records: Vec<u8>,
}

/// An answer.
#[derive(Debug)]
pub struct ScanReply {
    /// The request's.
    pub token: u64,
    /// How it ended: `PageEnd::next` says where to go on, `complete` that nothing is left up to `to`, `damaged` how many
    /// times damage was met and gone round.
    pub end: PageEnd,
    /// The first of it.
    pub damage: Option<Damage>,
    /// Packed records.
    pub records: Vec<u8>,
}

/// The thread. It ends when every [`Scans`] is dropped.
#[derive(Debug)]
pub struct Scanner {
    thread: JoinHandle<()>,
}

/// A shard's end. Both channels hold at most what the shard has asked for, `ShardLimits::reads_in_flight_max`.
#[derive(Debug)]
pub struct Scans {
    requests: Sender<ScanRequest>,
    replies: Receiver<ScanReply>,
}

impl Scanner {
    /// Starts the thread. `extents` are the logs as they were recovered; there is a wake for each shard.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start(
        reader: SegmentReader,
        extents: BTreeMap<LogId, Vec<SegmentExtent>>,
        wakes: Vec<Wake>,
    ) -> io::Result<(Self, Vec<Scans>)> {
        let (requests, incoming) = channel();
        let mut ends = Vec::new();
        let mut lines = Vec::new();
        for wake in wakes {
            let (outgoing, replies) = channel();
            lines.push((outgoing, wake));
            ends.push(Scans { requests: requests.clone(), replies });
        }
        let run = move || serve(reader, &extents, &incoming, &lines);
        let thread = Builder::new().name(String::from("scanner")).spawn(run)?;
        Ok((Self { thread }, ends))
    }

    /// Waits for its end.
    pub fn join(self) {
        // A panic there has been reported by its own message.
        let _ = self.thread.join();
    }
}

impl Scans {
    /// Asks; never blocks. After the thread's end nothing is answered.
    pub fn ask(&mut self, request: ScanRequest) {
        // The thread ends before its askers only by a panic, which ends the process.
        let _ = self.requests.send(request);
    }

    /// The next answer, `None` if there is none now.
    pub fn take(&mut self) -> Option<ScanReply> {
        self.replies.try_recv().ok()
    }
}

fn serve(
    mut reader: SegmentReader,
    extents: &BTreeMap<LogId, Vec<SegmentExtent>>,
    incoming: &Receiver<ScanRequest>,
    lines: &[(Sender<ScanReply>, Wake)],
) {
    while let Ok(mut request) = incoming.recv() {
        let (replies, wake) = &lines[usize::from(request.shard.0)];
        // Segments may have been rewritten since; within a piece they stay what they are.
        reader.refresh();
        let recovered = extents.get(&request.log).map_or(&[][..], Vec::as_slice);
        let (end, damage) = scan(&mut reader, recovered, &mut request);
        let reply = ScanReply { token: request.token, end, damage, records: request.records };
        if replies.send(reply).is_ok() {
            wake();
        }
    }
}

fn scan<M: Medium>(
    reader: &mut M,
    recovered: &[SegmentExtent],
    request: &mut ScanRequest,
) -> (PageEnd, Option<Damage>) {
    let all = recovered.iter().chain(&request.written);
    let extents: Vec<SegmentExtent> = all.filter_map(|extent| clipped(extent, request.to)).collect();
    let records = &mut request.records;
    records.clear();
    let scanned = scan_chunk(reader, &extents, request.from, request.bytes_max, records);
    let end = extents.last().map(|extent| Position::new(extent.segment, extent.end));
    let complete = end.is_none_or(|end| scanned.next >= end);
    let next = if complete { request.to.max(request.from) } else { scanned.next };
    let records = u32::try_from(PackedRecords(records).iter().count()).unwrap_or(u32::MAX);
    let damaged = u32::try_from(scanned.damage_count).unwrap_or(u32::MAX);
    (PageEnd { records, damaged, complete, next, ..PageEnd::default() }, scanned.damage)
}

/// What of a segment lies before `to`.
fn clipped(extent: &SegmentExtent, to: Position) -> Option<SegmentExtent> {
    let end = match extent.segment.cmp(&to.segment) {
        core::cmp::Ordering::Less => extent.end,
        core::cmp::Ordering::Equal => extent.end.min(to.offset),
        core::cmp::Ordering::Greater => 0,
    };
    (end > 0).then_some(SegmentExtent { end, ..*extent })
}

#[cfg(test)]
mod tests;
