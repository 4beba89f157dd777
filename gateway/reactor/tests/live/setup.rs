//! What a machine refuses, in words for its operator.

use crate::rig::small;
use rustix::process::{Resource, Rlimit, getrlimit, getuid, setrlimit};
use std::process::Command;
use tidegate_reactor::{Config, Limits, Reactor, SetupError};

/// Runs one test of this binary again in a process of its own, started by a shell after `before`; the variable tells it that
/// it is the inner one.
pub fn in_own_process(test: &str, before: &str) {
    let binary = std::env::current_exe().expect("a path to this binary");
    let script = format!("{before}; exec \"$0\" --exact {test} --nocapture");
    let output =
        Command::new("sh").arg("-c").arg(script).arg(binary).env("INNER", test).output().expect("a shell");
    let words =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && words.contains("1 passed"), "{words}");
}

pub fn is_inner(test: &str) -> bool {
    std::env::var("INNER").is_ok_and(|inner| inner == test)
}

fn make(config: &Config) -> Result<Reactor, SetupError> {
    Reactor::new(config)
}

#[test]
fn more_slots_than_descriptors_are_refused() {
    const NAME: &str = "setup::more_slots_than_descriptors_are_refused";
    if !is_inner(NAME) {
        return in_own_process(NAME, "ulimit -n 64");
    }
    let error = make(&Config { slots: 65, ..small() }).err().expect("too many slots");
    assert!(matches!(error, SetupError::Descriptors { limit: 64, needed: 65 }), "{error}");
    assert!(error.to_string().contains("ulimit -n 65"));
    make(&Config { slots: 64, ..small() }).expect("as many as there may be");
}

/// Ring memory is charged to a user, and root is exempt: this is for everybody else.
#[test]
fn a_ring_beyond_the_memlock_limit_says_what_to_raise() {
    const NAME: &str = "setup::a_ring_beyond_the_memlock_limit_says_what_to_raise";
    if getuid().is_root() {
        println!("root: 1 test not run");
        return;
    }
    if !is_inner(NAME) {
        return in_own_process(NAME, ":");
    }
    let maximum = getrlimit(Resource::Memlock).maximum;
    setrlimit(Resource::Memlock, Rlimit { current: Some(64 << 10), maximum }).expect("a lower limit");
    let limits = Limits::current();
    assert_eq!(limits.memlock_bytes, Some(64 << 10));
    let fitted = Config::default().fitted(4, &limits).expect_err("it does not fit");
    assert!(fitted.to_string().contains("`ulimit -l 348`"), "{fitted}");
    // The kernel agrees.
    let error = make(&Config { rings: 4, ..Config::default() }).err().expect("it does not fit");
    let SetupError::Memlock { limit_bytes, needed_bytes, rings: 4 } = error else { panic!("{error}") };
    assert_eq!(limit_bytes, 64 << 10);
    assert!(needed_bytes > 4 * Config::default().memory_needed());
}

/// What is said to be needed is what the kernel charges: that limit does, a page less does not.
#[test]
fn the_charge_is_exact() {
    const NAME: &str = "setup::the_charge_is_exact";
    if getuid().is_root() {
        println!("root: 1 test not run");
        return;
    }
    if !is_inner(NAME) {
        return in_own_process(NAME, ":");
    }
    let maximum = getrlimit(Resource::Memlock).maximum;
    let limit = |bytes| {
        setrlimit(Resource::Memlock, Rlimit { current: Some(bytes), maximum }).expect("a lower limit");
    };
    for config in
        [small(), Config::default(), Config { submission_entries: 512, completion_entries: 2048, ..small() }]
    {
        let needed = config.memory_needed();
        limit(needed - 4096);
        assert!(matches!(make(&config).err(), Some(SetupError::Memlock { .. })), "{config:?}");
        limit(needed);
        // The charge of the ring before is given back a moment after its end.
        while make(&config).is_err() {
            std::thread::yield_now();
        }
    }
}

#[test]
fn four_shards_start_within_eight_mebibytes() {
    const NAME: &str = "setup::four_shards_start_within_eight_mebibytes";
    if !is_inner(NAME) {
        return in_own_process(NAME, "ulimit -l 8192");
    }
    let config = Config::default().fitted(4, &Limits::current()).expect("it fits");
    let rings: Vec<Reactor> = (0..4).map(|_| make(&config).expect("it fits")).collect();
    assert_eq!(rings.len(), 4);
}
