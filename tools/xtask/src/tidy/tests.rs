//! Each rule is seen to fire on a small planted tree, and to stay silent beside it.

use std::fs;
use std::path::{Path, PathBuf};

use super::finding::Rule;
use super::tree::Tree;

/// A workspace of two rooms, `ids` (pure) and `reactor` (may be unsafe), without a finding.
struct Planted {
    files: Vec<(String, String)>,
}

impl Planted {
    fn clean() -> Planted {
        let mut planted = Planted { files: Vec::new() };
        planted.file("Cargo.toml", "[workspace]\nresolver = \"3\"\nmembers = [\"ids\", \"reactor\"]\n");
        planted.manifest("ids", "tidegate-ids", "");
        planted.manifest("reactor", "tidegate-reactor", "");
        planted.file("ids/src/lib.rs", "//! Ids.\n#![forbid(unsafe_code)]\n");
        planted.file("reactor/src/lib.rs", "//! Ring.\n");
        planted
    }

    fn manifest(&mut self, folder: &str, package: &str, dependencies: &str) {
        let head = format!("[package]\nname = \"{package}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n");
        self.file(&format!("{folder}/Cargo.toml"), &format!("{head}\n{dependencies}"));
    }

    /// Adds a file or replaces one.
    fn file(&mut self, path: &str, text: &str) {
        self.files.retain(|(known, _)| known != path);
        self.files.push((path.to_owned(), text.to_owned()));
    }

    fn findings(&self) -> Vec<(PathBuf, usize, Rule)> {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in &self.files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let files = self.files.iter().map(|(path, _)| PathBuf::from(path)).collect();
        let tree = Tree::of(folder.path(), files).unwrap();
        super::judge(&tree)
            .unwrap()
            .into_iter()
            .map(|finding| (finding.file, finding.line, finding.rule))
            .collect()
    }
}

/// Plants `text` at `path` in the clean tree and compares all findings there are.
fn check(path: &str, text: &str, expected: &[(usize, Rule)]) {
    let mut planted = Planted::clean();
    planted.file(path, text);
    let expected: Vec<_> = expected.iter().map(|(line, rule)| (PathBuf::from(path), *line, *rule)).collect();
    assert_eq!(planted.findings(), expected, "planted in {path}:\n{text}");
}

/// Plants `body` below the head of the pure crate's root; lines are counted in `body`, from 1.
fn check_pure(body: &str, expected: &[(usize, Rule)]) {
    let expected: Vec<_> = expected.iter().map(|(line, rule)| (line + 2, *rule)).collect();
    check("ids/src/lib.rs", &format!("//! Ids.\n#![forbid(unsafe_code)]\n{body}"), &expected);
}

fn check_manifests(manifests: &[(&str, &str, &str)], expected: &[(&str, usize, Rule)]) {
    let mut planted = Planted::clean();
    let members: Vec<String> = manifests.iter().map(|(folder, ..)| format!("\"{folder}\"")).collect();
    planted.file(
        "Cargo.toml",
        &format!("[workspace]\nresolver = \"3\"\nmembers = [\"ids\", \"reactor\", {}]\n", members.join(", ")),
    );
    for (folder, package, dependencies) in manifests {
        planted.manifest(folder, package, dependencies);
        planted.file(&format!("{folder}/src/lib.rs"), "//! A room.\n#![forbid(unsafe_code)]\n");
    }
    let expected: Vec<_> =
        expected.iter().map(|(path, line, rule)| (PathBuf::from(path), *line, *rule)).collect();
    assert_eq!(planted.findings(), expected, "{manifests:?}");
}

#[test]
fn a_clean_tree_has_no_finding() {
    assert_eq!(Planted::clean().findings(), []);
}

#[test]
fn edges_go_down_only() {
    let down = "[dependencies]\ntidegate-ids = { path = \"../ids\" }\n";
    check_manifests(&[("domain", "tidegate-domain", down)], &[]);
    // Sideways.
    let ws = ("ws", "tidegate-ws", "");
    let sideways = "[dependencies]\ntidegate-ws = { path = \"../ws\" }\n";
    check_manifests(&[("domain", "tidegate-domain", sideways), ws], &[("domain/Cargo.toml", 7, Rule::Edge)]);
    // Down, but not drawn: the codec knows no ids.
    check_manifests(&[("ws", "tidegate-ws", down)], &[("ws/Cargo.toml", 7, Rule::Edge)]);
    // Up.
    let up = "[dependencies.tidegate-reactor]\npath = \"../reactor\"\n";
    check_manifests(&[("domain", "tidegate-domain", up)], &[("domain/Cargo.toml", 6, Rule::Edge)]);
}

#[test]
fn third_parties_are_listed_for_each_room() {
    let listed = "[dependencies]\nsha2 = \"0.10\"\n";
    check_manifests(&[("domain", "tidegate-domain", listed)], &[]);
    let other = "[dependencies]\nserde = \"1\"\n";
    check_manifests(&[("domain", "tidegate-domain", other)], &[("domain/Cargo.toml", 7, Rule::Edge)]);
    let tests_only = "[dev-dependencies]\nproptest = \"1\"\n";
    check_manifests(&[("domain", "tidegate-domain", tests_only)], &[]);
}

#[test]
fn every_third_party_is_explained_and_used() {
    let plant = |pinned: &str, page: &str, used: &str| {
        let mut planted = Planted::clean();
        let root =
            "[workspace]\nresolver = \"3\"\nmembers = [\"ids\", \"reactor\"]\n[workspace.dependencies]\n";
        planted.file("Cargo.toml", &format!("{root}{pinned}"));
        planted.file("docs/dependencies.md", page);
        planted.manifest("reactor", "tidegate-reactor", &format!("[dependencies]\n{used}"));
        planted.findings()
    };
    let (pin, row, used) = (
        "rustix = \"1.1.6\"\n",
        "# Why\n| `rustix` | 1.1.6 | reactor | calls |\n",
        "rustix.workspace = true\n",
    );
    let manifest = |line| vec![(PathBuf::from("Cargo.toml"), line, Rule::ThirdParty)];
    let page = |line| vec![(PathBuf::from("docs/dependencies.md"), line, Rule::ThirdParty)];
    assert_eq!(plant(pin, row, used), []);
    assert_eq!(plant("rustix = { version = \"1.1.6\", features = [\"fs\"] }\n", row, used), []);
    assert_eq!(plant(pin, "", used), manifest(5));
    assert_eq!(plant("rustix = \"1.1.7\"\n", row, used), page(2));
    assert_eq!(plant("", row, ""), page(2));
    assert_eq!(plant(pin, row, ""), manifest(5));
}

#[test]
fn test_edges_are_judged_apart() {
    let support = ("support", "tidegate-tests-support", "");
    let in_tests = "[dev-dependencies]\ntidegate-tests-support = { path = \"../support\" }\n";
    check_manifests(&[("domain", "tidegate-domain", in_tests), support], &[]);
    let in_code = "[dependencies]\ntidegate-tests-support = { path = \"../support\" }\n";
    check_manifests(
        &[("domain", "tidegate-domain", in_code), support],
        &[("domain/Cargo.toml", 7, Rule::Edge)],
    );
    let reactor = "[dev-dependencies]\ntidegate-reactor = { path = \"../reactor\" }\n";
    check_manifests(&[("domain", "tidegate-domain", reactor)], &[("domain/Cargo.toml", 7, Rule::Edge)]);
    // The shell may test against any lower room.
    check_manifests(&[("node", "tidegate-node", reactor)], &[]);
}

#[test]
fn every_package_is_a_room() {
    check_manifests(&[("attic", "tidegate-attic", "")], &[("attic/Cargo.toml", 1, Rule::UnknownRoom)]);
}

#[test]
fn unsafe_stays_in_its_rooms() {
    let text = "//! Ring.\npub fn f() {\n    unsafe { g() }\n}\n";
    check("reactor/src/lib.rs", text, &[]);
    check_pure("fn f() {\n    unsafe { g() }\n}\n", &[(2, Rule::Unsafe)]);
    check_pure("macro_rules! m { () => {\n    unsafe { g() } };\n}\n", &[(2, Rule::Unsafe)]);
    check_pure("// unsafe in a comment, and \"unsafe\" in text\nconst A: &str = \"unsafe\";\n", &[]);
}

#[test]
fn a_pure_crate_forbids_unsafe() {
    check("ids/src/lib.rs", "//! Ids.\n", &[(1, Rule::ForbidUnsafe)]);
    check("ids/src/lib.rs", "//! Ids.\n#![deny(unsafe_code)]\n", &[(1, Rule::ForbidUnsafe)]);
}

#[test]
fn a_pure_crate_is_pure() {
    for line in [
        "use std::time::Duration;",
        "use std::{fmt, time::Instant};",
        "use std::{\n    fmt, fs};",
        "fn f() { let a = std::thread::spawn(g); }",
        "fn f(a: &std::net::TcpStream) {}",
        "use rand::Rng;",
        "fn f() { getrandom::fill(&mut [0]); }",
        "use tokio as t; fn f() { tokio::spawn(g); }",
        "async fn f() {}",
        "fn f(a: SystemTime) {}",
        "use std::sync::Mutex;",
        "fn f() { println!(\"x\"); }",
        "fn f() { assert!(std::env::var(\"x\").is_ok()); }",
        "thread_local! { static A: u8 = 0; }",
    ] {
        let lines = line.lines().count();
        check_pure(line, &[(lines, Rule::Purity)]);
    }
    check_pure("use std::{fmt, sync::Arc};\nfn f(time: u64, rand: u64) -> u64 { time + rand }\n", &[]);
    check_pure("#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n", &[]);
    check("reactor/src/lib.rs", "//! Ring.\nuse std::time::Instant;\n", &[]);
}

#[test]
fn files_of_tests_may_do_what_tests_do() {
    let mut planted = Planted::clean();
    planted.file("ids/src/lib.rs", "//! Ids.\n#![forbid(unsafe_code)]\n#[cfg(test)]\nmod golden;\n");
    planted.file("ids/src/golden.rs", "use std::fs;\n");
    planted.file("ids/tests/files.rs", "use std::fs;\n");
    assert_eq!(planted.findings(), []);
    planted.file("ids/src/lib.rs", "//! Ids.\n#![forbid(unsafe_code)]\nmod golden;\n");
    assert_eq!(planted.findings(), [(PathBuf::from("ids/src/golden.rs"), 1, Rule::Purity)]);
}

#[test]
fn a_pure_crate_has_no_random_state() {
    for line in [
        "fn f() { let a = std::collections::HashMap::new(); }",
        "struct A { a: HashMap<u8, u8> }",
        "struct A { a: HashSet<u8> }",
        "use std::hash::RandomState;",
        "fn f() { vec![HashSet::with_capacity(3)]; }",
    ] {
        check_pure(line, &[(1, Rule::RandomState)]);
    }
    check_pure("use std::collections::HashMap;\nstruct A { a: HashMap<u8, u8, Fixed> }\n", &[]);
    check_pure("#[cfg(test)]\nfn f(a: HashSet<u8>) {}\n", &[]);
}

#[test]
fn files_have_a_length() {
    let line = "pub struct A;\n";
    check("reactor/src/lib.rs", &line.repeat(600), &[]);
    check("reactor/src/lib.rs", &line.repeat(601), &[(1, Rule::FileLength)]);
    let tests = format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", line.repeat(600), line.repeat(600));
    check("reactor/src/lib.rs", &tests, &[]);
    check("reactor/tests/long.rs", &line.repeat(700), &[]);
}

#[test]
fn functions_have_a_length() {
    let function = |lines: usize| format!("pub fn f() {{\n{}}}\n", "    g();\n".repeat(lines));
    check("reactor/src/lib.rs", &function(68), &[]);
    check("reactor/src/lib.rs", &function(69), &[(1, Rule::FunctionLength)]);
    let with_comments = format!("pub fn f() {{\n{}}}\n", "    // Why.\n\n    g();\n".repeat(68));
    check("reactor/src/lib.rs", &with_comments, &[]);
    let method = format!("impl A {{\n{}}}\n", function(69));
    check("reactor/src/lib.rs", &method, &[(2, Rule::FunctionLength)]);
}

#[test]
fn names_say_something() {
    for name in ["utils", "helpers", "common", "session_manager"] {
        let mut planted = Planted::clean();
        planted.file("reactor/src/lib.rs", &format!("//! Ring.\nmod {name};\n"));
        let path = format!("reactor/src/{name}.rs");
        planted.file(&path, "");
        assert_eq!(planted.findings(), [(PathBuf::from(path), 1, Rule::FileName)]);
    }
}

#[test]
fn folders_have_a_depth() {
    let mut planted = Planted::clean();
    planted.file("reactor/src/lib.rs", "//! Ring.\nmod a;\n");
    planted.file("reactor/src/a.rs", "mod b;\n");
    planted.file("reactor/src/a/b.rs", "mod c;\n");
    planted.file("reactor/src/a/b/c.rs", "");
    assert_eq!(planted.findings(), []);
    planted.file("reactor/src/a/b/c.rs", "mod d;\n");
    planted.file("reactor/src/a/b/c/d.rs", "");
    assert_eq!(planted.findings(), [(PathBuf::from("reactor/src/a/b/c/d.rs"), 1, Rule::Depth)]);
}

#[test]
fn dead_files_are_found() {
    check("reactor/src/left_over.rs", "", &[(1, Rule::DeadFile)]);
    let mut planted = Planted::clean();
    planted.file(
        "reactor/src/lib.rs",
        "//! Ring.\nmod a { mod b; }\n#[path = \"elsewhere.rs\"]\nmod c;\nmod d;\n",
    );
    planted.file("reactor/src/a/b.rs", "include!(\"included.rs\");\n");
    planted.file("reactor/src/a/included.rs", "");
    planted.file("reactor/src/elsewhere.rs", "");
    planted.file("reactor/src/d/mod.rs", "mod e;\n");
    planted.file("reactor/src/d/e.rs", "");
    planted.file("reactor/src/bin/tool.rs", "fn main() {}\n");
    assert_eq!(planted.findings(), []);
}

#[test]
fn text_names_no_host_and_no_machine() {
    let host = ["see https://static.crates", ".io/x"].concat();
    check("docs/a.md", &format!("one\n{host}\n"), &[(2, Rule::RegistryHost)]);
    check("Cargo.lock", &format!("{host}\n"), &[]);
    let path = ["cp /ro", "ot/.cargo x"].concat();
    check("docs/a.md", &path, &[(1, Rule::MachinePath)]);
    let inside = ["see docs/wo", "rk/plan.md"].concat();
    check("docs/a.md", &inside, &[]);
}

#[test]
fn nothing_is_left_unfinished() {
    for words in ["// TO\u{0}DO: later", "fn f() { to\u{0}do!() }", "FIX\u{0}ME", "unimple\u{0}mented!()"] {
        let text = words.replace('\u{0}', "");
        check("docs/a.md", &text, &[(1, Rule::Unfinished)]);
    }
    check("docs/a.md", &["MASTO", "DON and todos, to", "do = \"warn\""].concat(), &[]);
}

#[test]
fn a_file_that_does_not_parse_is_a_finding() {
    check("reactor/src/lib.rs", "fn f( {\n", &[(1, Rule::Unparsed)]);
}

#[test]
fn a_finding_says_where_what_and_the_way_out() {
    let finding = super::Finding {
        file: Path::new("a/b.rs").to_path_buf(),
        line: 7,
        rule: Rule::DeadFile,
        what: "no `mod` reaches this file".to_owned(),
    };
    assert_eq!(
        finding.to_string(),
        "a/b.rs:7: dead-file: no `mod` reaches this file\n    way out: declare it with `mod`, or delete it"
    );
}
