//! Byte rings between shards.
