//! Nanoseconds of a POP's decision on one segment of a tunnel: data, keepalives, handshakes.
//!
//! `cargo bench -p anyrelay-core --bench tunnel`. The bench `engine` includes frames.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a failed one ends the bench")]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use anyrelay_core::keys::{AgentKey, AgentKeys, KeyFile, Secret, Tenants};
use anyrelay_core::net::Family;
use anyrelay_core::predict::{self, Constants};
use anyrelay_core::seq::SeqNum;
use anyrelay_core::time::{Tick, UnixTime};
use anyrelay_core::tunnel::message::KEEPALIVE_LEN_MAX;
use anyrelay_core::tunnel::{
    DataHeader, KeepaliveRequest, TunnelSegment, TunnelService, TunnelVip, forward, handshake,
    keepalive,
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Agents, used in a cycle, so that branch prediction does not learn them.
const AGENTS: u32 = 512;
const NOW: UnixTime = UnixTime::from_millis(1_795_341_988_025);

struct Bench {
    service: TunnelService,
    key: AgentKey,
}

struct Sent {
    src: SocketAddr,
    dst: SocketAddr,
    seq: SeqNum,
    ack: SeqNum,
    payload: Vec<u8>,
}

impl Sent {
    fn segment(&self) -> TunnelSegment<'_> {
        TunnelSegment {
            src: self.src,
            dst: self.dst,
            seq: self.seq,
            ack: self.ack,
            flags: 0x18,
            options: &[],
            payload: &self.payload,
            datagram_len: 1400,
        }
    }
}

impl Bench {
    fn new() -> Self {
        let keys = KeyFile::from_random([[1; 32], [2; 32], [3; 32]]);
        let vip = |text: &str| Some(TunnelVip::new(text.parse().unwrap(), &keys).unwrap());
        let mut tenants = Tenants::default();
        let tenant = tenants.add("acme", Secret::new([4; 32])).unwrap();
        let key = tenants.issue("acme", "agent").unwrap();
        let service = TunnelService {
            constants: Constants::default(),
            tunnel_mtu: 1400,
            vip4: vip("203.0.113.20:443"),
            vip6: vip("[2001:db8::20]:443"),
            tenants: vec![tenant].into(),
            agents: Arc::new(AgentKeys::new(&tenants).unwrap()),
        };
        Bench { service, key }
    }

    fn sent(&self, src: SocketAddr, base: u32, payload: Vec<u8>) -> Sent {
        let vip = self.service.vip(Family::of(src.ip())).unwrap();
        let (tick, stride) = (self.tick(), self.service.constants.stride);
        let seq = predict::at(SeqNum(base), stride, tick).plus(1);
        let ack = predict::at(vip.predictor.start(src), stride, tick).plus(1);
        Sent { src, dst: vip.addr, seq, ack, payload }
    }

    fn tick(&self) -> Tick {
        NOW.tick(self.service.constants.tick_ms)
    }

    fn data(&self, from: Family, to: Family, i: u32) -> Sent {
        let token = |family, i| {
            let vip = self.service.vip(family).unwrap();
            vip.tokens.seal(NOW, agent(family, i), 7, self.key.tenant, 1).unwrap().token
        };
        let header = DataHeader {
            destination: to,
            sender: from,
            destination_odd: false,
            sender_odd: false,
            offset_steps: 0,
            channel: 1,
            session: 2,
        };
        let (own, to) = (token(from, i), token(to, i + AGENTS));
        let payload = [&header.write_up()[..], to.as_bytes(), own.as_bytes(), &[0; 1280]].concat();
        self.sent(agent(from, i), 0x0007_8000, payload)
    }

    fn keepalive(&self, family: Family, i: u32) -> Sent {
        let AgentKey { tenant, agent: number, key } = &self.key;
        let request = KeepaliveRequest { tenant: *tenant, agent: *number, nonce: i.into() };
        let mut payload = [0; KEEPALIVE_LEN_MAX];
        let len = request.write(family, key, &mut payload);
        self.sent(agent(family, i), 0x0007_8000, payload[..len].to_vec())
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
                let segment = cycle.next().unwrap().segment();
                forward::accept(&bench.service, NOW, black_box(&segment), |_| true).unwrap()
            });
        });
    }
    for (name, family) in [("keepalive_v4", Family::V4), ("keepalive_v6", Family::V6)] {
        let sent: Vec<_> = (0..AGENTS).map(|i| bench.keepalive(family, i)).collect();
        let mut cycle = sent.iter().cycle();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let segment = cycle.next().unwrap().segment();
                let known = keepalive::check(&bench.service, NOW, black_box(&segment)).unwrap();
                keepalive::reply(&known, 1, &segment).unwrap()
            });
        });
        let mut cycle = sent.iter().cycle();
        group.bench_function(format!("syn_ack{}", &name[9..]), |bencher| {
            bencher.iter(|| {
                let segment = cycle.next().unwrap().segment();
                handshake::syn_ack(&bench.service, NOW, black_box(&segment)).unwrap()
            });
        });
    }
}

criterion_group!(benches, decisions);
criterion_main!(benches);
