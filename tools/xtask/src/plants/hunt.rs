//! Looks for planted bugs: each plant's seeds one after another until one fails, as many plants at once as there are
//! cores.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use super::patch::Plant;
use super::seed::{self, Verdict};

/// Letters of a failure that are shown in the table.
const SAID_LEN_MAX: usize = 110;

/// What is to be done.
pub struct Hunt {
    /// The simulator of the copy.
    pub simulator: PathBuf,
    /// The first seed.
    pub first: u64,
    /// So many seeds must hold without a plant.
    pub seeds_unplanted: u64,
}

/// What became of one plant.
#[derive(Debug)]
enum Found {
    /// A checker or an assertion has found it.
    At {
        /// By which seed.
        seed: u64,
        /// What it said.
        said: String,
    },
    /// All its seeds held, or broke the simulator.
    Nowhere {
        /// What is known of why.
        why: String,
    },
}

/// What became of all of them.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Names of plants that were found.
    found: Vec<String>,
    /// Seeds that held without a plant.
    pub held_unplanted: u64,
    /// The first that did not, with what was said.
    pub broken_unplanted: Option<String>,
}

/// One piece of work.
enum Job<'a> {
    Plant(&'a Plant),
    Unplanted(u64),
}

impl Outcome {
    /// Whether a plant was found.
    pub fn has_found(&self, name: &str) -> bool {
        self.found.iter().any(|found| found == name)
    }
}

impl Hunt {
    /// Runs everything; each plant is told in a line of a table as soon as it is done.
    pub fn run(&self, plants: &[&Plant]) -> Outcome {
        let mut jobs: Vec<Job<'_>> = plants.iter().map(|plant| Job::Plant(plant)).collect();
        // The longest first, so that no core is idle in the end.
        jobs.sort_by_key(|job| match job {
            Job::Plant(plant) => std::cmp::Reverse(plant.seeds),
            Job::Unplanted(_) => std::cmp::Reverse(1),
        });
        jobs.extend((0..self.seeds_unplanted).map(|seed| Job::Unplanted(self.first + seed)));
        let (next, outcome) = (AtomicUsize::new(0), Mutex::new(Outcome::default()));
        println!("{:<36} {:>5} {:>7}  found by", "plant", "seed", "seconds");
        let cores = thread::available_parallelism().map_or(1, usize::from);
        thread::scope(|scope| {
            for _ in 0..cores {
                scope.spawn(|| {
                    while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                        self.work(job, &outcome);
                    }
                });
            }
        });
        outcome.into_inner().unwrap_or_default()
    }

    fn work(&self, job: &Job<'_>, outcome: &Mutex<Outcome>) {
        let begin = Instant::now();
        match job {
            Job::Plant(plant) => {
                let found = self.look_for(plant);
                let (seed, said) = match &found {
                    Found::At { seed, said } => (seed.to_string(), said),
                    Found::Nowhere { why } => ("-".to_owned(), why),
                };
                let said: String = said.chars().take(SAID_LEN_MAX).collect();
                println!("{:<36} {seed:>5} {:>7.1}  {said}", plant.name, begin.elapsed().as_secs_f64());
                if let (Found::At { .. }, Ok(mut outcome)) = (found, outcome.lock()) {
                    outcome.found.push(plant.name.clone());
                }
            }
            Job::Unplanted(seed) => {
                let verdict = seed::run(&self.simulator, None, *seed);
                let Ok(mut outcome) = outcome.lock() else { return };
                match verdict {
                    Ok(Verdict::Held { .. }) => outcome.held_unplanted += 1,
                    Ok(other) => {
                        outcome.broken_unplanted.get_or_insert(format!("seed {seed} fails: {other:?}"));
                    }
                    Err(error) => {
                        outcome.broken_unplanted.get_or_insert(format!("seed {seed} did not run: {error:#}"));
                    }
                }
            }
        }
    }

    /// Runs the seeds of one plant until one of them finds it.
    fn look_for(&self, plant: &Plant) -> Found {
        let (mut reached, mut other) = (0, None);
        for seed in self.first..self.first + plant.seeds {
            match seed::run(&self.simulator, Some(plant), seed) {
                Ok(Verdict::Checked(said) | Verdict::Asserted(said)) if plant.explains(&said) => {
                    return Found::At { seed, said };
                }
                Ok(Verdict::Checked(said) | Verdict::Asserted(said)) => {
                    other = Some(format!("seed {seed} found something else: {said}"));
                }
                Ok(Verdict::Held { reached: had_its_chance }) => reached += u64::from(had_its_chance),
                Ok(Verdict::Broken(said)) => {
                    other = Some(format!("seed {seed} broke the simulator: {said}"));
                }
                Err(error) => return Found::Nowhere { why: format!("seed {seed} did not run: {error:#}") },
            }
        }
        let other = other.map_or_else(String::new, |other| format!("; {other}"));
        let why = format!("NOT FOUND by {} seeds, {reached} of which came to it{other}", plant.seeds);
        Found::Nowhere { why }
    }
}
