//! What a reload may change while the POP runs.
//!
//! Two kinds of changes are refused. Some cannot be done without a restart, because what they are
//! about is made at start: ports, workers, layout, DPDK, the metrics listener, tables. Others can
//! be done but break live connections, and need the operator's word: a change of a live VIP:port's
//! targets that is not dated ahead, or of its pool, prefix, mode, or relay secret; a live tunnel's
//! VIPs, open prefix, constants, sequence secret, or a token secret or tenant's key that its agents
//! go by; and an end to private clients, or to gateways as clients. Adding and removing services,
//! tenants, agents and epochs, and everything else, is free; so are `pop.not_clients` and
//! `tunnel.open.to`, which name whom they cut off.

use super::compiled::Snapshot;
use super::digest::{EpochFingerprint, Fingerprints};
use crate::config::{Config, Gateway, Harm, PortConfig, RelayConfig, TunnelConfig, harm};
use crate::problem::Problem;
use crate::time::{UnixTime, format_time};

/// A change that a reload refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Why it is refused.
    pub kind: ConflictKind,
    /// The file, the key in the new file, and the reason.
    pub problem: Problem,
}

/// Why a reload refuses a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConflictKind {
    /// It takes a restart.
    NeedsRestart,
    /// It breaks live connections, and is done only when the operator allows that.
    BreaksConnections,
}

/// What stands against replacing `old` by `new` in a running POP, at the time `now`. Free when
/// empty.
pub fn reload_conflicts(old: &Snapshot, new: &Snapshot, now: UnixTime) -> Vec<Conflict> {
    let mut conflicts = Conflicts { file: &new.config.file, list: Vec::new() };
    conflicts.fixed_at_start(&old.config, &new.config);
    conflicts.ports_and_workers(&old.config, &new.config);
    if old.config.pop.private_clients && !new.config.pop.private_clients {
        conflicts.breaks("pop.private_clients", "this cuts off clients with private addresses");
    }
    if old.config.pop.gateway_clients && !new.config.pop.gateway_clients {
        conflicts.breaks("pop.gateway_clients", "this cuts off clients behind a gateway's NAT");
    }
    if old.fingerprints().relay != new.fingerprints().relay {
        let live = |vip| old.config.relays.iter().any(|service| service.vip == vip);
        if new.config.relays.iter().any(|service| live(service.vip)) {
            let reason = "the relay secret in this file changed, which breaks every connection";
            conflicts.breaks("pop.keys", reason);
        }
    }
    for (index, service) in new.config.relays.iter().enumerate() {
        let is_same =
            |old: &&RelayConfig| old.vip == service.vip && old.protocols.meet(service.protocols);
        for before in old.config.relays.iter().filter(is_same) {
            conflicts.service(index, before, service, now);
        }
    }
    for (index, tunnel) in new.config.tunnels.iter().enumerate() {
        // All that were here before under its name or at one of its VIPs.
        for before in old.config.tunnels.iter().filter(|old| is_same(old, tunnel)) {
            conflicts.tunnel(index, before, tunnel);
        }
    }
    let lives = |tunnel| old.config.tunnels.iter().any(|old| is_same(old, tunnel));
    if new.config.tunnels.iter().any(lives) {
        conflicts.tunnel_keys(old.fingerprints(), new.fingerprints(), now);
    }
    conflicts.list
}

struct Conflicts<'a> {
    file: &'a str,
    list: Vec<Conflict>,
}

impl Conflicts<'_> {
    fn fixed_at_start(&mut self, old: &Config, new: &Config) {
        let fixed = [
            ("pop.name", old.pop.name == new.pop.name),
            ("pop.id", old.pop.id == new.pop.id),
            ("pop.fragments", old.pop.fragments == new.pop.fragments),
            ("pop.clock_offset_ms", old.pop.clock_offset_ms == new.pop.clock_offset_ms),
            ("dpdk.hugepages", old.dpdk.hugepages == new.dpdk.hugepages),
            ("dpdk.memory_mb", old.dpdk.memory_mb == new.dpdk.memory_mb),
            ("dpdk.mbufs", old.dpdk.mbufs == new.dpdk.mbufs),
            ("dpdk.args", old.dpdk.args == new.dpdk.args),
            ("layout.kind", old.layout == new.layout),
            ("layout.idle", old.idle == new.idle),
            ("layout.instructions", old.instructions == new.instructions),
            (
                "limits.remembered_answers",
                old.limits.remembered_answers == new.limits.remembered_answers,
            ),
            ("limits.remembered_syns", old.limits.remembered_syns == new.limits.remembered_syns),
            ("neighbours", old.neighbours == new.neighbours),
            ("hints", old.hints == new.hints),
            ("metrics.listen", old.metrics_listen == new.metrics_listen),
        ];
        for (key, same) in fixed {
            if !same {
                self.restart(key);
            }
        }
    }

    fn ports_and_workers(&mut self, old: &Config, new: &Config) {
        if old.ports.len() != new.ports.len() {
            self.restart("port");
        }
        for (index, (old, new)) in old.ports.iter().zip(&new.ports).enumerate() {
            let fixed = [
                ("name", old.name == new.name),
                ("device", old.device == new.device),
                ("side", old.side == new.side),
                ("mac", old.mac == new.mac),
                ("addresses", old.addresses == new.addresses),
                ("gateways", same(old, new, |gateway| gateway.ip)),
                ("gateway_macs", same(old, new, |gateway| gateway.mac)),
                ("vlan", old.vlan == new.vlan),
                ("mtu", old.mtu == new.mtu),
                ("queues", old.queues == new.queues),
            ];
            for (key, same) in fixed {
                if !same {
                    self.restart(&format!("port[{index}].{key}"));
                }
            }
        }
        if old.workers.len() != new.workers.len() {
            self.restart("worker");
        }
        for (index, (old, new)) in old.workers.iter().zip(&new.workers).enumerate() {
            for (key, same) in [("core", old.core == new.core), ("rx", old.rx == new.rx)] {
                if !same {
                    self.restart(&format!("worker[{index}].{key}"));
                }
            }
        }
    }

    fn service(&mut self, index: usize, old: &RelayConfig, new: &RelayConfig, now: UnixTime) {
        let harm = harm(&old.targets, &new.targets, now);
        let is_undated = harm.is_some();
        if let Some(harm) = harm {
            let name = if new.targets_file.is_some() { "targets_file" } else { "targets" };
            self.push(
                ConflictKind::BreaksConnections,
                &format!("relay[{index}].{name}"),
                &harm_words(harm),
            );
        }
        if old.choose_by != new.choose_by {
            let reason = format!(
                "this gives most clients another target, which breaks their connections; to leave \
                 it, write choose_by = \"{}\" (what is not written follows the protocol), and for \
                 another choice take a second VIP or port",
                old.choose_by.name()
            );
            self.breaks(&format!("relay[{index}].choose_by"), &reason);
        }
        if old.egress == new.egress {
            let is_direct = new.egress.encapsulation().is_some_and(|tunnel| !tunnel.is_through());
            if is_direct && !is_undated && old.targets.entries != new.targets.entries {
                let reason = "no POP sees what targets answer directly, so a segment goes to one \
                              target alone: the connections that this moves break";
                self.breaks(&format!("relay[{index}].targets"), reason);
            }
            return;
        }
        let (before, after) = (old.egress, new.egress);
        let reason = if before.kind() == after.kind() {
            format!(
                "live connections use egress {before}; the way without breaking any is a second \
                 VIP or port with {after}"
            )
        } else {
            format!("live connections use egress {before}, not {after}")
        };
        self.breaks(&format!("relay[{index}].egress"), &reason);
    }

    fn tunnel(&mut self, index: usize, old: &TunnelConfig, new: &TunnelConfig) {
        let gone = "agents are connected to the old VIP and their tokens are made for it; the way \
                    without breaking any is a second tunnel with the new VIP";
        if old.vip4.is_some() && old.vip4 != new.vip4 {
            self.breaks(&format!("tunnel[{index}].vip4"), gone);
        }
        if old.vip6.is_some() && old.vip6 != new.vip6 {
            self.breaks(&format!("tunnel[{index}].vip6"), gone);
        }
        if let Some(before) = &old.open {
            let reason = "agents have addresses of the old prefix; the way without breaking their \
                          connections is a second tunnel with the new prefix";
            match &new.open {
                None => self.breaks(&format!("tunnel[{index}].open"), reason),
                Some(after) if after.prefix != before.prefix => {
                    self.breaks(&format!("tunnel[{index}].open.prefix"), reason);
                }
                Some(_) => {}
            }
        }
        let (before, after) = (old.constants, new.constants);
        let constants = [
            ("tick_ms", before.tick_ms == after.tick_ms),
            ("stride", before.stride == after.stride),
            ("lag", before.lag == after.lag),
            ("offset", before.offset == after.offset),
        ];
        for (key, same) in constants {
            if !same {
                self.breaks(
                    &format!("tunnel[{index}].{key}"),
                    "sequence numbers of live tunnels are predicted with it, so this breaks every \
                     one; the way without breaking any is a second tunnel at another VIP or port",
                );
            }
        }
    }

    /// The secrets that live tunnels go on with.
    fn tunnel_keys(&mut self, old: &Fingerprints, new: &Fingerprints, now: UnixTime) {
        if old.sequence != new.sequence {
            let reason = "the sequence secret in this file changed, which breaks every tunnel";
            self.breaks("pop.keys", reason);
        }
        let lives = |epoch: &EpochFingerprint| epoch.accepted_before.is_none_or(|end| now < end);
        for epoch in old.tokens.iter().filter(|epoch| lives(epoch)) {
            let same = |other: &EpochFingerprint| {
                other.number == epoch.number && other.secret == epoch.secret && lives(other)
            };
            if !new.tokens.iter().any(same) {
                self.breaks(
                    "pop.keys",
                    &format!(
                        "agents have tokens of epoch {} of this file, which is gone, or over, or \
                         has another secret; `anyrelay rotate-token` adds an epoch without \
                         breaking any",
                        epoch.number
                    ),
                );
            }
        }
        for (id, key) in &old.tenants {
            if new.tenants.iter().any(|(other, new)| other == id && new != key) {
                self.breaks(
                    "pop.tenants",
                    &format!(
                        "the key of tenant {id} in this file changed, which shuts out its agents"
                    ),
                );
            }
        }
    }

    fn restart(&mut self, key: &str) {
        self.push(
            ConflictKind::NeedsRestart,
            key,
            "this cannot change while the POP runs; restart it",
        );
    }

    fn breaks(&mut self, key: &str, reason: &str) {
        self.push(ConflictKind::BreaksConnections, key, reason);
    }

    fn push(&mut self, kind: ConflictKind, key: &str, reason: &str) {
        let (file, key, reason) = (self.file.to_owned(), key.to_owned(), reason.to_owned());
        self.list.push(Conflict { kind, problem: Problem { file, key, reason } });
    }
}

/// Why a change of targets breaks connections, and what to do.
fn harm_words(harm: Harm) -> String {
    match harm {
        Harm::Forgotten { address, asked_until: UnixTime::NEVER } => format!(
            "{address} takes connections and is no longer named, which breaks those that it has; \
             keep it, and end its new connections with until"
        ),
        Harm::Forgotten { address, asked_until } => format!(
            "{address} may have connections until {} and is no longer named, which breaks them; \
             keep it until then, or give it up with gone",
            format_time(asked_until)
        ),
        Harm::Late { from, earliest } => format!(
            "the targets are others than those that run from {} on, which is too soon and moves \
             live connections; give what changes a since or until of {} or later",
            format_time(from),
            format_time(UnixTime::from_millis(earliest.as_millis().next_multiple_of(1000)))
        ),
        Harm::ShortMemory { from } => format!(
            "the memory is too short for the change of {}: connections from before it would be \
             forgotten; make it shorter later",
            format_time(from)
        ),
    }
}

/// Whether two tunnels of different configs are one.
fn is_same(old: &TunnelConfig, new: &TunnelConfig) -> bool {
    old.name == new.name || old.vips().any(|vip| new.vips().any(|other| other == vip))
}

/// Whether `part` of all gateways is the same.
fn same<T: PartialEq>(old: &PortConfig, new: &PortConfig, part: impl Fn(&Gateway) -> T) -> bool {
    old.gateways.iter().map(&part).eq(new.gateways.iter().map(&part))
}
