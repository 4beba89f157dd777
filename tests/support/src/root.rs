//! Tests that need root: they run where root is, and say elsewhere that they did not.

use std::path::Path;

/// Whether this process is root. If not, says how many tests are not run for that reason.
pub fn is_root_or_say(tests: usize) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("not root: {tests} tests not run");
    }
    root
}

/// Whether files can be mounted as volumes here: root, and the kernel's loop devices. If not, says so.
pub fn can_mount_or_say(tests: usize) -> bool {
    if !is_root_or_say(tests) {
        return false;
    }
    let loops = Path::new("/dev/loop-control").exists();
    if !loops {
        println!("no loop devices: {tests} tests not run");
    }
    loops
}
