//! What the log costs: pages, recovery, commits, snapshots and starts, each beside a control in the same run.
//!
//! - [`corpus`] makes a log with the real appender, with records as the gateway writes them.
//! - [`page`] and [`scan`] read it from the page cache, [`fold`] makes its snapshot, [`start`] opens it again.
//! - [`queues`] measures what users cost who are away, with a real [`shard`] in this process.
//! - [`paced`] and [`bandwidth`] commit through the reactor, [`ring`] and [`writer`] are what they share.

pub mod bandwidth;
pub mod corpus;
pub mod fold;
pub mod paced;
pub mod page;
pub mod queues;
pub mod ring;
pub mod scan;
pub mod shard;
pub mod start;
pub mod table;
pub mod writer;
