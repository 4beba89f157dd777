//! Rules about where a file lies and what it is called.

use std::path::Path;

use super::finding::{Finding, Rule};
use super::limits::FOLDERS_BELOW_SRC_MAX;
use super::tree::Package;

/// Words that name nothing (STYLE 5); also at the end of a longer name, as in `session_manager`.
const EMPTY_WORDS: &[&str] = &["util", "utils", "helper", "helpers", "common", "manager", "managers", "misc"];

/// Judges the path of one source file.
pub fn judge(file: &Path, package: Option<&Package>, findings: &mut Vec<Finding>) {
    let mut note = |rule, what| findings.push(Finding { file: file.to_path_buf(), line: 1, rule, what });
    let names = file.iter().filter_map(|part| Path::new(part).file_stem()?.to_str());
    for name in names.filter(|name| says_nothing(name)) {
        note(Rule::FileName, format!("`{name}` says nothing about what is inside"));
    }
    let Some(below) = package.and_then(|package| file.strip_prefix(package.folder.join("src")).ok()) else {
        return;
    };
    let folders = below.components().count().saturating_sub(1);
    if folders > FOLDERS_BELOW_SRC_MAX {
        note(Rule::Depth, format!("{folders} folders below src/, {FOLDERS_BELOW_SRC_MAX} allowed"));
    }
}

fn says_nothing(name: &str) -> bool {
    EMPTY_WORDS.iter().any(|word| {
        name == *word
            || name.strip_suffix(word).is_some_and(|rest| rest.ends_with('_') || rest.ends_with('-'))
    })
}
