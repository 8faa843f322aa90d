//! The paths that one file names.

use std::collections::HashSet;

use super::ModulePath;
use crate::code::{self, Token};

/// The findings of one file.
#[derive(Default)]
pub struct Found {
    /// All paths of the same crate.
    pub references: Vec<FoundPath>,
    /// The name that each import brings into a module, and its target.
    pub bindings: Vec<((ModulePath, String), ModulePath)>,
}

/// A path of the same crate, absolute.
pub struct FoundPath {
    pub line: usize,
    pub path: ModulePath,
    pub own_reexport: bool,
    pub glob: bool,
}

/// Reads masked source of the module `module`; `known` are all modules of the crate.
pub fn read(masked: &str, module: &ModulePath, known: &HashSet<ModulePath>) -> Found {
    let mut reader = Reader {
        tokens: code::tokens(masked),
        at: 0,
        known,
        module: module.clone(),
        depth: 0,
        inline: Vec::new(),
        public: false,
        found: Found::default(),
    };
    while reader.at < reader.tokens.len() {
        reader.step();
    }
    reader.found
}

struct Reader<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
    known: &'a HashSet<ModulePath>,
    /// The module at this place, with inline ones.
    module: ModulePath,
    /// Braces that are open.
    depth: usize,
    /// The depth outside of each inline module that is open.
    inline: Vec<usize>,
    /// Whether the item has a `pub`.
    public: bool,
    found: Found,
}

/// An import: the path, and the name that it gets.
struct Leaf {
    line: usize,
    path: Vec<String>,
    name: String,
}

impl<'a> Reader<'a> {
    fn step(&mut self) {
        match self.text(0) {
            "#" => self.attribute(),
            "pub" => self.visibility(),
            "use" => self.import(),
            "mod" if self.text(2) == "{" => self.inline_module(),
            "{" => {
                self.depth += 1;
                self.at += 1;
            }
            "}" => {
                self.depth = self.depth.saturating_sub(1);
                if self.inline.last() == Some(&self.depth) {
                    self.inline.pop();
                    self.module.pop();
                }
                self.at += 1;
            }
            text if code::is_word(text) => self.path(),
            "::" | "." => self.at += if code::is_word(self.text(1)) { 2 } else { 1 },
            _ => self.at += 1,
        }
        if matches!(self.previous(), ";" | "{" | "}") {
            self.public = false;
        }
    }

    /// The token `ahead` of this one; empty after the last.
    fn text(&self, ahead: usize) -> &'a str {
        self.tokens.get(self.at + ahead).map_or("", |token| token.text)
    }

    fn previous(&self) -> &'a str {
        self.at.checked_sub(1).and_then(|at| self.tokens.get(at)).map_or("", |token| token.text)
    }

    fn line(&self) -> usize {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(1, |token| token.line)
    }

    /// Skips an attribute, and after `#[cfg(test)]` the item that it stands on.
    fn attribute(&mut self) {
        let start = self.at;
        self.at += 1;
        if self.text(0) == "!" {
            self.at += 1;
        }
        self.group("[", "]");
        let texts = self.tokens[start..self.at].iter().map(|token| token.text);
        let is_test = texts.collect::<String>().starts_with("#[cfg(test)");
        if !is_test {
            return;
        }
        while self.at < self.tokens.len() && !matches!(self.text(0), ";" | "{") {
            self.at += 1;
        }
        if self.text(0) == "{" { self.group("{", "}") } else { self.at += 1 }
    }

    /// Skips from an opening token to the closing one.
    fn group(&mut self, open: &str, close: &str) {
        let mut depth = 0_usize;
        while self.at < self.tokens.len() {
            let text = self.text(0);
            self.at += 1;
            if text == open {
                depth += 1;
            } else if text == close {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return;
                }
            }
        }
    }

    /// `pub` or `pub(...)`.
    fn visibility(&mut self) {
        self.at += 1;
        self.public = true;
        if self.text(0) == "(" && matches!(self.text(1), "crate" | "super" | "self" | "in") {
            self.group("(", ")");
        }
    }

    fn inline_module(&mut self) {
        let name = self.text(1).to_owned();
        self.at += 2;
        if name == "tests" {
            return self.group("{", "}");
        }
        self.at += 1;
        self.module.push(name);
        self.inline.push(self.depth);
        self.depth += 1;
    }

    fn import(&mut self) {
        self.at += 1;
        let mut leaves = Vec::new();
        self.use_tree(Vec::new(), &mut leaves);
        for leaf in leaves {
            let Some(path) = self.absolute(&leaf.path) else { continue };
            let own_reexport =
                self.public && path.len() > self.module.len() && path.starts_with(&self.module);
            let glob = leaf.name == "*";
            if !glob && leaf.name != "_" {
                let binding = (self.module.clone(), leaf.name);
                self.found.bindings.push((binding, path.clone()));
            }
            self.found.references.push(FoundPath { line: leaf.line, path, own_reexport, glob });
        }
    }

    fn use_tree(&mut self, mut path: Vec<String>, leaves: &mut Vec<Leaf>) {
        let line = self.line();
        loop {
            match self.text(0) {
                "::" => self.at += 1,
                "{" => {
                    self.at += 1;
                    while !matches!(self.text(0), "}" | "") {
                        self.use_tree(path.clone(), leaves);
                        if self.text(0) == "," {
                            self.at += 1;
                        }
                    }
                    self.at += 1;
                    return;
                }
                "*" => {
                    self.at += 1;
                    leaves.push(Leaf { line, path, name: "*".into() });
                    return;
                }
                "as" => {
                    let name = self.text(1).to_owned();
                    self.at += 2;
                    leaves.push(Leaf { line, path, name });
                    return;
                }
                "self" if !path.is_empty() => self.at += 1,
                text if code::is_word(text) => {
                    path.push(text.to_owned());
                    self.at += 1;
                }
                _ => {
                    let name = path.last().cloned().unwrap_or_default();
                    // Anything but the end of a tree would loop for ever.
                    if !matches!(self.text(0), "," | "}" | ";") {
                        self.at += 1;
                    }
                    leaves.push(Leaf { line, path, name });
                    return;
                }
            }
        }
    }

    /// A path of at least two segments in code.
    fn path(&mut self) {
        let line = self.line();
        let mut path = vec![self.text(0).to_owned()];
        self.at += 1;
        while self.text(0) == "::" && code::is_word(self.text(1)) {
            path.push(self.text(1).to_owned());
            self.at += 2;
        }
        if path.len() < 2 {
            return;
        }
        if let Some(path) = self.absolute(&path) {
            self.found.references.push(FoundPath { line, path, own_reexport: false, glob: false });
        }
    }

    /// The path from the root of the crate; nothing for paths of other crates and of types.
    fn absolute(&self, path: &[String]) -> Option<ModulePath> {
        let first = path.first()?;
        let mut module = self.module.clone();
        let rest = match first.as_str() {
            "crate" => {
                module.clear();
                &path[1..]
            }
            "self" => &path[1..],
            "super" => {
                let supers = path.iter().take_while(|name| *name == "super").count();
                module.truncate(module.len().saturating_sub(supers));
                &path[supers..]
            }
            _ => {
                module.push(first.clone());
                if !self.known.contains(&module) {
                    return None;
                }
                &path[1..]
            }
        };
        module.extend_from_slice(rest);
        Some(module)
    }
}
