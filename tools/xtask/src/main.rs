//! The project's own tasks: `cargo xtask --help`.
//!
//! What CI runs is `cargo xtask ci`, so that a green run here is a green run there. Nothing in this crate
//! is part of the gateway; it starts the built binaries as anyone would.

mod chat_logs;
mod ci;
mod conformance;
mod fuzz;
mod gateway;
mod generate;
mod limits;
mod loom;
mod matrix;
mod plants;
mod program;
mod pypi;
mod replay;
mod simulator;
mod tidy;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's own tasks", disable_version_flag = true)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Checks the walls: edges between crates, unsafe, purity, sizes, names, dead files, hosts and paths in text
    Tidy,
    /// Writes schema/generated anew from schema/*.fbs with the pinned flatc
    Gen(generate::Options),
    /// Runs everything that CI runs
    Ci(ci::Options),
    /// Replays all the real chat on every number of shards, in both group modes, and killed in the middle
    ReplayAll(matrix::Options),
    /// Runs the simulator
    Sim(simulator::Options),
    /// Plants bugs in a copy of the sources, each of which the simulator must find
    Plants(plants::Options),
    /// Runs the models of the mesh in every interleaving of their threads
    Loom,
    /// Runs the Autobahn test suite against /echo
    Conformance(conformance::Options),
    /// Runs the fuzz targets, each for a while, on nightly
    Fuzz(fuzz::Options),
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    let workspace = Workspace::find()?;
    match task {
        Task::Tidy => tidy::run(&workspace.root),
        Task::Gen(options) => generate::run(&workspace, &options),
        Task::Ci(options) => ci::run(&workspace, &options),
        Task::ReplayAll(options) => matrix::run(&workspace, &options),
        Task::Sim(options) => simulator::run(&workspace, &options),
        Task::Plants(options) => plants::run(&workspace, &options),
        Task::Loom => loom::run(&workspace),
        Task::Conformance(options) => conformance::run(&workspace, &options),
        Task::Fuzz(options) => fuzz::run(&workspace, &options),
    }
}
