//! A whole gateway in one thread: the real shards, the SDK's real machine, a disk that tears and loses what was not
//! synced, a network that cuts, one virtual clock, one seed.
//!
//! The same seed gives the same trace hash. Faults are put in from outside, by the disk, the mesh and the network: the
//! production crates carry no switch for the simulator.
#![forbid(unsafe_code)]

mod announced;
mod checker;
mod clock;
mod device;
mod disk;
mod faults;
mod gateway;
mod ledger;
mod links;
mod marks;
mod mesh;
mod network;
mod plan;
mod rogue;
mod schedule;
mod shell;
mod shrink;
mod snapshots;
mod trace;
mod world;

pub use clock::Chance;
pub use marks::{REQUIRED, missing};
pub use plan::{Failure, Fault, Plan, Planted, Report, TICKS_DEFAULT};
pub use shrink::{Shrunk, shrink};
pub use world::run;
