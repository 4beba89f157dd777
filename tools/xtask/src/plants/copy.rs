//! The copy of the working tree that bugs are planted in, and its build.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::patch::Plant;
use super::seed::PLANTED_BY;
use crate::program::Program;
use crate::tidy::listed_by_git;
use crate::workspace::Workspace;

/// The crate that every other one may use: the switch lies there.
const SWITCH_ROOM: &str = "gateway/ids/src";

/// The switch. It tells once that it was asked for the bug that is planted, so that a bug nobody notices can be told
/// from one that the workload never comes to.
const SWITCH: &str = r#"//! Which bug is planted in this run of the simulator. Stands in a copy only.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

static PLANTED: OnceLock<String> = OnceLock::new();
static REACHED: AtomicBool = AtomicBool::new(false);

/// Whether the bug of this name is planted.
pub fn is(name: &str) -> bool {
    let planted = PLANTED.get_or_init(|| std::env::var("@PLANTED_BY@").unwrap_or_default()) == name;
    if planted && !REACHED.swap(true, Ordering::Relaxed) {
        eprintln!("@REACHED@");
    }
    planted
}
"#;

/// What the switch says when the bug that is planted has its first chance.
pub const REACHED: &str = "the plant is reached";

fn folder(workspace: &Workspace) -> PathBuf {
    workspace.own().join("plants")
}

/// Writes the copy anew with every plant in it. What has not changed is left as it is, so that little is built again.
pub fn write(workspace: &Workspace, plants: &[Plant]) -> Result<()> {
    let folder = folder(workspace);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let staged = tempfile::tempdir_in(&folder).context("no folder to write the copy in")?;
    let mut files = listed_by_git(&workspace.root)?;
    files.retain(|file| !file.starts_with(super::FOLDER));
    for file in &files {
        copy_file(&workspace.root.join(file), &staged.path().join(file))?;
    }
    plant(staged.path(), plants)?;
    files.push(Path::new(SWITCH_ROOM).join("plant.rs"));
    take_over(staged.path(), &folder.join("src"), &files)
}

/// Puts the switch and every plant into the sources under `root`.
fn plant(root: &Path, plants: &[Plant]) -> Result<()> {
    let room = root.join(SWITCH_ROOM);
    let switch = SWITCH.replace("@PLANTED_BY@", PLANTED_BY).replace("@REACHED@", REACHED);
    fs::write(room.join("plant.rs"), switch).context("cannot write the switch")?;
    let entry = room.join("lib.rs");
    let text = fs::read_to_string(&entry).with_context(|| format!("cannot read {}", entry.display()))?;
    fs::write(&entry, text + "\npub mod plant;\n").context("cannot write the switch")?;
    for plant in plants {
        apply(root, plant)?;
    }
    Ok(())
}

/// Applies one patch; all of it or nothing.
fn apply(root: &Path, plant: &Plant) -> Result<()> {
    let output = Command::new("git")
        .args(["apply", "--whitespace=nowarn"])
        .arg(&plant.file)
        .current_dir(root)
        // The copy lies inside the repository, which git must not look for: it would apply nothing then.
        .env("GIT_CEILING_DIRECTORIES", root.parent().unwrap_or(root))
        .output()
        .context("git could not be started; it applies the patches")?;
    if !output.status.success() {
        bail!(
            "the plant {name} does not apply: its sources, or those of a plant beside it, have changed. Make the change \
             that the head of {folder}/{name}.patch describes anew in a clone, and put the output of `git diff -U2` (or \
             -U1 beside another plant) below that head; take the change back in the clone. Git says:\n{said}",
            name = plant.name,
            folder = super::FOLDER,
            said = String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    Ok(())
}

/// Makes `to` hold exactly `files` as they are in `from`.
fn take_over(from: &Path, to: &Path, files: &[PathBuf]) -> Result<()> {
    for file in files {
        let (new, old) = (from.join(file), to.join(file));
        let text = fs::read(&new).with_context(|| format!("cannot read {}", new.display()))?;
        if fs::read(&old).is_ok_and(|known| known == text) {
            continue;
        }
        copy_file(&new, &old)?;
    }
    let wanted: BTreeSet<PathBuf> = files.iter().map(|file| to.join(file)).collect();
    remove_others(to, &wanted).with_context(|| format!("cannot clear {}", to.display()))
}

/// Removes every file that is not wanted.
fn remove_others(folder: &Path, wanted: &BTreeSet<PathBuf>) -> io::Result<()> {
    for entry in folder.read_dir()? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_others(&entry.path(), wanted)?;
        } else if !wanted.contains(&entry.path()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path) -> Result<()> {
    let folder = to.parent().unwrap_or(to);
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    // Only what it holds: a new file has a new time, so that cargo builds what depends on it.
    let text = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    fs::write(to, text).with_context(|| format!("cannot write {}", to.display()))
}

/// Builds the simulator of the copy; gives its path.
pub fn build(workspace: &Workspace) -> Result<PathBuf> {
    let target = folder(workspace).join("target");
    Program::cargo(&folder(workspace).join("src"))
        .args(["build", "--profile", PROFILE, "--locked", "--quiet", "--package", "tidegate-tests-sim"])
        .arg_path("--target-dir", &target)
        .run()
        .context("the copy with all plants does not build: if the tree itself does, a patch applies and is wrong now")?;
    Ok(target.join(PROFILE).join("sim"))
}

/// Twenty seeds take 1.7 s of one core, against 1.5 s in the profile `sim`; but what has changed is built incrementally,
/// and debug assertions look too.
const PROFILE: &str = "quick";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plants::patch::read_all;

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
    }

    /// Who changes sources under a plant learns it with their own tests, while they know what they changed.
    #[test]
    fn every_plant_applies_to_the_sources_of_now_beside_all_others() {
        let plants = read_all(&root().join(crate::plants::FOLDER)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let files = listed_by_git(&root()).unwrap();
        for file in files.iter().filter(|file| file.extension().is_some_and(|kind| kind == "rs")) {
            copy_file(&root().join(file), &folder.path().join(file)).unwrap();
        }
        plant(folder.path(), &plants).unwrap();
        let text: String =
            files.iter().filter_map(|file| fs::read_to_string(folder.path().join(file)).ok()).collect();
        for one in &plants {
            assert!(text.contains(&format!("plant::is(\"{}\")", one.name)), "{} is not there", one.name);
        }
    }

    #[test]
    fn a_plant_whose_sources_have_changed_is_named_with_the_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("src");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("one.rs"), "changed\n").unwrap();
        let file = folder.path().join("late.patch");
        fs::write(&file, "A bug.\n\n--- a/one.rs\n+++ b/one.rs\n@@ -1 +1,2 @@\n+bug\n before\n").unwrap();
        let (name, what, says) = ("late".to_owned(), String::new(), Vec::new());
        let plant = Plant { name, file, what, seeds: 1, waits: None, without: None, says };
        let said = apply(&root, &plant).unwrap_err().to_string();
        assert!(said.contains("late does not apply") && said.contains("git diff -U2"), "{said}");
        fs::write(root.join("one.rs"), "before\n").unwrap();
        apply(&root, &plant).unwrap();
        assert_eq!(fs::read_to_string(root.join("one.rs")).unwrap(), "bug\nbefore\n");
    }

    #[test]
    fn the_copy_holds_what_the_tree_holds_and_nothing_else() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let files = [PathBuf::from("one/two"), PathBuf::from("three")];
        for file in &files {
            fs::create_dir_all(from.path().join(file).parent().unwrap()).unwrap();
            fs::write(from.path().join(file), "new").unwrap();
        }
        fs::create_dir_all(to.path().join("gone")).unwrap();
        fs::write(to.path().join("gone/four"), "old").unwrap();
        fs::write(to.path().join("three"), "new").unwrap();
        let before = fs::metadata(to.path().join("three")).unwrap().modified().unwrap();
        take_over(from.path(), to.path(), &files).unwrap();
        assert_eq!(fs::read_to_string(to.path().join("one/two")).unwrap(), "new");
        assert!(!to.path().join("gone/four").exists());
        let after = fs::metadata(to.path().join("three")).unwrap().modified().unwrap();
        assert_eq!(before, after, "what has not changed is not written again");
    }
}
