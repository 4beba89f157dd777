//! The real binary, over real sockets, on real files.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests")]

mod admin;
mod backup;
mod bad_input;
mod chat;
mod crash;
mod damage;
mod erasing;
mod faults;
mod full_disk;
mod lives;
mod load;
mod many_ranges;
mod noise;
mod numbers;
mod ordinary_user;
mod patience;
mod power_cut;
mod repair;
mod replaced;
mod replay;
mod stop;

/// The numbers of shards that a rule is shown on.
const SHARDS: [u16; 2] = [1, 4];
