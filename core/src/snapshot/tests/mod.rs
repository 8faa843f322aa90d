//! Tests of the snapshot: its lookups, its digest, and the changes that a reload may make.

mod digest;
mod lookups;
mod lookups6;
mod open;
mod reload;
mod reload_tunnels;
mod slots;
mod tunnels;
mod udp;

use super::*;
use crate::config::Config;
use crate::config::tests::text::{edit, relay_number};
use crate::config::tests::{GOOD, IPV6, PREFIX, good, ip, ip6, reassembling, tunnelling, with};
use crate::keys::{EPOCH_GRACE_MS, Epochs, KeyFile, Secret, Tenants};
use crate::net::{PortIndex, ServiceIndex, ServiceSlot};
use crate::time::UnixTime;

const NOW: UnixTime = UnixTime::from_millis(1_800_000_000_000);

fn keys() -> KeyFile {
    KeyFile::from_random([[1; 32], [2; 32], [3; 32]])
}

/// Two tenants, the first with two agents of which one is revoked.
const TENANTS: &str = r#"
[[tenant]]
id = 1
name = "acme"
key = "0101010101010101010101010101010101010101010101010101010101010101"
[[tenant.agent]]
id = 1
name = "laptop"
[[tenant.agent]]
id = 2
name = "phone"
revoked = true

[[tenant]]
id = 9
name = "zorg"
key = "0909090909090909090909090909090909090909090909090909090909090909"
"#;

fn tenants() -> Tenants {
    Tenants::parse(TENANTS).unwrap()
}

/// The snapshot of the config `text`.
fn snapshot(text: &str) -> Snapshot {
    build(text, &keys(), &tenants(), None)
}

fn build(text: &str, keys: &KeyFile, tenants: &Tenants, previous: Option<&Snapshot>) -> Snapshot {
    Snapshot::build(&Config::parse("pop.toml", text).unwrap(), keys, tenants, previous).unwrap()
}

/// A snapshot of [`tunnelling`] with other secrets.
fn with_secrets(keys: &KeyFile, tenants: &str) -> Snapshot {
    build(&tunnelling(), keys, &Tenants::parse(tenants).unwrap(), None)
}

/// Edits of [`TENANTS`], and whether they break live tunnels.
const TENANT_CHANGES: [(&str, &str, bool); 5] = [
    ("\"0101", "\"0201", true),
    ("revoked = true", "revoked = false", false),
    ("id = 2", "id = 3\nname = \"pad\"\n[[tenant.agent]]\nid = 2", false),
    ("name = \"laptop\"", "name = \"laptop\"\nrevoked = true", false),
    ("\n[[tenant]]\nid = 9", "\n[[tenant]]\nid = 8", false),
];
