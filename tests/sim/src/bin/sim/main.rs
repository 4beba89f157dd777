//! Runs seeds of the simulator.

mod batch;
mod caught;
mod cli;
mod tables;

use batch::Batch;
use clap::Parser;
use cli::Arguments;
use std::process::ExitCode;
use tidegate_tests_sim::{Failure, Plan, missing, shrink};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    caught::keep_panics();
    let commit = cli::commit();
    let batch = Batch::run(&arguments, |plan, failure| tell(plan, failure, &commit, &arguments));
    println!("{}", tables::summary(&batch));
    if arguments.markdown {
        print!("{}", tables::markdown(&batch));
    } else {
        println!("faults: {}", tables::faults(&batch.sum));
        println!("marks: {}", tables::marks(&batch.sum));
    }
    let mut is_good = batch.failed == 0;
    if arguments.require_marks {
        let missing = missing(&batch.sum);
        if !missing.is_empty() {
            println!("sim: these seeds never reached: {}", missing.join(", "));
            is_good = false;
        }
    }
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Says that a seed failed and how to repeat it, and makes it smaller if that is wanted.
fn tell(plan: &Plan, failure: &Failure, commit: &str, arguments: &Arguments) {
    println!("seed {} FAILED at commit {commit}: {}", plan.seed, failure.what);
    println!(
        "  after {} steps, {:.1} s, {} records, {} restarts",
        failure.report.acts,
        failure.report.virtual_ms as f64 / 1000.0,
        failure.report.records,
        failure.report.restarts
    );
    println!("  repeat: {}", cli::repeat(plan));
    if arguments.shrink {
        println!("  shrinking …");
        let shrunk = shrink(plan, failure.clone(), &caught::run);
        println!("  after {} runs: {}", shrunk.runs, shrunk.failure.what);
        println!("  shortest: {}", cli::repeat(&shrunk.plan));
    }
}
