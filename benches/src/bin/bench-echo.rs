//! What a message costs: bare rings, glommio with fastwebsockets, and Tidegate, interleaved in rounds.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use tidegate_benches::control::Control;
use tidegate_benches::cpu;
use tidegate_benches::limits::IN_FLIGHT_MAX;
use tidegate_benches::load::Pace;
use tidegate_benches::machine::Machine;
use tidegate_benches::report::{Report, Section, write_json};
use tidegate_benches::scenario::Scenario;
use tidegate_benches::series::{self, ENTRIES, Entry};
use tidegate_benches::server::Ground;

#[derive(Debug, Parser)]
#[command(name = "bench-echo", about, max_term_width = 110)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measures, prints tables
    Run(Run),
    /// Is one of the controls, for `run`
    #[command(hide = true)]
    Serve {
        /// The core to run on
        #[arg(long)]
        core: usize,
        #[command(subcommand)]
        control: Control,
    },
}

#[derive(Debug, Args)]
struct Run {
    /// How often every server is measured
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Only servers whose name contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// One scenario in place of the usual ones: connections to every server
    #[arg(long, value_name = "N")]
    connections: Option<usize>,
    /// With --connections: messages in flight on each sending connection
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(IN_FLIGHT_MAX)))]
    in_flight: u32,
    /// With --connections: messages offered a second, over all connections
    #[arg(long, value_name = "N", conflicts_with = "in_flight", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    rate: Option<u32>,
    /// With --connections: messages of a sample
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    messages: u64,
    /// The gateway [default: `tidegate` beside this program]
    #[arg(long, value_name = "FILE")]
    tidegate: Option<PathBuf>,
    /// Directory on the disk to be measured [default: the system's temporary directory]
    #[arg(long, value_name = "DIR")]
    disk: Option<PathBuf>,
    /// Core of the servers [default: the last]
    #[arg(long, value_name = "N")]
    server_core: Option<usize>,
    /// Core of the generator [default: the first other one]
    #[arg(long, value_name = "N")]
    load_core: Option<usize>,
    /// Also write a report
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Serve { core, control } => control.serve(core),
        Command::Run(run) => measure(&run),
    }
}

fn measure(run: &Run) -> Result<()> {
    let (server_core, load_core) = cpu::server_and_load(run.server_core, run.load_core)?;
    let beside = std::env::current_exe().context("where is this program?")?.with_file_name("tidegate");
    let ground = Ground {
        tidegate: run.tidegate.clone().unwrap_or(beside),
        disk: run.disk.clone().unwrap_or_else(std::env::temp_dir),
        server_core,
        load_core,
    };
    let chosen = |entry: &&Entry| run.only.as_deref().is_none_or(|text| entry.name.contains(text));
    let entries: Vec<Entry> = ENTRIES.iter().filter(chosen).copied().collect();
    ensure!(!entries.is_empty(), "no server is called like that");
    let mut report = Report { machine: Machine::here(), sections: Vec::new() };
    cpu::pin(load_core)?;
    println!("{}; servers on core {server_core}, generator on core {load_core}\n", report.machine);
    for scenario in scenarios(run) {
        let rows = series::run(&ground, &scenario, &entries, run.rounds, |entry, sample| {
            let seconds = sample.elapsed.as_secs_f64();
            let cpu_us = sample.spent.process_s() * 1e6 / sample.messages as f64;
            eprintln!(
                "{:36} {:8} messages in {seconds:5.2} s, {cpu_us:6.2} µs each",
                entry.name, sample.messages
            );
        });
        let section = Section::new(&scenario, run.rounds, rows.with_context(|| scenario.to_string())?);
        println!("{}", section.table());
        report.sections.push(section);
        if let Some(path) = &run.json {
            write_json(&report, path)?;
        }
    }
    Ok(())
}

fn scenarios(run: &Run) -> Vec<Scenario> {
    let Some(connections) = run.connections else { return Scenario::all() };
    let pace = run.rate.map_or(Pace::InFlight(run.in_flight), Pace::PerSecond);
    // Direct messages need pairs.
    let connections = connections.max(2).next_multiple_of(2);
    vec![Scenario { connections, pace, echoes: run.messages, directs: run.messages }]
}
