//! The config files that the document describes, and where their structs are.

use crate::model::{Table, tables};
use crate::sources::{SourceError, Sources};

/// A kind of config file.
#[derive(Debug)]
pub struct ConfigFile {
    /// The heading of its part of the document.
    pub title: &'static str,
    /// The sources of its structs, from the top of the tree.
    pub sources: &'static [&'static str],
    /// The struct of the whole file.
    pub root: &'static str,
}

impl ConfigFile {
    /// The tables of the file, the keys outside of any table first.
    ///
    /// # Errors
    /// All places in the structs that say too little.
    pub fn tables(&self, sources: &Sources) -> Result<Vec<Table>, SourceError> {
        tables(sources, self.root)
    }
}

/// All of them, in the order of the document.
pub const FILES: [&ConfigFile; 4] = [&POP, &TARGETS, &HEALTH, &AGENT];

/// The config of a POP.
pub const POP: ConfigFile =
    ConfigFile { title: "The config of a POP", sources: RAW, root: "RawConfig" };

/// A targets file.
pub const TARGETS: ConfigFile =
    ConfigFile { title: "A targets file", sources: RAW, root: "RawTargetsFile" };

/// The config of health checks.
pub const HEALTH: ConfigFile = ConfigFile {
    title: "The config of health checks",
    sources: &["dataplane/pop/src/health/config/raw.rs"],
    root: "RawConfig",
};

/// The config of an agent.
pub const AGENT: ConfigFile = ConfigFile {
    title: "The config of an agent",
    sources: &["dataplane/agent/src/config/raw.rs"],
    root: "RawConfig",
};

const RAW: &[&str] = &["core/src/config/raw"];
