//! Nanoseconds per packet of the keyed permutation and of the choice of targets.
//!
//! `cargo bench -p anyrelay-core --bench permutation`; the shown time is that of a burst, and the
//! rate is in packets.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a failed one ends the bench")]

use std::hint::black_box;

use anyrelay_core::config::PoolBits;
use anyrelay_core::config::{MEMORY_MS, SKEW_MS, Target, TargetList};
use anyrelay_core::keys::Secret;
use anyrelay_core::net::{Endpoint, IpEndpoint};
use anyrelay_core::relay::keys::RelayKeys;
use anyrelay_core::relay::pool::permutation::{Mapped, Permutation};
use anyrelay_core::relay::targets::{Chosen, Targets};
use anyrelay_core::time::UnixTime;
use cpu_vector::Isa;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::net::SocketAddr;

const VIP: Endpoint = Endpoint { ip: 0xcb00_710a, port: 443 };

fn keys() -> RelayKeys {
    RelayKeys::new(&Secret::new([7; 32]), Isa::best()).unwrap()
}

/// Bursts, used in a cycle, so that branch prediction does not learn them.
const BURSTS: u32 = 512;

fn clients(seed: u32, count: usize) -> Vec<Endpoint> {
    let mix = |i: u32| (seed * 64 + i).wrapping_mul(0x9e37_79b1);
    let client = |i| Endpoint { ip: mix(i), port: 1024 + (mix(i) >> 20) as u16 };
    (0..count as u32).map(client).collect()
}

fn permutation(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("permutation");
    let permutation = Permutation::new(&keys(), VIP, PoolBits::new(8).unwrap());
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

/// The choice among targets: without dates, with weights, and within the memory of a change, when
/// a client may have two.
fn choice(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rendezvous");
    group.throughput(Throughput::Elements(32));
    let clients: Vec<_> = clients(1, 32).into_iter().map(IpEndpoint::V4).collect();
    let (changed, now) = (UnixTime::from_millis(1_000_000), UnixTime::from_millis(2_000_000));
    for (name, highest_weight, since) in [
        ("targets", 1, UnixTime::default()),
        ("weighted_targets", 3, UnixTime::default()),
        ("changed_targets", 1, changed),
    ] {
        for count in [1, 2, 8, 64] {
            let target = |i: u8| {
                let address = SocketAddr::from(([198, 51, 100, 1 + i], 8443));
                let weight = 1 + u16::from(i) % highest_weight;
                let since = if i > 0 && i == count - 1 { since } else { UnixTime::default() };
                Target { since, ..Target::always(address, weight) }
            };
            let entries = (0..count).map(target).collect();
            let (memory_ms, skew_ms) = (MEMORY_MS, SKEW_MS);
            let list = TargetList { serial: 0, memory_ms, skew_ms, entries };
            let targets = Targets::new(&keys(), VIP.into(), &list, &[], None);
            let mut chosen = [Chosen::default(); 32];
            group.bench_function(BenchmarkId::new(name, count), |bencher| {
                bencher.iter(|| {
                    targets.window(now).choose(black_box(&clients), &mut chosen);
                    black_box(&mut chosen);
                });
            });
        }
    }
}

criterion_group!(benches, permutation, choice);
criterion_main!(benches);
