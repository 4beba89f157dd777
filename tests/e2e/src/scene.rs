//! The folder of a test that is driven by chance: kept with everything in it when the test fails.

use crate::limits::seed;
use std::path::Path;
use tempfile::TempDir;

/// A folder and the seed of what happens in it. Both are said when the test fails.
#[derive(Debug)]
pub struct Scene {
    folder: TempDir,
    /// What chance is drawn from.
    pub seed: u64,
}

impl Scene {
    /// Makes the folder, and says the seed.
    #[must_use]
    pub fn new() -> Self {
        let seed = seed();
        println!("seed {seed}");
        Self { folder: tempfile::tempdir().expect("a folder can be made"), seed }
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Default for Scene {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.folder.disable_cleanup(true);
            let (seed, path) = (self.seed, self.path().display());
            println!("failed with TIDEGATE_TEST_SEED={seed}; everything is kept in {path}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{catch_unwind, resume_unwind};
    use std::path::PathBuf;

    #[test]
    fn the_folder_is_kept_when_the_test_fails_and_only_then() {
        let scene = Scene::new();
        let path = scene.path().to_path_buf();
        drop(scene);
        assert!(!path.exists());
        let failed = catch_unwind(|| {
            let scene = Scene::new();
            std::fs::write(scene.path().join("expected"), "sent").unwrap();
            resume_unwind(Box::new(scene.path().to_path_buf()));
        });
        let path: PathBuf = *failed.unwrap_err().downcast().unwrap();
        assert_eq!(std::fs::read_to_string(path.join("expected")).unwrap(), "sent");
        std::fs::remove_dir_all(path).unwrap();
    }
}
