//! The reactor on the running kernel: real sockets of the loopback, real files, several rings.
//!
//! One binary, so that a test can run itself again as another user: none of these tests needs root.
#![allow(unsafe_code)]

mod allocations;
mod log_writes;
mod loopback;
mod rig;
mod rings;
mod setup;

#[global_allocator]
static ALLOCATOR: tidegate_tests_support::CountingAllocator = tidegate_tests_support::CountingAllocator;
