//! A finding: where, which rule, and the way out.

use std::fmt;
use std::path::PathBuf;

/// Every rule that tidy knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// A manifest names a room or a third party that DESIGN 3 does not give it.
    Edge,
    /// A third party that is unexplained, unused, or explained in another version.
    ThirdParty,
    /// A package that the table of rooms does not know.
    UnknownRoom,
    /// `unsafe` outside its rooms.
    Unsafe,
    /// A pure crate whose root does not forbid unsafe code.
    ForbidUnsafe,
    /// Clock, randomness, thread, lock, file, socket, output or async in a pure crate.
    Purity,
    /// A hash map with random state in a pure crate.
    RandomState,
    /// A file over [`super::limits::FILE_LINES_MAX`].
    FileLength,
    /// A function over [`super::limits::FUNCTION_LINES_MAX`].
    FunctionLength,
    /// A name that says nothing.
    FileName,
    /// Too many folders below `src/`.
    Depth,
    /// A file that no `mod` reaches.
    DeadFile,
    /// The host of a package registry in a tracked file.
    RegistryHost,
    /// A path of somebody's machine in a tracked file.
    MachinePath,
    /// A word of unfinished work.
    Unfinished,
    /// A source file that does not parse.
    Unparsed,
}

impl Rule {
    /// Short name, printed with each finding.
    pub const fn label(self) -> &'static str {
        match self {
            Rule::Edge => "edge",
            Rule::ThirdParty => "third-party",
            Rule::UnknownRoom => "unknown-room",
            Rule::Unsafe => "unsafe",
            Rule::ForbidUnsafe => "forbid-unsafe",
            Rule::Purity => "purity",
            Rule::RandomState => "random-state",
            Rule::FileLength => "file-length",
            Rule::FunctionLength => "function-length",
            Rule::FileName => "file-name",
            Rule::Depth => "depth",
            Rule::DeadFile => "dead-file",
            Rule::RegistryHost => "registry-host",
            Rule::MachinePath => "machine-path",
            Rule::Unfinished => "unfinished",
            Rule::Unparsed => "unparsed",
        }
    }

    /// What to do about it.
    pub const fn way_out(self) -> &'static str {
        match self {
            Rule::Edge => {
                "move the code to the room that may use it (ARCHITECTURE.md, \"Where does a line go?\"); \
                 a new edge needs a decision record and a row in tools/xtask/src/tidy/rooms.rs"
            }
            Rule::ThirdParty => {
                "keep docs/dependencies.md in step: one row with name, version, where and why; take out what is unused"
            }
            Rule::UnknownRoom => "give the package a row in tools/xtask/src/tidy/rooms.rs",
            Rule::Unsafe => {
                "unsafe lives in mesh, reactor, storage/files, schema/generated and tests/support only: \
                 offer a safe function there and call it here"
            }
            Rule::ForbidUnsafe => "write #![forbid(unsafe_code)] at the top of the crate's root file",
            Rule::Purity => {
                "take the value as an argument (time as a newtype, randomness as a seeded generator), or \
                 return a decision that the shell performs"
            }
            Rule::RandomState => {
                "its order differs from run to run: use a BTreeMap, a Vec indexed by id, or a map with a \
                 fixed hasher as its last type argument"
            }
            Rule::FileLength => "split it by nouns or verbs; long tests go to a tests.rs beside it",
            Rule::FunctionLength => "push `if` up and `for` down; extract what names a step",
            Rule::FileName => "name the file after its noun or its one verb",
            Rule::Depth => "at most two folders below src/: flatten, or make it a crate",
            Rule::DeadFile => "declare it with `mod`, or delete it",
            Rule::RegistryHost => "name packages, not the host they come from",
            Rule::MachinePath => "use a path relative to the repository, an argument or a temporary folder",
            Rule::Unfinished => "finish it, or take it out and file an issue",
            Rule::Unparsed => "mend the syntax",
        }
    }
}

/// One place that breaks one rule.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// File, relative to the root.
    pub file: PathBuf,
    /// Line, from 1.
    pub line: usize,
    /// The rule.
    pub rule: Rule,
    /// What exactly.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{}:{}: {}: {}\n    way out: {}",
            self.file.display(),
            self.line,
            self.rule.label(),
            self.what,
            self.rule.way_out()
        )
    }
}
