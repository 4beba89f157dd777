//! A plant as its file says it: a head in prose with what is broken and how many seeds find it, then a unified diff.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

/// Seeds that try a plant that waits, where somebody asks for it.
const SEEDS_WAITING: u64 = 100;

/// Where the diff begins.
const DIFF: &str = "--- a/";

/// A bug that can be planted.
#[derive(Debug)]
pub struct Plant {
    /// The file's name without its ending; what the switch is asked for.
    pub name: String,
    /// The patch.
    pub file: PathBuf,
    /// What the bug is: the head's first paragraph, on one line.
    pub what: String,
    /// So many seeds, from any first one, must find it.
    pub seeds: u64,
    /// No seed is bound to find it yet: what the simulator lacks.
    pub waits: Option<String>,
    /// Faults that its seeds leave out, because a checker looks away where they have happened.
    pub without: Option<String>,
    /// What is said of it: a failure that says none of these is another one, and finds nothing.
    pub says: Vec<String>,
}

impl Plant {
    /// Whether a failure is one that this bug leads to.
    pub fn explains(&self, said: &str) -> bool {
        self.says.iter().any(|part| said.contains(part))
    }
}

/// Every plant of a folder, sorted by name.
pub fn read_all(folder: &Path) -> Result<Vec<Plant>> {
    let entries = folder.read_dir().with_context(|| format!("cannot read {}", folder.display()))?;
    let mut plants = Vec::new();
    for entry in entries {
        let file = entry.with_context(|| format!("cannot read {}", folder.display()))?.path();
        let Some(name) = file.file_name().and_then(|name| name.to_str()?.strip_suffix(".patch")) else {
            continue;
        };
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let plant = read(name, &text).with_context(|| format!("{} is no plant", file.display()))?;
        plants.push(Plant { file, ..plant });
    }
    plants.sort_by(|left, right| left.name.cmp(&right.name));
    ensure!(!plants.is_empty(), "there is no patch in {}", folder.display());
    Ok(plants)
}

/// Reads one; the file is not known yet.
fn read(name: &str, text: &str) -> Result<Plant> {
    let begin = text.lines().position(|line| line.starts_with(DIFF));
    let Some(begin) = begin else { bail!("it has no diff: no line starts with `{DIFF}`") };
    let head: Vec<&str> = text.lines().take(begin).collect();
    let diff = text.lines().skip(begin);
    let what: Vec<&str> = head.iter().copied().take_while(|line| !line.is_empty()).collect();
    ensure!(!what.is_empty(), "its first paragraph says what the bug is");
    ensure!(
        head.iter().any(|line| line.starts_with("Breaks: ")),
        "its head says `Breaks: ` and the sentence of the design that no longer holds"
    );
    let says = head.iter().find_map(|line| line.strip_prefix("Says: "));
    let says = says.context("its head says `Says: ` and, parted by ` | `, what failures of this bug say")?;
    let says: Vec<String> = says.split(" | ").map(|part| part.trim().to_owned()).collect();
    ensure!(!says.iter().any(String::is_empty), "a part of `Says: ` is empty, so every failure would fit");
    let waits = head.iter().find_map(|line| line.strip_prefix("Waits: ")).map(str::to_owned);
    let seeds = match head.iter().find_map(|line| line.strip_prefix("Seeds: ")) {
        Some(seeds) => seeds.trim().parse().with_context(|| format!("`Seeds: {seeds}` is no number"))?,
        None if waits.is_some() => SEEDS_WAITING,
        None => bail!("its head says `Seeds: ` and how many must find it, or `Waits: ` and what is missing"),
    };
    ensure!(seeds > 0, "no seed finds it: a bug that is defended twice stands in docs/plants.md only");
    let without = head.iter().find_map(|line| line.strip_prefix("Without: ")).map(str::to_owned);
    let switch = format!("plant::is(\"{name}\")");
    ensure!(
        diff.into_iter().any(|line| line.starts_with('+') && line.contains(&switch)),
        "no line that it adds asks `tidegate_ids::{switch}`, so it would be planted in every run"
    );
    let (name, file, what) = (name.to_owned(), PathBuf::new(), what.join(" "));
    Ok(Plant { name, file, what, seeds, waits, without, says })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = "Something is\nforgotten.\n\nBreaks: DESIGN 1.3, \"Nothing\nleaves\".\n\nSays: never got | is gone\nSeeds: 40\n\n\
        --- a/one.rs\n+++ b/one.rs\n@@ -1 +1,2 @@\n+if tidegate_ids::plant::is(\"one\") {}\n left\n";

    #[test]
    fn a_plant_says_what_it_is_and_how_many_seeds_find_it() {
        let plant = read("one", SOUND).unwrap();
        assert_eq!((plant.what.as_str(), plant.seeds), ("Something is forgotten.", 40));
        assert_eq!((&plant.waits, &plant.without), (&None, &None));
        let plant = read("one", &SOUND.replace("Seeds", "Without: bit-rot\nSeeds")).unwrap();
        assert_eq!(plant.without.as_deref(), Some("bit-rot"));
        let said = ["LOST: device 3 never got 1:2 5", "1:2 5 was committed and is gone", "1:2 5 came twice"];
        assert_eq!(said.map(|said| plant.explains(said)), [true, true, false]);
    }

    #[test]
    fn a_plant_may_wait_for_what_the_simulator_lacks() {
        let plant = read("one", &SOUND.replace("Seeds: 40", "Waits: slow reads")).unwrap();
        assert_eq!(plant.waits.as_deref(), Some("slow reads"));
        assert!(plant.seeds > 0, "it is tried where it is asked for");
    }

    /// A patch that asks for another name than its own would be planted by nobody, and look defended.
    #[test]
    fn what_is_missing_is_named() {
        let check = |name: &str, text: &str, expected: &str| {
            let error = read(name, text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("other", SOUND, "plant::is(\"other\")");
        check("one", &SOUND.replace("Seeds: 40", "Seeds: 0"), "defended twice");
        check("one", &SOUND.replace("Seeds: 40", "Seeds: many"), "no number");
        check("one", &SOUND.replace("Seeds: 40", ""), "what is missing");
        check("one", &SOUND.replace("Says: ", ""), "failures of this bug say");
        check("one", &SOUND.replace(" | is gone", " | "), "is empty");
        check("one", &SOUND.replace("Breaks: ", ""), "Breaks: ");
        check("one", &SOUND.replace("--- a/", "--- "), "no diff");
        check("one", &SOUND.replace("+if", "-if"), "in every run");
        check("one", &SOUND.replace("Something is\nforgotten.\n", ""), "first paragraph");
    }

    #[test]
    fn the_docs_say_of_every_plant_what_its_head_says() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let docs = fs::read_to_string(root.join("docs/plants.md")).unwrap();
        let plants = read_all(&root.join(crate::plants::FOLDER)).unwrap();
        for plant in &plants {
            let row = format!("| `{}` | {} |", plant.name, plant.what);
            let line = docs.lines().find(|line| line.starts_with(&row));
            let line = line.unwrap_or_else(|| panic!("docs/plants.md has no line that begins `{row}`"));
            let end = plant.waits.clone().unwrap_or_else(|| plant.seeds.to_string());
            assert!(line.ends_with(&format!("| {end} |")), "{} does not end with {end}", plant.name);
        }
        let rows = docs.lines().filter(|line| line.starts_with("| `")).count();
        assert_eq!(rows, plants.len(), "docs/plants.md names a plant that is not there");
    }
}
