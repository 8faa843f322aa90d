//! Reads the text of a tenants file and collects every mistake in it.

use std::collections::BTreeMap;

use super::{AgentEntry, Mistake, Tenant, Tenants, check_name};
use crate::keys::{Secret, line_of};

impl Tenants {
    /// Reads the text of a tenants file.
    ///
    /// # Errors
    /// All mistakes, at least one.
    pub fn parse(text: &str) -> Result<Self, Vec<Mistake>> {
        let table: toml::Table = toml::from_str(text).map_err(|error: toml::de::Error| {
            let line = line_of(text, &error);
            let reason =
                format!("line {line} is not TOML (not quoted here, as it may hold a secret)");
            vec![Mistake { key: String::new(), reason }]
        })?;
        let mut reader = TenantsReader::default();
        let tenants = reader.tenants(&table);
        if reader.mistakes.is_empty() { Ok(Tenants { tenants }) } else { Err(reader.mistakes) }
    }
}

/// Collects the mistakes of a file while it is read.
#[derive(Default)]
struct TenantsReader {
    mistakes: Vec<Mistake>,
}

impl TenantsReader {
    fn mistake(&mut self, key: impl Into<String>, reason: impl Into<String>) {
        self.mistakes.push(Mistake { key: key.into(), reason: reason.into() });
    }

    /// The tenants without mistakes in `table`, which is the whole file.
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

    /// Unknown names are not quoted: one could be a misplaced secret.
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
