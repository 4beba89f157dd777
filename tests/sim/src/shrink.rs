//! The shortest way to a failure: fewer steps of the workload, then fewer kinds of faults.

use crate::plan::{Failure, Fault, Plan, Report};

/// A failure that was made as small as this finds.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// What still fails.
    pub plan: Plan,
    /// How.
    pub failure: Failure,
    /// Runs that it took.
    pub runs: u64,
}

struct Search<'a> {
    best: Shrunk,
    run: &'a dyn Fn(&Plan) -> Result<Report, Failure>,
}

impl Search<'_> {
    /// Whether a plan fails too; then it is the best so far. Any failure counts: a shorter one of another kind leads to a
    /// cause as well.
    fn fails(&mut self, plan: Plan) -> bool {
        self.best.runs += 1;
        match (self.run)(&plan) {
            Ok(_) => false,
            Err(failure) => {
                (self.best.plan, self.best.failure) = (plan, failure);
                true
            }
        }
    }

    fn with_ticks(&self, ticks: u64) -> Plan {
        Plan { ticks, ..self.best.plan.clone() }
    }

    /// Finds a prefix of the workload that fails while a shorter one does not: halves the bound as long as that fails, then
    /// closes in. What happens after the last step is waiting, so a failure there does not say which step caused it.
    fn shorten(&mut self) {
        let acts = self.best.failure.report.acts;
        if acts < self.best.plan.ticks {
            self.fails(self.with_ticks(acts));
        }
        let mut low = 0;
        while low + 1 < self.best.plan.ticks {
            let middle = low + (self.best.plan.ticks - low) / 2;
            if !self.fails(self.with_ticks(middle)) {
                low = middle;
            }
        }
    }

    fn leave_out(&mut self) {
        for fault in Fault::ALL {
            if self.best.plan.has(fault) {
                let mut plan = self.best.plan.clone();
                plan.without.push(fault);
                self.fails(plan);
            }
        }
    }
}

/// Makes a failing plan smaller. `run` runs one, and gives a panic of the code under test as a failure too.
pub fn shrink(plan: &Plan, failure: Failure, run: &dyn Fn(&Plan) -> Result<Report, Failure>) -> Shrunk {
    let best = Shrunk { plan: plan.clone(), failure, runs: 0 };
    let mut search = Search { best, run };
    search.shorten();
    search.leave_out();
    search.shorten();
    search.best
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails from the 37th step on, if the power is cut and nobody stopped it.
    fn fails_late(plan: &Plan) -> Result<Report, Failure> {
        let fails = plan.ticks >= 37 && plan.has(Fault::PowerCut);
        let report = Report { acts: plan.ticks.min(400), ..Report::default() };
        if fails { Err(Failure { what: "late".to_owned(), report: Box::new(report) }) } else { Ok(report) }
    }

    #[test]
    fn the_shortest_prefix_and_the_one_fault_are_found() {
        let plan = Plan::new(3);
        let Err(failure) = fails_late(&plan) else { panic!("it fails") };
        let shrunk = shrink(&plan, failure, &fails_late);
        assert_eq!(shrunk.plan.ticks, 37);
        let left: Vec<Fault> = Fault::ALL.into_iter().filter(|fault| shrunk.plan.has(*fault)).collect();
        assert_eq!(left, [Fault::PowerCut]);
        assert!(shrunk.runs < 60, "{} runs", shrunk.runs);
    }
}
