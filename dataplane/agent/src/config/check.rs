//! From the raw config to the checked one: each problem is reported with key, reason and remedy.
//!
//! A wrong value is skipped and checking continues, so that one run reports all problems.

use std::collections::HashMap;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use super::open::open_side;
use super::raw::{self, RawConfig, RawPeer, RawTun, RawUdp};
use super::{AgentSection, Config, LocalConfig, PeerEntry, Problem, Problems, TunConfig};
use crate::inner::device::TunDeviceConfig;
use crate::inner::message::OVERHEAD;
use crate::inner::routes::{IpPrefix, ParsePrefixError};
use crate::inner::{MAX_PACKET, MAX_PEERS};
use crate::outer::steering::{check_interface, parse_mark};
use crate::outer::{Steering, check_vip};
use crate::peers::PeerSource;

impl Config {
    /// Parses and checks the text of the file called `file`.
    ///
    /// # Errors
    /// All problems, or the first one if the text cannot be parsed at all.
    pub fn parse(file: &str, text: &str) -> Result<Config, Problems> {
        let raw = raw::parse(file, text)?;
        let mut report = Report { file, problems: Vec::new() };
        let agent = agent(&mut report, &raw);
        // With a mark or interface, the kernel's rules keep the agent's segments off such a route.
        let unsteered = agent.as_ref().filter(|agent| !agent.steering.is_set());
        let vip = unsteered.map(|agent| agent.vip.ip());
        let local = local(&mut report, &raw, vip);
        let open = raw.open.as_ref().map(|open| open_side(&mut report, open, &raw));
        match (agent, local) {
            (Some(agent), Some(local)) if report.problems.is_empty() => {
                Ok(Config { agent, local, open })
            }
            _ => Err(Problems(report.problems)),
        }
    }
}

/// Collects problems.
pub(super) struct Report<'a> {
    file: &'a str,
    problems: Vec<Problem>,
}

impl Report<'_> {
    pub(super) fn error(&mut self, key: impl Into<String>, reason: impl Into<String>) {
        let (file, key, reason) = (self.file.to_owned(), key.into(), reason.into());
        self.problems.push(Problem { file, key, reason });
    }

    /// The parsed `text`, or a problem.
    pub(super) fn parse<T: FromStr<Err: Display>>(&mut self, key: &str, text: &str) -> Option<T> {
        text.parse().map_err(|error| self.error(key, format!("{text:?}: {error}"))).ok()
    }

    fn socket_address(&mut self, key: &str, text: &str) -> Option<SocketAddr> {
        let address: Option<SocketAddr> = text.parse().ok();
        let good = address.filter(|address| address.port() != 0);
        if good.is_none() {
            let reason = "not ADDRESS:PORT, such as 192.0.2.1:443 or [2001:db8::1]:443";
            self.error(key, format!("{text:?}: {reason}"));
        }
        good
    }

    fn path(&mut self, key: &str, text: &str) -> Option<PathBuf> {
        if text.is_empty() {
            self.error(key, "empty; name a file");
            return None;
        }
        Some(text.into())
    }

    fn number(&mut self, key: &str, value: i64, low: u16, high: u16) -> Option<u16> {
        let good = u16::try_from(value).ok().filter(|value| (low..=high).contains(value));
        if good.is_none() {
            self.error(key, format!("{value} is out of range: it must be {low} to {high}"));
        }
        good
    }
}

fn agent(report: &mut Report<'_>, raw: &RawConfig) -> Option<AgentSection> {
    let agent = &raw.agent;
    let vip = report.socket_address("agent.vip", &agent.vip).and_then(|vip| {
        let checked = check_vip(vip);
        checked.map_err(|reason| report.error("agent.vip", format!("{vip}: {reason}"))).ok()
    });
    let key = report.path("agent.key", &agent.key);
    let mut optional =
        |key, text: &Option<String>| text.as_ref().and_then(|text| report.path(key, text));
    let state = optional("agent.state", &agent.state);
    let control = optional("agent.control", &agent.control);
    let publish = agent.publish.iter().enumerate();
    let publish = publish
        .filter_map(|(at, text)| report.parse(&format!("agent.publish[{at}]"), text))
        .collect();
    let steering = steering(report, raw);
    Some(AgentSection { vip: vip?, key: key?, state, publish, steering, control })
}

fn steering(report: &mut Report<'_>, raw: &RawConfig) -> Steering {
    let mark = raw.agent.mark.and_then(|mark| {
        let checked = parse_mark(&mark.to_string());
        checked.map_err(|reason| report.error("agent.mark", format!("{mark}: {reason}"))).ok()
    });
    let interface = raw.agent.interface.as_ref().and_then(|name| {
        let open = raw.open.as_ref().is_some_and(|open| open.device == *name);
        let own = open || raw.tun.as_ref().is_some_and(|tun| tun.name == *name);
        let checked = match own {
            true => Err(format!("{name:?} is the agent's own TUN device; name the uplink")),
            false => check_interface(name),
        };
        checked.map_err(|reason| report.error("agent.interface", reason)).ok()
    });
    Steering { mark, interface }
}

fn local(report: &mut Report<'_>, raw: &RawConfig, vip: Option<IpAddr>) -> Option<LocalConfig> {
    let tun = raw.tun.as_ref().map(|tun| tun_side(report, tun, &raw.peer, vip));
    let udp = raw.udp.as_ref().map(|udp| udp_side(report, udp));
    if raw.tun.is_none() && !raw.peer.is_empty() {
        report.error("peer", "peers need a [tun] section; the UDP side has its peer in [udp]");
    }
    match (tun, udp) {
        (Some(tun), None) => tun.map(LocalConfig::Tun),
        (None, Some(udp)) => udp,
        (Some(_), Some(_)) => {
            report.error("udp", "one agent has either [tun] or [udp]; run a second one beside it");
            None
        }
        (None, None) if raw.open.is_some() => Some(LocalConfig::None),
        (None, None) => {
            report.error("", "nothing to do: give [tun] with [[peer]], [udp] or [open]");
            None
        }
    }
}

fn udp_side(report: &mut Report<'_>, udp: &RawUdp) -> Option<LocalConfig> {
    match (&udp.listen, &udp.peer, &udp.target) {
        (Some(listen), Some(peer), None) => {
            let listen = report.socket_address("udp.listen", listen);
            let peer = report.parse("udp.peer", peer);
            Some(LocalConfig::UdpListen { listen: listen?, peer: peer? })
        }
        (None, None, Some(target)) => {
            report.socket_address("udp.target", target).map(LocalConfig::UdpTarget)
        }
        _ => {
            report.error("udp", "give either `listen` and `peer`, or `target`");
            None
        }
    }
}

fn tun_side(
    report: &mut Report<'_>,
    tun: &RawTun,
    raw_peers: &[RawPeer],
    vip: Option<IpAddr>,
) -> Option<TunConfig> {
    if let Err(error) = linux_tun::check_name(&tun.name) {
        report.error("tun.name", error.to_string());
    }
    let addresses = addresses(report, tun);
    let v6 = addresses.iter().any(|(address, _)| address.is_ipv6());
    let least = if v6 { LEAST_V6 } else { LEAST_V4 };
    let most = u16::try_from(MAX_PACKET).unwrap_or(u16::MAX);
    let mtu = tun.mtu.and_then(|mtu| report.number("tun.mtu", mtu, least, most));
    let private_key = report.path("tun.private_key", &tun.private_key);
    if raw_peers.is_empty() {
        report.error("peer", "none; a TUN device needs at least one [[peer]]");
    }
    if raw_peers.len() > MAX_PEERS {
        let count = raw_peers.len();
        report.error("peer", format!("{count} are more than the {MAX_PEERS} that are supported"));
    }
    let indexed = raw_peers.iter().enumerate();
    let peers: Vec<_> = indexed.map(|(at, peer)| self::peer(report, at, peer)).collect();
    check_peers(report, raw_peers, &peers, &addresses);
    let allowed = || peers.iter().flatten().flat_map(|peer| peer.allowed.iter().copied());
    // A default route would capture the tunnel's own segments, so the operator must make it.
    let routes: Vec<_> = allowed().filter(|prefix| tun.routes && prefix.bits() > 0).collect();
    if let Some(vip) = vip {
        check_vip_route(report, vip, &routes, &addresses);
    }
    let device = TunDeviceConfig { name: tun.name.clone(), addresses, mtu, routes };
    let peers = peers.into_iter().collect::<Option<Vec<_>>>();
    Some(TunConfig { device, private_key: private_key?, peers: peers? })
}

/// Checks that neither a route nor the link of an address leads the VIP into the tunnel.
fn check_vip_route(
    report: &mut Report<'_>,
    vip: IpAddr,
    routes: &[IpPrefix],
    addresses: &[(IpAddr, u8)],
) {
    if let Some(prefix) = routes.iter().find(|prefix| prefix.contains(vip)) {
        report.error(
            "tun.routes",
            format!(
                "a route to {prefix} would lead the tunnel to {vip} into itself; set routes = \
                 false and make routes that spare {vip}, or set agent.interface or agent.mark"
            ),
        );
    }
    for (at, (ip, bits)) in addresses.iter().enumerate() {
        if let Some(link) = on_link(*ip, *bits).filter(|link| link.contains(vip)) {
            let key = format!("tun.addresses[{at}]");
            let reason = format!("{vip}, the VIP, would be on this link ({link}); give more bits");
            report.error(key, reason);
        }
    }
}

fn addresses(report: &mut Report<'_>, tun: &RawTun) -> Vec<(IpAddr, u8)> {
    if tun.addresses.is_empty() {
        report.error("tun.addresses", "none; give at least one, such as \"10.9.0.1/24\"");
    }
    let mut addresses: Vec<(IpAddr, u8)> = Vec::new();
    for (at, text) in tun.addresses.iter().enumerate() {
        let key = format!("tun.addresses[{at}]");
        match address(text) {
            Some((address, _)) if addresses.iter().any(|(other, _)| *other == address) => {
                report.error(key, format!("{address} is there twice"));
            }
            Some(address) => addresses.push(address),
            None => {
                let reason = "not a unicast ADDRESS/BITS, such as 10.9.0.1/24 or fd00:9::1/64";
                report.error(key, format!("{text:?}: {reason}"));
            }
        }
    }
    addresses
}

/// The prefix on the link of an address.
fn on_link(address: IpAddr, bits: u8) -> Option<IpPrefix> {
    match format!("{address}/{bits}").parse() {
        Ok(prefix) | Err(ParsePrefixError::HostBits(prefix)) => Some(prefix),
        Err(ParsePrefixError::Form) => None,
    }
}

fn address(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    // The prefix parser checks the bits.
    let whole = if address.is_ipv4() { "0.0.0.0/" } else { "::/" };
    let bits = format!("{whole}{bits}").parse::<IpPrefix>().ok()?.bits();
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    let bad = address.is_unspecified() || address.is_multicast() || broadcast;
    (!bad).then_some((address, bits))
}

fn peer(report: &mut Report<'_>, at: usize, peer: &RawPeer) -> Option<PeerEntry> {
    let key = |name: &str| format!("peer[{at}].{name}");
    let allowed_byte = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    let name = &peer.name;
    if name.is_empty() || name.len() > NAME_MAX || !name.bytes().all(allowed_byte) {
        let reason = format!("{name:?} cannot be a name: use 1 to {NAME_MAX} of A-Z a-z 0-9 _ -");
        report.error(key("name"), reason);
    }
    let public_key = report.parse(&key("public_key"), &peer.public_key);
    let preshared = peer.preshared_key.as_ref();
    let preshared_key = preshared.and_then(|path| report.path(&key("preshared_key"), path));
    let source: Option<Option<PeerSource>> = match &peer.at {
        Some(text) => report.parse(&key("at"), text).map(Some),
        None => Some(None),
    };
    if peer.allowed.is_empty() {
        report.error(key("allowed"), "none; without an inner address nothing goes to or fro");
    }
    let indexed = peer.allowed.iter().enumerate();
    let allowed = indexed
        .filter_map(|(entry, text)| report.parse(&key(&format!("allowed[{entry}]")), text))
        .collect();
    let seconds = peer.keepalive_seconds;
    let keepalive_seconds = report.number(&key("keepalive_seconds"), seconds, 0, 3600);
    Some(PeerEntry {
        name: name.clone(),
        public_key: public_key?,
        preshared_key,
        at: source?,
        allowed,
        keepalive_seconds: keepalive_seconds?,
    })
}

/// Checks that names, keys and prefixes differ between peers. Nested prefixes are fine: the longer
/// one wins, as in routing tables.
fn check_peers(
    report: &mut Report<'_>,
    raw: &[RawPeer],
    peers: &[Option<PeerEntry>],
    own: &[(IpAddr, u8)],
) {
    let mut names = HashMap::new();
    for (at, peer) in raw.iter().enumerate() {
        if let Some(first) = names.insert(&peer.name, at) {
            let reason = format!("{:?} is the name of peer[{first}] too", peer.name);
            report.error(format!("peer[{at}].name"), reason);
        }
    }
    let (mut keys, mut prefixes) = (HashMap::new(), HashMap::new());
    let checked = peers.iter().enumerate().filter_map(|(at, peer)| Some((at, peer.as_ref()?)));
    for (at, peer) in checked {
        if let Some(first) = keys.insert(peer.public_key, at) {
            let reason = format!("the key of peer[{first}] too; one of them is another's");
            report.error(format!("peer[{at}].public_key"), reason);
        }
        for (entry, prefix) in peer.allowed.iter().enumerate() {
            let key = || format!("peer[{at}].allowed[{entry}]");
            if let Some(first) = prefixes.insert(*prefix, at) {
                let reason = format!("{prefix} belongs to peer[{first}] already; remove one");
                report.error(key(), reason);
            }
            let whole = if prefix.first().is_ipv4() { 32 } else { 128 };
            if prefix.bits() == whole && own.iter().any(|(ip, _)| *ip == prefix.first()) {
                let reason = format!("{} is this host's own, in tun.addresses", prefix.first());
                report.error(key(), reason);
            }
        }
    }
}

const NAME_MAX: usize = 32;
/// The minimum of IPv4 hosts (RFC 791), and that of IPv6 links (RFC 8200).
const LEAST_V4: u16 = 576;
const LEAST_V6: u16 = 1280;
const _: () = assert!(MAX_PACKET + OVERHEAD < u16::MAX as usize);
