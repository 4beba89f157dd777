//! What the shard asks for, done.

use super::{Core, News};
use crate::limits::READ_BUFFERS_KEPT;
use crate::scans::ScanRequest;
use crate::snapshots::Told;
use tidegate_domain::virtual_shard;
use tidegate_ids::ShardIndex;
use tidegate_reactor::{Ops, Slot};
use tidegate_shard::{Output, ReadRequest, ReadToken, ReceiveMode};
use tidegate_storage_files::ReadWhat;
use tidegate_storage_log::{BatchBytes, StagedBatch};

impl Core {
    /// Drains the shard's outputs. The shard bounds what a turn produces.
    pub(super) fn perform_outputs(&mut self, ops: &mut Ops<BatchBytes>) {
        while let Some(output) = self.shard.poll_output() {
            self.perform(ops, output);
        }
    }

    fn perform(&mut self, ops: &mut Ops<BatchBytes>, output: Output) {
        match output {
            Output::Receive { connection, mode } => match mode {
                ReceiveMode::Once => ops.receive_once(Slot(connection.0)),
                ReceiveMode::Multishot => ops.receive_multishot(Slot(connection.0)),
                ReceiveMode::Pause => ops.stop_receiving(Slot(connection.0)),
            },
            Output::Send { connection, buffer } => ops.send(Slot(connection.0), buffer),
            Output::Close { connection } => ops.close(Slot(connection.0)),
            Output::HandOver { connection, to, key } => {
                self.leaving[connection.0 as usize] = true;
                ops.hand_over(Slot(connection.0), &self.peers[usize::from(to.0)], key.0);
            }
            Output::Append { batch } => self.write(ops, batch),
            Output::Read { token, request } => self.read(token, &request),
            Output::Recycle { buffer } => {
                if self.buffers.len() < READ_BUFFERS_KEPT {
                    self.buffers.push(buffer);
                }
            }
            Output::NeedSegment => {
                self.segments_wanted += 1;
                // One may be prepared already.
                self.look = true;
            }
            Output::Checkpointed { fed } => {
                self.tell_snapshots(Told::Checkpointed(ShardIndex(self.mesh.0.shard()), fed));
            }
            Output::WantSnapshot => self.tell_snapshots(Told::Wanted),
            Output::Swept => self.tell_snapshots(Told::Swept(ShardIndex(self.mesh.0.shard()))),
            Output::Ready => self.is_ready = true,
            Output::Stopped => self.tell(News::Stopped(self.mesh.0.shard())),
        }
    }

    pub(super) fn tell(&self, news: News) {
        // The main thread ends only with the process.
        let _ = self.news.send(news);
    }

    /// Its thread ends only when every shard has.
    pub(super) fn tell_snapshots(&self, told: Told) {
        let _ = self.told.send(told);
    }

    fn ask(&mut self, token: ReadToken, what: ReadWhat, records: Vec<u8>) {
        let request = tidegate_storage_files::ReadRequest { token: token.0, what, records };
        let taken = self.reads.try_read(request);
        assert!(taken.is_ok(), "the shard asks for no more than its pool has places for");
    }

    fn write(&mut self, ops: &mut Ops<BatchBytes>, batch: StagedBatch) {
        let (file, mode) = self.segments.write(&batch);
        ops.write_sync(batch.number.0, &file, u64::from(batch.offset), batch.bytes, mode);
    }

    fn read(&mut self, token: ReadToken, request: &ReadRequest) {
        let records = self.buffers.pop().unwrap_or_default();
        match *request {
            ReadRequest::Page(spec, ref lead) => self.ask(token, ReadWhat::Page(spec, lead.clone()), records),
            ReadRequest::Snapshot { stream } => {
                let (Some(file), Some(place)) = (self.snapshot.clone(), virtual_shard(&stream)) else {
                    unreachable!("the shard was told of a snapshot, and has no such streams of its own")
                };
                self.ask(token, ReadWhat::Snapshot { file, place, stream }, records);
            }
            ReadRequest::Scan { log, from, to, bytes_max } => {
                let written = if log == self.log { self.segments.extents_from(from) } else { Vec::new() };
                let shard = ShardIndex(self.mesh.0.shard());
                let token = token.0;
                self.scans.ask(ScanRequest { shard, token, log, from, to, bytes_max, written, records });
            }
        }
    }
}
