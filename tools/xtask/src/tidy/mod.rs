//! `cargo xtask tidy`: the walls of the house, checked on every change.
//!
//! It reads manifests and sources and never runs the project's code. Each finding says where, which rule,
//! and the way out. The rules stand in `docs` as DESIGN 3 and STYLE; a remark made twice in review becomes
//! a rule here.

mod code;
mod edges;
mod finding;
mod limits;
mod modules;
mod names;
mod rooms;
mod source;
mod text;
mod third_parties;
mod tree;

#[cfg(test)]
mod tests;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use self::code::Place;
use self::finding::{Finding, Rule};
use self::modules::Reached;
use self::source::Source;
use self::tree::Tree;

pub use self::tree::listed_by_git;

/// Judges the workspace at `root`, prints every finding, and fails if there is one.
pub fn run(root: &Path) -> Result<()> {
    let tree = Tree::read(root)?;
    let findings = judge(&tree)?;
    for finding in &findings {
        println!("{finding}");
    }
    if !findings.is_empty() {
        bail!("tidy: {} findings in {} files", findings.len(), tree.files.len());
    }
    println!("tidy: {} files, {} packages, nothing to say", tree.files.len(), tree.packages.len());
    Ok(())
}

/// All findings of a tree, sorted by place.
fn judge(tree: &Tree) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    edges::judge(tree, &mut findings)?;
    third_parties::judge(tree, &mut findings)?;
    let reached = modules::reached(tree);
    for file in &tree.files {
        let bytes =
            fs::read(tree.root.join(file)).with_context(|| format!("cannot read {}", file.display()))?;
        let Ok(text) = String::from_utf8(bytes) else { continue };
        text::judge(file, &text, &mut findings);
        if file.extension().is_some_and(|extension| extension == "rs") {
            judge_source(tree, &reached, file, &text, &mut findings);
        }
    }
    findings.sort();
    findings.dedup();
    Ok(findings)
}

fn judge_source(tree: &Tree, reached: &Reached, file: &Path, text: &str, findings: &mut Vec<Finding>) {
    let package = tree.package_of(file);
    names::judge(file, package, findings);
    let in_source = package.is_some_and(|package| file.starts_with(package.folder.join("src")));
    if in_source && !reached.contains_key(file) {
        let what = "no `mod` reaches this file".to_owned();
        findings.push(Finding { file: file.to_path_buf(), line: 1, rule: Rule::DeadFile, what });
    }
    let below_package = package.and_then(|package| file.strip_prefix(&package.folder).ok());
    let place = Place {
        file,
        room: package.and_then(|package| rooms::room(&package.name)),
        test: reached.get(file).copied().unwrap_or(false) || below_package.is_some_and(is_test_path),
        crate_root: package.is_some_and(|package| {
            package.targets.iter().any(|target| !target.test && target.source == file)
        }),
        generated: file.starts_with("schema/generated"),
    };
    match Source::parse(text) {
        Ok(source) => code::judge(&place, &source, findings),
        Err(error) => findings.push(Finding {
            file: file.to_path_buf(),
            line: 1,
            rule: Rule::Unparsed,
            what: error.to_string(),
        }),
    }
}

/// Whether a path inside a package is test code by its place: `tests.rs`, or anything in a `tests` folder.
fn is_test_path(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "tests.rs")
        || path.components().any(|part| part.as_os_str() == "tests")
}
