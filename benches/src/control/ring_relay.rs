//! The floor of a direct message (DESIGN 9): the same receives, sends and synced writes as a gateway of one shard makes,
//! the same bytes, the same gathering, the same group commit without a timer; no WebSocket, no rule, no checksum.
//!
//! A connection's first eight bytes are its index. Even ones send messages, the next odd one receives them and answers
//! with acknowledgements, which are only counted.

use super::outbox::Outbox;
use super::{any_port, say_ready, shard_ring};
use crate::disk::{Batch, opened_auto, zeroed};
use crate::limits::{BATCH_BYTES_MAX, BATCH_PADDING_BYTES, SEGMENT_BYTES};
use anyhow::{Context, Result};
use clap::Args;
use std::collections::VecDeque;
use std::path::Path;
use tidegate_reactor::{Completion, LogFile, Ops, Reactor, Slot, SyncMode, listeners};

/// Bytes of everything that moves, as Tidegate moves it, WebSocket included.
#[derive(Clone, Copy, Debug, Args)]
pub struct RelaySizes {
    /// A `Send`
    #[arg(long)]
    pub send: usize,
    /// Its `SendAck`
    #[arg(long)]
    pub send_ack: usize,
    /// Its `Deliver`
    #[arg(long)]
    pub deliver: usize,
    /// Its record in the log
    #[arg(long)]
    pub record: usize,
}

impl RelaySizes {
    /// As arguments of the command line.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        [("send", self.send), ("send-ack", self.send_ack), ("deliver", self.deliver), ("record", self.record)]
            .iter()
            .map(|(name, bytes)| format!("--{name}={bytes}"))
            .collect()
    }
}

/// What is known of a connection.
#[derive(Clone, Copy, Default)]
struct Peer {
    /// Its index, when its first bytes have come.
    index: Option<u64>,
    /// Bytes of a message that is not complete.
    partial: usize,
}

struct Relay {
    sizes: RelaySizes,
    peers: Vec<Peer>,
    /// By index.
    slots: Vec<Option<Slot>>,
    outbox: Outbox,
    /// Who sent the messages that gather for the next batch.
    waiting: VecDeque<Slot>,
    /// The batch in flight, and who sent its messages.
    flown: Batch,
    flown_senders: Vec<Slot>,
    in_flight: bool,
    offset: u64,
    /// What is sent: its content does not matter.
    filler: Vec<u8>,
}

/// Relays until the process ends.
pub(super) fn serve(core: usize, directory: &Path, sizes: &RelaySizes) -> Result<()> {
    let path = directory.join("relay.seg");
    zeroed(&path)?;
    let (file, mode) = opened_auto(&path)?;
    let config = shard_ring(core)?;
    let mut reactor: Reactor<Batch> = Reactor::new(&config).context("no ring")?;
    let (sockets, address) = listeners(any_port(), 1).context("cannot listen")?;
    sockets.into_iter().for_each(|socket| reactor.ops().listen(socket));
    let mut relay = Relay {
        sizes: *sizes,
        peers: vec![Peer::default(); config.slots as usize],
        slots: vec![None; config.slots as usize],
        outbox: Outbox::new(config.slots),
        waiting: VecDeque::new(),
        flown: Batch::with_capacity(BATCH_BYTES_MAX),
        flown_senders: Vec::new(),
        in_flight: false,
        offset: 0,
        filler: vec![7; sizes.deliver.max(sizes.send_ack).max(sizes.record)],
    };
    say_ready(address)?;
    loop {
        reactor.submit_and_wait(None).context("the ring failed")?;
        reactor.completions(usize::MAX, |ops, completion| relay.complete(ops, completion));
        relay.commit(reactor.ops(), &file, mode);
        relay.outbox.send_all(reactor.ops());
    }
}

impl Relay {
    fn complete(&mut self, ops: &mut Ops<Batch>, completion: Completion<'_>) {
        match completion {
            Completion::Accepted { slot } => {
                self.peers[slot.index()] = Peer::default();
                ops.receive_multishot(slot);
            }
            Completion::Received { slot, bytes } => self.received(slot, bytes),
            Completion::Sent { slot, buffer, .. } => self.outbox.sent(slot, buffer),
            Completion::ReceiveEnded { slot, .. } => {
                self.outbox.forget(slot);
                self.slots.iter_mut().filter(|known| **known == Some(slot)).for_each(|known| *known = None);
                ops.close(slot);
            }
            Completion::WriteDone { result, .. } => {
                assert!(result.is_ok(), "the disk failed: {result:?}");
                self.written();
            }
            _ => {}
        }
    }

    fn received(&mut self, slot: Slot, bytes: &[u8]) {
        let mut bytes = bytes;
        if self.peers[slot.index()].index.is_none() {
            let Some((index, rest)) = bytes.split_first_chunk() else { return };
            let index = u64::from_le_bytes(*index);
            self.peers[slot.index()] = Peer { index: Some(index), partial: 0 };
            self.slots[index as usize] = Some(slot);
            bytes = rest;
        }
        let peer = &mut self.peers[slot.index()];
        let is_sender = peer.index.is_some_and(|index| index % 2 == 0);
        if !is_sender {
            return;
        }
        peer.partial += bytes.len();
        let complete = peer.partial / self.sizes.send;
        peer.partial %= self.sizes.send;
        self.waiting.extend(std::iter::repeat_n(slot, complete));
    }

    /// One batch at a time: the next gathers meanwhile.
    fn commit(&mut self, ops: &mut Ops<Batch>, file: &LogFile, mode: SyncMode) {
        if self.in_flight || self.waiting.is_empty() {
            return;
        }
        let record = &self.filler[..self.sizes.record];
        let batch = self.flown.bytes_mut();
        batch.clear();
        self.flown_senders.clear();
        while batch.room() >= record.len() + BATCH_PADDING_BYTES {
            let Some(sender) = self.waiting.pop_front() else { break };
            // A copy of the record's length, of bytes that do not matter.
            batch.push(record, record.len());
            self.flown_senders.push(sender);
        }
        batch.pad(BATCH_PADDING_BYTES);
        if self.offset + self.flown.len() as u64 > SEGMENT_BYTES {
            self.offset = 0;
        }
        let offset = self.offset;
        self.offset += self.flown.len() as u64;
        self.in_flight = true;
        ops.write_sync(0, file, offset, self.flown.clone(), mode);
    }

    /// What the batch held may leave.
    fn written(&mut self) {
        self.in_flight = false;
        let senders = std::mem::take(&mut self.flown_senders);
        for sender in &senders {
            self.outbox.push(*sender, &self.filler[..self.sizes.send_ack]);
            let index = self.peers[sender.index()].index.map_or(0, |index| index as usize);
            if let Some(recipient) = self.slots[index + 1] {
                self.outbox.push(recipient, &self.filler[..self.sizes.deliver]);
            }
        }
        self.flown_senders = senders;
    }
}
