//! The rules of the source tree, checked on its text.
//!
//! [`Tree`] holds the tracked files; each rule in [`rules`] returns its [`Violation`]s, with file,
//! line and remedy. The rules on edges and module order have no list of their own: they read the
//! blocks of ARCHITECTURE.md, so that the document cannot disagree with the code.

pub mod code;
pub mod document;
pub mod modules;
pub mod rules;
pub mod tree;

pub use tree::Tree;

use std::fmt;

/// A place that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// The rule's name.
    pub rule: &'static str,
    /// The file, from the top of the tree.
    pub path: String,
    /// The line, from 1.
    pub line: usize,
    /// The finding and its remedy.
    pub text: String,
}

impl Violation {
    /// A violation of `rule` at `path:line`.
    pub fn new(
        rule: &'static str,
        path: impl Into<String>,
        line: usize,
        text: impl Into<String>,
    ) -> Self {
        Violation { rule, path: path.into(), line, text: text.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.path, self.line, self.rule, self.text)
    }
}
