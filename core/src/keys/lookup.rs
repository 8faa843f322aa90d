//! The keys of all agents, by number.

use super::{Tenants, agent_key};
use crate::crypto::{HkdfError, Key128};

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
