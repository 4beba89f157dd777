//! Rules about one source file: unsafe, purity, determinism, lengths.

use std::path::Path;

use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{GenericArgument, Meta, PathArguments, PathSegment};

use super::finding::{Finding, Rule};
use super::limits::{FILE_LINES_MAX, FUNCTION_LINES_MAX};
use super::rooms::Room;
use super::source::{Source, WrittenPath};

/// Where a file stands, as far as its rules depend on it.
pub struct Place<'a> {
    /// Path relative to the root.
    pub file: &'a Path,
    /// The room it is in; `None` for a file outside every package of the workspace.
    pub room: Option<&'a Room>,
    /// Only tests build it.
    pub test: bool,
    /// It is the root of its crate's library or binary.
    pub crate_root: bool,
    /// A tool wrote it.
    pub generated: bool,
}

/// Judges one parsed file.
pub fn judge(place: &Place<'_>, source: &Source, findings: &mut Vec<Finding>) {
    let mut found = Found { place, findings };
    judge_unsafe(source, &mut found);
    if place.room.is_some_and(|room| room.pure) {
        judge_root(source, &mut found);
        if !place.test {
            judge_purity(source, &mut found);
            judge_random_state(source, &mut found);
        }
    }
    if !place.generated {
        judge_lengths(source, &mut found);
    }
}

struct Found<'a, 'b> {
    place: &'a Place<'a>,
    findings: &'b mut Vec<Finding>,
}

impl Found<'_, '_> {
    fn note(&mut self, line: usize, rule: Rule, what: String) {
        self.findings.push(Finding { file: self.place.file.to_path_buf(), line, rule, what });
    }
}

fn judge_unsafe(source: &Source, found: &mut Found<'_, '_>) {
    if found.place.room.is_some_and(|room| room.may_be_unsafe) {
        return;
    }
    for path in source.paths.iter().filter(|path| path.words.iter().any(|word| word == "unsafe")) {
        found.note(path.line, Rule::Unsafe, "unsafe outside its rooms".to_owned());
    }
}

fn judge_root(source: &Source, found: &mut Found<'_, '_>) {
    if !found.place.crate_root {
        return;
    }
    let forbids = source.syntax.attrs.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) => list.path.is_ident("forbid") && list.tokens.to_string().contains("unsafe_code"),
        _ => false,
    });
    if !forbids {
        found.note(1, Rule::ForbidUnsafe, "a pure crate without #![forbid(unsafe_code)]".to_owned());
    }
}

/// What a pure crate does not name: the start of a path, and what it would bring in.
const IMPURE_PATHS: &[(&[&str], &str)] = &[
    (&["std", "time"], "the clock's types"),
    (&["core", "time"], "the clock's types"),
    (&["std", "thread"], "a thread"),
    (&["std", "fs"], "a file"),
    (&["std", "net"], "a socket"),
    (&["std", "io"], "input or output"),
    (&["std", "os"], "the operating system"),
    (&["std", "env"], "the environment"),
    (&["std", "process"], "a process"),
    (&["std", "future"], "async"),
    (&["std", "sync", "Mutex"], "a lock"),
    (&["std", "sync", "RwLock"], "a lock"),
    (&["std", "sync", "Condvar"], "a lock"),
    (&["std", "sync", "Barrier"], "a lock"),
    (&["std", "sync", "mpsc"], "a channel between threads"),
    (&["rand"], "randomness"),
    (&["getrandom"], "randomness"),
    (&["tokio"], "async"),
    (&["libc"], "a system call"),
    (&["rustix"], "a system call"),
];

/// Words that are impure wherever they stand.
const IMPURE_WORDS: &[(&str, &str)] = &[
    ("Instant", "a clock"),
    ("SystemTime", "a clock"),
    ("async", "async"),
    ("await", "async"),
    ("thread_local", "state of a thread"),
    ("println", "output"),
    ("eprintln", "output"),
    ("dbg", "output"),
];

fn judge_purity(source: &Source, found: &mut Found<'_, '_>) {
    for path in source.paths.iter().filter(|path| !source.is_test_line(path.line)) {
        if let Some(brings) = impurity(path) {
            found.note(path.line, Rule::Purity, format!("`{}` brings in {brings}", path.words.join("::")));
        }
    }
}

fn impurity(path: &WrittenPath) -> Option<&'static str> {
    // A crate's name alone may be a local name; it is a path only with something behind it.
    let begins = |start: &[&str]| {
        path.words.len() >= start.len().max(2)
            && start.iter().zip(&path.words).all(|(left, right)| *left == right.as_str())
    };
    let by_path = IMPURE_PATHS.iter().find(|(start, _)| begins(start)).map(|(_, brings)| *brings);
    let by_word = || {
        let listed = |word: &&str| path.words.iter().any(|written| written == word);
        IMPURE_WORDS.iter().find(|(word, _)| listed(word)).map(|(_, brings)| *brings)
    };
    by_path.or_else(by_word)
}

fn judge_random_state(source: &Source, found: &mut Found<'_, '_>) {
    let mut lines: Vec<(usize, String)> = Vec::new();
    for path in &source.paths {
        let constructs = path.words.windows(2).any(|pair| {
            matches!(pair[0].as_str(), "HashMap" | "HashSet")
                && matches!(pair[1].as_str(), "new" | "with_capacity" | "from")
        });
        if constructs || path.words.iter().any(|word| word == "RandomState") {
            lines.push((path.line, path.words.join("::")));
        }
    }
    let mut types = RandomTypes(&mut lines);
    types.visit_file(&source.syntax);
    lines.sort();
    lines.dedup_by_key(|(line, _)| *line);
    for (line, what) in lines.into_iter().filter(|(line, _)| !source.is_test_line(*line)) {
        found.note(line, Rule::RandomState, format!("`{what}` hashes with random state"));
    }
}

/// Types `HashMap<K, V>` and `HashSet<T>` that name no hasher.
struct RandomTypes<'a>(&'a mut Vec<(usize, String)>);

impl<'ast> Visit<'ast> for RandomTypes<'_> {
    fn visit_path_segment(&mut self, segment: &'ast PathSegment) {
        let with_hasher = match segment.ident.to_string().as_str() {
            "HashMap" => 3,
            "HashSet" => 2,
            _ => return visit::visit_path_segment(self, segment),
        };
        if let PathArguments::AngleBracketed(arguments) = &segment.arguments {
            let types =
                arguments.args.iter().filter(|argument| matches!(argument, GenericArgument::Type(_))).count();
            if types < with_hasher {
                self.0.push((segment.span().start().line, segment.ident.to_string()));
            }
        }
        visit::visit_path_segment(self, segment);
    }
}

fn judge_lengths(source: &Source, found: &mut Found<'_, '_>) {
    let lines = source.lines_without_tests();
    if !found.place.test && lines > FILE_LINES_MAX {
        found.note(1, Rule::FileLength, format!("{lines} lines without its tests, {FILE_LINES_MAX} allowed"));
    }
    for function in source.functions() {
        let lines = source.code_lines(function.line, function.last_line);
        if lines > FUNCTION_LINES_MAX {
            let what = format!("fn {} has {lines} lines, {FUNCTION_LINES_MAX} allowed", function.name);
            found.note(function.line, Rule::FunctionLength, what);
        }
    }
}
