//! Counts what one POP on NICs takes for kernel TCP: instructions of the whole guest, kernel and
//! all, for each byte of payload, with the relay and with proxies.
//!
//! ```text
//! client namespace -- NIC -- POP in a guest -- NIC -- target namespace
//! ```
//!
//! QEMU counts the instructions that it runs: the guest's clock advances by a nanosecond for each,
//! and the time in which its CPU is not idle is their number. So neither the load of this machine
//! nor the speed of the emulation matter. All have the same NIC, virtio-net, which hands over
//! frames as they are on a wire. The proxies' kernel uses what it offers: checksums in both
//! directions, and segments of up to 64 KiB on the way out. The relay uses none of it. All run with
//! one thread.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use anyrelay_kit::config::{self, Egress, Table};
use anyrelay_lab::config::METRICS;
use anyrelay_lab::{Service, haproxy, nginx};
use anyrelay_vm::{Model, VIP, VIP4, Vm};
use clap::Args;
use serde_json::{Map, Value, json};

use crate::load::{self, Direction, Ends};
use crate::stats::{Spread, rounded};

/// Counts what one POP on NICs takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// How long each transfer is measured, in seconds.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
}

/// What runs in the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pop {
    Relay,
    HaProxy,
    Nginx,
}

impl Pop {
    const ALL: [Pop; 3] = [Pop::Relay, Pop::HaProxy, Pop::Nginx];

    fn key(self) -> &'static str {
        match self {
            Pop::Relay => "relay",
            Pop::HaProxy => "haproxy",
            Pop::Nginx => "nginx",
        }
    }

    /// Boots a guest and starts it there.
    fn start(self) -> anyhow::Result<Vm> {
        let builder = Vm::builder(Model::VirtioNet).counting().wire();
        match self {
            Pop::Relay => {
                let mut vm = builder.start()?;
                let target = config::relay("web", VIP, &[TARGET], Egress::Pool("100.64.8.0/24"));
                let idle = Table::default().with("idle", "backoff");
                let mut config = vm.config(1, 1).other("layout", idle);
                config.relays = vec![target];
                vm.start_pop(&config)?;
                Ok(vm)
            }
            Pop::HaProxy => {
                let text = haproxy::config_text(&[service()], Path::new("/run/haproxy.sock"));
                proxy(builder.programs(&["/usr/sbin/haproxy"]), &text, "haproxy -db -f")
            }
            Pop::Nginx => {
                let text = nginx::stream_text(&[service()], Path::new(PROXY_CONFIG));
                let programs = ["/usr/sbin/nginx", nginx::STREAM_MODULE];
                let command = "mkdir /etc/proxy.temp; nginx -g 'user nobody nogroup;' -e stderr -c";
                proxy(builder.programs(&programs), &text, command)
            }
        }
    }
}

/// What is proxied.
fn service() -> Service {
    Service { vip: VIP4.into(), targets: vec![TARGET.into()], ..Service::default() }
}

/// Boots a guest whose kernel has the NICs, and starts a proxy in it.
fn proxy(builder: anyrelay_vm::VmBuilder, text: &str, command: &str) -> anyhow::Result<Vm> {
    let mut vm = builder.without_iommu().start()?;
    vm.guest.write(PROXY_CONFIG, text)?;
    vm.guest.run(ADDRESSES)?;
    vm.guest.run(&format!("({command} {PROXY_CONFIG}) >/run/proxy.log 2>&1 &"))?;
    let ready = format!("wget -q -O /dev/null http://{METRICS}/readyz");
    vm.guest.run(&format!(
        "for _ in $(seq 100); do {ready} && exit; sleep 0.1; done; cat /run/proxy.log; false"
    ))?;
    Ok(vm)
}

/// Makes all rounds; gives the result as JSON.
///
/// # Errors
/// When something does not start, or a run is void.
pub fn measure(arguments: &Arguments, rounds: u32) -> anyhow::Result<Value> {
    let window = Duration::from_secs(arguments.seconds);
    let mut all: Map<String, Value> = Map::new();
    let mut found = vec![[const { Vec::new() }; Pop::ALL.len()]; Direction::ALL.len()];
    for number in 1..=rounds {
        for (place, pop) in Pop::ALL.into_iter().enumerate() {
            let mut vm = pop.start().context(pop.key())?;
            for (direction, found) in Direction::ALL.into_iter().zip(&mut found) {
                let per_byte = transfer(&mut vm, direction, window)
                    .with_context(|| format!("{} through {}", direction.key(), pop.key()))?;
                let (direction, key) = (direction.key(), pop.key());
                eprintln!("{direction} round {number}, {key}: {per_byte:.2} instructions per byte");
                found[place].push(per_byte);
            }
        }
    }
    println!("instructions of the guest for each byte of payload, medians");
    for (direction, found) in Direction::ALL.into_iter().zip(&found) {
        let mut of_direction = Map::new();
        for (pop, counts) in Pop::ALL.into_iter().zip(found) {
            let count = Spread::of(counts.iter().copied());
            let ratio = Spread::of(counts.iter().zip(&found[0]).map(|(it, relay)| it / relay));
            println!(
                "{:<9} {:<8} {:>6.2}   it / relay {:.2} ({:.2}, {:.2})",
                direction.key(),
                pop.key(),
                count.median,
                ratio.median,
                ratio.min,
                ratio.max
            );
            let mut values = Map::new();
            values.insert("instructions_per_byte".to_owned(), rounded(count.median).into());
            ratio.add_to(&mut values, "ratio_relay");
            of_direction.insert(pop.key().to_owned(), values.into());
        }
        all.insert(direction.key().to_owned(), of_direction.into());
    }
    Ok(json!(all))
}

/// Instructions of the guest for each byte that arrives.
fn transfer(vm: &mut Vm, direction: Direction, window: Duration) -> anyhow::Result<f64> {
    let Vm { network, guest, .. } = vm;
    let ends = Ends { client: &network.client, target: &network.target, port: TARGET.port() };
    load::run(ends, VIP4, direction, |received: &AtomicU64| {
        let mut look = || -> anyhow::Result<(f64, u64)> {
            let text = guest.run("cat /proc/uptime")?;
            let mut numbers = text.split_whitespace().map(str::parse::<f64>);
            let (up, idle) = numbers.next().zip(numbers.next()).context("/proc/uptime")?;
            Ok((up? - idle?, received.load(Ordering::Relaxed)))
        };
        let (busy, before) = look()?;
        std::thread::sleep(window);
        let (busy_then, after) = look()?;
        ensure!(after > before + 1_000_000, "void: hardly anything arrives");
        Ok((busy_then - busy) * 1e9 / (after - before) as f64)
    })
}

/// Where transfers end: on a port that nothing else has.
const TARGET: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 10), 9443);
const PROXY_CONFIG: &str = "/etc/proxy.conf";
/// Those of the guest, as the POP would have them.
const ADDRESSES: &str = "ip addr add 192.0.2.2/24 dev eth0 && ip link set eth0 up
ip addr add 198.51.100.2/24 dev eth1 && ip link set eth1 up
ip addr add 203.0.113.10/32 dev lo
ip route add 198.18.0.0/24 via 192.0.2.1";
