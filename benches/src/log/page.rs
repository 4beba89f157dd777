//! Pages of a long log, beside reading the same bytes at the same places with a checksum: from the page cache, and from the
//! disk.

use super::corpus::{Corpus, End, LogFilePart};
use super::table::{Table, spread, times};
use crate::median::Median;
use anyhow::{Context, Result, anyhow, ensure};
use rustix::fs::{Advice, fadvise};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::hint::black_box;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::time::Instant;
use tidegate_domain::Generator;
use tidegate_ids::Sequence;
use tidegate_storage_files::{SegmentReader, recover_all};
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

/// What came of one kind of read from the disk.
#[derive(Clone, Debug)]
pub struct ColdRow {
    /// In words.
    pub name: &'static str,
    /// Nanoseconds of a read: median of the rounds.
    pub read_ns: Median,
    /// Nanoseconds of reading the same records one after the other.
    pub chained_ns: Median,
    /// Nanoseconds of reading the same records after all have been announced at once.
    pub at_once_ns: Median,
    /// Rounds of reads that waited for each other: the mean, and the most.
    pub rounds: (f64, u32),
    /// Segments that the records of a read lie in: the mean, and the most.
    pub segments: (f64, u32),
    /// Reads with more rounds behind the first, which depends on nothing, than one for each segment.
    pub above_bound: usize,
    /// All reads.
    pub reads: usize,
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
    rounds: Vec<u32>,
    bounds: Vec<f64>,
    read_ns: Vec<f64>,
    control_ns: Vec<f64>,
    /// By [`ColdWay`].
    cold_ns: [Vec<f64>; COLD_WAYS.len()],
}

/// How records are read from the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ColdWay {
    Page,
    OneAfterTheOther,
    AtOnce,
}

const COLD_WAYS: [ColdWay; 3] = [ColdWay::Page, ColdWay::OneAfterTheOther, ColdWay::AtOnce];

struct Reading {
    reader: SegmentReader,
    pages: PageReader,
    packed: Vec<u8>,
    files: BTreeMap<u32, File>,
    buffer: Vec<u8>,
}

/// Reads the latest page of random conversations, that of the long one, and single random records of the long one: from the
/// page cache, and then, a tenth of them, from the disk.
///
/// # Errors
/// Something cannot be read.
pub fn run(corpus: &Corpus, work: &Work) -> Result<(Vec<PageRow>, Vec<ColdRow>)> {
    ensure!(work.reads > 0 && work.rounds > 0, "a read and a round at least");
    let dir = corpus.open()?;
    // As a start does, which learns where the index of the last segment lies.
    recover_all(&dir, |_| {}, |_, _| {})?;
    let mut reading = Reading::new(dir.reader(), &corpus.parts(&dir)?)?;
    let mut cases = cases(corpus, work);
    for case in &mut cases {
        case.prepare(&mut reading).context(case.name)?;
    }
    for round in 0..work.rounds {
        for case in &mut cases {
            case.sample(&mut reading, round.is_multiple_of(2))?;
        }
        eprintln!("round {} of {}", round + 1, work.rounds);
    }
    let warm = cases.iter().map(Case::row).collect();
    for case in &mut cases {
        case.begin_cold(work.reads.div_ceil(10));
    }
    for round in 0..work.rounds {
        for case in &mut cases {
            case.sample_cold(&mut reading)?;
        }
        eprintln!("cold round {} of {}", round + 1, work.rounds);
    }
    Ok((warm, cases.iter().map(Case::cold_row).collect()))
}

fn cases(corpus: &Corpus, work: &Work) -> [Case; 3] {
    let mut random = Generator::new(11);
    let long = &corpus.ends[0];
    let mut any = |count: u64| random.next_u64() % count;
    let others = corpus.ends.len() as u64 - 1;
    let conversations: Vec<End> =
        (0..work.reads).map(|_| corpus.ends[1 + any(others) as usize]).filter(|end| end.count > 0).collect();
    let latest = |end: &End| range(end, end.count.saturating_sub(work.page.into()) + 1, end.count);
    let sequences = (0..work.reads).map(|_| 1 + any(long.count)).collect::<Vec<_>>();
    [
        Case::new("latest page of a random conversation", conversations.iter().map(latest).collect()),
        Case::new("latest page of the long conversation", vec![latest(long); work.reads]),
        Case::new(
            "a random record of the long conversation",
            sequences.iter().map(|at| range(long, *at, *at)).collect(),
        ),
    ]
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

    /// Lets the kernel forget the files.
    fn forget(&self) -> Result<()> {
        self.files.values().try_for_each(|file| fadvise(file, 0, None, Advice::DontNeed))?;
        Ok(())
    }

    /// Reads records after all have been announced.
    fn announced(&mut self, places: &[Place]) -> Result<u32> {
        for place in places {
            let bytes = NonZeroU64::new(place.len as u64);
            fadvise(&self.files[&place.segment], place.offset, bytes, Advice::WillNeed)?;
        }
        self.places(places)
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
        Self {
            name,
            specs,
            places: Vec::new(),
            steps: Vec::new(),
            rounds: Vec::new(),
            bounds,
            read_ns: Vec::new(),
            control_ns: Vec::new(),
            cold_ns: Default::default(),
        }
    }

    /// Reads everything once: learns where it lies, and what is touched for it.
    fn prepare(&mut self, reading: &mut Reading) -> Result<()> {
        for spec in &self.specs {
            let end = reading.page(spec)?;
            let ReadSpec::Range { limit, .. } = spec else { continue };
            ensure!(end.records == *limit && end.damaged == 0, "a page is not whole: {end:?}");
            self.steps.push(end.steps);
            self.rounds.push(end.rounds);
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

    /// Forgets the figures of the page cache, and keeps as many reads.
    fn begin_cold(&mut self, reads: usize) {
        self.specs.truncate(reads);
        self.places.truncate(reads);
        self.rounds.truncate(reads);
        (self.read_ns, self.control_ns) = (Vec::new(), Vec::new());
    }

    /// Reads from the disk, in all ways in turn, so that what a device remembers helps none of them alone.
    fn sample_cold(&mut self, reading: &mut Reading) -> Result<()> {
        let mut sums = [0.0; COLD_WAYS.len()];
        for (index, (spec, places)) in self.specs.iter().zip(&self.places).enumerate() {
            for turn in 0..COLD_WAYS.len() {
                let way = (index + turn) % COLD_WAYS.len();
                reading.forget()?;
                let began = Instant::now();
                match COLD_WAYS[way] {
                    ColdWay::Page => drop(black_box(reading.page(spec)?)),
                    ColdWay::OneAfterTheOther => drop(black_box(reading.places(places)?)),
                    ColdWay::AtOnce => drop(black_box(reading.announced(places)?)),
                }
                sums[way] += began.elapsed().as_nanos() as f64;
            }
        }
        let count = self.specs.len().max(1) as f64;
        self.cold_ns.iter_mut().zip(sums).for_each(|(all, sum)| all.push(sum / count));
        Ok(())
    }

    fn cold_row(&self) -> ColdRow {
        let segments = |places: &Vec<Place>| {
            let all: BTreeSet<u32> = places.iter().map(|place| place.segment).collect();
            all.len() as u32
        };
        let is_above = |(segments, rounds): &(u32, &u32)| **rounds > segments + 1;
        let cold = |way: ColdWay| Median::of(self.cold_ns[way as usize].iter().copied());
        ColdRow {
            name: self.name,
            read_ns: cold(ColdWay::Page),
            chained_ns: cold(ColdWay::OneAfterTheOther),
            at_once_ns: cold(ColdWay::AtOnce),
            rounds: mean_and_most(self.rounds.iter().copied()),
            segments: mean_and_most(self.places.iter().map(segments)),
            above_bound: self.places.iter().map(segments).zip(&self.rounds).filter(is_above).count(),
            reads: self.rounds.len(),
        }
    }

    fn row(&self) -> PageRow {
        let shares = self.steps.iter().zip(&self.bounds).map(|(steps, bound)| f64::from(*steps) / bound);
        PageRow {
            name: self.name,
            read_ns: Median::of(self.read_ns.iter().copied()),
            control_ns: Median::of(self.control_ns.iter().copied()),
            steps: mean_and_most(self.steps.iter().copied()),
            of_bound: shares.fold(0.0, f64::max),
        }
    }
}

fn mean_and_most(counts: impl Iterator<Item = u32> + Clone) -> (f64, u32) {
    let (total, count) =
        counts.clone().fold((0.0, 0.0), |(sum, count), one| (sum + f64::from(one), count + 1.0));
    (if count > 0.0 { total / count } else { 0.0 }, counts.max().unwrap_or(0))
}

/// As tables of Markdown.
#[must_use]
pub fn tables((warm, cold): &(Vec<PageRow>, Vec<ColdRow>)) -> String {
    format!("{}\nFrom the disk:\n\n{}", warm_table(warm), cold_table(cold))
}

fn cold_table(rows: &[ColdRow]) -> String {
    let mut table = Table::new(&[
        "read",
        "ns (low to high)",
        "the same records by `pread` one after the other",
        "all announced at once",
        "× one after the other",
        "× at once",
        "rounds, mean · most",
        "segments, mean · most",
        "pages that waited more than once for a segment",
    ]);
    for row in rows {
        table.row(&[
            row.name.to_owned(),
            spread(&row.read_ns, 0),
            spread(&row.chained_ns, 0),
            spread(&row.at_once_ns, 0),
            times(&row.read_ns, &row.chained_ns),
            times(&row.read_ns, &row.at_once_ns),
            format!("{:.1} · {}", row.rounds.0, row.rounds.1),
            format!("{:.1} · {}", row.segments.0, row.segments.1),
            format!("{} of {}", row.above_bound, row.reads),
        ]);
    }
    table.text().to_owned()
}

fn warm_table(rows: &[PageRow]) -> String {
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
        let all = run(&corpus, &Work { page: 50, reads: 200, rounds: 2 }).expect("pages");
        let (rows, cold) = &all;
        assert_eq!((rows.len(), cold.len()), (3, 3));
        for row in rows {
            assert!(row.read_ns.low > 0.0 && row.control_ns.low > 0.0, "{row:?}");
            assert!(row.of_bound > 0.0 && row.of_bound <= 1.0, "{row:?}");
        }
        assert!(rows[1].steps.1 <= 50 && rows[2].steps.1 <= 33);
        for row in cold {
            assert!(row.read_ns.low > 0.0 && row.chained_ns.low > 0.0 && row.at_once_ns.low > 0.0, "{row:?}");
        }
        // One dependent read for each segment, for pages; a single record is sought by links.
        assert!(cold[0].segments.1 > 1 && cold[0].reads == 20, "{cold:?}");
        assert_eq!((cold[0].above_bound, cold[1].above_bound), (0, 0), "{cold:?}");
        assert_eq!(tables(&all).lines().count(), 5 + 3 + 5);
    }
}
