//! The mesh as the shard sees it: `MeshPort` over this shard's end of the rings.

use tidegate_ids::ShardIndex;
use tidegate_mesh::MeshEnd;
use tidegate_shard::{Lane, MeshPort};

/// This shard's end of the mesh.
pub struct Rings(pub MeshEnd);

const fn lane(lane: Lane) -> tidegate_mesh::Lane {
    match lane {
        Lane::Requests => tidegate_mesh::Lane::Requests,
        Lane::Results => tidegate_mesh::Lane::Results,
    }
}

impl MeshPort for Rings {
    fn has_room(&self, to: ShardIndex, on: Lane, bytes: usize) -> bool {
        self.0.room(to.0, lane(on)) >= bytes
    }

    fn push(&mut self, to: ShardIndex, on: Lane, parts: &[&[u8]]) -> bool {
        let len = parts.iter().map(|part| part.len()).sum();
        self.0.try_push(to.0, lane(on), len, |frame| {
            let mut rest = frame;
            for part in parts {
                let (here, behind) = rest.split_at_mut(part.len());
                here.copy_from_slice(part);
                rest = behind;
            }
        })
    }

    fn peek(&mut self, from: ShardIndex, on: Lane) -> Option<&[u8]> {
        self.0.peek(from.0, lane(on))
    }

    fn pop(&mut self, from: ShardIndex, on: Lane) {
        self.0.pop(from.0, lane(on));
    }
}

impl Rings {
    /// Bytes waiting in all rings that this shard writes.
    #[must_use]
    pub fn depth_bytes(&self) -> u64 {
        let of = |to: u16| tidegate_mesh::Lane::ALL.map(|lane| self.0.depth(to, lane) as u64);
        (0..self.0.shards()).flat_map(of).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends() -> (Rings, Rings) {
        let mut ends = tidegate_mesh::build(2, 256, 128).unwrap().into_iter().map(Rings);
        (ends.next().unwrap(), ends.next().unwrap())
    }

    #[test]
    fn a_frame_of_parts_arrives_whole_and_on_its_lane() {
        let (mut one, mut other) = ends();
        assert!(one.push(ShardIndex(1), Lane::Requests, &[b"to", b"", b"gether"]));
        assert!(one.push(ShardIndex(1), Lane::Results, &[b"result"]));
        assert!(one.depth_bytes() > 0);
        assert_eq!(other.peek(ShardIndex(0), Lane::Requests), Some(&b"together"[..]));
        other.pop(ShardIndex(0), Lane::Requests);
        assert_eq!(other.peek(ShardIndex(0), Lane::Requests), None);
        assert_eq!(other.peek(ShardIndex(0), Lane::Results), Some(&b"result"[..]));
    }

    #[test]
    fn room_is_what_a_push_finds() {
        let (mut one, _other) = ends();
        let frame = [7; 100];
        while one.has_room(ShardIndex(1), Lane::Requests, frame.len()) {
            assert!(one.push(ShardIndex(1), Lane::Requests, &[&frame]));
        }
        assert!(!one.push(ShardIndex(1), Lane::Requests, &[&frame]));
        assert!(one.has_room(ShardIndex(1), Lane::Results, frame.len()), "the other lane is another ring");
    }
}
