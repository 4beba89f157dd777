//! What tests share.
#![allow(unsafe_code)]

mod allocations;
mod folder;
mod noise;
mod power_cut;
mod resident;
mod root;

pub use allocations::{Allocations, CountingAllocator, allocations, held_bytes, most_held};
pub use folder::{copy_folder, marks_in_folder};
pub use noise::noise;
pub use power_cut::{FileSystem, Volume};
pub use resident::resident_bytes;
pub use root::{can_mount_or_say, is_root_or_say};
