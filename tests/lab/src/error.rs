//! What can go wrong while a lab is built or driven.

use std::path::PathBuf;
use std::time::Duration;

/// An error of the lab itself, never of the traffic in it.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages are the documentation
pub enum LabError {
    #[error("the lab makes network namespaces, so it must run as root (this is user {uid})")]
    NotRoot { uid: u32 },
    #[error("cannot start `{program}`: {source} (is it installed? ./scripts/setup installs it)")]
    Spawn { program: String, source: std::io::Error },
    #[error("`{command}` failed ({status}): {output}")]
    Command { command: String, status: String, output: String },
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
    #[error("{what} was not ready after {waited:?}: {detail}")]
    NotReady { what: String, waited: Duration, detail: String },
    #[error("there is no binary {path}; build it with `cargo build -p {package}`")]
    MissingBinary { path: PathBuf, package: &'static str },
    #[error("the configuration overlay is not TOML: {0}")]
    Overlay(String),
    #[error("the lab is being taken down by a signal")]
    Interrupted,
    #[error("namespace thread of {0} has ended")]
    NamespaceGone(String),
    #[error("{0}")]
    Unexpected(String),
}

impl LabError {
    /// Wraps an I/O error with what was being done.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
