//! `cargo xtask plants`: bugs that are planted on purpose, each of which the simulator must find within a stated number
//! of seeds (decision 0017).
//!
//! A plant is a patch against the production sources. It is applied to a copy of the working tree, where its code asks
//! a switch that only the copy has; so one build of the copy serves all plants, and nothing of the simulator stands in
//! what is shipped.

mod copy;
mod hunt;
mod patch;
mod seed;

use std::time::Instant;

use anyhow::{Result, bail, ensure};
use clap::Args;

use self::hunt::Hunt;
use self::patch::Plant;
use crate::workspace::Workspace;

/// Where the patches lie.
const FOLDER: &str = "tests/sim/plants";

/// Seeds of the copy without a plant, which must hold: they tell a plant that works from a copy that is broken.
const SEEDS_UNPLANTED: u64 = 24;

/// Options of `plants`.
#[derive(Args, Default)]
pub struct Options {
    /// Only these plants, by name
    #[arg(long, value_name = "NAME", num_args = 1..)]
    only: Vec<String>,
    /// Print the plants and end
    #[arg(long)]
    list: bool,
    /// The first seed to try; the same number of seeds from there must find each plant
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    seeds_from: u64,
}

/// The step of `ci`: every plant.
pub fn run_in_ci(workspace: &Workspace) -> Result<Option<String>> {
    run(workspace, &Options::default())?;
    Ok(None)
}

/// Plants each bug and looks for it; fails if one is not found, or if the copy does not hold without one.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let all = patch::read_all(&workspace.root.join(FOLDER))?;
    for name in &options.only {
        let is_known = all.iter().any(|plant| plant.name == *name);
        ensure!(is_known, "no plant is called {name}; see `cargo xtask plants --list`");
    }
    if options.list {
        all.iter().filter(|plant| options.names(plant)).for_each(tell);
        return Ok(());
    }
    let begin = Instant::now();
    // All of them are applied, whichever are looked for: they must stand beside each other.
    copy::write(workspace, &all)?;
    let simulator = copy::build(workspace)?;
    println!("   the copy with {} plants is built after {:.1} s", all.len(), begin.elapsed().as_secs_f64());
    // Plants that wait are looked for where somebody names them.
    let is_due = |plant: &&Plant| options.names(plant) && (plant.waits.is_none() || !options.only.is_empty());
    let chosen: Vec<&Plant> = all.iter().filter(is_due).collect();
    let hunt = Hunt { simulator, first: options.seeds_from, seeds_unplanted: SEEDS_UNPLANTED };
    let outcome = hunt.run(&chosen);
    report(&chosen, &outcome, begin)
}

impl Options {
    /// Whether a plant was asked for: all are if none was.
    fn names(&self, plant: &Plant) -> bool {
        self.only.is_empty() || self.only.contains(&plant.name)
    }
}

/// A line of the list.
fn tell(plant: &Plant) {
    let bound = plant
        .waits
        .as_ref()
        .map_or_else(|| format!("{:>3} seeds", plant.seeds), |waits| format!("waits for {waits}"));
    println!("{:<36} {bound}  {}", plant.name, plant.what);
}

fn report(chosen: &[&Plant], outcome: &hunt::Outcome, begin: Instant) -> Result<()> {
    let (found, missed): (Vec<&Plant>, Vec<&Plant>) =
        chosen.iter().copied().partition(|plant| outcome.has_found(&plant.name));
    for plant in found.iter().filter(|plant| plant.waits.is_some()) {
        println!("   {} need not wait any more: say in its head how many seeds find it", plant.name);
    }
    println!(
        "plants: {} of {} found, {} seeds without a plant held, {:.0} s",
        found.len(),
        chosen.len(),
        outcome.held_unplanted,
        begin.elapsed().as_secs_f64()
    );
    if let Some(broken) = &outcome.broken_unplanted {
        bail!("without a plant {broken}: mend that first, what was found with a plant may be this");
    }
    let due: Vec<&str> =
        missed.iter().filter(|plant| plant.waits.is_none()).map(|plant| plant.name.as_str()).collect();
    ensure!(
        due.is_empty(),
        "not found: {}. Either the simulator has lost a workload, a fault or a checker that found it before, or the \
         sources have a second defence now: then move it to that list in docs/plants.md",
        due.join(", ")
    );
    Ok(())
}
