//! Ports of the client whose connections have one egress endpoint at the target.

use std::collections::HashMap;
use std::net::SocketAddrV4;

use anyrelay_lab::targets::Choice;
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
    let choice = Choice::of(&lab.pops[0].config).unwrap();
    let mut holders = HashMap::new();
    let mut found = Vec::new();
    for new in 1024..=u16::MAX {
        let client = SocketAddrV4::new(topology::CLIENT, new);
        let (egress, stamp) = choice.egress(client.into()).unwrap();
        let stamp = stamp.unwrap();
        match holders.remove(&egress) {
            None => {
                holders.insert(egress, (new, stamp));
            }
            Some((old, before)) => {
                let is_older = (stamp.wrapping_sub(before) as i32) < 0;
                found.push(Rivals { old, new, is_older });
            }
        }
    }
    found
}
