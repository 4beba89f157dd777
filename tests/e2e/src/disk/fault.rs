//! What can fail on a disk, and whose turn it is.

use std::collections::BTreeMap;
use std::fmt;

/// What a program asks of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// `fallocate`.
    Allocate,
    /// A file is made.
    Create,
    /// A file gets a second name.
    Link,
    /// `mkdir`.
    MakeDirectory,
    /// `pread` and `read`.
    Read,
    /// `rename`.
    Rename,
    /// `fsync`, `fdatasync`, and what `O_DSYNC` asks for after a write.
    Sync,
    /// `fsync` of a directory.
    SyncDirectory,
    /// A file gets another length.
    Truncate,
    /// `unlink`.
    Unlink,
    /// `pwrite` and `write`.
    Write,
}

impl Operation {
    /// The ways in which it fails.
    const fn failures(self) -> &'static [Failure] {
        match self {
            Self::Read => &[Failure::Broken, Failure::Short],
            Self::Write => &[Failure::Broken, Failure::Full, Failure::Short],
            Self::Allocate | Self::Create | Self::MakeDirectory => &[Failure::Broken, Failure::Full],
            _ => &[Failure::Broken],
        }
    }
}

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// `EIO`. Half of a write is there nevertheless; what a sync was for is gone.
    Broken,
    /// `ENOSPC`, and nothing was done.
    Full,
    /// Half of it is done, and said to be.
    Short,
}

/// An operation on files of one kind: those whose names are equal but for their digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Site {
    /// What is asked.
    pub operation: Operation,
    /// The name, each number in it written as `#`.
    pub name: String,
}

impl Site {
    pub(super) fn new(operation: Operation, name: &str) -> Self {
        let mut kind = String::new();
        for letter in name.chars() {
            match letter {
                '0'..='9' if kind.ends_with('#') => {}
                '0'..='9' => kind.push('#'),
                _ => kind.push(letter),
            }
        }
        Self { operation, name: kind }
    }
}

/// What fails, once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// Where.
    pub site: Site,
    /// Which of the operations there, from 1.
    pub nth: u64,
    /// How.
    pub failure: Failure,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { site: Site { operation, name }, nth, failure } = self;
        write!(f, "{failure:?} {operation:?} {nth} of {name}")
    }
}

impl Fault {
    /// Everything that can fail in a run that made so many operations.
    #[must_use]
    pub fn all(counts: &BTreeMap<Site, u64>) -> Vec<Self> {
        let of_site = |(site, &count): (&Site, &u64)| {
            let site = site.clone();
            let each = move |nth| {
                let site = site.clone();
                let failures = site.operation.failures().iter();
                failures.map(move |&failure| Self { site: site.clone(), nth, failure })
            };
            (1..=count).flat_map(each)
        };
        counts.iter().flat_map(of_site).collect()
    }
}

/// Counts operations, and says of one that it fails.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) counts: BTreeMap<Site, u64>,
    pub(super) fault: Option<Fault>,
    /// The fault has struck, on the file of this name.
    pub(super) struck: Option<String>,
}

impl Ledger {
    /// An operation is asked for; whether it fails.
    pub(super) fn meet(&mut self, operation: Operation, name: &str) -> Option<Failure> {
        let site = Site::new(operation, name);
        let count = self.counts.entry(site).or_default();
        *count += 1;
        let fault = self.fault.as_ref()?;
        let is_it = fault.nth == *count && fault.site == Site::new(operation, name);
        is_it.then(|| {
            self.struck = Some(name.to_owned());
            fault.failure
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_differ_in_numbers_are_one_site() {
        let check = |name: &str, kind: &str| assert_eq!(Site::new(Operation::Read, name).name, kind);
        check("17.seg.tmp", "#.seg.tmp");
        check("MANIFEST", "MANIFEST");
        check("1-22-x3", "#-#-x#");
    }

    #[test]
    fn the_nth_operation_of_a_site_fails_once() {
        let site = Site::new(Operation::Write, "1.seg");
        let fault = Some(Fault { site, nth: 2, failure: Failure::Full });
        let mut ledger = Ledger { fault, ..Ledger::default() };
        let asked = [
            (Operation::Write, "1.seg", None),
            (Operation::Read, "2.seg", None),
            (Operation::Write, "MANIFEST.tmp", None),
            (Operation::Write, "2.seg", Some(Failure::Full)),
            (Operation::Write, "2.seg", None),
            (Operation::Write, "2.seg", None),
        ];
        for (operation, name, failure) in asked {
            assert_eq!(ledger.meet(operation, name), failure, "{operation:?} {name}");
        }
        assert_eq!(ledger.struck.as_deref(), Some("2.seg"));
        let counts = [(Operation::Read, "#.seg", 1), (Operation::Write, "#.seg", 4)];
        for (operation, name, count) in counts {
            assert_eq!(ledger.counts[&Site::new(operation, name)], count);
        }
    }

    #[test]
    fn everything_that_was_counted_fails_in_each_of_its_ways() {
        let counts = [(Site::new(Operation::Read, "a"), 2), (Site::new(Operation::Sync, "a"), 1)];
        let faults = Fault::all(&counts.into_iter().collect());
        let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
        let expected = [
            "Broken Read 1 of a",
            "Short Read 1 of a",
            "Broken Read 2 of a",
            "Short Read 2 of a",
            "Broken Sync 1 of a",
        ];
        assert_eq!(told, expected);
    }
}
