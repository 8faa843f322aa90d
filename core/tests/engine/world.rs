//! A POP with all that it needs, and what it sends and says.

use std::net::IpAddr;
use std::ops::{Deref, DerefMut};

use anyrelay_core::config::Config;
use anyrelay_core::frame::HeapFrame;
use anyrelay_core::keys::{KeyFile, Tenants};
use anyrelay_core::net::{Address, Endpoint, IpEndpoint, PortIndex};
use anyrelay_core::relay::Relay;
use anyrelay_core::time::{Now, UnixTime};
use anyrelay_core::verdict::{DropReason, Verdict};
use anyrelay_kit::config::{self, PopConfig, mac_text, port, relay};
use anyrelay_kit::frames::{Mac, Tcp, framed, ip};
use anyrelay_kit::pop::{FromBytes, Recorder, RunningPop, Said, Sent};

use super::seen::Seen;

pub const WAN: PortIndex = PortIndex(0);
pub const LAN: PortIndex = PortIndex(1);
pub const WAN_MAC: Mac = [2, 0, 0, 0, 0, 1];
pub const LAN_MAC: Mac = [2, 0, 0, 0, 0, 2];
pub const WAN_GATEWAY: Mac = [2, 0, 0, 0, 1, 1];
pub const LAN_GATEWAY: Mac = [2, 0, 0, 0, 1, 2];

/// A client on no link of the POP.
pub const CLIENT: (u32, u16) = (0xc612_0509, 40_001); // 198.18.5.9
/// A service in pool mode with one target.
pub const WEB: (u32, u16) = (0xcb00_710a, 443); // 203.0.113.10
pub const WEB_TARGET: (u32, u16) = (0xc633_640a, 8443); // 198.51.100.10
/// A service in pool mode with three targets.
pub const MANY: (u32, u16) = (0xcb00_710a, 80);
/// A transparent service with two targets.
pub const RAW: (u32, u16) = (0xcb00_710c, 443); // 203.0.113.12
pub const RAW_TARGETS: [(u32, u16); 2] = [(0xc633_6428, 8443), (0xc633_6429, 8443)]; // .40, .41

/// The config of [`World::new`].
pub fn config() -> PopConfig {
    let wan = port("wan", "client", &["192.0.2.2/24"])
        .with("mac", mac_text(WAN_MAC))
        .with("gateways", ["192.0.2.1"])
        .with("gateway_macs", [mac_text(WAN_GATEWAY)]);
    let lan = port("lan", "target", &["10.1.0.2/24"])
        .with("mac", mac_text(LAN_MAC))
        .with("gateways", ["10.1.0.1"])
        .with("gateway_macs", [mac_text(LAN_GATEWAY)]);
    let pool = config::Egress::Pool("100.64.8.0/24");
    let config = PopConfig::new("pop1", 1, &[wan, lan])
        .relay(relay("web", "203.0.113.10:443", &["198.51.100.10:8443"], pool))
        .relay(relay(
            "many",
            "203.0.113.10:80",
            &["198.51.100.20:80", "198.51.100.21:80", "198.51.100.22:81"],
            pool,
        ))
        .relay(relay(
            "raw",
            "203.0.113.12:443",
            &["198.51.100.40:8443", "198.51.100.41:8443"],
            config::Egress::Transparent,
        ));
    LIMITS.iter().fold(config, |config, limit| config.limit(limit, 1_000_000))
}

/// Limits that no test reaches unless it lowers them.
const LIMITS: [&str; 6] = [
    "rst_per_second",
    "echo_per_second",
    "icmp_per_second",
    "icmp_forward_per_second",
    "syn_per_prefix_per_second",
    "syn_per_service_per_second",
];

/// [`config`] without the hardware addresses of gateways, which are then asked for.
pub fn learning_config() -> PopConfig {
    config().edit(|config| {
        for port in &mut config.ports {
            port.remove("gateway_macs");
        }
    })
}

pub const KEYS: &str = r#"
relay = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
sequence = "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f"
token = "404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f"
"#;

/// A POP with one worker that is used, its clock, and what came of the last frames.
pub struct World {
    pop: RunningPop,
    /// The worker that takes the frames.
    pub worker: usize,
    pub now: Now,
    pub out: Recorder,
}

impl Deref for World {
    type Target = RunningPop;

    fn deref(&self) -> &RunningPop {
        &self.pop
    }
}

impl DerefMut for World {
    fn deref_mut(&mut self) -> &mut RunningPop {
        &mut self.pop
    }
}

impl World {
    /// The gateways that do not answer now.
    pub fn unresolved_gateways(&self) -> Vec<(PortIndex, IpAddr)> {
        let gateways = self.soft.links.gateways(self.now.instant).into_iter();
        gateways
            .filter(|gateway| !gateway.is_used)
            .map(|gateway| (gateway.port, gateway.ip))
            .collect()
    }

    pub fn new() -> World {
        World::of(&config())
    }

    pub fn of(config: &PopConfig) -> World {
        World::with(&config.parse())
    }

    pub fn with(config: &Config) -> World {
        World::keyed(config, KEYS, "")
    }

    /// A World with the texts of these key and tenants files.
    pub fn keyed(config: &Config, keys: &str, tenants: &str) -> World {
        let (keys, tenants) = (KeyFile::parse(keys).unwrap(), Tenants::parse(tenants).unwrap());
        let pop = RunningPop::single(config::snapshot(config, &keys, &tenants));
        let (now, out) = (Now::from_millis(1_000_000), Recorder::default());
        World { pop, worker: 0, now, out }
    }

    pub fn later(&mut self, ms: u64) -> &mut World {
        self.now = self.now.plus_millis(ms);
        self
    }

    /// Hands over one frame, and returns what was sent because of it. What was said is in
    /// `self.out.said`.
    pub fn frame<F: FromBytes>(&mut self, port: PortIndex, frame: F) -> Sent {
        self.burst(port, vec![frame])
    }

    /// Hands over one burst.
    pub fn burst<F: FromBytes>(&mut self, port: PortIndex, frames: Vec<F>) -> Sent {
        self.out.said.clear();
        self.pop.burst(self.now, self.worker, port, frames, &mut self.out);
        std::mem::take(&mut self.out.sent)
    }

    /// Does what is due without a frame; what is sent stays in `self.out`.
    pub fn poll(&mut self) {
        self.pop.poll(self.now, self.worker, &mut self.out);
    }

    /// Hands over raw bytes of a frame.
    pub fn bytes(&mut self, port: PortIndex, bytes: &[u8]) -> Sent {
        self.frame(port, HeapFrame::new(bytes))
    }

    /// Hands over a datagram, framed as the port's gateway would.
    pub fn datagram(&mut self, port: PortIndex, datagram: &[u8]) -> Sent {
        let frame = self.framed(port, datagram);
        self.bytes(port, &frame)
    }

    pub fn framed(&self, port: PortIndex, datagram: &[u8]) -> Vec<u8> {
        let peer = if port == WAN { WAN_GATEWAY } else { LAN_GATEWAY };
        let vlan = self.snapshot.config.ports[usize::from(port.0)].vlan;
        framed(self.mac(port), peer, vlan, datagram)
    }

    /// Hands over a segment that is forwarded; returns what it became and where it left.
    pub fn forwarded(&mut self, port: PortIndex, segment: &Tcp) -> (PortIndex, Seen) {
        let sent = self.datagram(port, &segment.datagram());
        let [(out, frame)] = &sent[..] else { panic!("{sent:02x?} {:?}", self.out.said) };
        assert_eq!(self.verdict(), Verdict::Forward(*out), "{:?}", self.out.said);
        (*out, Seen::frame(frame))
    }

    /// Hands over a datagram that is dropped without an answer.
    pub fn dropped(&mut self, port: PortIndex, datagram: &[u8]) -> DropReason {
        let frame = self.framed(port, datagram);
        self.dropped_bytes(port, &frame)
    }

    /// Hands over a frame that is dropped without an answer.
    pub fn dropped_bytes(&mut self, port: PortIndex, bytes: &[u8]) -> DropReason {
        let sent = self.bytes(port, bytes);
        assert!(sent.is_empty(), "{sent:02x?} {:?}", self.out.said);
        self.reason()
    }

    /// The verdict on the last frame.
    pub fn verdict(&self) -> Verdict {
        match self.out.said.last() {
            Some(Said::Verdict(verdict)) => *verdict,
            other => panic!("the last note is no verdict but {other:?}"),
        }
    }

    /// The reason of the last drop because of the last frame.
    pub fn reason(&self) -> DropReason {
        self.out.drops().last().unwrap_or_else(|| panic!("no drop: {:?}", self.out.said))
    }

    pub fn drops(&self, port: PortIndex, reason: DropReason) -> u64 {
        self.counters.drops(port, reason)
    }

    /// The relay of that name.
    pub fn service(&self, name: &str) -> &Relay {
        self.snapshot.relays().find(|relay| relay.name == name).unwrap()
    }

    /// The targets of a relay, all of one family.
    pub fn targets<A: Address>(&self, service: &str) -> Vec<Endpoint<A>> {
        let targets = self.service(service).targets.all().iter();
        targets.map(|target| target.of_family().unwrap()).collect()
    }

    /// The egress endpoint of a client of a service in pool mode, and the TSval of all its segments
    /// but a bare SYN.
    pub fn egress(&self, service: &str, client: (u32, u16)) -> (u32, u16, u32) {
        let client = Endpoint { ip: client.0, port: client.1 }.into();
        let mapping = self.service(service).outward(client, UnixTime::default()).unwrap();
        let egress: Endpoint = mapping.egress.of_family().unwrap();
        (egress.ip, egress.port, mapping.tag.unwrap().timestamp())
    }

    /// The target of a client, chosen by the definition.
    pub fn chosen<A: Address>(&self, service: &str, client: IpEndpoint) -> (A, u16) {
        let targets = &self.service(service).targets;
        let hash = |target: &&IpEndpoint| targets.hash(client, **target).unwrap();
        let best = targets.all().iter().rev().max_by_key(hash).unwrap();
        let best: Endpoint<A> = best.of_family().unwrap();
        (best.ip, best.port)
    }

    /// The IPv4 target of a client.
    pub fn target(&self, service: &str, client: (u32, u16)) -> (u32, u16) {
        self.chosen(service, Endpoint { ip: client.0, port: client.1 }.into())
    }
}

/// Checks that the constants are what their comments say.
#[test]
fn constants_are_what_they_say() {
    assert_eq!(CLIENT.0, ip("198.18.5.9"));
    assert_eq!((WEB.0, RAW.0), (ip("203.0.113.10"), ip("203.0.113.12")));
    assert_eq!(WEB_TARGET.0, ip("198.51.100.10"));
    assert_eq!(RAW_TARGETS.map(|target| target.0), [ip("198.51.100.40"), ip("198.51.100.41")]);
}
