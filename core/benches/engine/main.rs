//! Nanoseconds per packet of the whole engine: `Pop::handle_burst` with bursts of 32 of the
//! smallest segments, of many clients.
//!
//! `cargo bench -p anyrelay-core --bench engine`; the shown time is that of a burst, and the rate
//! is in packets. At the end it prints the cost of packets of relays with IPv6 and of tunnels
//! relative to a relayed one, from interleaved runs. `receive` is the share of filling frames.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a failed one ends the bench")]

mod buffer;
mod traffic;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyrelay_core::config::Config;
use anyrelay_core::counters::Counters;
use anyrelay_core::keys::{KeyFile, Secret, Tenants};
use anyrelay_core::net::{Endpoint, Family, PortIndex};
use anyrelay_core::pop::{BURST, Pop, SoftState};
use anyrelay_core::predict;
use anyrelay_core::relay::Mode;
use anyrelay_core::relay::mapping::{ClientSide, ClientTimestamps};
use anyrelay_core::seq::SeqNum;
use anyrelay_core::snapshot::Snapshot;
use anyrelay_core::time::Now;
use anyrelay_core::tunnel::DataHeader;
use anyrelay_core::wire::MacAddr;
use anyrelay_kit::frames::{ACK, PSH, SYN, Segment, Tcp, framed, ip, timestamps};
use arrayvec::ArrayVec;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use buffer::{Buffer, Sink};
use traffic::{GATEWAYS, LAN, MACS, WAN, agent, clients, received, tunnel_frame};

const CONFIG: &str = include_str!("config.toml");

/// Packets of a burst, as in DPDK's examples.
const PACKETS: usize = 32;

struct Bench {
    snapshot: Snapshot,
    pop: Pop,
    sink: Sink,
    /// Must not run backwards, because of token buckets; the tick is constant.
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
        let free = (0..BURST).map(|_| Buffer::new()).collect();
        let pop = Pop::new(soft, Arc::new(Counters::default()));
        let now = Now::from_millis(1000);
        Bench { snapshot, pop, sink: Sink { free, sent: [0; 2] }, now }
    }

    /// The egress address, port and tag of a client at the first service.
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

    /// Times bursts of `frames`, all of which are forwarded.
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
        assert_eq!(self.sink.sent.iter().sum::<u64>(), received, "{name}: not all were forwarded");
    }

    /// The engine's time for `bursts` bursts of `frames`, without filling them.
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

/// Prints the cost of a packet of each kind relative to `kinds[0]`, from interleaved runs.
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
