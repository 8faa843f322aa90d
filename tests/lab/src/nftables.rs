//! POPs whose own kernel forwards: nftables chooses a target by a hash of the client, the same at
//! all POPs, and rewrites the destination. The target sees the client's own address, and answers
//! through the POPs.
//!
//! With connection tracking (DNAT), a POP takes up a connection at the first segment of the client
//! that it sees. Before that it cannot rewrite what the target answers; it drops that, as the
//! client knows no connection with the target's own address. Without, each packet is rewritten by
//! itself, in both directions.

use std::fmt::Write as _;
use std::net::{SocketAddr, SocketAddrV4};

use crate::{LabError, Namespace, Result, Service, command};

/// The kernel of a POP, which forwards by rules; it can be stopped and started like a process.
#[derive(Debug)]
pub(crate) struct Kernel {
    services: Vec<Service>,
    tracks: bool,
    forwards: bool,
    /// Why it could not be stopped.
    failed: Option<LabError>,
}

impl Kernel {
    /// One that does not forward yet, and that tracks connections or does not.
    pub(crate) fn new(services: &[Service], tracks: bool) -> Self {
        Self { services: services.to_vec(), tracks, forwards: false, failed: None }
    }

    /// Loads the rules and forwards, without any of the connections that earlier starts knew.
    ///
    /// # Errors
    /// With the words of `nft`, or if it could not be stopped before.
    pub(crate) fn start(&mut self, pop: &Namespace, starts: u32) -> Result<()> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        self.load(pop, starts)?;
        if self.tracks {
            // Where connection tracking is a module, the rules have loaded it.
            for (key, value) in [("tcp_loose", "1"), ("tcp_be_liberal", "1")] {
                pop.sysctl(&format!("net.netfilter.nf_conntrack_{key}"), value)?;
            }
        }
        pop.sysctl(FORWARDS, "1")?;
        self.forwards = true;
        Ok(())
    }

    /// Forwards to the targets of these services from now on, without losing what it knows.
    ///
    /// # Errors
    /// With the words of `nft`.
    pub(crate) fn lead(
        &mut self,
        pop: &Namespace,
        starts: u32,
        services: &[Service],
    ) -> Result<()> {
        self.services = services.to_vec();
        self.load(pop, starts)
    }

    fn load(&self, pop: &Namespace, starts: u32) -> Result<()> {
        let rules = match self.tracks {
            true => tracking(&self.services, starts)?,
            false => stateless(&self.services)?,
        };
        command::run_with_input(pop.command("nft").args(["-f", "-"]), &rules).map(drop)
    }

    /// Forwards nothing from now on and answers nothing, as a machine that has lost its power.
    pub(crate) fn stop(&mut self, pop: &Namespace) {
        match pop.sysctl(FORWARDS, "0") {
            Ok(()) => self.forwards = false,
            Err(error) => self.failed = Some(error),
        }
    }

    /// Whether it forwards.
    pub(crate) fn forwards(&self) -> bool {
        self.forwards
    }
}

/// Drops what arrives at a POP's interfaces, behind packet sockets and before all else.
///
/// # Errors
/// With the words of `nft`.
pub(crate) fn drop_copies(pop: &Namespace) -> Result<()> {
    let rules = COPIES.replace("{ eth1, eth2 }", "{ wan, lan }");
    command::run_with_input(pop.command("nft").args(["-f", "-"]), &rules).map(drop)
}

/// The rules of a POP at its start of this number that tracks connections.
fn tracking(services: &[Service], starts: u32) -> Result<String> {
    let mut choices = String::new();
    for service in services {
        let (vip, targets) = ipv4(service)?;
        let target = |target: &SocketAddrV4| format!("{} . {}", target.ip(), target.port());
        let (from, choice) = (from_client(vip), choice(&targets, target));
        let _ = writeln!(choices, "{from} dnat ip addr . port to {choice}");
    }
    // A zone of its own knows none of the connections of earlier starts; zone 0 is the default.
    let zone = 1 + starts % ZONES;
    Ok(format!(
        "{EMPTY}\
         chain begin {{ type filter hook prerouting priority raw; ct zone set {zone}; }}\n\
         chain choose {{ type nat hook prerouting priority dstnat;\n{choices}}}\n\
         chain unchanged {{ type filter hook prerouting priority dstnat + 10;\n\
         ip daddr {{ {} }} drop; }}\n\
         chain unknown {{ type filter hook forward priority filter;\n\
         iifname \"lan\" ct state new,invalid drop; }}\n}}\n",
        addresses(services)
    ))
}

/// The rules of a POP that looks at each packet by itself.
fn stateless(services: &[Service]) -> Result<String> {
    let mut rewrites = String::new();
    for service in services {
        let (vip, targets) = ipv4(service)?;
        let Some(port) = targets.first().map(SocketAddrV4::port) else { continue };
        if targets.iter().any(|target| target.port() != port) {
            let what = format!("service {}: its targets must have one port", service.name);
            return Err(LabError::Unexpected(what));
        }
        let (from, choice) = (from_client(vip), choice(&targets, |target| target.ip().to_string()));
        let _ = writeln!(rewrites, "{from} ip daddr set {choice} tcp dport set {port} accept");
        let sources: Vec<String> = targets.iter().map(|target| target.ip().to_string()).collect();
        let _ = writeln!(
            rewrites,
            "iifname \"lan\" ip saddr {{ {} }} tcp sport {port} ip saddr set {} tcp sport set {}",
            sources.join(", "),
            vip.ip(),
            vip.port()
        );
    }
    Ok(format!(
        "{EMPTY}\
         chain rewrite {{ type filter hook prerouting priority raw;\n{rewrites}}}\n\
         chain unchanged {{ type filter hook prerouting priority dstnat + 10;\n\
         ip daddr {{ {} }} drop; }}\n}}\n",
        addresses(services)
    ))
}

/// What a client sends to a service.
fn from_client(vip: SocketAddrV4) -> String {
    format!("iifname \"wan\" ip daddr {} tcp dport {}", vip.ip(), vip.port())
}

/// One of these by a hash of the client's address and port.
fn choice(targets: &[SocketAddrV4], text: impl Fn(&SocketAddrV4) -> String) -> String {
    let places = targets.iter().enumerate();
    let places: Vec<String> =
        places.map(|(place, target)| format!("{place} : {}", text(target))).collect();
    format!(
        "jhash ip saddr . tcp sport mod {} seed {SEED:#x} map {{ {} }}",
        targets.len(),
        places.join(", ")
    )
}

/// The addresses of all VIPs, with commas between.
fn addresses(services: &[Service]) -> String {
    let mut vips: Vec<String> = services.iter().map(|s| s.vip.ip().to_string()).collect();
    vips.sort_unstable();
    vips.dedup();
    vips.join(", ")
}

/// The VIP and the targets of a service.
fn ipv4(service: &Service) -> Result<(SocketAddrV4, Vec<SocketAddrV4>)> {
    let of = |address: &SocketAddr| match address {
        SocketAddr::V4(address) => Ok(*address),
        SocketAddr::V6(_) => {
            let what = format!("service {}: nftables POPs of the lab have no IPv6", service.name);
            Err(LabError::Unexpected(what))
        }
    };
    Ok((of(&service.vip)?, service.targets.iter().map(of).collect::<Result<_>>()?))
}

/// What an operator installs.
const COPIES: &str = include_str!("../../../deploy/nftables/anyrelay-copies.nft");
/// Begins a table in place of the one before.
const EMPTY: &str = "add table ip control\ndelete table ip control\ntable ip control {\n";
const FORWARDS: &str = "net.ipv4.ip_forward";
/// The same at all POPs.
const SEED: u32 = 0x5ca1_ab1e;
const ZONES: u32 = 65_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_pops_choose_alike_and_each_start_forgets() {
        let targets = ["198.51.100.10:8080", "198.51.100.11:8080"];
        let targets = targets.iter().map(|text| text.parse().unwrap()).collect();
        let services = [Service { targets, ..Service::default() }];
        let text = tracking(&services, 1).unwrap();
        let choice = "ip daddr 203.0.113.10 tcp dport 80 dnat ip addr . port to \
                      jhash ip saddr . tcp sport mod 2 seed 0x5ca1ab1e \
                      map { 0 : 198.51.100.10 . 8080, 1 : 198.51.100.11 . 8080 }";
        assert!(text.contains(choice), "{text}");
        assert!(text.contains("ct zone set 2;"), "{text}");
        assert!(tracking(&services, 2).unwrap().contains("ct zone set 3;"));
        assert!(tracking(&[Service::prefix()], 1).is_err());
    }

    #[test]
    fn without_tracking_both_directions_are_rewritten() {
        let text = stateless(&[Service::default()]).unwrap();
        let up = "ip daddr set jhash ip saddr . tcp sport mod 1 seed 0x5ca1ab1e \
                  map { 0 : 198.51.100.10 } tcp dport set 8080 accept";
        let down = "ip saddr { 198.51.100.10 } tcp sport 8080 \
                    ip saddr set 203.0.113.10 tcp sport set 80\n";
        assert!(text.contains(up) && text.contains(down), "{text}");
        let other = "198.51.100.11:9090".parse().unwrap();
        let mut two = Service::default();
        two.targets.push(other);
        assert!(stateless(&[two]).is_err());
    }
}
