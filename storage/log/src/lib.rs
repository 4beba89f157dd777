//! The log: batches, records, segments, recovery.
