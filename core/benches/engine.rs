//! Nanoseconds per packet of the whole engine: `Pop::handle_burst` with bursts of 32 of the
//! smallest segments, of many clients.
//!
//! `cargo bench -p anyrelay-core --bench engine`; the time shown is for a burst, the rate beside it
//! in packets. At the end, what packets of relays with IPv6 and of tunnels cost is told beside a
//! relayed one, from runs that take turns. `receive` is what the others spend on filling their
//! frames, as a port would.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a failed one ends the bench")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyrelay_core::config::Config;
use anyrelay_core::counters::Counters;
use anyrelay_core::frame::Frame;
use anyrelay_core::keys::{KeyFile, Secret, Tenants};
use anyrelay_core::net::{Endpoint, Family, PortIndex};
use anyrelay_core::pop::{BURST, Output, Pop, SoftState};
use anyrelay_core::predict;
use anyrelay_core::relay::Mode;
use anyrelay_core::relay::mapping::{ClientSide, ClientTimestamps};
use anyrelay_core::seq::SeqNum;
use anyrelay_core::snapshot::Snapshot;
use anyrelay_core::time::Now;
use anyrelay_core::tunnel::DataHeader;
use anyrelay_core::wire::MacAddr;
use anyrelay_kit::frames::{ACK, Mac, PSH, SYN, Segment, Tcp, framed, ip, timestamps};
use arrayvec::ArrayVec;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const CONFIG: &str = r#"
[pop]
name = "bench"
id = 1
keys = "keys.toml"
tenants = "tenants.toml"
[limits]
syn_ack_per_second = 1000000000
[[port]]
name = "wan"
device = "wan"
side = "client"
mac = "02:00:00:00:00:01"
addresses = ["192.0.2.2/24", "fe80::2/64"]
gateways = ["192.0.2.1", "fe80::1"]
gateway_macs = ["02:00:00:00:01:01", "02:00:00:00:01:01"]
[[port]]
name = "lan"
device = "lan"
side = "target"
mac = "02:00:00:00:00:02"
addresses = ["192.0.3.2/24", "fe80::3/64"]
gateways = ["192.0.3.1", "fe80::1"]
gateway_macs = ["02:00:00:00:01:02", "02:00:00:00:01:02"]
[[worker]]
core = 0
rx = ["wan:0", "lan:0"]
[[relay]]
name = "one"
vip = "203.0.113.10:443"
targets = ["198.51.100.10:8443"]
egress = { pool = "100.64.8.0/24" }
[[relay]]
name = "eight"
vip = "203.0.113.10:80"
targets = [
    "198.51.100.20:80", "198.51.100.21:80", "198.51.100.22:80", "198.51.100.23:80",
    "198.51.100.24:80", "198.51.100.25:80", "198.51.100.26:80", "198.51.100.27:80",
]
egress = { pool = "100.64.8.0/24" }
[[relay]]
name = "transparent"
vip = "203.0.113.11:443"
targets = ["198.51.100.40:8443"]
egress = "transparent"
[[relay]]
name = "prefix"
vip = "203.0.113.12:443"
targets = ["[2001:db8:5::1]:8443"]
egress = { prefix = "2001:db8:64::/64" }
[[relay]]
name = "transparent6"
vip = "[2001:db8::10]:443"
targets = ["[2001:db8:5::40]:8443"]
egress = "transparent"
[[tunnel]]
name = "tunnel"
vip4 = "203.0.113.20:443"
vip6 = "[2001:db8::20]:443"
"#;

const WAN: PortIndex = PortIndex(0);
const LAN: PortIndex = PortIndex(1);
const MACS: [Mac; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];
const GATEWAYS: [Mac; 2] = [[2, 0, 0, 0, 1, 1], [2, 0, 0, 0, 1, 2]];
/// Packets of a burst, as DPDK's examples have it.
const PACKETS: usize = 32;
/// Clients, each with one frame: they do not fit a first-level cache.
const CLIENTS: u32 = 8192;

/// A buffer that is used again and again.
struct Buffer {
    bytes: Box<[u8; 2048]>,
    start: usize,
    end: usize,
}

const HEADROOM: usize = 128;

impl Buffer {
    fn fill(&mut self, bytes: &[u8]) {
        (self.start, self.end) = (HEADROOM, HEADROOM + bytes.len());
        self.bytes[HEADROOM..self.end].copy_from_slice(bytes);
    }
}

impl Frame for Buffer {
    fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }
    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.end]
    }
    fn prepend(&mut self, count: usize) -> bool {
        let start = self.start.checked_sub(count);
        self.start = start.unwrap_or(self.start);
        start.is_some()
    }
    fn append(&mut self, count: usize) -> bool {
        self.end += count;
        self.end <= self.bytes.len()
    }
    fn trim_front(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }
    fn truncate(&mut self, len: usize) {
        self.end = self.end.min(self.start + len);
    }
}

/// Takes frames and gives the buffers back.
struct Sink {
    free: Vec<Buffer>,
    sent: [u64; 2],
}

impl Output<Buffer> for Sink {
    fn transmit(&mut self, port: PortIndex, frame: Buffer) {
        self.sent[usize::from(port.0)] += 1;
        self.free.push(frame);
    }
    fn allocate(&mut self) -> Option<Buffer> {
        None
    }
}

struct Bench {
    snapshot: Snapshot,
    pop: Pop,
    sink: Sink,
    /// Token buckets remember it, so it must not run backwards; the tick stays the same.
    now: Now,
}

impl Bench {
    fn new() -> Bench {
        let config = Config::parse("bench.toml", CONFIG).unwrap_or_else(|error| panic!("{error}"));
        let keys = KeyFile::from_random([[1; 32], [2; 32], [3; 32]]);
        let mut tenants = Tenants::default();
        tenants.add("bench", Secret::new([4; 32])).unwrap();
        let snapshot = Snapshot::build(&config, &keys, &tenants, None).unwrap();
        let soft = Arc::new(SoftState::new(&snapshot, &MACS.map(MacAddr::new)));
        let buffer = || Buffer { bytes: Box::new([0; 2048]), start: 0, end: 0 };
        let free = (0..BURST).map(|_| buffer()).collect();
        let pop = Pop::new(soft, Arc::new(Counters::default()));
        let now = Now::from_millis(1000);
        Bench { snapshot, pop, sink: Sink { free, sent: [0; 2] }, now }
    }

    /// What stands for a client at the first service: egress address and port, and tag.
    fn egress(&self, timestamps: ClientTimestamps, client: (u32, u16)) -> ((u32, u16), u32) {
        let client = Endpoint { ip: client.0, port: client.1 }.into();
        let relay = self.snapshot.relays().next().unwrap();
        let mapping = relay.mode.outward(ClientSide { client, timestamps }).unwrap();
        let egress: Endpoint = mapping.egress.of_family().unwrap();
        ((egress.ip, egress.port), mapping.tag.unwrap().value)
    }

    fn receive(&mut self, frames: &[Vec<u8>]) -> ArrayVec<Buffer, BURST> {
        let mut burst = ArrayVec::new();
        for (frame, mut buffer) in frames.iter().zip(self.sink.free.drain(BURST - PACKETS..)) {
            buffer.fill(frame);
            burst.push(buffer);
        }
        burst
    }

    /// Times bursts of `frames`, all of which are sent on.
    fn time(&mut self, criterion: &mut Criterion, name: &str, port: PortIndex, frames: &[Vec<u8>]) {
        let mut group = criterion.benchmark_group("engine");
        group.throughput(Throughput::Elements(PACKETS as u64));
        let mut bursts = frames.chunks_exact(PACKETS).cycle();
        let mut received = 0;
        self.sink.sent = [0; 2];
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut burst = self.receive(bursts.next().unwrap());
                received += PACKETS as u64;
                self.now.instant = self.now.instant.plus_millis(1);
                self.pop.handle_burst(self.now, &self.snapshot, port, &mut burst, &mut self.sink);
            });
        });
        assert_eq!(self.sink.sent.iter().sum::<u64>(), received, "{name}: not all were sent on");
    }

    /// How long the engine takes for `bursts` bursts of `frames`, filling them not counted.
    fn measure(&mut self, port: PortIndex, frames: &[Vec<u8>], bursts: usize) -> Duration {
        let mut took = Duration::ZERO;
        self.sink.sent = [0; 2];
        for frames in frames.chunks_exact(PACKETS).cycle().take(bursts) {
            let mut burst = self.receive(frames);
            self.now.instant = self.now.instant.plus_millis(1);
            let start = std::time::Instant::now();
            self.pop.handle_burst(self.now, &self.snapshot, port, &mut burst, &mut self.sink);
            took += start.elapsed();
        }
        assert_eq!(self.sink.sent.iter().sum::<u64>(), (bursts * PACKETS) as u64);
        took
    }

    /// A datagram from each agent to another, with bodies of `body` bytes.
    fn datagrams(&self, family: Family, body: usize) -> Vec<Vec<u8>> {
        let service = &self.snapshot.tunnels().next().unwrap().service;
        let (vip, stride) = (service.vip(family).unwrap(), service.constants.stride);
        let unix = self.now.unix;
        let tick = unix.tick(service.constants.tick_ms);
        let token = |agent| vip.tokens.seal(unix, agent, 7, 1, 1).unwrap().token;
        let agents: Vec<_> = clients().map(|client| agent(family, client)).collect();
        let others = agents.iter().skip(1).chain(agents.first());
        let datagram = |(&agent, &other): (&SocketAddr, &SocketAddr)| {
            let header = DataHeader {
                destination: family,
                sender: family,
                destination_odd: false,
                sender_odd: false,
                offset_steps: 3,
                channel: 1,
                session: 2,
            };
            let mut data = header.write_up().to_vec();
            data.extend(token(other).as_bytes());
            data.extend(token(agent).as_bytes());
            data.extend(vec![0xda; body]);
            let sent = predict::at(SeqNum(7 << 16 | 0x8000), stride, tick).plus(1 + 192);
            let acked = predict::at(vip.predictor.start(agent), stride, tick).plus(1);
            tunnel_frame(agent, vip.addr, PSH | ACK, (sent.0, acked.0), &data)
        };
        agents.iter().zip(others).map(datagram).collect()
    }

    /// A segment from the IPv6 target to each client of the service in prefix mode.
    fn down_prefix(&self) -> Vec<Vec<u8>> {
        let relay = self.snapshot.relays().find(|relay| matches!(relay.mode, Mode::Prefix(_)));
        let mode = &relay.unwrap().mode;
        let target = "[2001:db8:5::1]:8443".parse().unwrap();
        let segment = |(ip, port)| {
            let client = Endpoint { ip, port }.into();
            let side = ClientSide { client, timestamps: ClientTimestamps::Absent };
            let egress = mode.outward(side).unwrap().egress.into();
            let segment = Segment { ack: 2, ..Segment::new(target, egress, ACK) };
            framed(MACS[1], GATEWAYS[1], None, &segment.datagram())
        };
        clients().map(segment).collect()
    }

    /// A SYN from each agent.
    fn syns(&self, family: Family) -> Vec<Vec<u8>> {
        let vip = self.snapshot.tunnels().next().unwrap().service.vip(family).unwrap().addr;
        clients().map(|client| tunnel_frame(agent(family, client), vip, SYN, (9, 0), &[])).collect()
    }
}

fn clients() -> impl Iterator<Item = (u32, u16)> {
    let mix = |i: u32| i.wrapping_mul(0x9e37_79b1);
    (0..CLIENTS).map(move |i| (ip("1.0.0.0") + (mix(i) >> 9), 1024 + (mix(i) as u16 >> 1)))
}

fn agent(family: Family, (ip, port): (u32, u16)) -> SocketAddr {
    let ip: IpAddr = match family {
        Family::V4 => Ipv4Addr::from_bits(ip).into(),
        Family::V6 => Ipv6Addr::from_bits(0x2600 << 112 | u128::from(ip) << 64 | 1).into(),
    };
    SocketAddr::new(ip, port)
}

/// A frame of an agent's.
fn tunnel_frame(
    src: SocketAddr,
    dst: SocketAddr,
    flags: u8,
    (seq, ack): (u32, u32),
    data: &[u8],
) -> Vec<u8> {
    let segment = Segment { seq, ack, data: data.to_vec(), ..Segment::new(src, dst, flags) };
    framed(MACS[0], GATEWAYS[0], None, &segment.datagram())
}

/// What a packet of each kind costs, in packets of `kinds[0]`, from runs that take turns.
fn ratios(bench: &mut Bench, kinds: &[(&str, PortIndex, Vec<Vec<u8>>)]) {
    const ROUNDS: usize = 21;
    let mut ratios = vec![Vec::new(); kinds.len()];
    let mut base_ns = Vec::new();
    for _ in 0..ROUNDS {
        let mut took = kinds.iter().map(|(_, port, frames)| bench.measure(*port, frames, 512));
        let base = took.next().unwrap();
        base_ns.push(base.as_nanos() as f64 / (512 * PACKETS) as f64);
        for (ratios, took) in ratios.iter_mut().skip(1).zip(took) {
            ratios.push(took.as_nanos() as f64 / base.as_nanos() as f64);
        }
    }
    let median = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    println!("a packet of {} costs {:.0} ns; one of", kinds[0].0, median(&mut base_ns));
    for ((name, ..), ratios) in kinds.iter().zip(&mut ratios).skip(1) {
        println!("  {name:<24} {:.2} of that (median of {ROUNDS})", median(ratios));
    }
}

fn received(port: PortIndex, segment: &Tcp) -> Vec<u8> {
    let port = usize::from(port.0);
    framed(MACS[port], GATEWAYS[port], None, &segment.datagram())
}

fn engine(criterion: &mut Criterion) {
    let mut bench = Bench::new();
    let up = |vip: &str, port, options: &[u8]| -> Vec<Vec<u8>> {
        let segment = |client| Tcp::new(client, (ip(vip), port), ACK).options(options);
        clients().map(|client| received(WAN, &segment(client))).collect()
    };
    let down = |bench: &Bench, timestamps| -> Vec<Vec<u8>> {
        let segment = |client| {
            let (egress, tag) = bench.egress(timestamps, client);
            Tcp::new((ip("198.51.100.10"), 8443), egress, ACK).stamped(7, tag)
        };
        clients().map(|client| received(LAN, &segment(client))).collect()
    };
    let stamps = timestamps(7, 8);
    let down_0 = down(&bench, ClientTimestamps::Present);
    let down_1 = down(&bench, ClientTimestamps::Absent);
    let kinds = [
        ("up_case_0", WAN, up("203.0.113.10", 443, &stamps)),
        ("up_case_1", WAN, up("203.0.113.10", 443, &[])),
        ("down_case_0", LAN, down_0),
        ("down_case_1", LAN, down_1),
        ("up_eight_targets", WAN, up("203.0.113.10", 80, &stamps)),
        ("up_transparent", WAN, up("203.0.113.11", 443, &stamps)),
    ];
    for (name, port, frames) in &kinds {
        bench.time(criterion, name, *port, frames);
    }
    let up_6 = |client| {
        let vip = "[2001:db8::10]:443".parse().unwrap();
        tunnel_frame(agent(Family::V6, client), vip, ACK, (1, 2), &[])
    };
    let relays6 = [
        ("up_case_0", WAN, up("203.0.113.10", 443, &stamps)),
        ("up_prefix", WAN, up("203.0.113.12", 443, &stamps)),
        ("down_prefix", LAN, bench.down_prefix()),
        ("up_transparent_6", WAN, clients().map(up_6).collect()),
    ];
    for (name, port, frames) in relays6.iter().skip(1) {
        bench.time(criterion, name, *port, frames);
    }
    ratios(&mut bench, &relays6);
    let tunnels = [
        ("up_case_0", WAN, up("203.0.113.10", 443, &stamps)),
        ("tunnel_datagram_4", WAN, bench.datagrams(Family::V4, 0)),
        ("tunnel_datagram_6", WAN, bench.datagrams(Family::V6, 0)),
        ("tunnel_datagram_4_1300", WAN, bench.datagrams(Family::V4, 1300)),
        ("tunnel_syn_ack_4", WAN, bench.syns(Family::V4)),
        ("tunnel_syn_ack_6", WAN, bench.syns(Family::V6)),
    ];
    for (name, port, frames) in tunnels.iter().skip(1) {
        bench.time(criterion, name, *port, frames);
    }
    ratios(&mut bench, &tunnels);
    let mut group = criterion.benchmark_group("engine");
    group.throughput(Throughput::Elements(PACKETS as u64));
    let mut bursts = kinds[0].2.chunks_exact(PACKETS).cycle();
    group.bench_function("receive", |bencher| {
        bencher.iter(|| {
            let burst = bench.receive(bursts.next().unwrap());
            bench.sink.free.extend(burst);
        });
    });
}

criterion_group!(benches, engine);
criterion_main!(benches);
