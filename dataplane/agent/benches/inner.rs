//! The cost of an inner packet: routed, sealed and framed on one side; looked up, opened and
//! checked on the other. `cargo bench -p anyrelay-agent --bench inner`.
#![allow(clippy::unwrap_used, missing_docs, reason = "a bench fails by panicking")]

use std::hint::black_box;

use anyrelay_agent::inner::keys::PrivateKey;
use anyrelay_agent::inner::{InnerSide, PeerConfig};
use anyrelay_core::time::Now;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Side 0 or 1 with the other one as its peer; the locator of a side is its number.
fn side(number: u8) -> InnerSide<u8> {
    let private = |number: u8| PrivateKey::new([number + 1; 32]);
    let peer = PeerConfig {
        name: "peer".to_owned(),
        public_key: private(1 - number).public().unwrap(),
        preshared_key: None,
        locator: Some(1 - number),
        allowed: vec![format!("10.9.0.{}/32", 1 - number).parse().unwrap()],
        keepalive_seconds: 0,
    };
    let random = Box::new(|bytes: &mut [u8]| getrandom::fill(bytes).is_ok());
    InnerSide::new(private(number), vec![peer], random).unwrap()
}

fn packet(len: usize) -> Vec<u8> {
    let mut packet = vec![0; len];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&u16::try_from(len).unwrap().to_be_bytes());
    packet[12..20].copy_from_slice(&[10, 9, 0, 0, 10, 9, 0, 1]);
    packet
}

/// Two sides with a session.
fn pair(now: Now) -> [InnerSide<u8>; 2] {
    let mut sides = [side(0), side(1)];
    let mut messages = Vec::new();
    sides[0].send(now, &packet(20), &mut |to, body| messages.push((to, body.to_vec())));
    while let Some((to, body)) = messages.pop() {
        let out = &mut |to, body: &[u8]| messages.push((to, body.to_vec()));
        sides[usize::from(to)].receive(now, 1 - to, &body, out);
    }
    sides
}

fn bench(criterion: &mut Criterion) {
    let now = Now::from_millis(1_700_000_000_000);
    let mut group = criterion.benchmark_group("inner");
    for len in [64, 576, 1288] {
        let packet = packet(len);
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(format!("seal/{len}"), |bencher| {
            let [mut one, _] = pair(now);
            bencher.iter(|| {
                one.send(now, black_box(&packet), &mut |_, body| {
                    black_box(body);
                });
            });
        });
        group.bench_function(format!("open/{len}"), |bencher| {
            let [mut one, mut two] = pair(now);
            // Each packet opens once, so each turn needs new ones, sealed before the measurement.
            bencher.iter_batched_ref(
                || {
                    let mut bodies = Vec::with_capacity(BATCH);
                    for _ in 0..BATCH {
                        one.send(now, &packet, &mut |_, body| bodies.push(body.to_vec()));
                    }
                    bodies
                },
                |bodies| {
                    for body in bodies {
                        let opened = two.receive(now, 0, body, &mut |_, _| {});
                        assert!(black_box(opened).is_some());
                    }
                },
                criterion::BatchSize::LargeInput,
            );
        });
    }
    group.finish();
    let mut group = criterion.benchmark_group("handshake");
    group.bench_function("both sides", |bencher| bencher.iter(|| pair(now)));
    group.finish();
}

/// Packets opened in one measured turn, whose time is shown.
const BATCH: usize = 100;

criterion_group!(benches, bench);
criterion_main!(benches);
