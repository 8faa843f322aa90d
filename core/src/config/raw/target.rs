//! The targets of a relay: one of `relay.targets`, which has two forms, and the file that
//! `relay.targets_file` names.

use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use toml::value::Datetime;

/// One of `relay.targets`: `"ADDRESS:PORT"`, or a table. A target may have several, one after the
/// other, each with its own weight.
#[derive(Debug)]
pub(in crate::config) struct RawTarget {
    /// `ADDRESS:PORT`.
    pub(in crate::config) address: String,
    /// How many clients it gets in proportion to the others. Default: 1. Range: 1 to 1000.
    pub(in crate::config) weight: Option<i64>,
    /// When new connections begin to go to it. Default: it has had them always.
    pub(in crate::config) since: Option<Datetime>,
    /// When new connections end to go to it; those that it has go on. Default: never.
    pub(in crate::config) until: Option<Datetime>,
    /// When it is given up with all that it has: from then on it is sent nothing of connections
    /// that it got before `until`. Default: `until` and the memory.
    pub(in crate::config) gone: Option<Datetime>,
}

/// A targets file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawTargetsFile {
    /// The number of its version, which rises with each change. Default: 0.
    #[serde(default)]
    pub(in crate::config) serial: i64,
    /// As `relay.memory`.
    pub(in crate::config) memory: Option<String>,
    /// As `relay.skew`.
    pub(in crate::config) skew: Option<String>,
    /// `[[target]]`. 1 to 256, of 1 to 64 addresses.
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
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            address: String,
            weight: Option<i64>,
            since: Option<Datetime>,
            until: Option<Datetime>,
            gone: Option<Datetime>,
        }
        let Table { address, weight, since, until, gone } =
            Table::deserialize(MapAccessDeserializer::new(map))?;
        Ok(RawTarget { address, weight, since, until, gone })
    }
}
