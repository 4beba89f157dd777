//! The `tidegate` binary as a library: configuration, boot, the pump, the admin endpoint.
//!
//! Everything here is wiring. A rule about people and conversations is in `gateway/domain`, which core and when in
//! `gateway/shard`, a system call in `gateway/reactor` and `storage/files`.
//!
//! Threads: one per shard ([`pump`]), pinned; one that keeps segments ready and one reader per shard
//! (`storage/files`); one that scans logs ([`scans`]); one that makes snapshots ([`snapshots`]); one that
//! watches free space ([`space`]); one that lets old messages go ([`retention`]); one with a tokio runtime for operators
//! and signals ([`admin`]);
//! the main one, which starts them and waits ([`boot`]). What [`chat`] does is a client's, and uses none of this.
#![forbid(unsafe_code)]

pub mod admin;
pub mod boot;
pub mod chat;
pub mod cli;
pub mod clock;
pub mod config;
mod damage;
mod large_users;
pub mod limits;
pub mod logging;
pub mod port;
pub mod pump;
pub mod retention;
pub mod scans;
pub mod segments;
pub mod signals;
pub mod snapshots;
pub mod space;
pub mod stats;
pub mod token;
