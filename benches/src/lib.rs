//! Benchmarks with their controls (DESIGN 9, `docs/benchmarks.md`).
//!
//! - [`control`] holds the servers that Tidegate is compared with, each run as a process of its own.
//! - [`load`] is the generator: one thread, one ring, many connections.
//! - [`server`] starts a server on its core, [`cpu`] says what it has cost.
//! - [`series`] interleaves them in rounds, [`report`] takes medians and writes them down.
//! - [`commit`] compares ways of making a log write durable, [`micro`] small pieces of code with a copy of their bytes.
//! - [`log`] measures pages, recovery, commits, snapshots and starts of the log.
//!
//! What is not here: an average over runs of different hours. Whatever is compared runs in the same minute.
#![forbid(unsafe_code)]

pub mod commit;
pub mod control;
pub mod cpu;
pub mod disk;
pub mod limits;
pub mod load;
pub mod log;
pub mod machine;
pub mod median;
pub mod micro;
pub mod report;
pub mod scenario;
pub mod series;
pub mod server;
