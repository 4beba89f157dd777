//! The table of rooms: which crate may use which, as DESIGN 3 draws it.
//!
//! A new edge is a new row entry here together with a decision record. An entry can only point to a room of
//! a lower layer; a test of this file holds the table itself to that.

/// What a room may name in its `[dependencies]`.
pub enum Allowed {
    /// Nothing but these.
    Only(&'static [&'static str]),
    /// Anything.
    Any,
}

impl Allowed {
    /// Whether `name` may be used.
    pub fn has(&self, name: &str) -> bool {
        match self {
            Allowed::Only(names) => names.contains(&name),
            Allowed::Any => true,
        }
    }
}

/// One crate of the workspace.
pub struct Room {
    /// Package name.
    pub package: &'static str,
    /// Height in the house: an edge goes to a lower layer only.
    pub layer: u8,
    /// No IO, time, randomness, thread or async; deterministic; `forbid(unsafe_code)`.
    pub pure: bool,
    /// `unsafe` may stand here, each block with its `// SAFETY:`.
    pub may_be_unsafe: bool,
    /// Rooms it may use.
    pub rooms: Allowed,
    /// Third parties it may use. Test-only ones are free.
    pub third_parties: Allowed,
}

/// Looks a package up.
pub fn room(package: &str) -> Option<&'static Room> {
    ROOMS.iter().find(|room| room.package == package)
}

/// The crate that only tests use, and every room may name under `[dev-dependencies]`.
pub const TESTS_SUPPORT: &str = "tidegate-tests-support";

const IDS: &str = "tidegate-ids";
const GENERATED: &str = "tidegate-schema-generated";
const SCHEMA: &str = "tidegate-schema";
const DOMAIN: &str = "tidegate-domain";
const WS: &str = "tidegate-ws";
const STORAGE_LOG: &str = "tidegate-storage-log";
const SHARD: &str = "tidegate-shard";
const STORAGE_FILES: &str = "tidegate-storage-files";
const MESH: &str = "tidegate-mesh";
const REACTOR: &str = "tidegate-reactor";
const CLIENT: &str = "tidegate-client";
const NODE: &str = "tidegate-node";

const fn pure(
    package: &'static str,
    layer: u8,
    rooms: &'static [&'static str],
    third_parties: &'static [&'static str],
) -> Room {
    Room {
        package,
        layer,
        pure: true,
        may_be_unsafe: false,
        rooms: Allowed::Only(rooms),
        third_parties: Allowed::Only(third_parties),
    }
}

const fn system(
    package: &'static str,
    layer: u8,
    rooms: &'static [&'static str],
    third_parties: &'static [&'static str],
) -> Room {
    Room {
        package,
        layer,
        pure: false,
        may_be_unsafe: true,
        rooms: Allowed::Only(rooms),
        third_parties: Allowed::Only(third_parties),
    }
}

const fn shell(package: &'static str, layer: u8, rooms: Allowed) -> Room {
    Room { package, layer, pure: false, may_be_unsafe: false, rooms, third_parties: Allowed::Any }
}

/// Every crate of the workspace, from the ground up.
pub const ROOMS: &[Room] = &[
    pure(IDS, 0, &[], &[]),
    system(GENERATED, 0, &[], &["flatbuffers"]),
    system(TESTS_SUPPORT, 0, &[], &["rustix"]),
    pure(SCHEMA, 1, &[IDS, GENERATED], &["flatbuffers", "thiserror"]),
    pure(DOMAIN, 1, &[IDS], &["sha2", "thiserror", "xxhash-rust"]),
    pure(WS, 1, &[], &["base64", "httparse", "sha1", "thiserror"]),
    pure(STORAGE_LOG, 2, &[IDS], &["crc-fast", "thiserror", "zstd"]),
    pure(SHARD, 3, &[IDS, SCHEMA, DOMAIN, WS, STORAGE_LOG], &["thiserror"]),
    system(
        STORAGE_FILES,
        4,
        &[IDS, STORAGE_LOG],
        &["libc", "memmap2", "rustix", "serde", "thiserror", "toml"],
    ),
    system(MESH, 4, &[], &["loom", "rtrb", "thiserror"]),
    system(REACTOR, 4, &[], &["io-uring", "rustix", "thiserror"]),
    shell(CLIENT, 4, Allowed::Only(&[IDS, SCHEMA, WS])),
    shell(
        NODE,
        5,
        Allowed::Only(&[IDS, SCHEMA, DOMAIN, WS, STORAGE_LOG, SHARD, STORAGE_FILES, MESH, REACTOR, CLIENT]),
    ),
    shell("tidegate-load", 6, Allowed::Only(&[IDS, SCHEMA, WS, CLIENT, REACTOR, STORAGE_LOG, STORAGE_FILES])),
    shell("tidegate-log", 6, Allowed::Only(&[IDS, SCHEMA, STORAGE_LOG, STORAGE_FILES])),
    shell("tidegate-xtask", 6, Allowed::Only(&[])),
    shell("tidegate-benches", 7, Allowed::Any),
    shell("tidegate-tests-sim", 7, Allowed::Any),
    shell("tidegate-tests-e2e", 7, Allowed::Any),
];

#[cfg(test)]
mod tests {
    use super::{Allowed, ROOMS, room};

    #[test]
    fn every_edge_of_the_table_goes_down() {
        for from in ROOMS {
            let Allowed::Only(names) = &from.rooms else { continue };
            for name in *names {
                let to =
                    room(name).unwrap_or_else(|| panic!("{} names the unknown room {name}", from.package));
                assert!(to.layer < from.layer, "{} -> {name} does not go down", from.package);
                assert!(
                    !from.pure || to.pure || to.package == "tidegate-schema-generated",
                    "the pure {} names {name}, which is not pure",
                    from.package
                );
            }
        }
    }

    #[test]
    fn no_room_is_listed_twice() {
        for (index, first) in ROOMS.iter().enumerate() {
            assert!(
                ROOMS[index + 1..].iter().all(|second| second.package != first.package),
                "{}",
                first.package
            );
        }
    }
}
