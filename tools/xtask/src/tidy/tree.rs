//! What tidy reads: the tracked files and the manifests of the workspace, once, as plain data.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use cargo_metadata::{DependencyKind, MetadataCommand, Package as CargoPackage};

/// The files and packages under one root; every path in it is relative to that root.
pub struct Tree {
    /// The folder that holds the workspace's `Cargo.toml`.
    pub root: PathBuf,
    /// Tracked files, and new ones that nothing ignores, sorted.
    pub files: Vec<PathBuf>,
    /// The workspace's packages.
    pub packages: Vec<Package>,
}

/// One package of the workspace, as its manifest has it.
pub struct Package {
    /// Name in the manifest.
    pub name: String,
    /// Folder of the manifest.
    pub folder: PathBuf,
    /// Root source files of its targets (libraries, binaries, tests, examples, benches, build script).
    pub targets: Vec<Target>,
    /// Everything its manifest depends on.
    pub dependencies: Vec<Dependency>,
}

/// One target of a package.
pub struct Target {
    /// Its root source file.
    pub source: PathBuf,
    /// Built for `cargo test` only.
    pub test: bool,
}

/// One line of a manifest's dependency tables.
pub struct Dependency {
    /// Name of the package depended on.
    pub name: String,
    /// It stands under `[dev-dependencies]`.
    pub dev: bool,
    /// It lies in this repository.
    pub local: bool,
}

impl Tree {
    /// Reads the workspace at `root`, with the files git tracks or would track.
    pub fn read(root: &Path) -> Result<Tree> {
        Tree::of(root, listed_by_git(root)?)
    }

    /// Reads the workspace at `root`, taking `files` (relative to it) as the tracked ones.
    pub fn of(root: &Path, mut files: Vec<PathBuf>) -> Result<Tree> {
        let root = root.canonicalize().with_context(|| format!("no such folder: {}", root.display()))?;
        let metadata = MetadataCommand::new()
            .manifest_path(root.join("Cargo.toml"))
            .no_deps()
            .other_options(vec!["--offline".to_owned()])
            .exec()
            .context("cargo metadata could not read the manifests")?;
        let mut packages: Vec<Package> =
            metadata.packages.iter().map(|package| Package::from_cargo(&root, package)).collect();
        packages.sort_by(|left, right| left.folder.cmp(&right.folder));
        files.sort();
        Ok(Tree { root, files, packages })
    }

    /// The package whose folder holds `file`; the deepest one, since `schema/generated` lies in `schema`.
    pub fn package_of(&self, file: &Path) -> Option<&Package> {
        self.packages
            .iter()
            .filter(|package| file.starts_with(&package.folder))
            .max_by_key(|package| package.folder.components().count())
    }
}

impl Package {
    fn from_cargo(root: &Path, package: &CargoPackage) -> Package {
        let relative = |path: &Path| path.strip_prefix(root).unwrap_or(path).to_path_buf();
        let manifest = relative(package.manifest_path.as_std_path());
        Package {
            name: package.name.to_string(),
            folder: manifest.parent().map(Path::to_path_buf).unwrap_or_default(),
            targets: package
                .targets
                .iter()
                .map(|target| Target {
                    source: relative(target.src_path.as_std_path()),
                    test: target.is_test() || target.is_bench(),
                })
                .collect(),
            dependencies: package
                .dependencies
                .iter()
                .map(|dependency| Dependency {
                    name: dependency.name.clone(),
                    dev: dependency.kind == DependencyKind::Development,
                    local: dependency.path.is_some(),
                })
                .collect(),
        }
    }
}

/// The files of a working tree that git tracks or would track, relative to it.
pub fn listed_by_git(root: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("git could not be started; tidy judges the tracked files")?;
    if !output.status.success() {
        bail!("git ls-files failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let mut files: Vec<PathBuf> = String::from_utf8_lossy(&output.stdout)
        .split('\0')
        .filter(|name| !name.is_empty())
        .map(PathBuf::from)
        .filter(|file| root.join(file).is_file())
        .collect();
    files.dedup();
    Ok(files)
}
