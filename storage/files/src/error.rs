//! Errors of the directory. Each `Display` is one sentence for the operator and names the file.

use crate::manifest::ManifestError;
use crate::view::{Problem, SegmentProblem};
use std::io;
use std::path::{Path, PathBuf};

/// An operation on a file or directory that the system refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {}: {source}", path.display())]
pub struct FileError {
    /// What was tried: a verb phrase.
    pub operation: &'static str,
    /// On what.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl FileError {
    pub(crate) fn new(operation: &'static str, path: &Path, source: io::Error) -> Self {
        Self { operation, path: path.to_path_buf(), source }
    }

    /// For `map_err`.
    pub(crate) fn on(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::new(operation, path, source)
    }
}

/// Why a data directory was not opened. Nothing has been changed in it, except that it and `LOCK` may have been made.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process owns it. Recovered by stopping that one, or by naming another directory.
    #[error("data directory {} is in use by {}", directory.display(), holder(*pid))]
    InUse {
        /// The directory.
        directory: PathBuf,
        /// Who holds it, if its `LOCK` says so.
        pid: Option<u32>,
    },
    /// The system refused. Recovered by what its message says.
    #[error(transparent)]
    File(#[from] FileError),
    /// The manifest is not one that this version reads. Recovered by the right version, or by a backup or a repair.
    #[error("{}: {source}: {}", path.display(), way_out_of_manifest(source))]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// Why.
        source: ManifestError,
    },
    /// There are logs but no manifest. Recovered by putting the manifest back from a backup, or by a repair, which makes it again.
    #[error(
        "{} has logs but no MANIFEST: put back the one that belongs to them, or {REPAIR}, which makes it again",
        directory.display()
    )]
    NoManifest {
        /// The directory.
        directory: PathBuf,
    },
    /// A segment is missing or is not what its name says. Recovered from a backup, or by a repair.
    #[error("{}: {}", .0, way_out_of(&.0.problem))]
    Segment(#[from] SegmentProblem),
    /// The options cannot be had. Recovered by other options.
    #[error("{0}")]
    Options(String),
    /// The directory's file system refuses direct writes. Recovered by the buffered mode.
    #[error("the file system of {} refuses direct writes (O_DIRECT): use buffered log writes", directory.display())]
    DirectRefused {
        /// The directory.
        directory: PathBuf,
    },
}

/// What an operator does about damage.
const REPAIR: &str = "have a sound copy made by `tidegate-log repair`";

/// What an operator does about files of another version.
const OTHER_VERSION: &str = "use the version that wrote it";

fn way_out_of_manifest(error: &ManifestError) -> String {
    match error {
        ManifestError::Newer { .. } | ManifestError::Hash { .. } => OTHER_VERSION.to_owned(),
        ManifestError::Checksum | ManifestError::Line { .. } | ManifestError::TooLarge => {
            format!("put the right one back, or {REPAIR}, which makes it again")
        }
    }
}

fn way_out_of(problem: &Problem) -> String {
    match problem {
        Problem::Newer { .. } => OTHER_VERSION.to_owned(),
        Problem::Unlisted => format!("put the newest MANIFEST back, or {REPAIR}, which makes it again"),
        Problem::Missing
        | Problem::Refused { .. }
        | Problem::NoFile
        | Problem::Short { .. }
        | Problem::Header
        | Problem::Emptied
        | Problem::Foreign { .. }
        | Problem::Twice => {
            format!("put the right file back, or {REPAIR}")
        }
    }
}

/// What an operator does about a log that cannot be read as a whole.
pub(crate) const fn way_out_of_log(error: &tidegate_storage_log::RecoverError) -> &'static str {
    match error {
        tidegate_storage_log::RecoverError::Version { .. }
        | tidegate_storage_log::RecoverError::Encoding { .. } => OTHER_VERSION,
        _ => REPAIR,
    }
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| String::from("another process"), |pid| format!("process {pid}"))
}
