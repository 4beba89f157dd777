//! A plant as its file says it: a head in prose with what is broken and how many seeds find it, then a unified diff.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

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
    let seeds = head.iter().find_map(|line| line.strip_prefix("Seeds: "));
    let seeds = seeds.context("its head says `Seeds: ` and how many seeds must find it")?;
    let seeds: u64 = seeds.trim().parse().with_context(|| format!("`Seeds: {seeds}` is no number"))?;
    ensure!(seeds > 0, "no seed finds it: a bug that is defended twice stands in docs/plants.md only");
    let switch = format!("plant::is(\"{name}\")");
    ensure!(
        diff.into_iter().any(|line| line.starts_with('+') && line.contains(&switch)),
        "no line that it adds asks `tidegate_ids::{switch}`, so it would be planted in every run"
    );
    Ok(Plant { name: name.to_owned(), file: PathBuf::new(), what: what.join(" "), seeds })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = "Something is\nforgotten.\n\nBreaks: DESIGN 1.3, \"Nothing\nleaves\".\n\nSeeds: 40\n\n\
        --- a/one.rs\n+++ b/one.rs\n@@ -1 +1,2 @@\n+if tidegate_ids::plant::is(\"one\") {}\n left\n";

    #[test]
    fn a_plant_says_what_it_is_and_how_many_seeds_find_it() {
        let plant = read("one", SOUND).unwrap();
        assert_eq!((plant.what.as_str(), plant.seeds), ("Something is forgotten.", 40));
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
        check("one", &SOUND.replace("Seeds: 40", ""), "how many seeds");
        check("one", &SOUND.replace("Breaks: ", ""), "Breaks: ");
        check("one", &SOUND.replace("--- a/", "--- "), "no diff");
        check("one", &SOUND.replace("+if", "-if"), "in every run");
        check("one", &SOUND.replace("Something is\nforgotten.\n", ""), "first paragraph");
    }
}
