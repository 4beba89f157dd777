//! The sizes that STYLE sets.

/// Lines of a source file, its tests apart (STYLE 6).
pub const FILE_LINES_MAX: usize = 600;

/// Lines of a function from its signature to its closing brace, blank and comment lines apart (STYLE 8).
pub const FUNCTION_LINES_MAX: usize = 70;

/// Folders between `src/` and a file (STYLE 5).
pub const FOLDERS_BELOW_SRC_MAX: usize = 2;
