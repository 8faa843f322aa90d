//! Ports of the client whose connections have one egress endpoint at the target.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;

use anyrelay_core::config::Config;
use anyrelay_core::keys::{KeyFile, Tenants};
use anyrelay_core::net::Endpoint;
use anyrelay_core::snapshot::Snapshot;
use anyrelay_core::time::UnixTime;
use anyrelay_lab::{Lab, topology};

/// Two ports of the client that share an egress endpoint.
#[derive(Clone, Copy, Debug)]
pub struct Rivals {
    pub old: u16,
    pub new: u16,
    /// Whether the tag of `new` is older than that of `old`, as PAWS compares them.
    pub is_older: bool,
}

/// Pairs of ports that share an egress endpoint, each port in one pair.
pub fn rivals(lab: &Lab) -> Vec<Rivals> {
    let text = std::fs::read_to_string(&lab.pops[0].config).unwrap();
    let config = Config::parse("pop.toml", &text).unwrap();
    let keys = lab.pops[0].config.parent().unwrap().join(&config.pop.keys);
    let keys = KeyFile::parse(&std::fs::read_to_string(keys).unwrap()).unwrap();
    let snapshot = Snapshot::build(&config, &keys, &Tenants::default(), None).unwrap();
    let relay = snapshot.relays().next().unwrap();
    let ip = topology::CLIENT.to_bits();
    let mut holders = HashMap::new();
    let mut found = Vec::new();
    for new in 1024..=u16::MAX {
        let mapping = relay.outward(Endpoint { ip, port: new }.into(), UnixTime::default()).unwrap();
        let stamp = mapping.tag.unwrap().timestamp();
        match holders.remove(&mapping.egress) {
            None => {
                holders.insert(mapping.egress, (new, stamp));
            }
            Some((old, before)) => {
                let is_older = (stamp.wrapping_sub(before) as i32) < 0;
                found.push(Rivals { old, new, is_older });
            }
        }
    }
    found
}
