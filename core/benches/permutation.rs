//! Nanoseconds per packet of the keyed permutation and of the choice of targets.
//!
//! `cargo bench -p anyrelay-core --bench permutation`; the shown time is that of a burst, and the
//! rate is in packets.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a failed one ends the bench")]

use std::hint::black_box;

use anyrelay_core::config::PoolBits;
use anyrelay_core::crypto::Key128;
use anyrelay_core::net::{Endpoint, IpEndpoint};
use anyrelay_core::relay::pool::permutation::{Mapped, Permutation};
use anyrelay_core::relay::targets::rendezvous::{Rendezvous, Weighted};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const KEY: Key128 = Key128::new(*b"a key for timing");

/// Bursts, used in a cycle, so that branch prediction does not learn them.
const BURSTS: u32 = 512;

fn clients(seed: u32, count: usize) -> Vec<Endpoint> {
    let mix = |i: u32| (seed * 64 + i).wrapping_mul(0x9e37_79b1);
    let client = |i| Endpoint { ip: mix(i), port: 1024 + (mix(i) >> 20) as u16 };
    (0..count as u32).map(client).collect()
}

fn permutation(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("permutation");
    let permutation = Permutation::new(&KEY, PoolBits::new(8).unwrap());
    for burst in [1, 4, 8, 16, 32, 64] {
        group.throughput(Throughput::Elements(burst as u64));
        let inputs: Vec<_> = (0..BURSTS).map(|seed| clients(seed, burst)).collect();
        let mut cycle = inputs.iter().cycle();
        group.bench_function(BenchmarkId::new("forward", burst), |bencher| {
            bencher.iter(|| {
                let clients = black_box(cycle.next().unwrap()).iter().copied();
                permutation.forward(clients, |mapped| {
                    black_box(mapped);
                });
            });
        });
        let images: Vec<Vec<Mapped>> = inputs
            .iter()
            .map(|clients| {
                let mut images = Vec::new();
                permutation.forward(clients.iter().copied(), |mapped| images.push(mapped));
                images
            })
            .collect();
        let mut cycle = images.iter().cycle();
        group.bench_function(BenchmarkId::new("inverse", burst), |bencher| {
            bencher.iter(|| {
                let mapped = black_box(cycle.next().unwrap()).iter().copied();
                permutation.inverse(mapped, |client| {
                    black_box(client);
                });
            });
        });
    }
}

fn rendezvous(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rendezvous");
    group.throughput(Throughput::Elements(32));
    let clients: Vec<_> = clients(1, 32).into_iter().map(IpEndpoint::V4).collect();
    for (name, highest_weight) in [("targets", 1), ("weighted_targets", 3)] {
        for count in [1, 2, 8, 64] {
            let target = |i: u32| Weighted {
                target: Endpoint { ip: 0xc633_6401 + i, port: 8443 }.into(),
                weight: 1 + i as u16 % highest_weight,
            };
            let targets: Vec<_> = (0..count).map(target).collect();
            let rendezvous = Rendezvous::new(&KEY, &targets);
            let mut chosen = [0; 32];
            group.bench_function(BenchmarkId::new(name, count), |bencher| {
                bencher.iter(|| {
                    rendezvous.choose(black_box(&clients), &mut chosen);
                    black_box(&mut chosen);
                });
            });
        }
    }
}

criterion_group!(benches, permutation, rendezvous);
criterion_main!(benches);
