//! A user without privileges, with the locked memory that distributions give.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tidegate_tests_e2e::{Device, Gateway, Setup, program, user_at};
use tidegate_tests_support::is_root_or_say;

/// Becomes the user `nobody`, with so much locked memory. Everything it needs is in a directory open to all.
fn nobody(dir: &Path, memlock_bytes: u64) -> Setup {
    std::fs::set_permissions(dir, PermissionsExt::from_mode(0o777)).unwrap();
    let mut setup = Setup::new(&dir.join("data"), 4);
    setup.binary = dir.join("tidegate");
    std::fs::copy(program::program("tidegate"), &setup.binary).unwrap();
    let memlock = format!("--memlock={memlock_bytes}:{memlock_bytes}");
    let words = ["prlimit", &memlock, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    setup.prefix = words.map(str::to_owned).to_vec();
    setup
}

#[test]
fn it_serves_on_four_shards_with_eight_mebibytes() {
    if !is_root_or_say(1) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let gateway: Gateway = nobody(dir.path(), 8 << 20).start();
    let mut one = Device::new(&gateway, user_at(4, 0, 0));
    let mut other = Device::new(&gateway, user_at(4, 3, 0));
    let conversation = one.direct(other.user);
    one.say(conversation, "without privileges");
    other.hear(conversation, "without privileges");
    gateway.stop();
}

#[test]
fn with_64_kibibytes_it_says_what_to_raise() {
    if !is_root_or_say(1) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let ended = nobody(dir.path(), 64 << 10).try_start().expect_err("too little memory is refused");
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let sentence = ended.complained.last().unwrap();
    let names_it = sentence.contains("RLIMIT_MEMLOCK") && sentence.contains("ulimit -l");
    assert!(names_it, "{sentence}");
}
