//! io_uring for one shard.
