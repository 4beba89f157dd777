//! What a machine refuses, in words for its operator.

use crate::rig::small;
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, getuid, setrlimit};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tidegate_reactor::{Config, Limits, Reactor, SetupError};

/// Runs one test of this binary again in a process of its own, started by a shell after `before`; the variable tells it that
/// it is the inner one.
pub fn in_own_process(test: &str, before: &str) {
    let binary = std::env::current_exe().expect("a path to this binary");
    start(test, &binary, &format!("{before}; exec"));
}

/// The same as an ordinary user: who is root becomes a user whom no other process has, because ring memory is charged
/// per user, from a copy of the binary that everybody may read.
fn as_ordinary_user(test: &str) {
    let binary = std::env::current_exe().expect("a path to this binary");
    if !getuid().is_root() {
        return start(test, &binary, "exec");
    }
    let directory =
        tempfile::Builder::new().permissions(Permissions::from_mode(0o755)).tempdir().expect("a directory");
    let copy = directory.path().join("live");
    std::fs::copy(binary, &copy).expect("a copy");
    let user = 100_000 + std::process::id();
    start(test, &copy, &format!("exec setpriv --reuid={user} --regid={user} --clear-groups"));
}

fn start(test: &str, binary: &Path, how: &str) {
    let script = format!("{how} \"$0\" --exact {test} --nocapture");
    let output =
        Command::new("sh").arg("-c").arg(script).arg(binary).env("INNER", test).output().expect("a shell");
    let words =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && words.contains("1 passed"), "{words}");
}

pub fn is_inner(test: &str) -> bool {
    std::env::var("INNER").is_ok_and(|inner| inner == test)
}

/// The charge of rings that have just ended is given back a moment later; so is that of the part of a ring that an
/// attempt made before it failed, therefore the pause.
fn once_there_is_room(config: &Config) -> Reactor {
    const ATTEMPTS: u32 = 1000;
    for _ in 0..ATTEMPTS {
        match make(config) {
            Ok(reactor) => return reactor,
            Err(SetupError::Memlock { .. }) => std::thread::sleep(Duration::from_millis(20)),
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the charge of other rings is not given back");
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
    if !is_inner(NAME) {
        return as_ordinary_user(NAME);
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
    if !is_inner(NAME) {
        return as_ordinary_user(NAME);
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
        once_there_is_room(&config);
    }
}

#[test]
fn four_shards_start_within_eight_mebibytes() {
    const NAME: &str = "setup::four_shards_start_within_eight_mebibytes";
    if !is_inner(NAME) {
        return as_ordinary_user(NAME);
    }
    let maximum = getrlimit(Resource::Memlock).maximum;
    if maximum.is_some_and(|maximum| maximum < 8 << 20) {
        println!("RLIMIT_MEMLOCK is below 8 MiB: 1 test not run");
        return;
    }
    setrlimit(Resource::Memlock, Rlimit { current: Some(8 << 20), maximum }).expect("a lower limit");
    let config = Config::default().fitted(4, &Limits::current()).expect("it fits");
    let rings: Vec<Reactor> = (0..4).map(|_| once_there_is_room(&config)).collect();
    assert_eq!(rings.len(), 4);
}

/// What a container's filter does: the system call is answered with an error.
#[test]
fn a_filter_that_refuses_io_uring_gets_one_clear_sentence() {
    const NAME: &str = "setup::a_filter_that_refuses_io_uring_gets_one_clear_sentence";
    if !is_inner(NAME) {
        return in_own_process(NAME, ":");
    }
    for errno in [Errno::NOSYS, Errno::PERM] {
        refuse_io_uring(errno);
        let error = make(&small()).err().expect("refused");
        assert!(matches!(error, SetupError::Refused(_)), "{error}");
        let words = error.to_string();
        assert!(words.contains("kernel.io_uring_disabled") && words.contains("seccomp"), "{words}");
        assert_eq!(words.lines().count(), 1);
    }
}

/// Answers `io_uring_setup` with an error for the rest of this thread's life. Of several filters the one installed last
/// that refuses decides.
fn refuse_io_uring(errno: Errno) {
    #[repr(C)]
    struct Instruction(u16, u8, u8, u32);
    #[repr(C)]
    struct Program(u16, *const Instruction);
    unsafe extern "C" {
        fn prctl(option: i32, ...) -> i32;
    }
    const SET_NO_NEW_PRIVILEGES: i32 = 38;
    const SET_SECCOMP: i32 = 22;
    const FILTER_MODE: u64 = 2;
    const LOAD_WORD: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    // The same number on every architecture.
    const IO_URING_SETUP: u32 = 425;
    const ANSWER_ERROR: u32 = 0x0005_0000;
    const ALLOW: u32 = 0x7fff_0000;
    let instructions = [
        Instruction(LOAD_WORD, 0, 0, 0),
        Instruction(JUMP_IF_EQUAL, 0, 1, IO_URING_SETUP),
        Instruction(RETURN, 0, 0, ANSWER_ERROR | errno.raw_os_error().unsigned_abs()),
        Instruction(RETURN, 0, 0, ALLOW),
    ];
    let program = Program(instructions.len() as u16, instructions.as_ptr());
    // SAFETY: the program is a valid filter and lives through the call, which copies it.
    let installed = unsafe {
        prctl(SET_NO_NEW_PRIVILEGES, 1u64, 0u64, 0u64, 0u64) == 0
            && prctl(SET_SECCOMP, FILTER_MODE, &raw const program) == 0
    };
    assert!(installed, "{}", std::io::Error::last_os_error());
}
