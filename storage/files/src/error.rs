//! Errors of the directory. Each `Display` is one sentence for the operator and names the file.

use crate::manifest::ManifestError;
use crate::view::SegmentProblem;
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
    /// The manifest is not one that this version reads. Recovered by the right version, or by a backup.
    #[error("{}: {source}", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// Why.
        source: ManifestError,
    },
    /// There are logs but no manifest. Recovered by putting the manifest back from a backup.
    #[error("{} has logs but no MANIFEST: restore the MANIFEST that belongs to them", directory.display())]
    NoManifest {
        /// The directory.
        directory: PathBuf,
    },
    /// A segment is missing or is not what its name says. Recovered from a backup.
    #[error(transparent)]
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

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| String::from("another process"), |pid| format!("process {pid}"))
}
