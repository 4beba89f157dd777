//! Runs: sorted records set aside until the merge. They live no longer than the merge, but are checked like everything
//! else: a bad byte in a run would be folded into a state for ever.

use crate::checksum::crc32c;
use crate::descriptor::{get_u16, get_u32, get_u64, put};
use crate::limits::{REDUCED_BYTES_MAX, RUN_CHUNK_BYTES};
use crate::snapshot::sorter::SortKey;
use crate::snapshot::source::OsError;
use std::collections::BTreeMap;
use tidegate_ids::{Location, StreamId, VirtualShard};

/// Where runs are set aside. Each is written from front to back, then read from front to back, then removed.
pub trait RunStore {
    /// Begins run `run`.
    ///
    /// # Errors
    /// The device refused, or is full.
    fn create(&mut self, run: u32) -> Result<(), OsError>;

    /// Adds to the end of a run.
    ///
    /// # Errors
    /// The device refused, or is full.
    fn append(&mut self, run: u32, bytes: &[u8]) -> Result<(), OsError>;

    /// Fills `into` from `offset` of a run and says how many bytes it got; fewer only at the end.
    ///
    /// # Errors
    /// The device refused.
    fn read(&mut self, run: u32, offset: u64, into: &mut [u8]) -> Result<usize, OsError>;

    /// Gives up a run; one that cannot be removed is the store's to clear later.
    fn remove(&mut self, run: u32);
}

/// Runs in memory: for tests and the simulator.
#[derive(Clone, Debug, Default)]
pub struct MemoryRuns {
    /// The bytes of each run.
    pub runs: BTreeMap<u32, Vec<u8>>,
}

impl RunStore for MemoryRuns {
    fn create(&mut self, run: u32) -> Result<(), OsError> {
        self.runs.insert(run, Vec::new());
        Ok(())
    }

    fn append(&mut self, run: u32, bytes: &[u8]) -> Result<(), OsError> {
        self.runs.entry(run).or_default().extend_from_slice(bytes);
        Ok(())
    }

    fn read(&mut self, run: u32, offset: u64, into: &mut [u8]) -> Result<usize, OsError> {
        let bytes = self.runs.get(&run).map(Vec::as_slice).unwrap_or_default();
        let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default();
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn remove(&mut self, run: u32) {
        self.runs.remove(&run);
    }
}

impl<R: RunStore + ?Sized> RunStore for &mut R {
    fn create(&mut self, run: u32) -> Result<(), OsError> {
        (**self).create(run)
    }

    fn append(&mut self, run: u32, bytes: &[u8]) -> Result<(), OsError> {
        (**self).append(run, bytes)
    }

    fn read(&mut self, run: u32, offset: u64, into: &mut [u8]) -> Result<usize, OsError> {
        (**self).read(run, offset, into)
    }

    fn remove(&mut self, run: u32) {
        (**self).remove(run);
    }
}

/// A run as the merge knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) number: u32,
    pub(crate) bytes: u64,
    /// How many merges its records have been through.
    pub(crate) level: u32,
}

/// A run is chunks: length of the payload (u32), CRC (u32) of what follows it, run (u32), place among the chunks (u32),
/// records.
const CHUNK_HEADER_BYTES: usize = 16;
const CHECKED_FROM: usize = 8;

/// A record in a run: stream (16), location (u64), length (u32), virtual shard (u16), two zeroes, then what `reduce` gave.
const RUN_RECORD_BYTES: usize = 32;

/// Writes one run.
pub(crate) struct RunWriter {
    run: Run,
    chunk: Vec<u8>,
    chunks: u32,
}

impl RunWriter {
    pub(crate) fn new(
        store: &mut impl RunStore,
        number: u32,
        level: u32,
        mut chunk: Vec<u8>,
    ) -> Result<Self, OsError> {
        store.create(number)?;
        chunk.clear();
        chunk.resize(CHUNK_HEADER_BYTES, 0);
        Ok(Self { run: Run { number, bytes: 0, level }, chunk, chunks: 0 })
    }

    pub(crate) fn push(
        &mut self,
        store: &mut impl RunStore,
        key: &SortKey,
        reduced: &[u8],
    ) -> Result<(), OsError> {
        let needed = self.chunk.len() + RUN_RECORD_BYTES + reduced.len();
        if needed > RUN_CHUNK_BYTES && self.chunk.len() > CHUNK_HEADER_BYTES {
            self.end_chunk(store)?;
        }
        let mut fixed = [0; RUN_RECORD_BYTES];
        put(&mut fixed, 0, key.stream().0);
        put(&mut fixed, 16, key.location.to_u64().to_le_bytes());
        put(&mut fixed, 24, (reduced.len() as u32).to_le_bytes());
        put(&mut fixed, 28, key.place.0.to_le_bytes());
        self.chunk.extend_from_slice(&fixed);
        self.chunk.extend_from_slice(reduced);
        Ok(())
    }

    /// The finished run, and the buffer for the next.
    pub(crate) fn finish(mut self, store: &mut impl RunStore) -> Result<(Run, Vec<u8>), OsError> {
        if self.chunk.len() > CHUNK_HEADER_BYTES {
            self.end_chunk(store)?;
        }
        Ok((self.run, self.chunk))
    }

    fn end_chunk(&mut self, store: &mut impl RunStore) -> Result<(), OsError> {
        let payload = (self.chunk.len() - CHUNK_HEADER_BYTES) as u32;
        put(&mut self.chunk, 0, payload.to_le_bytes());
        put(&mut self.chunk, 8, self.run.number.to_le_bytes());
        put(&mut self.chunk, 12, self.chunks.to_le_bytes());
        let sum = crc32c(&self.chunk[CHECKED_FROM..]);
        put(&mut self.chunk, 4, sum.to_le_bytes());
        store.append(self.run.number, &self.chunk)?;
        self.run.bytes += self.chunk.len() as u64;
        self.chunks += 1;
        self.chunk.truncate(CHUNK_HEADER_BYTES);
        Ok(())
    }
}

/// Why a run cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunFault {
    Store(OsError),
    Damaged,
}

/// Reads one run, a chunk at a time.
pub(crate) struct RunReader {
    run: Run,
    offset: u64,
    chunks: u32,
    chunk: Vec<u8>,
    /// Behind the record at hand.
    at: usize,
    /// The record at hand starts here, behind its fixed part.
    reduced_at: usize,
}

impl RunReader {
    pub(crate) const fn new(run: Run) -> Self {
        Self { run, offset: 0, chunks: 0, chunk: Vec::new(), at: 0, reduced_at: 0 }
    }

    pub(crate) const fn run(&self) -> Run {
        self.run
    }

    /// What `reduce` gave for the record at hand.
    pub(crate) fn reduced(&self) -> &[u8] {
        &self.chunk[self.reduced_at..self.at]
    }

    /// Goes on to the next record; `None` at the end of the run.
    pub(crate) fn advance(&mut self, store: &mut impl RunStore) -> Result<Option<SortKey>, RunFault> {
        if self.at == self.chunk.len() {
            if self.offset == self.run.bytes {
                return Ok(None);
            }
            self.read_chunk(store)?;
        }
        let rest = &self.chunk[self.at..];
        let fixed = rest.first_chunk::<RUN_RECORD_BYTES>().ok_or(RunFault::Damaged)?;
        let len = get_u32(fixed, 24) as usize;
        if len > rest.len() - RUN_RECORD_BYTES {
            return Err(RunFault::Damaged);
        }
        self.reduced_at = self.at + RUN_RECORD_BYTES;
        let key = SortKey::new(
            VirtualShard(get_u16(fixed, 28)),
            &StreamId(crate::descriptor::array(fixed, 0)),
            Location::from_u64(get_u64(fixed, 16)),
        );
        self.at = self.reduced_at + len;
        Ok(Some(key))
    }

    fn read_chunk(&mut self, store: &mut impl RunStore) -> Result<(), RunFault> {
        let mut header = [0; CHUNK_HEADER_BYTES];
        read_exact(store, self.run.number, self.offset, &mut header)?;
        let payload = get_u32(&header, 0) as usize;
        if payload > RUN_CHUNK_BYTES.max(RUN_RECORD_BYTES + REDUCED_BYTES_MAX) {
            return Err(RunFault::Damaged);
        }
        self.chunk.resize(CHUNK_HEADER_BYTES + payload, 0);
        read_exact(store, self.run.number, self.offset, &mut self.chunk)?;
        let sound = self.chunk[..CHUNK_HEADER_BYTES] == header
            && get_u32(&header, 4) == crc32c(&self.chunk[CHECKED_FROM..])
            && get_u32(&header, 8) == self.run.number
            && get_u32(&header, 12) == self.chunks;
        if !sound {
            return Err(RunFault::Damaged);
        }
        self.offset += self.chunk.len() as u64;
        self.chunks += 1;
        self.at = CHUNK_HEADER_BYTES;
        Ok(())
    }
}

fn read_exact(store: &mut impl RunStore, run: u32, offset: u64, into: &mut [u8]) -> Result<(), RunFault> {
    let got = store.read(run, offset, into).map_err(RunFault::Store)?;
    if got == into.len() { Ok(()) } else { Err(RunFault::Damaged) }
}
