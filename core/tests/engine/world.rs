//! A POP with all that it needs, and a sink that keeps what it sends and says.

use std::net::SocketAddr;
use std::sync::Arc;

use anyrelay_core::config::Config;
use anyrelay_core::counters::Counters;
use anyrelay_core::frame::{Frame, HeapFrame};
use anyrelay_core::keys::{KeyFile, Tenants};
use anyrelay_core::net::{Address, Endpoint, IpEndpoint, PortIndex};
use anyrelay_core::pop::{BURST, Note, Output, Pop, SoftState};
use anyrelay_core::relay::Relay;
use anyrelay_core::relay::mapping::{ClientSide, ClientTimestamps, Mapping};
use anyrelay_core::snapshot::Snapshot;
use anyrelay_core::time::Now;
use anyrelay_core::tunnel::Return;
use anyrelay_core::verdict::{DropReason, ReplyKind, Verdict};
use anyrelay_core::wire::MacAddr;
use anyrelay_kit::frames::{Mac, Tcp, framed, ip};
use arrayvec::ArrayVec;

use super::seen::Seen;

pub const WAN: PortIndex = PortIndex(0);
pub const LAN: PortIndex = PortIndex(1);
pub const WAN_MAC: Mac = [2, 0, 0, 0, 0, 1];
pub const LAN_MAC: Mac = [2, 0, 0, 0, 0, 2];
pub const WAN_GATEWAY: Mac = [2, 0, 0, 0, 1, 1];
pub const LAN_GATEWAY: Mac = [2, 0, 0, 0, 1, 2];

/// A client that is on no link.
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
pub const CONFIG: &str = r#"
[pop]
name = "pop1"
id = 1
keys = "keys.toml"

[[port]]
name = "wan"
device = "wan"
side = "client"
mac = "02:00:00:00:00:01"
addresses = ["192.0.2.2/24"]
gateways = ["192.0.2.1"]
gateway_macs = ["02:00:00:00:01:01"]

[[port]]
name = "lan"
device = "lan"
side = "target"
mac = "02:00:00:00:00:02"
addresses = ["10.1.0.2/24"]
gateways = ["10.1.0.1"]
gateway_macs = ["02:00:00:00:01:02"]

[[worker]]
core = 0
rx = ["wan:0", "lan:0"]

[limits]
rst_per_second = 1000000
variant_per_second = 1000000
echo_per_second = 1000000
icmp_per_second = 1000000
icmp_forward_per_second = 1000000
syn_per_prefix_per_second = 1000000
syn_per_service_per_second = 1000000

[[relay]]
name = "web"
vip = "203.0.113.10:443"
targets = ["198.51.100.10:8443"]
egress = { pool = "100.64.8.0/24" }

[[relay]]
name = "many"
vip = "203.0.113.10:80"
targets = ["198.51.100.20:80", "198.51.100.21:80", "198.51.100.22:81"]
egress = { pool = "100.64.8.0/24" }

[[relay]]
name = "raw"
vip = "203.0.113.12:443"
targets = ["198.51.100.40:8443", "198.51.100.41:8443"]
egress = "transparent"
"#;

pub const KEYS: &str = r#"
relay = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
sequence = "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f"
token = "404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f"
"#;

/// What a POP said of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Service(String),
    Mapped(&'static str, Mapping),
    Tunnelled { agent: SocketAddr, vip: SocketAddr, tick: u64, acked: Option<i32> },
    Keepalive { tenant: u16, agent: u32 },
    Sender { holds: Return, sent: Option<i32> },
    Destination { holds: Return },
    TunnelQuote { agent: SocketAddr, vip: SocketAddr, sender: Option<SocketAddr> },
    Sent(ReplyKind),
    Withheld(ReplyKind),
    Verdict(Verdict),
}

/// Frames that were sent, and the ports they left through.
pub type Sent = Vec<(PortIndex, Vec<u8>)>;

/// Keeps what a POP sends and says.
#[derive(Debug, Default)]
pub struct Sink {
    pub sent: Vec<(PortIndex, Vec<u8>)>,
    pub said: Vec<Said>,
    /// Frames that may be allocated; `None` is no limit.
    pub frames_left: Option<usize>,
}

/// A frame that can be made of bytes.
pub trait Made: Frame {
    fn made(bytes: &[u8]) -> Self;
}

impl Made for HeapFrame {
    fn made(bytes: &[u8]) -> Self {
        HeapFrame::new(bytes)
    }
}

/// A frame whose new bytes are garbage, as those of a used buffer.
pub struct Used(HeapFrame);

impl Made for Used {
    fn made(bytes: &[u8]) -> Self {
        Used(HeapFrame::new(bytes))
    }
}

impl Frame for Used {
    fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }
    fn bytes_mut(&mut self) -> &mut [u8] {
        self.0.bytes_mut()
    }
    fn prepend(&mut self, count: usize) -> bool {
        let done = self.0.prepend(count);
        if done {
            self.0.bytes_mut()[..count].fill(0xa5);
        }
        done
    }
    fn append(&mut self, count: usize) -> bool {
        let len = self.0.bytes().len();
        let done = self.0.append(count);
        self.0.bytes_mut()[len..].fill(0x5a);
        done
    }
    fn trim_front(&mut self, count: usize) {
        self.0.trim_front(count);
    }
    fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }
}

/// A frame without room in front.
pub struct Tight(HeapFrame);

impl Made for Tight {
    fn made(bytes: &[u8]) -> Self {
        Tight(HeapFrame::new(bytes))
    }
}

impl Frame for Tight {
    fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }
    fn bytes_mut(&mut self) -> &mut [u8] {
        self.0.bytes_mut()
    }
    fn prepend(&mut self, _: usize) -> bool {
        false
    }
    fn append(&mut self, _: usize) -> bool {
        false
    }
    fn trim_front(&mut self, count: usize) {
        self.0.trim_front(count);
    }
    fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }
}

impl<F: Made> Output<F> for Sink {
    const EXPLAINS: bool = true;

    fn transmit(&mut self, port: PortIndex, frame: F) {
        self.sent.push((port, frame.bytes().to_vec()));
    }

    fn allocate(&mut self) -> Option<F> {
        if let Some(left) = &mut self.frames_left {
            *left = left.checked_sub(1)?;
        }
        Some(F::made(&[]))
    }

    fn explain(&mut self, note: Note<'_>) {
        self.said.push(match note {
            Note::Service(name) => Said::Service(name.to_owned()),
            Note::Mapped(mode, mapping) => Said::Mapped(mode, mapping),
            Note::Tunnelled { agent, vip, tick, acked, .. } => {
                Said::Tunnelled { agent, vip, tick: tick.0, acked }
            }
            Note::Keepalive(request) => {
                Said::Keepalive { tenant: request.tenant, agent: request.agent }
            }
            Note::Sender { holds, sent } => Said::Sender { holds, sent },
            Note::Destination { holds } => Said::Destination { holds },
            Note::TunnelQuote { agent, vip, sender } => Said::TunnelQuote { agent, vip, sender },
            Note::Sent(kind) => Said::Sent(kind),
            Note::Withheld(kind) => Said::Withheld(kind),
            Note::Verdict(verdict) => Said::Verdict(verdict),
        });
    }
}

/// A POP with all that it needs.
pub struct World {
    pub snapshot: Snapshot,
    pub soft: Arc<SoftState>,
    pub counters: Arc<Counters>,
    pub pop: Pop,
    pub now: Now,
    pub out: Sink,
    macs: Vec<Mac>,
}

impl World {
    pub fn new() -> World {
        World::of(CONFIG)
    }

    /// A World with [`CONFIG`] in which each `from` has become its `to`.
    pub fn edited(edits: &[(&str, &str)]) -> World {
        World::of(&edited(edits))
    }

    pub fn of(config: &str) -> World {
        World::with(Config::parse("pop.toml", config).unwrap_or_else(|error| panic!("{error}")))
    }

    pub fn with(config: Config) -> World {
        World::keyed(config, KEYS, "")
    }

    /// A World with the texts of these key and tenants files.
    pub fn keyed(config: Config, keys: &str, tenants: &str) -> World {
        let (keys, tenants) = (KeyFile::parse(keys).unwrap(), Tenants::parse(tenants).unwrap());
        let snapshot = Snapshot::build(&config, &keys, &tenants, None).unwrap();
        let macs: Vec<_> =
            (0..).zip(&config.ports).map(|(at, port)| mac_of(at, port.mac)).collect();
        let soft =
            SoftState::new(&snapshot, &macs.iter().copied().map(MacAddr::new).collect::<Vec<_>>());
        let (soft, counters) = (Arc::new(soft), Arc::new(Counters::default()));
        let pop = Pop::new(soft.clone(), counters.clone());
        let now = Now::from_millis(1_000_000);
        World { snapshot, soft, counters, pop, now, out: Sink::default(), macs }
    }

    pub fn later(&mut self, ms: u64) -> &mut World {
        self.now = self.now.plus_millis(ms);
        self
    }

    pub fn mac(&self, port: PortIndex) -> Mac {
        self.macs[usize::from(port.0)]
    }

    /// Hands over one frame; gives back what was sent because of it. What was said is in
    /// `self.out.said`.
    pub fn frame<F: Made>(&mut self, port: PortIndex, frame: F) -> Sent {
        self.burst(port, vec![frame])
    }

    /// Hands over one burst.
    pub fn burst<F: Made>(&mut self, port: PortIndex, frames: Vec<F>) -> Sent {
        self.out.said.clear();
        let mut frames: ArrayVec<F, BURST> = frames.into_iter().collect();
        self.pop.handle_burst(self.now, &self.snapshot, port, &mut frames, &mut self.out);
        assert!(frames.is_empty());
        std::mem::take(&mut self.out.sent)
    }

    /// Does what is due without a frame; what is sent stays in `self.out`.
    pub fn poll(&mut self) {
        self.pop.poll::<HeapFrame, _>(self.now, &mut self.out);
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

    /// Hands over a segment that is forwarded; gives back what it became and where it left.
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
            other => panic!("no verdict comes last but {other:?}"),
        }
    }

    /// Why something was dropped because of the last frame.
    pub fn reason(&self) -> DropReason {
        let reason = self.out.said.iter().rev().find_map(|said| match said {
            Said::Verdict(Verdict::Drop(reason)) => Some(*reason),
            _ => None,
        });
        reason.unwrap_or_else(|| panic!("no drop: {:?}", self.out.said))
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
        let targets = self.service(service).mode.targets().into_iter();
        targets.map(|target| target.of_family().unwrap()).collect()
    }

    /// The egress endpoint and tag of a client of a service in pool mode.
    pub fn egress(&self, service: &str, case: u8, client: (u32, u16)) -> (u32, u16, u32) {
        let timestamps = match case {
            0 => ClientTimestamps::Present,
            _ => ClientTimestamps::Absent,
        };
        let client = Endpoint { ip: client.0, port: client.1 }.into();
        let mapping =
            self.service(service).mode.outward(ClientSide { client, timestamps }).unwrap();
        let egress: Endpoint = mapping.egress.of_family().unwrap();
        (egress.ip, egress.port, mapping.tag.unwrap().value)
    }

    /// The target of a client, chosen by the definition.
    pub fn chosen<A: Address>(&self, service: &str, client: IpEndpoint) -> (A, u16) {
        let mode = &self.service(service).mode;
        let targets = mode.targets().into_iter().rev();
        let best = targets.max_by_key(|target| mode.weight(client, *target).unwrap()).unwrap();
        let best: Endpoint<A> = best.of_family().unwrap();
        (best.ip, best.port)
    }

    /// The IPv4 target of a client.
    pub fn target(&self, service: &str, client: (u32, u16)) -> (u32, u16) {
        self.chosen(service, Endpoint { ip: client.0, port: client.1 }.into())
    }
}

/// [`CONFIG`] in which each `from` has become its `to`.
pub fn edited(edits: &[(&str, &str)]) -> String {
    let mut config = CONFIG.to_owned();
    for (from, to) in edits {
        assert!(config.contains(from), "{from:?} is not in the config");
        config = config.replace(from, to);
    }
    config
}

fn mac_of(at: u8, configured: Option<MacAddr>) -> Mac {
    configured.map_or([2, 0, 0, 0, 0, 0x10 + at], |mac| mac.octets())
}

/// Checks that the constants are what their comments say.
#[test]
fn constants_are_what_they_say() {
    assert_eq!(CLIENT.0, ip("198.18.5.9"));
    assert_eq!((WEB.0, RAW.0), (ip("203.0.113.10"), ip("203.0.113.12")));
    assert_eq!(WEB_TARGET.0, ip("198.51.100.10"));
    assert_eq!(RAW_TARGETS.map(|target| target.0), [ip("198.51.100.40"), ip("198.51.100.41")]);
}
