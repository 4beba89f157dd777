//! Replay, verify and load.
fn main() {}
