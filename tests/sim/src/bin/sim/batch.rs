//! A batch of seeds, several at a time.

use crate::caught;
use crate::cli::Arguments;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tidegate_tests_sim::{Failure, Plan, Report};

/// What a batch did.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) seeds: u64,
    pub(crate) failed: u64,
    pub(crate) sum: Report,
    /// Of all seeds together, as if on one core.
    pub(crate) took: Duration,
}

impl Batch {
    /// Runs the seeds; each failure is told as it comes.
    pub(crate) fn run(arguments: &Arguments, tell: impl Fn(&Plan, &Failure) + Sync) -> Self {
        let jobs = match arguments.jobs {
            0 => thread::available_parallelism().map_or(1, usize::from),
            jobs => jobs,
        };
        let next = AtomicU64::new(arguments.seeds.start);
        let stop = AtomicBool::new(false);
        let batch = Mutex::new(Self::default());
        thread::scope(|scope| {
            for _ in 0..jobs {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= arguments.seeds.end {
                            return;
                        }
                        let plan = arguments.plan(seed);
                        let began = Instant::now();
                        let result = one(&plan, arguments);
                        let took = began.elapsed();
                        // One at a time, so that lines of two seeds do not mix.
                        let mut batch = batch.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                        batch.note(&plan, result, took, arguments, &tell);
                        if batch.failed > 0 && arguments.fail_fast {
                            stop.store(true, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        batch.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn note(
        &mut self,
        plan: &Plan,
        result: Result<Report, Failure>,
        took: Duration,
        arguments: &Arguments,
        tell: impl Fn(&Plan, &Failure),
    ) {
        self.seeds += 1;
        self.took += took;
        match result {
            Ok(report) => {
                if arguments.verbose {
                    println!("seed {} in {:.2} s: {report:?}", plan.seed, took.as_secs_f64());
                }
                self.sum.add(&report);
            }
            Err(failure) => {
                self.failed += 1;
                self.sum.add(&failure.report);
                tell(plan, &failure);
            }
        }
    }
}

/// Runs a seed, twice if its trace is to be compared.
fn one(plan: &Plan, arguments: &Arguments) -> Result<Report, Failure> {
    let report = caught::run(plan)?;
    let twice = arguments.check_trace > 0 && plan.seed.is_multiple_of(arguments.check_trace);
    if twice {
        let again = caught::run(plan)?;
        if again.trace != report.trace {
            let what =
                format!("the same seed gave the traces {:016x} and {:016x}", report.trace, again.trace);
            return Err(Failure { what, report: Box::new(report) });
        }
    }
    Ok(report)
}
