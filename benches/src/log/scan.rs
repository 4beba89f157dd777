//! Recovery of a whole log from the page cache, beside reading the same files with a checksum over all bytes.

use super::corpus::{Corpus, LogFilePart};
use super::table::{Table, spread, times};
use crate::limits::CONTROL_READ_BYTES;
use crate::median::Median;
use anyhow::{Result, ensure};
use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::time::Instant;
use tidegate_storage_log::{crc32c, recover};

/// What came of it.
#[derive(Clone, Debug)]
pub struct ScanResult {
    /// Bytes of the log.
    pub bytes: u64,
    /// Its records.
    pub records: u64,
    /// GB/s of recovery.
    pub recovery: Median,
    /// GB/s of the control.
    pub control: Median,
}

/// Measures both in every round, the second first in every other.
///
/// # Errors
/// Something cannot be read.
pub fn run(corpus: &Corpus, rounds: usize) -> Result<ScanResult> {
    ensure!(rounds > 0, "a round at least");
    let dir = corpus.open()?;
    let parts = corpus.parts(&dir)?;
    let bytes: u64 = parts.iter().map(|part| part.end).sum();
    let segments: Vec<u32> = parts.iter().map(|part| part.segment).collect();
    let (mut recovery, mut control) = (Vec::new(), Vec::new());
    let mut records = 0;
    // Warm: what is not in the page cache yet is read once.
    read_and_sum(&parts)?;
    for round in 0..rounds {
        let control_first = round.is_multiple_of(2);
        for is_control in [control_first, !control_first] {
            let began = Instant::now();
            if is_control {
                black_box(read_and_sum(&parts)?);
            } else {
                let mut reader = dir.reader();
                let recovered = recover(&mut reader, &segments, None, |record| _ = black_box(record.head))?;
                ensure!(recovered.damage_count == 0 && recovered.cut.is_none(), "the log is damaged");
                records = recovered.records;
            }
            let rate = bytes as f64 / 1e9 / began.elapsed().as_secs_f64();
            if is_control { control.push(rate) } else { recovery.push(rate) }
        }
        eprintln!("round {} of {rounds}", round + 1);
    }
    Ok(ScanResult { bytes, records, recovery: Median::of(recovery), control: Median::of(control) })
}

/// Reads files to their ends in large pieces; gives the sums of all.
///
/// # Errors
/// What the system says.
pub fn read_and_sum(parts: &[LogFilePart]) -> Result<u32> {
    let mut buffer = vec![0; CONTROL_READ_BYTES];
    let mut sum = 0;
    for part in parts {
        let file = File::open(&part.path)?;
        let mut at = 0;
        while at < part.end {
            let len = (part.end - at).min(CONTROL_READ_BYTES as u64);
            let bytes = &mut buffer[..len as usize];
            file.read_exact_at(bytes, at)?;
            sum ^= crc32c(bytes);
            at += len;
        }
    }
    Ok(sum)
}

/// As a table of Markdown.
#[must_use]
pub fn table(result: &ScanResult) -> String {
    let mut table = Table::new(&["what", "GB/s (low to high)", "× control"]);
    let row = |name: &str, rate: &Median| [name.to_owned(), spread(rate, 2), times(rate, &result.control)];
    table.row(&row("control: reads of 1 MiB and one checksum over all bytes", &result.control));
    table.row(&row("recovery", &result.recovery));
    format!("{} records, {:.2} GB\n\n{}", result.records, result.bytes as f64 / 1e9, table.text())
}

#[cfg(test)]
mod tests {
    use super::super::corpus::tests::SMALL;
    use super::*;

    #[test]
    fn a_scan_sees_every_record() {
        let corpus = Corpus::make(&std::env::temp_dir(), &SMALL).expect("a corpus");
        let result = run(&corpus, 2).expect("a scan");
        assert_eq!(result.records, SMALL.records + 1, "the checkpoint is one more");
        assert!(result.bytes > SMALL.records * 128 && result.recovery.low > 0.0 && result.control.low > 0.0);
        assert_eq!(table(&result).lines().count(), 6);
    }
}
