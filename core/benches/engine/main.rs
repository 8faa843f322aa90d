//! Nanoseconds per packet of the whole engine: `Pop::handle_burst` with bursts of 32 of the
//! smallest segments, of many clients.
//!
//! `cargo bench -p anyrelay-core --bench engine`; the shown time is that of a burst, and the rate
//! is in packets. At the end it prints the cost of packets of relays with IPv6 and of tunnels
//! relative to a relayed one, from interleaved runs. `receive` is the share of filling frames, like
//! a port.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a failure ends the bench")]

mod traffic;

use std::sync::Arc;
use std::time::Duration;

use anyrelay_core::net::{Family, PortIndex};
use anyrelay_core::pop::BURST;
use anyrelay_core::time::Now;
use anyrelay_kit::buffer::{Buffer, Sink};
use anyrelay_kit::frames::timestamps;
use anyrelay_kit::pop::RunningPop;
use arrayvec::ArrayVec;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use traffic::{LAN, MACS, WAN, datagrams, down, down_prefix, snapshot, syns, up, up_transparent6};

/// Packets of a burst, as in DPDK's examples.
const PACKETS: usize = 32;

struct Bench {
    pop: RunningPop,
    sink: Sink,
    /// Must not run backwards, because of token buckets; the tick is constant.
    now: Now,
}

impl Bench {
    fn new() -> Bench {
        let free = (0..BURST).map(|_| Buffer::new()).collect();
        let pop = RunningPop::new(snapshot(), MACS.to_vec(), 1);
        Bench { pop, sink: Sink { free, sent: [0; 2] }, now: Now::from_millis(1000) }
    }

    fn handle(&mut self, port: PortIndex, burst: &mut ArrayVec<Buffer, BURST>) {
        let RunningPop { workers, snapshot, .. } = &mut self.pop;
        workers[0].handle_burst(self.now, snapshot, port, burst, &mut self.sink);
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
                self.handle(port, &mut burst);
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
            self.handle(port, &mut burst);
            took += start.elapsed();
        }
        assert_eq!(self.sink.sent.iter().sum::<u64>(), (bursts * PACKETS) as u64);
        took
    }
}

/// Prints the cost of a packet of each kind as a multiple of one of `kinds[0]`, from runs in turn.
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
    let snapshot = Arc::clone(&bench.pop.snapshot);
    let unix = bench.now.unix;
    let stamps = timestamps(7, 8);
    let kinds = [
        ("up", WAN, up("203.0.113.10", 443, &stamps)),
        ("up_bare", WAN, up("203.0.113.10", 443, &[])),
        ("down", LAN, down(&snapshot)),
        ("up_eight_targets", WAN, up("203.0.113.10", 80, &stamps)),
        ("up_transparent", WAN, up("203.0.113.11", 443, &stamps)),
    ];
    for (name, port, frames) in &kinds {
        bench.time(criterion, name, *port, frames);
    }
    let relays6 = [
        ("up", WAN, up("203.0.113.10", 443, &stamps)),
        ("up_prefix", WAN, up("203.0.113.12", 443, &stamps)),
        ("down_prefix", LAN, down_prefix(&snapshot)),
        ("up_transparent_6", WAN, up_transparent6()),
    ];
    for (name, port, frames) in relays6.iter().skip(1) {
        bench.time(criterion, name, *port, frames);
    }
    ratios(&mut bench, &relays6);
    let tunnels = [
        ("up", WAN, up("203.0.113.10", 443, &stamps)),
        ("tunnel_datagram_4", WAN, datagrams(&snapshot, unix, Family::V4, 0)),
        ("tunnel_datagram_6", WAN, datagrams(&snapshot, unix, Family::V6, 0)),
        ("tunnel_datagram_4_1300", WAN, datagrams(&snapshot, unix, Family::V4, 1300)),
        ("tunnel_syn_ack_4", WAN, syns(&snapshot, Family::V4)),
        ("tunnel_syn_ack_6", WAN, syns(&snapshot, Family::V6)),
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
