//! The module tree: which source files a crate's targets reach, and which of them are tests.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use syn::visit::Visit;
use syn::{Attribute, Expr, ExprLit, Item, ItemMod, Lit, Macro, Meta};

use super::source;
use super::tree::Tree;

/// Reached files, each with whether every way to it passes a `#[cfg(test)]` or a test target.
pub type Reached = BTreeMap<PathBuf, bool>;

/// Walks the module trees of all packages.
pub fn reached(tree: &Tree) -> Reached {
    let mut reached = Reached::new();
    for target in tree.packages.iter().flat_map(|package| &package.targets) {
        let walk = Walk { root: &tree.root, reached: &mut reached };
        walk.file(&target.source, true, target.test);
    }
    reached
}

struct Walk<'a> {
    root: &'a Path,
    reached: &'a mut Reached,
}

impl Walk<'_> {
    /// Visits `file`; `is_root` says that its child modules lie beside it, as those of a `mod.rs` do.
    fn file(mut self, file: &Path, is_root: bool, test: bool) {
        self.visit(file, is_root, test);
    }

    fn visit(&mut self, file: &Path, is_root: bool, test: bool) {
        match self.reached.get(file) {
            Some(known) if !known || test => return,
            _ => self.reached.insert(file.to_path_buf(), test),
        };
        let Some(parsed) =
            std::fs::read_to_string(self.root.join(file)).ok().and_then(|text| syn::parse_file(&text).ok())
        else {
            return;
        };
        let folder = file.parent().unwrap_or(Path::new(""));
        let beside = is_root || file.file_name().is_some_and(|name| name == "mod.rs");
        let children = match file.file_stem() {
            Some(stem) if !beside => folder.join(stem),
            _ => folder.to_path_buf(),
        };
        self.items(&parsed.items, folder, &children, test);
        for included in included_files(&parsed) {
            self.visit(&tidy_path(&folder.join(included)), false, test);
        }
    }

    fn items(&mut self, items: &[Item], folder: &Path, children: &Path, test: bool) {
        for item in items {
            let Item::Mod(module) = item else { continue };
            let test = test || source::is_test_only(&module.attrs);
            self.module(module, folder, children, test);
        }
    }

    fn module(&mut self, module: &ItemMod, folder: &Path, children: &Path, test: bool) {
        let name = module.ident.to_string();
        let name = name.trim_start_matches("r#");
        if let Some((_, items)) = &module.content {
            return self.items(items, &children.join(name), &children.join(name), test);
        }
        let candidates = match path_attribute(&module.attrs) {
            Some(path) => vec![tidy_path(&folder.join(path))],
            None => vec![children.join(format!("{name}.rs")), children.join(name).join("mod.rs")],
        };
        for candidate in candidates {
            if self.root.join(&candidate).is_file() {
                self.visit(&candidate, false, test);
            }
        }
    }
}

fn path_attribute(attributes: &[Attribute]) -> Option<String> {
    attributes.iter().find_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("path") => literal(&pair.value),
        _ => None,
    })
}

fn literal(expression: &Expr) -> Option<String> {
    match expression {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
        _ => None,
    }
}

/// Files named by `include!("…")`.
fn included_files(file: &syn::File) -> Vec<String> {
    struct Includes(Vec<String>);
    impl<'ast> Visit<'ast> for Includes {
        fn visit_macro(&mut self, call: &'ast Macro) {
            if call.path.is_ident("include") {
                self.0.extend(call.parse_body::<syn::LitStr>().ok().map(|text| text.value()));
            }
        }
    }
    let mut includes = Includes(Vec::new());
    includes.visit_file(file);
    includes.0
}

/// Takes `.` and `..` out of a relative path.
fn tidy_path(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                out.pop();
            }
            Component::CurDir => {}
            other => out.push(other),
        }
    }
    out
}
