//! What one link of a walk costs, by `pread` and by a map: docs/decisions/0004-sealed-segments-by-pread.md.
//!
//! `cargo run --release -p tidegate-storage-files --example map_or_pread [FILE]`
#![allow(unsafe_code, missing_docs)]

use memmap2::Mmap;
use std::fs::File;
use std::hint::black_box;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::time::Instant;

const FILE_BYTES: usize = 256 << 20;
const READS: u64 = 400_000;

fn main() -> io::Result<()> {
    let path = std::env::args().nth(1).unwrap_or_else(|| String::from("map_or_pread.tmp"));
    let mut file = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
    let chunk: Vec<u8> = (0..1 << 20).map(|at: u32| (at * 31) as u8).collect();
    (0..FILE_BYTES / chunk.len()).try_for_each(|_| file.write_all(&chunk))?;
    file.sync_all()?;
    // SAFETY: nothing else has this file, and it is not changed below. This is what a segment cannot promise.
    let map = unsafe { Mmap::map(&file)? };
    map.iter().step_by(4096).for_each(|byte| _ = black_box(*byte));
    for bytes in [256, 4096] {
        let mut into = vec![0; bytes];
        let mut by_pread = Vec::new();
        let mut by_map = Vec::new();
        // Interleaved, so that both see the same machine.
        for round in 0..7 {
            by_pread.push(measure(round, |at| file.read_exact_at(&mut into, at as u64))?);
            by_map.push(measure(round, |at| {
                into.copy_from_slice(black_box(&map[at..at + bytes]));
                Ok(())
            })?);
        }
        by_pread.sort_unstable();
        by_map.sort_unstable();
        println!("{bytes:5} bytes from the page cache: pread {} ns, map {} ns", by_pread[3], by_map[3]);
    }
    drop(map);
    std::fs::remove_file(path)
}

/// Nanoseconds per read at pseudo-random places (an xorshift, Marsaglia 2003).
fn measure(round: u64, mut read: impl FnMut(usize) -> io::Result<()>) -> io::Result<u64> {
    let mut state = 0x9e37_79b9_7f4a_7c15 ^ round;
    let start = Instant::now();
    for _ in 0..READS {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        read(state as usize % (FILE_BYTES - 4096))?;
    }
    Ok(start.elapsed().as_nanos() as u64 / READS)
}
