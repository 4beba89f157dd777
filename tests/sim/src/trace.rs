//! What happened as a number: the same for the same seed.

use crate::world::What;
use tidegate_ids::BatchNumber;
use xxhash_rust::xxh3::xxh3_64;

/// A number for the trace.
pub(crate) fn kind_of(what: &What) -> u64 {
    let (kind, of): (u64, u64) = match what {
        What::Turn(_, shard) => (1, shard.0.into()),
        What::Tick(_) => (2, 0),
        What::Written(_, shard, batch) => (3, BatchNumber::get(batch.number) << 8 | u64::from(shard.0)),
        What::Segment(_, shard) => (4, shard.0.into()),
        What::ReadDone(_, shard, token, ..) => (5, token.0 << 8 | u64::from(shard.0)),
        What::SendDone(_, shard, connection, buffer) => {
            (6, xxh3_64(buffer) ^ (u64::from(connection.0) << 8 | u64::from(shard.0)))
        }
        What::HandedOver(.., key) => (7, key.0),
        What::Adopted(.., key) => (8, key.0),
        What::Closed(_, shard, connection) => (9, u64::from(connection.0) << 8 | u64::from(shard.0)),
        What::Up(_, bytes) => (10, xxh3_64(bytes)),
        What::UpEnd(wire) => (11, wire.0),
        What::Receive(_, wire) => (12, wire.0),
        What::Down(_, device, bytes) => (13, xxh3_64(bytes) ^ *device as u64),
        What::DownEnd(_, device) => (14, *device as u64),
        What::Open(device) => (15, *device as u64),
        What::Device(device, _) => (16, *device as u64),
        What::Act => (17, 0),
        What::Back(device) => (18, *device as u64),
        What::Snapshot(_) => (19, 0),
        What::SnapshotMade(_, shard, through) => (20, u64::from(*through) << 8 | u64::from(shard.0)),
        What::WriteFailed(_, shard, batch) => (21, BatchNumber::get(batch.number) << 8 | u64::from(shard.0)),
        What::GiveUp(run) => (22, *run),
    };
    kind ^ of.rotate_left(8)
}
