//! The wire contract from the outside: golden bytes, round trips, hostile bytes, limits.

mod deliver;
mod golden;
mod hostile;
mod integers;
mod limits;
mod page;
mod round_trip;
mod samples;
