//! Configs of POPs, built as TOML text.
//!
//! A [`PopConfig`] has the tables of a config file, each a [`Table`] of keys and values. Tests
//! change any of them before they take the text ([`PopConfig::text`]) or what the core makes of it
//! ([`PopConfig::parse`], [`PopConfig::snapshot`]).

use std::fmt::{self, Display};

use anyrelay_core::config::Config;
use anyrelay_core::keys::{AgentKey, KeyFile, Secret, Tenants};
use anyrelay_core::snapshot::Snapshot;
use anyrelay_core::time::{UnixTime, format_time};

use crate::frames::Mac;

/// A value as TOML writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value(String);

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value(format!("\"{text}\""))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        text.as_str().into()
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value(value.to_string())
    }
}

/// Numbers.
macro_rules! numbers {
    ($($type:ty)+) => {
        $(impl From<$type> for Value {
            fn from(number: $type) -> Value {
                Value(number.to_string())
            }
        })+
    };
}
numbers!(i32 i64 u8 u16 u32 u64 usize);

impl<T: Display> From<&[T]> for Value {
    fn from(texts: &[T]) -> Value {
        let texts: Vec<_> = texts.iter().map(|text| format!("\"{text}\"")).collect();
        Value(format!("[{}]", texts.join(", ")))
    }
}

impl<T: Display, const N: usize> From<[T; N]> for Value {
    fn from(texts: [T; N]) -> Value {
        texts.as_slice().into()
    }
}

impl<T: Display> From<Vec<T>> for Value {
    fn from(texts: Vec<T>) -> Value {
        texts.as_slice().into()
    }
}

impl From<UnixTime> for Value {
    fn from(time: UnixTime) -> Value {
        Value(format_time(time))
    }
}

/// A list of tables, each of which is written between braces.
pub fn inline(tables: &[Table]) -> Value {
    let braced = |table: &Table| Value::from(table).0;
    Value(format!("[{}]", tables.iter().map(braced).collect::<Vec<_>>().join(", ")))
}

/// A table that is written between braces.
impl From<&Table> for Value {
    fn from(table: &Table) -> Value {
        let pair = |(key, Value(value)): &(String, Value)| format!("{key} = {value}");
        Value(format!("{{ {} }}", table.0.iter().map(pair).collect::<Vec<_>>().join(", ")))
    }
}

/// How a POP appears to the targets of a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Egress<'a> {
    /// By an address of this pool.
    Pool(&'a str),
    /// By an address of this prefix that contains the client's.
    Prefix(&'a str),
    /// By the client's own address.
    Transparent,
    /// The same, inside IP from this address.
    Ipip(&'a str),
    /// The same, inside GUE from this address.
    Gue(&'a str),
}

impl From<Egress<'_>> for Value {
    fn from(egress: Egress<'_>) -> Value {
        match egress {
            Egress::Pool(net) => Value(format!("{{ pool = \"{net}\" }}")),
            Egress::Prefix(net) => Value(format!("{{ prefix = \"{net}\" }}")),
            Egress::Transparent => "transparent".into(),
            Egress::Ipip(from) => Value(format!("{{ ipip = \"{from}\" }}")),
            Egress::Gue(from) => Value(format!("{{ gue = \"{from}\" }}")),
        }
    }
}

/// A table of a config file: keys with their values, in the order in which they were set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table(Vec<(String, Value)>);

impl Table {
    /// Sets a key, in the place of an earlier value if it has one.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) -> &mut Table {
        let value = value.into();
        match self.0.iter_mut().find(|(known, _)| known == key) {
            Some((_, old)) => *old = value,
            None => self.0.push((key.to_owned(), value)),
        }
        self
    }

    /// Removes a key, which is set.
    pub fn remove(&mut self, key: &str) -> &mut Table {
        let before = self.0.len();
        self.0.retain(|(known, _)| known != key);
        assert!(self.0.len() < before, "{key} is not set");
        self
    }

    /// The value of the key `name`; empty without one.
    pub fn name(&self) -> &str {
        let name = self.0.iter().find(|(key, _)| key == "name");
        name.map_or("", |(_, Value(text))| text.trim_matches('"'))
    }

    /// The table with a key set, as [`Table::set`] does.
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Table {
        self.set(key, value);
        self
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(key, Value(value))| writeln!(f, "{key} = {value}"))
    }
}

/// A port of this name on a device of the same name; the side is `client`, `target` or `both`.
pub fn port(name: &str, side: &str, addresses: &[&str]) -> Table {
    let table = Table::default().with("name", name).with("device", name).with("side", side);
    table.with("addresses", addresses)
}

/// The text of a hardware address.
pub fn mac_text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// A relay from a VIP to targets.
pub fn relay<T: Display>(
    name: &str,
    vip: impl Display,
    targets: &[T],
    egress: Egress<'_>,
) -> Table {
    let table = Table::default().with("name", name).with("vip", vip.to_string());
    table.with("targets", targets).with("egress", egress)
}

/// A tunnel service with a VIP of each family, or of one.
pub fn tunnel<T: Display>(name: &str, vips: &[T]) -> Table {
    vips.iter().map(ToString::to_string).fold(Table::default().with("name", name), |table, vip| {
        table.with(if vip.starts_with('[') { "vip6" } else { "vip4" }, vip)
    })
}

/// The config of a POP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PopConfig {
    /// `[pop]`.
    pub pop: Table,
    /// `[[port]]`, in order.
    pub ports: Vec<Table>,
    /// `[[worker]]`, in order.
    pub workers: Vec<Table>,
    /// `[limits]`.
    pub limits: Table,
    /// `[[relay]]`, in order.
    pub relays: Vec<Table>,
    /// `[[tunnel]]`, in order.
    pub tunnels: Vec<Table>,
    /// Any other table, behind its name.
    pub others: Vec<(String, Table)>,
}

impl PopConfig {
    /// A POP with these ports and one worker that receives from all of them.
    pub fn new(name: &str, id: u8, ports: &[Table]) -> PopConfig {
        let pop = Table::default().with("name", name).with("id", id).with("keys", "keys.toml");
        let queues: Vec<_> = ports.iter().map(|port| format!("{}:0", port.name())).collect();
        PopConfig {
            pop,
            ports: ports.to_vec(),
            workers: vec![worker(0, &queues)],
            limits: Table::default(),
            relays: Vec::new(),
            tunnels: Vec::new(),
            others: Vec::new(),
        }
    }

    /// Sets a key of `[pop]`.
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> PopConfig {
        self.pop.set(key, value);
        self
    }

    /// Sets a key of `[limits]`.
    pub fn limit(mut self, key: &str, value: impl Into<Value>) -> PopConfig {
        self.limits.set(key, value);
        self
    }

    /// Adds a relay.
    pub fn relay(mut self, relay: Table) -> PopConfig {
        self.relays.push(relay);
        self
    }

    /// Adds a tunnel service; its tenants are in `tenants.toml`.
    pub fn tunnel(mut self, tunnel: Table) -> PopConfig {
        self.tunnels.push(tunnel);
        self.set("tenants", "tenants.toml")
    }

    /// Adds another table.
    pub fn other(mut self, name: &str, table: Table) -> PopConfig {
        self.others.push((name.to_owned(), table));
        self
    }

    /// The config with whatever `edit` changes.
    pub fn edit(mut self, edit: impl FnOnce(&mut PopConfig)) -> PopConfig {
        edit(&mut self);
        self
    }

    /// Sets a key of the port, relay or tunnel of this name.
    pub fn setting(mut self, name: &str, key: &str, value: impl Into<Value>) -> PopConfig {
        self.named(name).set(key, value);
        self
    }

    /// The port, relay or tunnel of this name.
    pub fn named(&mut self, name: &str) -> &mut Table {
        let mut all = self.ports.iter_mut().chain(&mut self.relays).chain(&mut self.tunnels);
        all.find(|table| table.name() == name).unwrap_or_else(|| panic!("{name} does not exist"))
    }

    /// The text of the config file.
    pub fn text(&self) -> String {
        let mut text = format!("[pop]\n{}", self.pop);
        let mut add = |name: &str, table: &Table| text += &format!("\n{name}\n{table}");
        self.ports.iter().for_each(|port| add("[[port]]", port));
        self.workers.iter().for_each(|worker| add("[[worker]]", worker));
        for (name, table) in &self.others {
            add(&format!("[{name}]"), table);
        }
        if self.limits != Table::default() {
            add("[limits]", &self.limits);
        }
        self.relays.iter().for_each(|relay| add("[[relay]]", relay));
        self.tunnels.iter().for_each(|tunnel| add("[[tunnel]]", tunnel));
        text
    }

    /// The config as the core reads it; panics with its problems.
    pub fn parse(&self) -> Config {
        parse(&self.text())
    }

    /// The snapshot that the core compiles of it; panics with its problems.
    pub fn snapshot(&self, keys: &KeyFile, tenants: &Tenants) -> Snapshot {
        snapshot(&self.parse(), keys, tenants)
    }
}

/// A worker on a core that receives from these queues.
pub fn worker<T: Display>(core: usize, queues: &[T]) -> Table {
    Table::default().with("core", core).with("rx", queues)
}

/// The config in a text; panics with its problems.
pub fn parse(text: &str) -> Config {
    Config::parse("pop.toml", text).unwrap_or_else(|problems| panic!("{problems}"))
}

/// The snapshot of a config; panics with its problems.
pub fn snapshot(config: &Config, keys: &KeyFile, tenants: &Tenants) -> Snapshot {
    Snapshot::build(config, keys, tenants, None).unwrap_or_else(|problems| panic!("{problems}"))
}

/// Keys of a POP that are the same in each run.
pub fn keys() -> KeyFile {
    KeyFile::from_random([[1; 32], [2; 32], [3; 32]])
}

/// The tenant `acme` with the number 1 and one agent, whose number is 1.
pub fn tenants() -> Tenants {
    tenants_and_agent().0
}

/// The tenants of [`tenants`], and the key of the agent.
pub fn tenants_and_agent() -> (Tenants, AgentKey) {
    let mut tenants = Tenants::default();
    tenants.add("acme", Secret::new([4; 32])).unwrap();
    let agent = tenants.issue("acme", "agent").unwrap();
    (tenants, agent)
}
