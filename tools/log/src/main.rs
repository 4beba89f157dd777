//! The log inspector.
fn main() {}
