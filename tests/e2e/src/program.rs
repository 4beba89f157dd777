//! The programs under test: found beside the test's own binary, and built if they are not there or older than the
//! sources.
//!
//! Cargo tells the path of a binary only to tests of its own package. The binaries of the profile that a test was built
//! with lie two folders above it, and a run over the whole workspace (`cargo xtask ci`) has built them before. A run of
//! this package alone has not: then the first test that needs a program builds all of them, and tests of other
//! processes wait for it at a lock file.
//!
//! With `TIDEGATE_E2E_PROGRAMS` in the environment, the programs of that folder are tested as they are.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// Packages and the programs that they give.
const PROGRAMS: &[(&str, &str)] =
    &[("tidegate-node", "tidegate"), ("tidegate-log", "tidegate-log"), ("tidegate-load", "tidegate-load")];

/// Folders that the programs are made of, from the workspace's root.
const SOURCES: &[&str] = &["Cargo.lock", "client", "gateway", "schema", "storage", "tools/load", "tools/log"];

/// Touched when a build found everything up to date: then binaries may be older than sources that are not theirs.
const STAMP: &str = ".e2e-programs-built";

/// The path of a program, built.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    assert!(
        PROGRAMS.iter().any(|(_, program)| *program == name),
        "{name} is none of the programs under test"
    );
    FOLDER.get_or_init(|| given().unwrap_or_else(built)).join(name)
}

fn given() -> Option<PathBuf> {
    std::env::var_os("TIDEGATE_E2E_PROGRAMS").map(PathBuf::from)
}

/// The folder of the profile that this test was built with.
fn built() -> PathBuf {
    let test = std::env::current_exe().expect("a process knows its binary");
    let folder = test.parent().filter(|folder| folder.ends_with("deps")).and_then(Path::parent);
    let folder = folder.expect("a test's binary is in the folder `deps` of a profile").to_path_buf();
    let lock = File::create(folder.join(".e2e-programs-lock")).expect("the target directory can be written");
    lock.lock().expect("the lock can be waited for");
    if !is_fresh(&folder) {
        build(&folder);
        File::create(folder.join(STAMP))
            .and_then(|stamp| stamp.set_modified(SystemTime::now()))
            .expect("the target directory can be written");
    }
    folder
}

fn is_fresh(folder: &Path) -> bool {
    let programs = PROGRAMS.iter().map(|(_, name)| modified(&folder.join(name)));
    let Some(oldest) = programs.min().flatten() else { return false };
    let made = modified(&folder.join(STAMP)).map_or(oldest, |stamp| stamp.max(oldest));
    let newest = SOURCES.iter().filter_map(|source| newest(&workspace().join(source))).max();
    newest.is_none_or(|source| source <= made)
}

fn build(folder: &Path) {
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") => "dev",
        Some(name) => name,
        None => panic!("{} names no profile", folder.display()),
    };
    let target = folder.parent().expect("a profile's folder is in the target directory");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(workspace()).args(["build", "--locked", "--bins", "--profile", profile]);
    command.arg("--target-dir").arg(target);
    for (package, _) in PROGRAMS {
        command.args(["--package", package]);
    }
    let status = command.status().expect("cargo can be started");
    assert!(status.success(), "the programs under test do not build");
}

fn workspace() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().nth(2).expect("this package is two folders below the workspace's root")
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

/// When the newest file below a path was changed; only files that are compiled, or say how.
fn newest(path: &Path) -> Option<SystemTime> {
    if path.is_file() {
        let extension = path.extension().and_then(|extension| extension.to_str());
        return modified(path).filter(|_| matches!(extension, Some("rs" | "toml" | "lock")));
    }
    let entries = std::fs::read_dir(path).ok()?;
    entries.filter_map(|entry| newest(&entry.ok()?.path())).max()
}
