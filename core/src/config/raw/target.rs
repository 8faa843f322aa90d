//! One of `relay.targets`, which has two forms.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

/// One of `relay.targets`: `"ADDRESS:PORT"`, or a table.
#[derive(Debug)]
pub(in crate::config) struct RawTarget {
    /// `ADDRESS:PORT`.
    pub(in crate::config) address: String,
    /// How many clients it gets in proportion to the others. Default: 1. Range: 1 to 1000.
    pub(in crate::config) weight: Option<i64>,
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
        Ok(RawTarget { address: text.to_owned(), weight: None })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawTarget, A::Error> {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            address: String,
            weight: Option<i64>,
        }
        let Table { address, weight } = Table::deserialize(MapAccessDeserializer::new(map))?;
        Ok(RawTarget { address, weight })
    }
}
