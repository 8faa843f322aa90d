//! The targets of a relay: one of `relay.targets`, which has two forms, and the file that
//! `relay.targets_file` names.

use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use toml::value::Datetime;

/// A target may have several entries, one after the other, each with its own weight.
///
/// Reload: as the list of targets.
#[derive(Debug, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
pub(in crate::config) struct RawTarget {
    /// The server, as `ADDRESS:PORT`.
    pub(in crate::config) address: String,
    /// How many clients it gets in proportion to the others. Default: 1. Range: 1 to 1000.
    pub(in crate::config) weight: Option<i64>,
    /// When new connections begin to go to it. Default: it has had them always.
    pub(in crate::config) since: Option<Datetime>,
    /// When new connections end to go to it; those that it has go on. Default: never. Range: after
    /// `since`.
    pub(in crate::config) until: Option<Datetime>,
    /// When it is given up with all that it has: from then on it is sent nothing of connections
    /// that it got before `until`. Default: `until` and the memory. Range: `until` or later.
    pub(in crate::config) gone: Option<Datetime>,
}

/// The file that `relay.targets_file` names, the same on all POPs. A POP reads it again when it
/// changes, without a reload. [`anyrelay targets`](operations.md#changing-targets) changes it such
/// that no connection breaks.
///
/// Reload: yes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawTargetsFile {
    /// The number of its version, which rises with each change. Range: 0 to 9223372036854775807.
    #[serde(default)]
    pub(in crate::config) serial: i64,
    /// As [`relay.memory`](#relay). Default: `24h`. Range: `1s` to `30d`.
    pub(in crate::config) memory: Option<String>,
    /// As [`relay.skew`](#relay). Default: `3s`. Range: `0s` to `60s`, and less than `memory`.
    pub(in crate::config) skew: Option<String>,
    /// An entry for a target, as in [`relay.targets`](#relaytargets). Range: 1 to 256, of 1 to 64
    /// addresses.
    #[serde(default)]
    pub(in crate::config) target: Vec<RawTarget>,
}

impl<'de> Deserialize<'de> for RawTarget {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TargetVisitor)
    }
}

/// Reads either form of a target, with the messages of that form.
struct TargetVisitor;

impl<'de> Visitor<'de> for TargetVisitor {
    type Value = RawTarget;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"ADDRESS:PORT\" or { address = \"ADDRESS:PORT\", weight = N }")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<RawTarget, E> {
        let address = text.to_owned();
        Ok(RawTarget { address, weight: None, since: None, until: None, gone: None })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawTarget, A::Error> {
        // The derived function, not the trait's.
        RawTarget::deserialize(MapAccessDeserializer::new(map))
    }
}
