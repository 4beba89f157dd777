//! Lives of gateways over one directory, each ended when chance says: some under load, after every device was answered, the
//! others at any moment from the first instruction on, so also while a directory is made, records are fed again, or a boot's
//! checkpoint is written.

use crate::load::{ANSWERS_MIN, Load, SENDERS};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tidegate_tests_e2e::{Scene, Setup, Start};

/// How long a start is taken to last until one was seen.
const START: Duration = Duration::from_millis(300);

/// The lives so far.
pub(crate) struct Lives {
    seed: u64,
    chance: StdRng,
    expected: PathBuf,
    /// There is one as soon as a gateway lived long enough to be asked for its tokens and the group.
    load: Option<Load>,
    /// How long the last start took that was not cut short.
    start: Duration,
    /// Those in which every device was answered.
    answered: usize,
    /// Those that ended before the gateway was ready.
    unready: usize,
    count: usize,
}

impl Lives {
    /// What the load sends stands in the scene's folder, in the file `expected`.
    pub(crate) fn new(scene: &Scene) -> Self {
        let (seed, expected) = (scene.seed, scene.path().join("expected"));
        let (chance, load) = (StdRng::seed_from_u64(seed), None);
        Self { seed, chance, expected, load, start: START, answered: 0, unready: 0, count: 0 }
    }

    /// One more, of which `last` is done at its end, before the gateway is killed. The last one of all waits for answers.
    pub(crate) fn live(&mut self, setup: &Setup, is_last: bool, last: impl FnOnce()) {
        self.count += 1;
        let begin = Instant::now();
        let (waits, at) = (self.chance.random::<bool>(), self.chance.random::<f64>());
        if waits || is_last {
            let gateway = setup.start();
            self.start = begin.elapsed();
            self.answered += 1;
            let load = self.load.get_or_insert_with(|| Load::new(&gateway, &self.expected));
            return load.run(gateway, last);
        }
        // About every second of these comes before the gateway is ready.
        let moment = begin + self.start.mul_f64(2.0 * at);
        match setup.start_until(moment) {
            Start::Unready(starting) => {
                self.unready += 1;
                last();
                drop(starting);
            }
            Start::Ready(gateway) => {
                self.start = begin.elapsed();
                if let Some(load) = &mut self.load {
                    return load.run_until(gateway, moment, last);
                }
                std::thread::sleep(moment.saturating_duration_since(Instant::now()));
                last();
                gateway.kill();
            }
        }
    }

    /// Whether there was a gateway that was ready and under load: then the directory is one.
    pub(crate) const fn has_load(&self) -> bool {
        self.load.is_some()
    }

    /// A last gateway holds everything that was acknowledged, nothing that was not sent, and all lives together got on.
    #[track_caller]
    pub(crate) fn prove(&self, setup: &Setup) {
        let gateway = setup.start();
        let count = self.load.as_ref().expect("the last life is under load").prove(&gateway);
        gateway.stop();
        let least = self.answered * SENDERS * ANSWERS_MIN as usize;
        assert!(count >= least, "{count} acknowledged sends are written down, {least} were seen");
        let Self { seed, count: lives, unready, .. } = self;
        // A quarter of them, as chance has it.
        assert!(*lives < 100 || unready * 20 > *lives, "only {unready} of {lives} ends came in a start");
        println!(
            "seed {seed}: {count} acknowledged sends survived {lives} ends, {unready} of them in a start"
        );
    }
}
