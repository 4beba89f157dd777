//! RFC 6455 over a byte slice.
