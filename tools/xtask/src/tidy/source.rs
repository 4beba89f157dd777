//! One source file, parsed: its syntax, its words with their lines, and which lines are tests.

use std::ops::RangeInclusive;

use anyhow::{Result, anyhow};
use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, ImplItem, ImplItemFn, Item, ItemFn, Meta, TraitItemFn};

/// A parsed file.
pub struct Source {
    /// Its lines.
    pub lines: Vec<String>,
    /// Its syntax tree.
    pub syntax: syn::File,
    /// Every path written in it, macros and `use` groups included, with the line of its first word.
    pub paths: Vec<WrittenPath>,
    test_lines: Vec<RangeInclusive<usize>>,
}

/// A path as it stands in the text: `std::time::Instant`, or a word alone.
pub struct WrittenPath {
    /// Its words.
    pub words: Vec<String>,
    /// Line of the last word, from 1.
    pub line: usize,
}

/// A function with a body.
pub struct Function {
    /// Its name.
    pub name: String,
    /// Line of its signature, from 1.
    pub line: usize,
    /// Line of its closing brace.
    pub last_line: usize,
}

impl Source {
    /// Parses the text of a file.
    pub fn parse(text: &str) -> Result<Source> {
        let syntax =
            syn::parse_file(text).map_err(|error| anyhow!("line {}: {error}", error.span().start().line))?;
        let tokens: TokenStream = text.parse().map_err(|error| anyhow!("{error}"))?;
        let mut paths = Vec::new();
        collect_paths(tokens, &[], &mut paths);
        let mut tests = TestLines(Vec::new());
        tests.visit_file(&syntax);
        Ok(Source { lines: text.lines().map(str::to_owned).collect(), syntax, paths, test_lines: tests.0 })
    }

    /// Whether `line` belongs to an item that only tests build.
    pub fn is_test_line(&self, line: usize) -> bool {
        self.test_lines.iter().any(|range| range.contains(&line))
    }

    /// Number of lines, those of tests apart.
    pub fn lines_without_tests(&self) -> usize {
        (1..=self.lines.len()).filter(|line| !self.is_test_line(*line)).count()
    }

    /// All functions with a body, nested ones too.
    pub fn functions(&self) -> Vec<Function> {
        let mut functions = Functions(Vec::new());
        functions.visit_file(&self.syntax);
        functions.0
    }

    /// Lines of code in a range: blank lines and comment lines do not count.
    pub fn code_lines(&self, first: usize, last: usize) -> usize {
        let is_code = |line: &&String| {
            let line = line.trim_start();
            !line.is_empty() && !line.starts_with("//")
        };
        self.lines.iter().skip(first - 1).take(last + 1 - first).filter(is_code).count()
    }
}

/// Whether the attributes say `#[cfg(test)]`, or `#[cfg(all(test, …))]`.
pub fn is_test_only(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) if list.path.is_ident("cfg") => {
            let text: String = list.tokens.to_string().split_whitespace().collect();
            text == "test" || text.starts_with("all(test,") || text.starts_with("all(test)")
        }
        _ => false,
    })
}

struct TestLines(Vec<RangeInclusive<usize>>);

impl TestLines {
    fn note(&mut self, spanned: &impl Spanned) {
        let span = spanned.span();
        self.0.push(span.start().line..=span.end().line);
    }
}

impl<'ast> Visit<'ast> for TestLines {
    fn visit_item(&mut self, item: &'ast Item) {
        if is_test_only(item_attributes(item)) {
            self.note(item);
        } else {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        match item {
            ImplItem::Fn(function) if is_test_only(&function.attrs) => self.note(function),
            _ => visit::visit_impl_item(self, item),
        }
    }
}

fn item_attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

struct Functions(Vec<Function>);

impl Functions {
    fn note(&mut self, signature: &syn::Signature, block: &syn::Block) {
        self.0.push(Function {
            name: signature.ident.to_string(),
            line: signature.span().start().line,
            last_line: block.span().end().line,
        });
    }
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        self.note(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        self.note(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast TraitItemFn) {
        if let Some(block) = &function.default {
            self.note(&function.sig, block);
        }
        visit::visit_trait_item_fn(self, function);
    }
}

/// Reads paths from tokens, so that those inside macros are seen; `a::{b, c::d}` gives `a::b` and `a::c::d`.
fn collect_paths(tokens: TokenStream, prefix: &[String], out: &mut Vec<WrittenPath>) {
    let mut words: Vec<String> = prefix.to_vec();
    let mut line = 0;
    let mut colons = 0;
    for token in tokens {
        match token {
            TokenTree::Ident(word) => {
                if colons != 2 && words.len() > prefix.len() {
                    finish(&mut words, prefix, line, out);
                }
                words.push(word.to_string());
                line = word.span().start().line;
                colons = 0;
            }
            TokenTree::Punct(mark) if mark.as_char() == ':' => {
                colons += 1;
                // A single colon (a type after a name) ends the path before it.
                if colons == 1 && mark.spacing() == Spacing::Alone {
                    finish(&mut words, prefix, line, out);
                    colons = 0;
                }
            }
            TokenTree::Group(group) if colons == 2 && group.delimiter() == Delimiter::Brace => {
                collect_paths(group.stream(), &words, out);
                words.truncate(prefix.len());
                colons = 0;
            }
            TokenTree::Group(group) => {
                finish(&mut words, prefix, line, out);
                colons = 0;
                collect_paths(group.stream(), &[], out);
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => {
                finish(&mut words, prefix, line, out);
                colons = 0;
            }
        }
    }
    finish(&mut words, prefix, line, out);
}

fn finish(words: &mut Vec<String>, prefix: &[String], line: usize, out: &mut Vec<WrittenPath>) {
    if words.len() > prefix.len() {
        out.push(WrittenPath { words: words.clone(), line });
        words.truncate(prefix.len());
    }
}
