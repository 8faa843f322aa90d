//! An agent's key file.
//!
//! ```toml
//! tenant = 1
//! agent = 7
//! key = "32 hex digits"
//! ```
//!
//! The tenant's own key, from which agents' keys are derived, stays on the POPs.

use super::{from_hex, line_of, to_hex};
use crate::crypto::Key128;

/// The contents of an agent's key file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentKey {
    /// The tenant's number.
    pub tenant: u16,
    /// The agent's number within the tenant.
    pub agent: u32,
    /// Its key.
    pub key: Key128,
}

impl AgentKey {
    /// Reads the text of an agent's key file.
    ///
    /// # Errors
    /// The first mistake. It never quotes the text.
    pub fn parse(text: &str) -> Result<Self, AgentKeyError> {
        let table: toml::Table = toml::from_str(text).map_err(|error: toml::de::Error| {
            AgentKeyError::Syntax { line: line_of(text, &error) }
        })?;
        if table.keys().any(|key| !NAMES.contains(&key.as_str())) {
            return Err(AgentKeyError::UnknownName);
        }
        let key = table.get("key").and_then(toml::Value::as_str).and_then(from_hex);
        Ok(AgentKey {
            tenant: number(&table, "tenant", u16::MAX.into())? as u16,
            agent: number(&table, "agent", u32::MAX)?,
            key: Key128::new(key.ok_or(AgentKeyError::NotHex)?),
        })
    }

    /// The text of the file. It holds a secret: only its owner may be able to read it.
    pub fn serialize(&self) -> String {
        format!(
            "# An anyrelay agent's key: for one agent, on one host; mode 0600.\n\
             tenant = {}\nagent = {}\nkey = \"{}\"\n",
            self.tenant,
            self.agent,
            to_hex(self.key.as_bytes())
        )
    }
}

/// A mistake in an agent's key file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AgentKeyError {
    /// It is not TOML.
    #[error("line {line} is not TOML (not quoted here, as it may hold a secret)")]
    Syntax {
        /// The line, from 1.
        line: usize,
    },
    /// It has an unknown name.
    #[error("it holds something else than tenant, agent and key; is it an agent's key file?")]
    UnknownName,
    /// A number is missing or out of its range.
    #[error("{name}: must be there, a whole number 0..={max}")]
    NotNumber {
        /// The name of the number.
        name: &'static str,
        /// The highest valid number.
        max: u32,
    },
    /// The key is missing, or not 16 bytes in hex.
    #[error("key: must be there, 32 hex digits in quotes; `anyrelay agent issue` writes the file")]
    NotHex,
}

fn number(table: &toml::Table, name: &'static str, max: u32) -> Result<u32, AgentKeyError> {
    let number = table.get(name).and_then(toml::Value::as_integer);
    let number = number.and_then(|number| u32::try_from(number).ok());
    number.filter(|&number| number <= max).ok_or(AgentKeyError::NotNumber { name, max })
}

const NAMES: [&str; 3] = ["tenant", "agent", "key"];

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> AgentKey {
        AgentKey { tenant: 1, agent: 70_000, key: Key128::new([0xab; 16]) }
    }

    #[test]
    fn reads_what_it_writes() {
        assert_eq!(AgentKey::parse(&sample().serialize()), Ok(sample()));
    }

    #[test]
    fn every_error_has_a_reason_and_shows_no_secret() {
        let good = sample().serialize();
        for (text, reason) in [
            (good.replace("key = \"", "key = "), "line 4"),
            (good.replace("tenant = 1", "tenant = 65536"), "tenant: must be there"),
            (good.replace("agent = 70000", "agent = -1"), "agent: must be there"),
            (good.replace("agent = 70000", ""), "agent: must be there"),
            (good.replace("abab\"", "ab\""), "key: must be there"),
            (good.replace("key =", "abab ="), "something else"),
        ] {
            let error = AgentKey::parse(&text).unwrap_err();
            assert!(error.to_string().contains(reason), "{error} should contain {reason}");
            assert!(!format!("{error:?} {error}").contains("abab"), "{error}");
        }
        assert_eq!(
            format!("{:?}", sample()),
            "AgentKey { tenant: 1, agent: 70000, key: Key128(..) }"
        );
    }
}
