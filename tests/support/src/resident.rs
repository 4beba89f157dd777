//! What a process has in memory, as the system counts it.

use std::fs;

/// Bytes of this process that are resident (`/proc/self/statm`).
#[must_use]
pub fn resident_bytes() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").expect("a Linux process");
    let pages = pages.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.expect("statm has two numbers") * rustix::param::page_size() as u64
}
