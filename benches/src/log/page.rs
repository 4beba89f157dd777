//! Pages of a long log from the page cache, beside reading the same bytes at the same places with a checksum.

use super::corpus::{Corpus, End, LogFilePart};
use super::table::{Table, spread, times};
use crate::median::Median;
use anyhow::{Context, Result, anyhow, ensure};
use std::collections::BTreeMap;
use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::time::Instant;
use tidegate_domain::Generator;
use tidegate_ids::Sequence;
use tidegate_storage_files::SegmentReader;
use tidegate_storage_log::{Direction, PackedRecords, PageReader, ReadSpec, crc32c, stored_len};

/// How much to read.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// Records of a page.
    pub page: u32,
    /// Reads of a sample.
    pub reads: usize,
    /// Samples of each row.
    pub rounds: usize,
}

/// What came of one kind of read.
#[derive(Clone, Debug)]
pub struct PageRow {
    /// In words.
    pub name: &'static str,
    /// Nanoseconds of a read: median of the rounds.
    pub read_ns: Median,
    /// Nanoseconds of its control.
    pub control_ns: Median,
    /// Records touched by a read: the mean, and the most.
    pub steps: (f64, u32),
    /// The largest share that a read took of the steps it may take.
    pub of_bound: f64,
}

/// Where a record lies.
#[derive(Clone, Copy, Debug)]
struct Place {
    segment: u32,
    offset: u64,
    len: usize,
}

struct Case {
    name: &'static str,
    specs: Vec<ReadSpec>,
    places: Vec<Vec<Place>>,
    steps: Vec<u32>,
    bounds: Vec<f64>,
    read_ns: Vec<f64>,
    control_ns: Vec<f64>,
}

struct Reading {
    reader: SegmentReader,
    pages: PageReader,
    packed: Vec<u8>,
    files: BTreeMap<u32, File>,
    buffer: Vec<u8>,
}

/// Reads the latest page of random conversations, that of the long one, and single random records of the long one.
///
/// # Errors
/// Something cannot be read.
pub fn run(corpus: &Corpus, work: &Work) -> Result<Vec<PageRow>> {
    ensure!(work.reads > 0 && work.rounds > 0, "a read and a round at least");
    let dir = corpus.open()?;
    let mut reading = Reading::new(dir.reader(), &corpus.parts(&dir)?)?;
    let mut random = Generator::new(11);
    let long = corpus.ends.first().context("a conversation")?;
    let mut any = |count: u64| random.next_u64() % count;
    let others = corpus.ends.len() as u64 - 1;
    let conversations: Vec<End> =
        (0..work.reads).map(|_| corpus.ends[1 + any(others) as usize]).filter(|end| end.count > 0).collect();
    let latest = |end: &End| range(end, end.count.saturating_sub(work.page.into()) + 1, end.count);
    let sequences = (0..work.reads).map(|_| 1 + any(long.count)).collect::<Vec<_>>();
    let mut cases = [
        Case::new("latest page of a random conversation", conversations.iter().map(latest).collect()),
        Case::new("latest page of the long conversation", vec![latest(long); work.reads]),
        Case::new(
            "a random record of the long conversation",
            sequences.iter().map(|at| range(long, *at, *at)).collect(),
        ),
    ];
    for case in &mut cases {
        case.prepare(&mut reading).context(case.name)?;
    }
    for round in 0..work.rounds {
        for case in &mut cases {
            case.sample(&mut reading, round.is_multiple_of(2))?;
        }
        eprintln!("round {} of {}", round + 1, work.rounds);
    }
    Ok(cases.iter().map(Case::row).collect())
}

fn range(end: &End, from: u64, to: u64) -> ReadSpec {
    ReadSpec::Range {
        stream: end.stream,
        last: end.last,
        last_sequence: Sequence(end.count),
        from: Sequence(from),
        to: Sequence(to),
        limit: (to - from + 1) as u32,
        bytes_max: 1 << 20,
        direction: Direction::Descending,
    }
}

/// Steps that a read may take: a page's records; 3·log2(n) and its own record for what lies deep.
fn bound(spec: &ReadSpec) -> f64 {
    let ReadSpec::Range { last_sequence, to, limit, .. } = spec else { return f64::MAX };
    if to == last_sequence { f64::from(*limit) } else { 3.0 * (last_sequence.0 as f64).log2() }
}

impl Reading {
    fn new(reader: SegmentReader, parts: &[LogFilePart]) -> Result<Self> {
        let open = |part: &LogFilePart| Ok((part.segment, File::open(&part.path)?));
        let files = parts.iter().map(open).collect::<Result<_>>()?;
        Ok(Self { reader, pages: PageReader::new(), packed: Vec::new(), files, buffer: vec![0; 128 << 10] })
    }

    fn page(&mut self, spec: &ReadSpec) -> Result<tidegate_storage_log::PageEnd> {
        self.packed.clear();
        self.pages.read(&mut self.reader, spec, &mut self.packed).map_err(|error| anyhow!("{error:?}"))
    }

    fn places(&mut self, places: &[Place]) -> Result<u32> {
        let mut sum = 0;
        for place in places {
            let bytes = &mut self.buffer[..place.len];
            self.files[&place.segment].read_exact_at(bytes, place.offset)?;
            sum ^= crc32c(bytes);
        }
        Ok(sum)
    }
}

impl Case {
    fn new(name: &'static str, specs: Vec<ReadSpec>) -> Self {
        let bounds = specs.iter().map(bound).collect();
        let (places, steps, read_ns, control_ns) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { name, specs, places, steps, bounds, read_ns, control_ns }
    }

    /// Reads everything once: learns where it lies, and what is touched for it.
    fn prepare(&mut self, reading: &mut Reading) -> Result<()> {
        for spec in &self.specs {
            let end = reading.page(spec)?;
            let ReadSpec::Range { limit, .. } = spec else { continue };
            ensure!(end.records == *limit && end.damaged == 0, "a page is not whole: {end:?}");
            self.steps.push(end.steps);
            let place = |record: tidegate_storage_log::RecordView<'_>| Place {
                segment: record.location.segment,
                offset: record.location.offset.into(),
                len: stored_len(record.body.len()),
            };
            self.places.push(PackedRecords(&reading.packed).iter().map(place).collect());
        }
        Ok(())
    }

    fn sample(&mut self, reading: &mut Reading, control_first: bool) -> Result<()> {
        let count = self.specs.len().max(1) as f64;
        for is_control in [control_first, !control_first] {
            let began = Instant::now();
            if is_control {
                for places in &self.places {
                    black_box(reading.places(places)?);
                }
            } else {
                for spec in &self.specs {
                    black_box(reading.page(spec)?);
                }
            }
            let ns = began.elapsed().as_nanos() as f64 / count;
            if is_control { self.control_ns.push(ns) } else { self.read_ns.push(ns) }
        }
        Ok(())
    }

    fn row(&self) -> PageRow {
        let total: u64 = self.steps.iter().map(|steps| u64::from(*steps)).sum();
        let most = self.steps.iter().copied().max().unwrap_or(0);
        let shares = self.steps.iter().zip(&self.bounds).map(|(steps, bound)| f64::from(*steps) / bound);
        PageRow {
            name: self.name,
            read_ns: Median::of(self.read_ns.iter().copied()),
            control_ns: Median::of(self.control_ns.iter().copied()),
            steps: (total as f64 / self.steps.len().max(1) as f64, most),
            of_bound: shares.fold(0.0, f64::max),
        }
    }
}

/// As a table of Markdown.
#[must_use]
pub fn table(rows: &[PageRow]) -> String {
    let mut table = Table::new(&[
        "read",
        "ns (low to high)",
        "control: the same bytes by `pread`, with a checksum",
        "× control",
        "records touched, mean · most",
        "most of what is allowed",
    ]);
    for row in rows {
        table.row(&[
            row.name.to_owned(),
            spread(&row.read_ns, 0),
            spread(&row.control_ns, 0),
            times(&row.read_ns, &row.control_ns),
            format!("{:.1} · {}", row.steps.0, row.steps.1),
            format!("{:.0} %", row.of_bound * 100.0),
        ]);
    }
    table.text().to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::corpus::tests::SMALL;
    use super::*;

    #[test]
    fn pages_touch_only_their_records_and_any_sequence_is_near() {
        let corpus = Corpus::make(&std::env::temp_dir(), &SMALL).expect("a corpus");
        let rows = run(&corpus, &Work { page: 50, reads: 200, rounds: 2 }).expect("pages");
        assert_eq!(rows.len(), 3);
        for row in &rows {
            assert!(row.read_ns.low > 0.0 && row.control_ns.low > 0.0, "{row:?}");
            assert!(row.of_bound > 0.0 && row.of_bound <= 1.0, "{row:?}");
        }
        assert!(rows[1].steps.1 <= 50 && rows[2].steps.1 <= 33);
        assert_eq!(table(&rows).lines().count(), 5);
    }
}
