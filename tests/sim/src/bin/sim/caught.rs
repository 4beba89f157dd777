//! An assertion of the code under test ends its seed, not the batch.

use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use tidegate_tests_sim::{Failure, Plan, Report};

thread_local! {
    /// What the panic of this thread said, and where.
    static SAID: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Keeps what panics say, instead of printing it.
pub(crate) fn keep_panics() {
    panic::set_hook(Box::new(|info| {
        let message = info.payload_as_str().unwrap_or("a panic without a message");
        let place = info.location().map_or(String::new(), ToString::to_string);
        SAID.with_borrow_mut(|said| *said = format!("assertion at {place}: {message}"));
    }));
}

/// Runs a plan; a panic is a failure like others.
pub(crate) fn run(plan: &Plan) -> Result<Report, Failure> {
    panic::catch_unwind(AssertUnwindSafe(|| tidegate_tests_sim::run(plan))).unwrap_or_else(|_| {
        let what = SAID.with_borrow_mut(std::mem::take);
        // How far it had come is lost with its world.
        Err(Failure { what, report: Box::new(Report { acts: plan.ticks, ..Report::default() }) })
    })
}
