//! `replay`: real chat through a gateway, and proof that every device stored all of it, once, in order.

mod channel;
mod checker;
mod latency;
mod pace;
mod presence;
mod progress;
mod report;
mod scene;

use crate::cli::Replay;
use crate::fleet::Fleet;
use crate::gateway::{Gateway, raise_descriptors};
use crate::limits::{NAMED_MAX, NEVER_ANSWERED_NS, STALL_NS, STALL_OFFLINE_NS};
use crate::script::{Roster, Script};
use crate::token::{Signer, wall_ms};
use anyhow::{Result, ensure};
use progress::{Progress, Standing};
use report::{Latencies, Report};
use scene::Scene;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use tidegate_client::{Backfill, Config, Encoder, Machine, Stored};
use tidegate_ids::{Attempt, DeviceId, MonotonicNs};

/// What the scene needs to know of the command line.
pub struct Setting {
    /// Messages a second in all.
    pub rate: Option<f64>,
    /// Share of people that is offline.
    pub offline_percent: f64,
    /// Of everything random.
    pub seed: u64,
    /// Where acknowledged sends go.
    pub acks: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// It could not begin, or could not go on for a reason that is not the gateway's.
pub fn run(options: &Replay) -> Result<ExitCode> {
    let (mut roster, mut encoder) = (Roster::default(), Encoder::new());
    let scripts = options.logs.iter().map(|path| Script::read(path, &mut roster, &mut encoder));
    let scripts = scripts.collect::<Result<Vec<_>>>()?;
    let gateway = Gateway::parse(&options.url)?;
    let signer = Signer::open(&options.data)?;
    raise_descriptors(roster.len())?;
    let machines = machines(&roster, &gateway, &signer, options.seed)?;
    let setting = Setting {
        rate: options.rate,
        offline_percent: options.offline,
        seed: options.seed,
        acks: options.acks.clone(),
    };
    let fleet = Fleet::new(gateway.address, machines.into_iter())?;
    let scene = Scene::new(scripts, roster, signer, &setting)?;
    let report = play(fleet, scene)?;
    report.tell();
    // Before the file: what hours have shown is said, wherever it cannot be written.
    println!("{report}");
    options.report.as_deref().map_or(Ok(()), |path| report.write(path))?;
    Ok(report.exit_code())
}

/// One machine for each person; its device has the number of its user.
fn machines(roster: &Roster, gateway: &Gateway, signer: &Signer, seed: u64) -> Result<Vec<Machine>> {
    let config = Arc::new(Config {
        host: gateway.host.clone(),
        path: gateway.path.clone(),
        platform: concat!("tidegate-load/", env!("CARGO_PKG_VERSION")).to_owned(),
        backfill: Backfill::All,
        follow_list: false,
        ..Config::default()
    });
    let attempt = Attempt(wall_ms());
    let machine = |(index, person): (usize, &crate::script::Person)| {
        let stored = Stored { attempt, ..Stored::new(DeviceId(person.user.0)) };
        let token = signer.sign(person.user)?;
        Ok(Machine::new(Arc::clone(&config), &token, stored, seed.wrapping_add(index as u64)))
    };
    roster.iter().enumerate().map(machine).collect()
}

/// Plays until everything has arrived, or nothing moves any more.
fn play(mut fleet: Fleet, mut scene: Scene) -> Result<Report> {
    let mut events = Fleet::events();
    let begin = fleet.now();
    let lines = scene.scripts.iter().map(|script| script.lines.len() as u64).sum();
    let mut progress = Progress::new(lines, begin);
    let mut patience = Patience::default();
    scene.progress_at = begin;
    loop {
        let wait = scene.wait(fleet.now());
        fleet.turn(&mut events, wait, &mut scene)?;
        scene.step(&mut fleet)?;
        let now = fleet.now();
        progress.show(now, || Standing {
            acknowledged: scene.checker.acknowledged(),
            deliveries: scene.checker.deliveries(),
            connected: fleet.open(),
        });
        if scene.is_over(now) || scene.failure.is_some() {
            break;
        }
        if let Some(failure) = patience.ends(&mut scene, &fleet, now) {
            scene.failure = Some(failure);
            break;
        }
    }
    progress.end();
    scene.flush()?;
    let seconds = fleet.now().since(begin) as f64 / MonotonicNs::SECOND as f64;
    let report = report(&fleet, &scene, lines, seconds)?;
    (0..scene.roster.len())
        .for_each(|device| fleet.go_offline(device, crate::fleet::Leaving::Politely, &mut scene));
    Ok(report)
}

/// How long nothing may move.
#[derive(Default)]
struct Patience {
    connected: bool,
    /// Whether it was told that nobody is there.
    told: bool,
}

impl Patience {
    fn ends(&mut self, scene: &mut Scene, fleet: &Fleet, now: MonotonicNs) -> Option<String> {
        let still_ns = now.since(scene.progress_at);
        if let Some(refusal) = fleet.refusal() {
            let seconds = NEVER_ANSWERED_NS / MonotonicNs::SECOND;
            if !std::mem::replace(&mut self.told, true) {
                eprintln!("tidegate-load: {refusal}; trying for {seconds} s");
            }
            return (still_ns >= NEVER_ANSWERED_NS)
                .then(|| format!("{refusal}; nobody answered for {seconds} s"));
        }
        let open = fleet.open();
        let connected = open > 0;
        if connected && !self.connected {
            // The gateway is back: what could not move before gets its full time.
            scene.progress_at = scene.progress_at.max(now);
        }
        self.connected = connected;
        let limit = if connected { STALL_NS } else { STALL_OFFLINE_NS };
        let seconds = limit / MonotonicNs::SECOND;
        let still = now.since(scene.progress_at) >= limit;
        still.then(|| format!("nothing moved for {seconds} s, {open} devices are connected"))
    }
}

fn report(fleet: &Fleet, scene: &Scene, lines: u64, seconds: f64) -> Result<Report> {
    let faults = scene.checker.faults();
    let (messages, deliveries) = (scene.checker.acknowledged(), scene.checker.deliveries());
    let (connects, connections_lost) = fleet.connects_and_losses();
    ensure!(seconds > 0.0, "the clock stands still");
    Ok(Report {
        logs: scene.scripts.len(),
        people: scene.roster.len(),
        lines,
        lines_skipped: scene.scripts.iter().map(|script| script.skipped as u64).sum(),
        messages,
        deliveries,
        pushed: scene.pushed,
        fetched: scene.fetched,
        lost: faults.lost,
        duplicated: faults.duplicated,
        misordered: faults.misordered,
        altered: faults.altered,
        foreign: faults.foreign,
        contradicted: faults.contradicted,
        wire_duplicates: (0..scene.roster.len()).map(|device| fleet.machine(device).repeats()).sum(),
        complete: scene.checker.is_complete(),
        seconds,
        messages_per_s: messages as f64 / seconds,
        deliveries_per_s: deliveries as f64 / seconds,
        leaves: scene.leaves,
        outages: scene.presence.outages(),
        connects,
        connections_lost,
        counts: scene.counts,
        latency: Latencies::new(&scene.live, &scene.away, &scene.acknowledged)?,
        missing: missing(fleet, scene),
        failure: scene.failure.clone(),
    })
}

/// What is waited for and who misses what, some of each.
fn missing(fleet: &Fleet, scene: &Scene) -> Vec<String> {
    let line = |shortfall: checker::Shortfall| {
        let person = scene.roster.person(shortfall.person);
        let (missing, machine) = (&shortfall.missing, fleet.machine(shortfall.person));
        format!(
            "{} (user {}) misses {} messages of {}, the first is {}, the last {}; its connection: {:?}",
            String::from_utf8_lossy(&person.nick),
            person.user,
            missing.len(),
            scene.scripts[shortfall.group].name,
            missing[0] + 1,
            missing[missing.len() - 1] + 1,
            machine.connection()
        )
    };
    let stuck = scene.stuck(fleet).take(NAMED_MAX);
    stuck.chain(scene.checker.shortfalls().take(NAMED_MAX).map(line)).collect()
}
