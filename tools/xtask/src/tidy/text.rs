//! Rules about the text of any tracked file: no registry host, no path of a machine, no unfinished work.

use std::path::Path;

use super::finding::{Finding, Rule};

/// Hosts of package registries. Written in halves, so that this file does not name them either.
const HOSTS: &[&str] = &[
    concat!("crates", ".io"),
    concat!("pypi", ".org"),
    concat!("pythonhosted", ".org"),
    concat!("npmjs", ".org"),
    concat!("deb", ".debian.org"),
    concat!("proxy.golang", ".org"),
    concat!("ghcr", ".io"),
    concat!("docker", ".io"),
];

/// Starts of paths that exist on one machine only.
const MACHINE_PATHS: &[&str] =
    &[concat!("/", "home/"), concat!("/", "root/"), concat!("/", "Users/"), concat!("/", "work/")];

/// Words that mark unfinished work.
const UNFINISHED: &[&str] =
    &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("todo", "!"), concat!("unimplemented", "!")];

/// Files whose text a tool writes, host names and all.
fn is_exempt(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name == "Cargo.lock")
}

/// Judges the text of one file, line by line.
pub fn judge(file: &Path, text: &str, findings: &mut Vec<Finding>) {
    if is_exempt(file) {
        return;
    }
    for (index, line) in text.lines().enumerate() {
        let mut note = |rule, what: &str| {
            let what = format!("`{what}`");
            findings.push(Finding { file: file.to_path_buf(), line: index + 1, rule, what });
        };
        for host in HOSTS.iter().filter(|host| line.contains(**host)) {
            note(Rule::RegistryHost, host);
        }
        for path in MACHINE_PATHS.iter().filter(|path| starts_a_path(line, path)) {
            note(Rule::MachinePath, path);
        }
        for word in UNFINISHED.iter().filter(|word| has_word(line, word)) {
            note(Rule::Unfinished, word);
        }
    }
}

/// Whether `path` stands in `line` as the start of a path: `docs/work/x` is none.
fn starts_a_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before
            .is_some_and(|mark| mark.is_alphanumeric() || matches!(mark, '.' | '_' | '-' | '/' | '}' | ')'))
    })
}

fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let part_of_word = |mark: char| mark.is_alphanumeric() || mark == '_';
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let is_longer =
            before.is_some_and(part_of_word) || (!word.ends_with('!') && after.is_some_and(part_of_word));
        !is_longer
    })
}
