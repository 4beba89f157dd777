//! `docs/dependencies.md` and `[workspace.dependencies]` name the same third parties in the same versions, each
//! third party is used by some package, and packages take their versions from the workspace.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use toml::{Table, Value};

use super::finding::{Finding, Rule};
use super::tree::Tree;

/// Where each third party's reason stands.
const PAGE: &str = "docs/dependencies.md";
const MANIFEST: &str = "Cargo.toml";

/// Judges the root manifest, the page, and the manifests that name versions themselves.
pub fn judge(tree: &Tree, findings: &mut Vec<Finding>) -> Result<()> {
    let manifest = fs::read_to_string(tree.root.join(MANIFEST)).context("cannot read the root manifest")?;
    let page = fs::read_to_string(tree.root.join(PAGE)).unwrap_or_default();
    let pinned = pinned(&manifest)?;
    let explained = explained(&page);
    let mut note = |file: &str, text: &str, word: &str, what: String| {
        let line = text.lines().position(|line| line.contains(word)).map_or(1, |index| index + 1);
        findings.push(Finding { file: Path::new(file).to_path_buf(), line, rule: Rule::ThirdParty, what });
    };
    for (name, version) in &pinned {
        match explained.get(name) {
            None => {
                note(MANIFEST, &manifest, &format!("{name} ="), format!("{PAGE} does not explain {name}"));
            }
            Some(other) if other != version => {
                note(
                    PAGE,
                    &page,
                    &row_begin(name),
                    format!("{name} is pinned to {version}, the page says {other}"),
                );
            }
            Some(_) => {}
        }
    }
    for name in explained.keys().filter(|name| !pinned.contains_key(*name)) {
        note(PAGE, &page, &row_begin(name), format!("{name} is no dependency of the workspace"));
    }
    let used: BTreeSet<&str> = tree
        .packages
        .iter()
        .flat_map(|package| &package.dependencies)
        .map(|dependency| dependency.name.as_str())
        .collect();
    for name in pinned.keys().filter(|name| !used.contains(name.as_str())) {
        note(MANIFEST, &manifest, &format!("{name} ="), format!("no package uses {name}"));
    }
    Ok(())
}

/// Third parties of `[workspace.dependencies]` with their versions.
fn pinned(manifest: &str) -> Result<BTreeMap<String, String>> {
    let table: Table = manifest.parse().context("the root manifest does not parse")?;
    let dependencies = table.get("workspace").and_then(|workspace| workspace.get("dependencies"));
    let version = |value: &Value| match value {
        Value::String(version) => Some(version.clone()),
        other => other.get("version").and_then(Value::as_str).map(str::to_owned),
    };
    Ok(dependencies
        .and_then(Value::as_table)
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| Some((name.clone(), version(value)?)))
        .collect())
}

/// Rows `| `name` | version | …`.
fn explained(page: &str) -> BTreeMap<String, String> {
    page.lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
            let name = cells.next()?.strip_suffix('`')?;
            Some((name.to_owned(), cells.next()?.to_owned()))
        })
        .collect()
}

fn row_begin(name: &str) -> String {
    format!("| `{name}` ")
}
