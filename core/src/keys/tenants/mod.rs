//! The tenants file: the tenants that may use tunnels, and their agents. Agents of one tenant reach
//! each other and no others.
//!
//! ```toml
//! [[tenant]]
//! id = 1
//! name = "acme"
//! key = "64 hex digits"
//! [[tenant.agent]]
//! id = 1
//! name = "laptop"
//! revoked = false                        # optional
//! ```
//!
//! A revoked agent stays in the file, so that its number is not reused.

mod read;
#[cfg(test)]
mod tests;

use std::fmt;

use super::{AgentKey, Secret, agent_key};
use crate::crypto::HkdfError;

/// The contents of a tenants file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tenants {
    /// The tenants, in the order of the file.
    pub tenants: Vec<Tenant>,
}

/// `[[tenant]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Its number, unique.
    pub id: u16,
    /// Its name, unique.
    pub name: String,
    /// The key from which its agents' keys are derived.
    pub key: Secret,
    /// Its agents, in the order of the file.
    pub agents: Vec<AgentEntry>,
}

/// `[[tenant.agent]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentEntry {
    /// Its number, unique among the tenant's.
    pub id: u32,
    /// Its name, unique among the tenant's.
    pub name: String,
    /// Whether its keepalives are refused.
    pub revoked: bool,
}

/// A mistake in a tenants file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The key, such as `tenant[0].agent[2].id`; indices count from 0 in the order of the file.
    /// Empty where the mistake concerns the whole file.
    pub key: String,
    /// The mistake and its remedy. It never quotes the file.
    pub reason: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = if self.key.is_empty() { "" } else { ": " };
        write!(f, "{}{separator}{}", self.key, self.reason)
    }
}

impl Tenants {
    /// The text of the file. It holds secrets: only its owner may be able to read it.
    pub fn serialize(&self) -> String {
        let mut text = String::from(
            "# anyrelay tenants. The same file on every POP; mode 0600; keep a copy.\n\
             # `anyrelay tenant` and `anyrelay agent` change it.\n",
        );
        for tenant in &self.tenants {
            text += &format!(
                "\n[[tenant]]\nid = {}\nname = \"{}\"\nkey = \"{}\"\n",
                tenant.id,
                tenant.name,
                tenant.key.to_hex()
            );
            for agent in &tenant.agents {
                text += &format!(
                    "[[tenant.agent]]\nid = {}\nname = \"{}\"\nrevoked = {}\n",
                    agent.id, agent.name, agent.revoked
                );
            }
        }
        text
    }

    /// The tenant called `name`.
    pub fn get(&self, name: &str) -> Option<&Tenant> {
        self.tenants.iter().find(|tenant| tenant.name == name)
    }

    /// Adds a tenant called `name`; `key` must come from the system's random number generator.
    /// Returns its number.
    ///
    /// # Errors
    /// When the name is malformed or in use, or no number is left.
    pub fn add(&mut self, name: &str, key: Secret) -> Result<u16, ChangeError> {
        check_name(name).map_err(ChangeError::Name)?;
        if self.get(name).is_some() {
            return Err(ChangeError::TenantExists);
        }
        let highest = self.tenants.iter().map(|tenant| tenant.id).max();
        let id = highest.map_or(Some(1), |id| id.checked_add(1)).ok_or(ChangeError::Full)?;
        self.tenants.push(Tenant { id, name: name.to_owned(), key, agents: Vec::new() });
        Ok(id)
    }

    /// Adds an agent called `name` to the tenant called `tenant`. Returns its key.
    ///
    /// # Errors
    /// When there is no such tenant, the name is malformed or in use, or no number is left.
    pub fn issue(&mut self, tenant: &str, name: &str) -> Result<AgentKey, ChangeError> {
        check_name(name).map_err(ChangeError::Name)?;
        let tenant = self.tenant_mut(tenant)?;
        if tenant.agents.iter().any(|agent| agent.name == name) {
            return Err(ChangeError::AgentExists);
        }
        let highest = tenant.agents.iter().map(|agent| agent.id).max();
        let id = highest.map_or(Some(1), |id| id.checked_add(1)).ok_or(ChangeError::Full)?;
        let key = agent_key(&tenant.key, id)?;
        tenant.agents.push(AgentEntry { id, name: name.to_owned(), revoked: false });
        Ok(AgentKey { tenant: tenant.id, agent: id, key })
    }

    /// Revokes the agent with the name or number `agent` of the tenant called `tenant`, and returns
    /// it. To revoke it again is no error.
    ///
    /// # Errors
    /// When there is no such tenant or agent.
    pub fn revoke(&mut self, tenant: &str, agent: &str) -> Result<&AgentEntry, ChangeError> {
        let tenant = self.tenant_mut(tenant)?;
        // A name is never a number.
        let is_it = |entry: &&mut AgentEntry| {
            entry.name == agent || agent.parse::<u32>().is_ok_and(|id| entry.id == id)
        };
        let entry = tenant.agents.iter_mut().find(is_it).ok_or(ChangeError::NoAgent)?;
        entry.revoked = true;
        Ok(entry)
    }

    fn tenant_mut(&mut self, name: &str) -> Result<&mut Tenant, ChangeError> {
        self.tenants.iter_mut().find(|tenant| tenant.name == name).ok_or(ChangeError::NoTenant)
    }
}

/// The reason that a tenants file was not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// The name is malformed.
    #[error("the name {0}")]
    Name(&'static str),
    /// A tenant has the name.
    #[error("there is a tenant with this name; choose another")]
    TenantExists,
    /// An agent of the tenant has the name.
    #[error("the tenant has an agent with this name (revoked ones stay); choose another")]
    AgentExists,
    /// No tenant has the name.
    #[error("there is no tenant with this name; `anyrelay tenant list` shows them")]
    NoTenant,
    /// No agent of the tenant has the name or number.
    #[error("the tenant has no agent with this name or number; `anyrelay tenant list` shows them")]
    NoAgent,
    /// The highest number is in use.
    #[error("no number is left")]
    Full,
    /// The agent's key could not be derived.
    #[error(transparent)]
    Derivation(#[from] HkdfError),
}

/// Checks a name: fit for terminals and metric labels, not a number, and shorter than a key, so
/// that a misplaced key is no name.
fn check_name(name: &str) -> Result<(), &'static str> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || name.len() > NAME_LEN_MAX || !name.bytes().all(fits) {
        return Err("must be there, 1 to 31 letters, digits, '-', '_' or '.'");
    }
    if name.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("must not be a number alone");
    }
    Ok(())
}

const NAME_LEN_MAX: usize = 31;
