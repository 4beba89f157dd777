//! Manifests: every edge between crates is one that DESIGN 3 draws.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::finding::{Finding, Rule};
use super::rooms::{self, Room, TESTS_SUPPORT};
use super::tree::{Dependency, Package, Tree};

/// Judges all manifests of the tree.
pub fn judge(tree: &Tree, findings: &mut Vec<Finding>) -> Result<()> {
    for package in &tree.packages {
        let manifest = package.folder.join("Cargo.toml");
        let text = fs::read_to_string(tree.root.join(&manifest))
            .with_context(|| format!("cannot read {}", manifest.display()))?;
        match rooms::room(&package.name) {
            Some(room) => judge_package(package, room, &manifest, &text, findings),
            None => findings.push(Finding {
                file: manifest,
                line: 1,
                rule: Rule::UnknownRoom,
                what: format!("package {} is no room of the house", package.name),
            }),
        }
    }
    Ok(())
}

fn judge_package(package: &Package, room: &Room, manifest: &Path, text: &str, findings: &mut Vec<Finding>) {
    for dependency in &package.dependencies {
        let Some(what) = objection(room, dependency) else { continue };
        findings.push(Finding {
            file: manifest.to_path_buf(),
            line: line_of(text, &dependency.name),
            rule: Rule::Edge,
            what,
        });
    }
}

/// Why `room` may not have this dependency, if it may not.
fn objection(room: &Room, dependency: &Dependency) -> Option<String> {
    let (from, to) = (room.package, dependency.name.as_str());
    match (dependency.local, dependency.dev) {
        (false, true) => None,
        (false, false) if room.third_parties.has(to) => None,
        (false, false) => Some(format!("{from} may not use the third party {to}")),
        (true, true) => {
            let lower = rooms::room(to).is_some_and(|target| target.layer < room.layer);
            let fine = to == TESTS_SUPPORT || room.rooms.has(to) || (!room.pure && lower);
            (!fine).then(|| format!("the tests of {from} may not use {to}"))
        }
        (true, false) if to == TESTS_SUPPORT && !from.starts_with("tidegate-tests") && !is_bench(from) => {
            Some(format!("{from} may use {to} under [dev-dependencies] only"))
        }
        (true, false) if room.rooms.has(to) => None,
        (true, false) => Some(format!("{from} may not use {to}: no edge up or sideways")),
    }
}

fn is_bench(package: &str) -> bool {
    package == "tidegate-benches"
}

fn line_of(manifest: &str, dependency: &str) -> usize {
    let names_it = |line: &str| {
        line.trim_start().strip_prefix(dependency).is_some_and(|rest| rest.starts_with(['.', ' ', '=', ']']))
            || line.contains(&format!("dependencies.{dependency}]"))
    };
    manifest.lines().position(names_it).map_or(1, |index| index + 1)
}
