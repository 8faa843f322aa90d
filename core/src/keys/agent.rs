//! An agent's key file, and the keys of all agents by number.
//!
//! ```toml
//! tenant = 1
//! agent = 7
//! key = "32 hex digits"
//! ```
//!
//! The tenant's own key, from which agents' keys are derived, stays on the POPs.

use super::{Tenants, agent_key, from_hex, line_of, to_hex};
use crate::crypto::{HkdfError, Key128};

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

/// The keys of all agents that are not revoked, by number.
#[derive(Clone, Debug, Default)]
pub struct AgentKeys {
    // Ascending by tenant and agent, joined to one number.
    keys: Vec<(u64, Key128)>,
}

impl AgentKeys {
    /// The keys of the agents of `tenants`.
    ///
    /// # Errors
    /// When HKDF fails, which it does not for keys of this length.
    pub fn new(tenants: &Tenants) -> Result<Self, HkdfError> {
        let mut keys = Vec::new();
        for tenant in &tenants.tenants {
            for agent in tenant.agents.iter().filter(|agent| !agent.revoked) {
                keys.push((place(tenant.id, agent.id), agent_key(&tenant.key, agent.id)?));
            }
        }
        keys.sort_unstable_by_key(|(place, _)| *place);
        Ok(AgentKeys { keys })
    }

    /// The key of the agent, if it is listed and not revoked.
    pub fn get(&self, tenant: u16, agent: u32) -> Option<&Key128> {
        let place = place(tenant, agent);
        let index = self.keys.binary_search_by_key(&place, |(place, _)| *place).ok()?;
        self.keys.get(index).map(|(_, key)| key)
    }

    /// The number of agents of `tenants`, which are ascending.
    pub fn count_of(&self, tenants: &[u16]) -> usize {
        let is_wanted = |place: u64| tenants.binary_search(&((place >> 32) as u16)).is_ok();
        self.keys.iter().filter(|(place, _)| is_wanted(*place)).count()
    }

    /// The number of agents.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is no agent.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

fn place(tenant: u16, agent: u32) -> u64 {
    u64::from(tenant) << 32 | u64::from(agent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{AgentEntry, Secret, Tenant};

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

    #[test]
    fn keys_are_found_unless_revoked() {
        let agent = |id, revoked| AgentEntry { id, name: format!("agent-{id}"), revoked };
        let tenant = |id, agents| Tenant {
            id,
            name: format!("tenant-{id}"),
            key: Secret::new([id as u8; 32]),
            agents,
        };
        let tenants = Tenants {
            tenants: vec![
                tenant(9, vec![agent(5, false), agent(2, true), agent(1, false)]),
                tenant(3, vec![agent(u32::MAX, false)]),
                tenant(4, vec![]),
            ],
        };
        let keys = AgentKeys::new(&tenants).unwrap();
        assert_eq!(keys.len(), 3);
        for (tenant, agent) in [(9, 5), (9, 1), (3, u32::MAX)] {
            let expected = agent_key(&Secret::new([tenant as u8; 32]), agent).unwrap();
            assert_eq!(keys.get(tenant, agent), Some(&expected));
        }
        for (tenant, agent) in [(9, 2), (9, 3), (3, 5), (4, 1), (0, 0)] {
            assert_eq!(keys.get(tenant, agent), None);
        }
    }
}
