//! RFC 6455 over a byte slice: opening handshake, decoding in place, assembling, encoding and close rules, for both
//! roles. Bytes come in as slices and go out into the caller's buffers; there is no socket, clock or randomness here.
//!
//! - [`server`] and [`client`] read and write the two halves of the opening handshake.
//! - [`Decoder`] turns received bytes into [`Item`]s. A message that lies whole in the received slice is unmasked in
//!   place and lent; only what is incomplete is copied into the caller's `held` buffer.
//! - [`encode`] appends frames to the caller's buffer.
//!
//! What is *not* here: extensions (`permessage-deflate` is never negotiated), deadlines (the caller closes who takes too
//! long over a frame) and the policy of answering (the caller sends the pong and echoes the close).
#![forbid(unsafe_code)]

mod close;
mod decode;
pub mod encode;
mod error;
mod handshake;
pub mod limits;
mod mask;
mod opcode;

pub use close::CloseCode;
pub use decode::{Decoded, Decoder, Item, Role};
pub use error::CloseError;
pub use handshake::{client, server};
pub use mask::apply_mask;
pub use opcode::Opcode;
