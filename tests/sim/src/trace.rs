//! What happened as a number: the same for the same seed.

use crate::network::Peer;
use crate::world::What;
use tidegate_ids::{BatchNumber, ShardIndex};
use tidegate_shard::ConnectionId;
use xxhash_rust::xxh3::xxh3_64;

const fn of_peer(peer: Peer) -> u64 {
    match peer {
        Peer::Device(device) => device as u64,
        Peer::Rogue(rogue) => 1 << 32 | rogue as u64,
    }
}

fn of_place(shard: ShardIndex, connection: ConnectionId) -> u64 {
    u64::from(connection.0) << 8 | u64::from(shard.0)
}

fn of_batch(shard: ShardIndex, number: BatchNumber) -> u64 {
    number.get() << 8 | u64::from(shard.0)
}

/// A number for the trace.
pub(crate) fn kind_of(what: &What) -> u64 {
    let (kind, of): (u64, u64) = match what {
        What::Turn(_, shard) => (1, shard.0.into()),
        What::Tick(_) => (2, 0),
        What::Arrived(_, shard, batch) => (3, of_batch(*shard, batch.number)),
        What::Segment(_, shard) => (4, shard.0.into()),
        What::ReadDone(_, shard, token, records, _) => {
            (5, xxh3_64(records) ^ (token.0 << 8 | u64::from(shard.0)))
        }
        What::SendDone(_, shard, connection, _) => (6, of_place(*shard, *connection)),
        What::HandedOver(.., key) => (7, key.0),
        What::Adopted(.., key) => (8, key.0),
        What::Closed(_, shard, connection) => (9, of_place(*shard, *connection)),
        What::Up(_, bytes) => (10, xxh3_64(bytes)),
        What::UpEnd(wire) => (11, wire.0),
        What::Receive(_, wire) => (12, wire.0),
        What::Down(_, peer, bytes, left) => (13, xxh3_64(bytes) ^ of_peer(*peer) ^ left.0 << 40),
        What::DownEnd(_, peer) => (14, of_peer(*peer)),
        What::Open(peer) => (15, of_peer(*peer)),
        What::Device(device, _) => (16, *device as u64),
        What::Act => (17, 0),
        What::Back(device) => (18, *device as u64),
        What::Snapshot(_) => (19, 0),
        What::SnapshotMade(_, shard, through) => (20, u64::from(*through) << 8 | u64::from(shard.0)),
        What::WriteFailed(_, shard, batch) => (21, of_batch(*shard, batch.number)),
        What::GiveUp(run) => (22, *run),
        What::Rogue(rogue) => (23, *rogue as u64),
        What::Room(run) => (24, *run),
        What::Cached(_, shard, batch) => (26, of_batch(*shard, batch.number)),
        What::Erased(_, shard) => (27, shard.0.into()),
        What::ToldEarly(_, shard, batch) => (25, of_batch(*shard, batch.number)),
    };
    kind ^ of.rotate_left(8)
}
