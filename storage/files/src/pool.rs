//! Reads that may wait for the disk, on a thread of their own: a shard asks, goes on, and gets the answer as an event.
//!
//! Both channels are bounded by the answers owed: a pool that owes as many as it may gives the request back, and its
//! caller holds or refuses it. So the thread never waits to answer, and buffers travel to and fro without allocation.

use crate::directory::DataDir;
use crate::factory::Wake;
use crate::limits::READS_IN_FLIGHT_MAX;
use crate::reader::SegmentReader;
use crate::snapshot_file::SnapshotFile;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use tidegate_ids::{Location, StreamId, VirtualShard};
use tidegate_storage_log::{Lead, PageEnd, PageReader, ReadError, ReadSpec};

/// A read, with the buffer for its answer.
#[derive(Debug)]
pub struct ReadRequest {
    /// The caller's own; the reply carries it.
    pub token: u64,
    /// What to read. All it hangs on is durable.
    pub what: ReadWhat,
    /// Emptied, then filled: hand in the one of an earlier reply.
    pub records: Vec<u8>,
}

/// What can be read.
#[derive(Clone, Debug)]
pub enum ReadWhat {
    /// A page of one stream, and what the writer of the log knows of it.
    Page(ReadSpec, Option<Arc<Lead>>),
    /// A stream's entry in a snapshot. `PageEnd::records` says whether there is one, `PageEnd::next` up to which record it
    /// is folded; the bytes are its state. One that cannot be read is damage at [`Location::SNAPSHOT`].
    Snapshot {
        /// Which snapshot.
        file: Arc<SnapshotFile>,
        /// Where its entries of the stream's virtual shard are.
        place: VirtualShard,
        /// Which stream.
        stream: StreamId,
    },
}

/// An answer.
#[derive(Debug)]
pub struct ReadReply {
    /// The request's.
    pub token: u64,
    /// How the read ended. An error is damage, or retention, never the end of the process.
    pub result: Result<PageEnd, ReadError>,
    /// Packed records (`tidegate_storage_log::PackedRecords`), oldest first; empty after an error.
    pub records: Vec<u8>,
}

/// One reader thread and the channels to it. Dropping it drops answers not taken, and joins the thread.
pub struct ReadPool {
    requests: Option<SyncSender<ReadRequest>>,
    replies: Receiver<ReadReply>,
    thread: Option<JoinHandle<()>>,
    in_flight: usize,
    in_flight_max: usize,
}

impl ReadPool {
    /// Starts the thread; `wake` is called after each answer. The thread inherits the caller's processor affinity: start
    /// it before pinning.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start(dir: &DataDir, in_flight_max: usize, wake: Wake) -> io::Result<Self> {
        assert!((1..=READS_IN_FLIGHT_MAX).contains(&in_flight_max), "reads in flight are bounded");
        let (requests, incoming) = sync_channel(in_flight_max);
        let (outgoing, replies) = sync_channel(in_flight_max);
        let reader = dir.reader();
        let run = move || serve(reader, &incoming, &outgoing, &wake);
        let thread = thread::Builder::new().name(String::from("reader")).spawn(run)?;
        Ok(Self { requests: Some(requests), replies, thread: Some(thread), in_flight: 0, in_flight_max })
    }

    /// Asks; never blocks.
    ///
    /// # Errors
    /// The request comes back: as many answers are owed as may be. Taking one makes room.
    pub fn try_read(&mut self, request: ReadRequest) -> Result<(), ReadRequest> {
        let Some(requests) = self.requests.as_ref().filter(|_| self.in_flight < self.in_flight_max) else {
            return Err(request);
        };
        match requests.try_send(request) {
            Ok(()) => {
                self.in_flight += 1;
                Ok(())
            }
            Err(error) => Err(match error {
                std::sync::mpsc::TrySendError::Full(request)
                | std::sync::mpsc::TrySendError::Disconnected(request) => request,
            }),
        }
    }

    /// The next answer, `None` if there is none now. Answers come in the order of the requests.
    pub fn take(&mut self) -> Option<ReadReply> {
        let reply = self.replies.try_recv().ok()?;
        assert!(self.in_flight > 0, "an answer nobody asked for");
        self.in_flight -= 1;
        Some(reply)
    }

    /// Answers owed and not taken.
    #[must_use]
    pub const fn in_flight(&self) -> usize {
        self.in_flight
    }
}

impl Drop for ReadPool {
    fn drop(&mut self) {
        drop(self.requests.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported by its own message; this thread is not to blame.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for ReadPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadPool").field("in_flight", &self.in_flight).finish_non_exhaustive()
    }
}

fn serve(
    mut reader: SegmentReader,
    incoming: &Receiver<ReadRequest>,
    outgoing: &SyncSender<ReadReply>,
    wake: &Wake,
) {
    let mut pages = PageReader::new();
    while let Ok(ReadRequest { token, what, mut records }) = incoming.recv() {
        records.clear();
        reader.refresh();
        let result = match what {
            ReadWhat::Page(spec, lead) => pages.read_led(&mut reader, &spec, lead.as_deref(), &mut records),
            ReadWhat::Snapshot { file, place, stream } => read_entry(&file, place, &stream, &mut records),
        };
        // Never full: there are as many places as answers owed.
        if outgoing.send(ReadReply { token, result, records }).is_err() {
            return;
        }
        wake();
    }
}

fn read_entry(
    file: &SnapshotFile,
    place: VirtualShard,
    stream: &StreamId,
    state: &mut Vec<u8>,
) -> Result<PageEnd, ReadError> {
    match file.read_entry(place, stream, state) {
        Ok(Some(next)) => Ok(PageEnd { records: 1, complete: true, next, ..PageEnd::default() }),
        Ok(None) => Ok(PageEnd { complete: true, ..PageEnd::default() }),
        Err(_) => Err(ReadError::Damaged(Location::SNAPSHOT)),
    }
}
