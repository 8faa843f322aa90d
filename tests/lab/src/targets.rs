//! Targets that change: the targets file that the POPs of a lab share, and which target a client
//! has at a time.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyrelay_core::config::{Config, NamedFile, TargetList};
use anyrelay_core::keys::{KeyFile, Tenants};
use anyrelay_core::relay::mapping::Tag;
use anyrelay_core::snapshot::Snapshot;
use anyrelay_core::time::UnixTime;

use crate::lab::anyrelay_binary;
use crate::{LabError, Result, command};

/// The name of the file, beside the configs of the POPs.
pub(crate) const FILE: &str = "targets.toml";

/// The wall clock, which all POPs of a lab read; to it each adds its `clock_offset_ms`.
#[must_use]
pub fn unix_now() -> UnixTime {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixTime::from_millis(u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX))
}

/// The targets file of a lab.
#[derive(Debug, Clone)]
pub struct TargetsFile(PathBuf);

impl TargetsFile {
    pub(crate) fn in_directory(work: &Path) -> Self {
        Self(work.join(FILE))
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// What it says.
    ///
    /// # Errors
    /// If it cannot be read, or has mistakes.
    pub fn read(&self) -> Result<TargetList> {
        let name = self.0.display().to_string();
        let text = std::fs::read_to_string(&self.0);
        let text = text.map_err(LabError::io(format!("read {name}")))?;
        TargetList::parse(&name, &text)
            .map_err(|problems| LabError::Unexpected(problems.to_string()))
    }

    /// Puts a new one in its place, so that each POP reads the one or the other.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, list: &TargetList) -> Result<()> {
        let new = self.0.with_extension("new");
        let what = format!("replace {}", self.0.display());
        std::fs::write(&new, list.to_text())
            .and_then(|()| std::fs::rename(&new, &self.0))
            .map_err(LabError::io(what))
    }

    /// Changes it by `anyrelay targets FILE` with these arguments, such as `drain` and an address;
    /// gives what that printed.
    ///
    /// # Errors
    /// If it refuses, with its words.
    pub fn change(&self, arguments: &[&str]) -> Result<String> {
        let mut anyrelay = Command::new(anyrelay_binary()?);
        command::run(anyrelay.arg("targets").arg(&self.0).args(arguments))
    }
}

/// Which targets a client of a lab's first service has, by its POPs' config and keys.
#[derive(Debug)]
pub struct Choice(Snapshot);

impl Choice {
    /// By the files of a POP as they are now.
    ///
    /// # Errors
    /// If they cannot be read, or have mistakes.
    pub fn of(config: &Path) -> Result<Self> {
        let read = |path: &Path| {
            let text = std::fs::read_to_string(path);
            text.map_err(LabError::io(format!("read {}", path.display())))
        };
        let beside = |name: &str| config.with_file_name(name);
        let wrong = |error: &dyn std::fmt::Display| LabError::Unexpected(error.to_string());
        let named = |name: &str| {
            let text = read(&beside(name)).map_err(|error| error.to_string())?;
            Ok(NamedFile { name: name.to_owned(), text })
        };
        let name = config.display().to_string();
        let config = Config::parse_with(&name, &read(config)?, &named).map_err(|e| wrong(&e))?;
        let keys = KeyFile::parse(&read(&beside(&config.pop.keys))?).map_err(|e| wrong(&e))?;
        let snapshot = Snapshot::build(&config, &keys, &Tenants::default(), None);
        snapshot.map(Self).map_err(|e| wrong(&e))
    }

    /// Where a SYN of `client` goes at `time`.
    #[must_use]
    pub fn target(&self, client: SocketAddr, time: UnixTime) -> Option<SocketAddr> {
        let relay = self.0.relays().next()?;
        let new = relay.targets.choose(&client.into(), time).new?;
        relay.targets.at(new).map(|target| (*target).into())
    }

    /// Where another segment of `client` may have to go at `time`.
    #[must_use]
    pub fn candidates(&self, client: SocketAddr, time: UnixTime) -> Vec<SocketAddr> {
        let Some(relay) = self.0.relays().next() else { return Vec::new() };
        let chosen = relay.targets.choose(&client.into(), time);
        let targets = chosen.candidates.iter().filter_map(|index| relay.targets.at(index));
        targets.map(|target| (*target).into()).collect()
    }

    /// The egress endpoint of `client`, as targets see it, and the TSval of its tag in the modes
    /// that have one.
    #[must_use]
    pub fn egress(&self, client: SocketAddr) -> Option<(SocketAddr, Option<u32>)> {
        let relay = self.0.relays().next()?;
        let mapping = relay.outward(client.into(), unix_now()).ok()?;
        Some((mapping.egress.into(), mapping.tag.map(Tag::timestamp)))
    }
}
