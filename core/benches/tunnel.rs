//! Nanoseconds of a POP's decision on one segment of a tunnel: data, keepalives, handshakes.
//!
//! `cargo bench -p anyrelay-core --bench tunnel`. The bench `engine` includes frames.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a failed one ends the bench")]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyrelay_core::keys::AgentKey;
use anyrelay_core::net::Family;
use anyrelay_core::predict::Constants;
use anyrelay_core::seq::SeqNum;
use anyrelay_core::time::UnixTime;
use anyrelay_core::tunnel::{TunnelSegment, TunnelService, forward, handshake, keepalive};
use anyrelay_kit::config;
use anyrelay_kit::frames::Segment;
use anyrelay_kit::tunnel::{self, ForgedAgent};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Agents, used in a cycle, so that branch prediction does not learn them.
const AGENTS: u32 = 512;
const NOW: UnixTime = UnixTime::from_millis(1_795_341_988_025);

struct Bench {
    service: TunnelService,
    key: AgentKey,
}

/// A segment as the POP reads it.
fn read(segment: &Segment) -> TunnelSegment<'_> {
    TunnelSegment {
        src: segment.src,
        dst: segment.dst,
        seq: SeqNum(segment.seq),
        ack: SeqNum(segment.ack),
        flags: segment.flags,
        options: &segment.options,
        payload: &segment.data,
        datagram_len: 1400,
    }
}

impl Bench {
    fn new() -> Self {
        let (tenants, key) = config::tenants_and_agent();
        Bench { service: tunnel::service(&config::keys(), &tenants, Constants::default()), key }
    }

    fn agent(&self, family: Family, i: u32) -> ForgedAgent {
        ForgedAgent::new(&self.service, NOW, agent(family, i), 7)
    }

    fn data(&self, from: Family, to: Family, i: u32) -> Segment {
        self.agent(from, i).data(&self.agent(to, i + AGENTS), 0, 2, &[0; 1280])
    }

    fn keepalive(&self, family: Family, i: u32) -> Segment {
        self.agent(family, i).keepalive(&self.key, i.into())
    }
}

fn agent(family: Family, i: u32) -> SocketAddr {
    let mixed = i.wrapping_mul(0x9e37_79b1);
    let ip: IpAddr = match family {
        Family::V4 => Ipv4Addr::from_bits(mixed).into(),
        Family::V6 => Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(mixed)).into(),
    };
    SocketAddr::new(ip, 1024 + (mixed >> 20) as u16)
}

fn decisions(criterion: &mut Criterion) {
    let bench = Bench::new();
    let mut group = criterion.benchmark_group("tunnel");
    group.throughput(Throughput::Elements(1));
    for (name, from, to) in [
        ("data_v4", Family::V4, Family::V4),
        ("data_v6", Family::V6, Family::V6),
        ("data_v4_to_v6", Family::V4, Family::V6),
    ] {
        let sent: Vec<_> = (0..AGENTS).map(|i| bench.data(from, to, i)).collect();
        let mut cycle = sent.iter().cycle();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let segment = read(cycle.next().unwrap());
                forward::accept(&bench.service, NOW, black_box(&segment), |_| true).unwrap()
            });
        });
    }
    for (name, family) in [("keepalive_v4", Family::V4), ("keepalive_v6", Family::V6)] {
        let sent: Vec<_> = (0..AGENTS).map(|i| bench.keepalive(family, i)).collect();
        let mut cycle = sent.iter().cycle();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let segment = read(cycle.next().unwrap());
                let known = keepalive::check(&bench.service, NOW, black_box(&segment)).unwrap();
                keepalive::reply(&known, 1, &segment).unwrap()
            });
        });
        let mut cycle = sent.iter().cycle();
        group.bench_function(format!("syn_ack{}", &name[9..]), |bencher| {
            bencher.iter(|| {
                let segment = read(cycle.next().unwrap());
                handshake::syn_ack(&bench.service, NOW, black_box(&segment)).unwrap()
            });
        });
    }
}

criterion_group!(benches, decisions);
criterion_main!(benches);
