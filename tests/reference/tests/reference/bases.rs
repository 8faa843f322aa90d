//! A config of each kind without mistakes, in which tests set keys.

use anyrelay::health::HealthConfig;
use anyrelay_agent::config::Config as AgentConfig;
use anyrelay_core::config::{Config, TargetList};
use anyrelay_core::problem::Problems;
use anyrelay_reference::files::{AGENT, ConfigFile, HEALTH, POP, TARGETS};
use toml::{Table, Value};

/// A kind of config file, with a base and what the program makes of a text.
pub struct Base {
    /// Its structs.
    pub file: &'static ConfigFile,
    /// The text without mistakes.
    pub text: &'static str,
    /// What the program reads of a text, in words that are equal for equal configs.
    pub read: fn(&str) -> Result<String, Problems>,
}

/// All kinds.
pub const BASES: [Base; 4] = [
    Base {
        file: &POP,
        text: POP_TEXT,
        read: |text| Config::parse("f", text).map(|config| format!("{config:?}")),
    },
    Base {
        file: &TARGETS,
        text: "[[target]]\naddress = \"198.51.100.10:8443\"\n",
        read: |text| TargetList::parse("f", text).map(|list| format!("{list:?}")),
    },
    Base {
        file: &HEALTH,
        text: HEALTH_TEXT,
        read: |text| HealthConfig::parse("f", text).map(|config| format!("{config:?}")),
    },
    Base {
        file: &AGENT,
        text: AGENT_TEXT,
        read: |text| AgentConfig::parse("f", text).map(|config| format!("{config:?}")),
    },
];

impl Base {
    /// The base with the key at `path` set, or left out. Of a list of tables the first one has it.
    pub fn with(&self, path: &str, value: Option<Value>) -> String {
        self.with_all([(path, value)])
    }

    /// As [`Base::with`], of several keys.
    pub fn with_all<'a>(
        &self,
        changes: impl IntoIterator<Item = (&'a str, Option<Value>)>,
    ) -> String {
        let mut all: Table = self.text.parse().unwrap();
        for (path, value) in changes {
            set(&mut all, path, value);
        }
        toml::to_string(&all).unwrap()
    }

    /// Whether the base sets the key at `path`.
    pub fn has(&self, path: &str) -> bool {
        self.with(path, None) != self.with_all([])
    }

    /// The base with the list of tables called `name` made of `count` of its first one.
    pub fn repeated(&self, name: &str, count: usize) -> String {
        let mut all: Table = self.text.parse().unwrap();
        let first = all[name].as_array().unwrap()[0].clone();
        all.insert(name.to_owned(), vec![first; count].into());
        toml::to_string(&all).unwrap()
    }

    /// The mistakes in a text at the key of `path`, such as `port[0].mtu` at `port.mtu`.
    pub fn mistakes(&self, path: &str, text: &str) -> Vec<String> {
        let problems = (self.read)(text).err().map_or_else(Vec::new, |problems| problems.0);
        let at_key = problems.iter().filter(|problem| problem.key.replace("[0].", ".") == path);
        at_key.map(|problem| problem.reason.clone()).collect()
    }
}

/// Sets a key of a config, or leaves it out. Of a list of tables the first one has it.
fn set(all: &mut Table, path: &str, value: Option<Value>) {
    let mut names: Vec<_> = path.split('.').collect();
    let last = names.pop().unwrap();
    let mut table = all;
    for name in names {
        table = match table.entry(name).or_insert_with(|| Table::new().into()) {
            Value::Array(list) => list[0].as_table_mut().unwrap(),
            other => other.as_table_mut().unwrap(),
        };
    }
    match value {
        Some(value) => drop(table.insert(last.to_owned(), value)),
        None => drop(table.remove(last)),
    }
}

const POP_TEXT: &str = r#"
[pop]
name = "ams1"
id = 1
keys = "keys.toml"
tenants = "tenants.toml"
fragments = "reassemble"

[dpdk]

[[port]]
name = "wan"
device = "net_null0"
side = "both"
addresses = ["192.0.2.2/24"]
gateways = ["192.0.2.1"]
gateway_macs = ["02:00:00:00:00:01"]

[[port]]
name = "lan"
device = "net_null1"
side = "both"
addresses = ["10.1.0.2/24"]
gateways = ["10.1.0.1"]

[[worker]]
core = 0
rx = ["wan:0", "lan:0"]

[fragments]

[[relay]]
name = "web"
vip = "203.0.113.10:443"
targets = [{ address = "198.51.100.10:8443" }]
egress = { pool = "100.64.8.0/24" }

[[tunnel]]
name = "tun"
vip4 = "203.0.113.20:443"

[hints]
listen = "10.9.0.1:4791"
peers = ["10.9.0.2:4791"]
"#;

const HEALTH_TEXT: &str = r#"
[[check]]
targets_file = "targets.toml"
kind = "http"
interval = "1h"
after = "true"
"#;

const AGENT_TEXT: &str = r#"
[agent]
vip = "203.0.113.20:443"
key = "agent.key"

[tun]
name = "anyrelay0"
addresses = ["10.9.0.1/24"]
private_key = "tun.key"

[[peer]]
name = "home"
public_key = "a4e09292b651c278b9772c569f5fa9bb13d906b46ab68c9df9dc2b4409f8a209"
allowed = ["10.9.0.2/32"]
"#;
