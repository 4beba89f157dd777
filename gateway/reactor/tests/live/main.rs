//! The reactor on the running kernel: real sockets of the loopback, real files, several rings.
//!
//! One binary, so that it can be copied and run as another user: none of these tests needs root.

mod log_writes;
mod loopback;
mod rig;
mod rings;
mod setup;
