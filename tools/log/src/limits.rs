//! The bounds of this tool.

use tidegate_ids::WallMs;

/// The last time that has a form with four digits of a year.
pub(crate) const TIME_PRINTED_MAX: WallMs = WallMs(253_402_300_799_000);

/// Faults that are printed one by one; all are counted. A dead disk must not fill memory or the screen.
pub(crate) const FAULTS_PRINTED_MAX: usize = 200;

/// Characters of a body that a dump shows.
pub(crate) const PREVIEW_CHARS_MAX: usize = 64;

/// Printable characters in a row that are shown; shorter runs are mostly numbers that look like text.
pub(crate) const PREVIEW_RUN_CHARS_MIN: usize = 4;

/// How often a directory that a gateway writes to is verified again when something is found: a batch that is read
/// while it is being written can look like damage once.
pub(crate) const PASSES_MAX: u32 = 3;

/// Records between two movements of the progress bar.
pub(crate) const PROGRESS_RECORDS: u64 = 4096;
