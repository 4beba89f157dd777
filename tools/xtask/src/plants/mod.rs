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

use self::hunt::{Found, Hunt};
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
    let chosen = chosen(&all, &options.only)?;
    if options.list {
        for plant in &chosen {
            println!("{:<36} {:>3} seeds  {}", plant.name, plant.seeds, plant.what);
        }
        return Ok(());
    }
    let begin = Instant::now();
    // All of them are applied, whichever are looked for: they must stand beside each other.
    copy::write(workspace, &all)?;
    let simulator = copy::build(workspace)?;
    println!("   the copy with {} plants is built after {:.1} s", all.len(), begin.elapsed().as_secs_f64());
    let hunt = Hunt { simulator, first: options.seeds_from, seeds_unplanted: SEEDS_UNPLANTED };
    let outcome = hunt.run(&chosen);
    report(&chosen, &outcome, begin)
}

/// The plants that were asked for; all if none was.
fn chosen<'a>(all: &'a [Plant], only: &[String]) -> Result<Vec<&'a Plant>> {
    for name in only {
        ensure!(
            all.iter().any(|plant| plant.name == *name),
            "no plant is called {name}; see `cargo xtask plants --list`"
        );
    }
    let wanted = |plant: &&Plant| only.is_empty() || only.contains(&plant.name);
    Ok(all.iter().filter(wanted).collect())
}

fn report(chosen: &[&Plant], outcome: &hunt::Outcome, begin: Instant) -> Result<()> {
    let missed: Vec<&str> = chosen
        .iter()
        .filter(|plant| !matches!(outcome.of(&plant.name), Some(Found::At { .. })))
        .map(|plant| plant.name.as_str())
        .collect();
    println!(
        "plants: {} of {} found, {} seeds without a plant held, {:.0} s",
        chosen.len() - missed.len(),
        chosen.len(),
        outcome.held_unplanted,
        begin.elapsed().as_secs_f64()
    );
    if let Some(broken) = &outcome.broken_unplanted {
        bail!("without a plant {broken}: mend that first, what was found with a plant may be this");
    }
    ensure!(
        missed.is_empty(),
        "not found: {}. Either the simulator has lost a workload, a fault or a checker that found it before, or the \
         sources have a second defence now: then move it to that list in docs/plants.md",
        missed.join(", ")
    );
    Ok(())
}
