//! What the log costs: pages, recovery, commits, snapshots and starts, each beside a control in the same run.
//!
//! - [`corpus`] makes a log with the real appender, with records as the gateway writes them.
//! - [`page`] and [`scan`] read it from the page cache, [`fold`] makes its snapshot, [`start`] opens it again.
//! - [`paced`] and [`bandwidth`] commit through the reactor, [`ring`] and [`writer`] are what they share.

pub mod bandwidth;
pub mod corpus;
pub mod fold;
pub mod paced;
pub mod page;
pub mod ring;
pub mod scan;
pub mod start;
pub mod table;
pub mod writer;
