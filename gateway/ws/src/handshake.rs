//! The opening handshake (RFC 6455, 4), apart for each role.

mod accept;
pub mod client;
mod fields;
pub mod server;
