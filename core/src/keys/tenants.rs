//! The tenants file: who may use tunnels. Agents of one tenant reach each other and nobody else.
//!
//! ```toml
//! [[tenant]]
//! id = 1
//! name = "acme"
//! key = "64 hex digits"
//! [[tenant.agent]]
//! id = 1
//! name = "laptop"
//! revoked = false                        # may be left out
//! ```
//!
//! A revoked agent stays in the file, so that its number is not given to another.

use std::collections::BTreeMap;
use std::fmt;

use super::{AgentKey, Secret, agent_key, line_of};
use crate::crypto::HkdfError;

/// What a tenants file holds.
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
    /// Whether it is shut out.
    pub revoked: bool,
}

/// A mistake in a tenants file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The key, such as `tenant[0].agent[2].id`; indices count from 0 in the order of the file.
    /// Empty where the mistake is the whole file's.
    pub key: String,
    /// What is wrong and what to do. It never quotes the file.
    pub reason: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = if self.key.is_empty() { "" } else { ": " };
        write!(f, "{}{separator}{}", self.key, self.reason)
    }
}

impl Tenants {
    /// Reads the text of a tenants file.
    ///
    /// # Errors
    /// All mistakes found, at least one.
    pub fn parse(text: &str) -> Result<Self, Vec<Mistake>> {
        let table: toml::Table = toml::from_str(text).map_err(|error: toml::de::Error| {
            let line = line_of(text, &error);
            let reason =
                format!("line {line} is not TOML (not quoted here, as it may hold a secret)");
            vec![Mistake { key: String::new(), reason }]
        })?;
        let mut reader = Reader { mistakes: Vec::new() };
        let tenants = reader.tenants(&table);
        if reader.mistakes.is_empty() { Ok(Tenants { tenants }) } else { Err(reader.mistakes) }
    }

    /// The text of the file. It must be written where nobody else can read it.
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

    /// Revokes the agent with the name or number `agent` of the tenant called `tenant`. Returns it;
    /// it may have been revoked before.
    pub fn revoke(&mut self, tenant: &str, agent: &str) -> Result<&AgentEntry, ChangeError> {
        let tenant = self.tenant_mut(tenant)?;
        // No name is a number.
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

/// Why a tenants file was not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// The name cannot be one.
    #[error("the name {0}")]
    Name(&'static str),
    /// The tenant is there.
    #[error("there is a tenant with this name; choose another")]
    TenantExists,
    /// The agent is there.
    #[error("the tenant has an agent with this name (revoked ones stay); choose another")]
    AgentExists,
    /// The tenant is not there.
    #[error("there is no tenant with this name; `anyrelay tenant list` shows them")]
    NoTenant,
    /// The agent is not there.
    #[error("the tenant has no agent with this name or number; `anyrelay tenant list` shows them")]
    NoAgent,
    /// The highest number is taken.
    #[error("no number is left")]
    Full,
    /// The key cannot be derived.
    #[error(transparent)]
    Derivation(#[from] HkdfError),
}

/// Reads a file and gathers its mistakes.
struct Reader {
    mistakes: Vec<Mistake>,
}

impl Reader {
    fn mistake(&mut self, key: impl Into<String>, reason: impl Into<String>) {
        self.mistakes.push(Mistake { key: key.into(), reason: reason.into() });
    }

    fn tenants(&mut self, table: &toml::Table) -> Vec<Tenant> {
        self.only(table, "", &["tenant"]);
        let mut tenants = Vec::new();
        let (mut ids, mut names) = (BTreeMap::new(), BTreeMap::new());
        let mut keys = BTreeMap::new();
        for (index, entry) in self.tables(table, "tenant", "tenant").into_iter().enumerate() {
            let at = format!("tenant[{index}]");
            self.only(entry, &at, &["id", "name", "key", "agent"]);
            let id = self.id(entry, &at, u16::MAX.into()).map(|id| id as u16);
            let name = self.name(entry, &at);
            self.unique(&mut ids, id, index, "tenant", "id");
            self.unique(&mut names, name.clone(), index, "tenant", "name");
            let key = self.key(entry, &at);
            self.unique(&mut keys, key.as_ref().map(Secret::to_hex), index, "tenant", "key");
            let agents = self.agents(entry, &at);
            if let (Some(id), Some(name), Some(key)) = (id, name, key) {
                tenants.push(Tenant { id, name, key, agents });
            }
        }
        tenants
    }

    fn agents(&mut self, tenant: &toml::Table, at: &str) -> Vec<AgentEntry> {
        let mut agents = Vec::new();
        let (mut ids, mut names) = (BTreeMap::new(), BTreeMap::new());
        let list = format!("{at}.agent");
        for (index, entry) in self.tables(tenant, "agent", &list).into_iter().enumerate() {
            let at = format!("{list}[{index}]");
            self.only(entry, &at, &["id", "name", "revoked"]);
            let id = self.id(entry, &at, u32::MAX);
            let name = self.name(entry, &at);
            self.unique(&mut ids, id, index, &list, "id");
            self.unique(&mut names, name.clone(), index, &list, "name");
            let revoked = match entry.get("revoked") {
                None => Some(false),
                Some(value) => value.as_bool(),
            };
            if revoked.is_none() {
                self.mistake(format!("{at}.revoked"), "must be true or false");
            }
            if let (Some(id), Some(name), Some(revoked)) = (id, name, revoked) {
                agents.push(AgentEntry { id, name, revoked });
            }
        }
        agents
    }

    /// Names that are not ours are not shown: one could be a secret put in the wrong place.
    fn only(&mut self, table: &toml::Table, at: &str, names: &[&str]) {
        if table.keys().any(|name| !names.contains(&name.as_str())) {
            self.mistake(at, format!("holds something else than {}; remove it", names.join(", ")));
        }
    }

    fn tables<'a>(&mut self, table: &'a toml::Table, name: &str, at: &str) -> Vec<&'a toml::Table> {
        let Some(value) = table.get(name) else {
            return Vec::new();
        };
        let entries = value.as_array().map(|entries| entries.iter().map(toml::Value::as_table));
        let tables = entries.and_then(|entries| entries.collect::<Option<Vec<_>>>());
        if tables.is_none() {
            self.mistake(at, "must be tables, each begun by its name in double brackets");
        }
        tables.unwrap_or_default()
    }

    fn id(&mut self, table: &toml::Table, at: &str, max: u32) -> Option<u32> {
        let id = table.get("id").and_then(toml::Value::as_integer);
        let id = id.and_then(|id| u32::try_from(id).ok()).filter(|&id| id <= max);
        if id.is_none() {
            self.mistake(format!("{at}.id"), format!("must be there, a whole number 0..={max}"));
        }
        id
    }

    fn name(&mut self, table: &toml::Table, at: &str) -> Option<String> {
        let name = table.get("name").and_then(toml::Value::as_str).unwrap_or_default();
        match check_name(name) {
            Ok(()) => Some(name.to_owned()),
            Err(reason) => {
                self.mistake(format!("{at}.name"), reason);
                None
            }
        }
    }

    fn key(&mut self, table: &toml::Table, at: &str) -> Option<Secret> {
        let key = table.get("key").and_then(toml::Value::as_str).and_then(Secret::from_hex);
        if key.is_none() {
            let reason = "must be there, 64 hex digits in quotes; `anyrelay tenant add` makes one";
            self.mistake(format!("{at}.key"), reason);
        }
        key
    }

    fn unique<T: Ord>(
        &mut self,
        seen: &mut BTreeMap<T, usize>,
        value: Option<T>,
        index: usize,
        list: &str,
        what: &str,
    ) {
        let Some(value) = value else {
            return;
        };
        if let Some(other) = seen.get(&value) {
            let reason = format!("is also that of {list}[{other}]");
            self.mistake(format!("{list}[{index}].{what}"), reason);
        } else {
            seen.insert(value, index);
        }
    }
}

/// A name is short, has no character that a terminal or a label would stumble over, is no number,
/// and is too short for a key put in its place.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Tenants {
        let mut tenants = Tenants::default();
        assert_eq!(tenants.add("acme", Secret::new([0x11; 32])), Ok(1));
        assert_eq!(tenants.add("other", Secret::new([0x22; 32])), Ok(2));
        tenants.issue("acme", "laptop").unwrap();
        tenants.issue("acme", "server.1").unwrap();
        tenants.revoke("acme", "laptop").unwrap();
        tenants
    }

    #[test]
    fn reads_what_it_writes() {
        assert_eq!(Tenants::parse(&sample().serialize()), Ok(sample()));
        assert_eq!(Tenants::parse(""), Ok(Tenants::default()));
        let without = sample().serialize().replace("revoked = false\n", "");
        assert_eq!(Tenants::parse(&without), Ok(sample()));
    }

    #[test]
    fn agents_are_issued_and_revoked() {
        let mut tenants = sample();
        let issued = tenants.issue("acme", "third").unwrap();
        assert_eq!((issued.tenant, issued.agent), (1, 3));
        assert_eq!(issued.key, agent_key(&Secret::new([0x11; 32]), 3).unwrap());
        assert!(!tenants.tenants[0].agents[1].revoked);
        assert_eq!(tenants.revoke("acme", "2").unwrap().name, "server.1");
        assert!(tenants.tenants[0].agents[1].revoked);
        assert_eq!(tenants.issue("acme", "third"), Err(ChangeError::AgentExists));
        assert_eq!(tenants.issue("nobody", "third"), Err(ChangeError::NoTenant));
        assert_eq!(tenants.revoke("acme", "9"), Err(ChangeError::NoAgent));
        assert_eq!(tenants.add("acme", Secret::new([3; 32])), Err(ChangeError::TenantExists));
        for name in ["", "77", "a b", "a\"b", &"a".repeat(32)] {
            assert!(matches!(tenants.issue("acme", name), Err(ChangeError::Name(_))), "{name}");
        }
        tenants.tenants[1].id = u16::MAX;
        assert_eq!(tenants.add("more", Secret::new([3; 32])), Err(ChangeError::Full));
    }

    #[test]
    fn every_mistake_is_told_and_no_secret_shown() {
        let hex = "11".repeat(32);
        let text = format!(
            "[[tenant]]\nid = 70000\nname = \"{hex}\"\nkey = \"{hex}0\"\n\
             [[tenant]]\nid = 1\nname = \"a\"\nkey = \"{hex}\"\n\"{hex}\" = 1\n\
             [[tenant.agent]]\nid = 1\nname = \"x\"\n\
             [[tenant.agent]]\nid = 1\nname = \"x\"\nrevoked = \"no\"\n\
             [[tenant]]\nid = 1\nname = \"a\"\nkey = \"{hex}\"\nagent = 3\n"
        );
        let mistakes = Tenants::parse(&text).unwrap_err();
        let keys: Vec<_> = mistakes.iter().map(|mistake| mistake.key.as_str()).collect();
        assert_eq!(
            keys,
            [
                "tenant[0].id",
                "tenant[0].name",
                "tenant[0].key",
                "tenant[1]",
                "tenant[1].agent[1].id",
                "tenant[1].agent[1].name",
                "tenant[1].agent[1].revoked",
                "tenant[2].id",
                "tenant[2].name",
                "tenant[2].key",
                "tenant[2].agent",
            ]
        );
        let mistakes: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
        assert!(!mistakes.join("\n").contains("1111"), "{mistakes:?}");
        assert_eq!(mistakes[7], "tenant[2].id: is also that of tenant[1]");

        let broken = sample().serialize().replace("key = \"11", "key = 11");
        let mistakes = Tenants::parse(&broken).unwrap_err();
        assert_eq!(mistakes.len(), 1);
        assert!(mistakes[0].to_string().starts_with("line 7 is not TOML"), "{}", mistakes[0]);
        assert!(!mistakes[0].reason.contains("1111"));
    }
}
