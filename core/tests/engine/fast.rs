//! The fast way gives what the general way gives, byte for byte, in the same order and with the
//! same counts, with every set of vector instructions.
//!
//! A POP that is asked to explain goes the general way with every frame: it is the slow twin here.
//! `ANYRELAY_ISA=NAME` tests one set alone, and fails where the CPU lacks it; `ANYRELAY_SEEDS=N`
//! says how many seeds of random traffic each config gets. `scripts/avx512` needs both.

use anyrelay_core::config::Config;
use anyrelay_core::frame::{ChecksumVerdict, HeapFrame};
use anyrelay_core::net::PortIndex;
use anyrelay_core::pop::BURST;
use anyrelay_core::relay::memo::LIFETIME_MS;
use anyrelay_kit::config::{Table, mac_text};
use anyrelay_kit::pop::{Collector, RunningPop};
use cpu_vector::Isa;

use crate::client_address::telling_config;
use crate::traffic::Traffic;
use crate::*;

/// Two POPs of one config, of which one explains.
struct Twins {
    explains: World,
    fast: World,
    out: Collector,
}

impl Twins {
    fn new(config: &Config, isa: Isa) -> Twins {
        // The slow twin is of the instructions that every CPU has.
        let [explains, fast] = [Isa::Baseline, isa]
            .map(|isa| World::with(&Config { instructions: Some(isa), ..config.clone() }));
        Twins { explains, fast, out: Collector::default() }
    }

    fn later(&mut self, ms: u64) {
        for world in [&mut self.explains, &mut self.fast] {
            world.later(ms);
            world.poll();
            world.out.clear();
        }
    }

    /// Hands both the same frames; asserts that both send the same. How many frames were sent.
    fn burst(&mut self, name: &str, port: PortIndex, frames: &[HeapFrame]) -> usize {
        let wanted = self.explains.burst(port, frames.to_vec());
        let now = self.fast.now;
        RunningPop::burst(&mut self.fast, now, 0, port, frames.to_vec(), &mut self.out);
        let sent = std::mem::take(&mut self.out.sent);
        assert_eq!(sent.len(), wanted.len(), "{name}: {:?}", self.explains.out.said);
        for (at, (sent, wanted)) in sent.iter().zip(&wanted).enumerate() {
            assert_eq!(sent, wanted, "{name}, output {at}: {:?}", self.explains.out.said);
        }
        sent.len()
    }

    /// Asserts that both counted the same; how many frames went the fast way.
    fn count(&self, name: &str) -> u64 {
        let [explains, fast] = [&self.explains, &self.fast].map(|world| &world.counters);
        assert!(explains.agrees(fast), "{name}: {explains:#?} {fast:#?}");
        assert_eq!(self.explains.counters.fast_frames.get(), 0);
        self.fast.counters.fast_frames.get()
    }
}

/// Frames of random traffic, or of mappable segments alone.
fn frames(traffic: &mut Traffic, world: &World, plain: bool) -> (PortIndex, Vec<HeapFrame>) {
    let mut run = traffic.run();
    if plain {
        let datagrams = 0..1 + traffic.rng.index(BURST);
        run.datagrams = datagrams.map(|_| traffic.plain(run.port)).collect();
    }
    let damaged = traffic.rng.chance(1, 8);
    let frame = |bytes: &Vec<u8>| {
        let mut frame = HeapFrame::new(&world.framed(run.port, bytes));
        if damaged && traffic.rng.chance(1, 20) {
            frame.checksum = ChecksumVerdict::Bad;
        }
        if traffic.rng.chance(1, 10) {
            // Ethernet's padding.
            use anyrelay_core::frame::Frame;
            let missing = 60usize.saturating_sub(frame.bytes().len());
            assert!(frame.append(missing));
        }
        frame
    };
    (run.port, run.datagrams.iter().map(frame).collect())
}

fn compare(isa: Isa, config: &Config, seed: u64, runs: usize) -> (usize, u64) {
    let (mut twins, mut traffic) = (Twins::new(config, isa), Traffic::new(seed));
    let mut sent = 0;
    for run in 0..runs {
        let plain = traffic.rng.chance(2, 3);
        let (port, frames) = frames(&mut traffic, &twins.fast, plain);
        let mut left = &frames[..];
        while !left.is_empty() {
            let count = 1 + traffic.rng.index(BURST);
            let (now, later) = left.split_at(count.min(left.len()));
            left = later;
            sent += twins.burst(&format!("{isa}, seed {seed}, run {run}"), port, now);
        }
        // Now and then long enough for all to be forgotten.
        twins.later(if traffic.rng.chance(1, 4) { LIFETIME_MS + 1 } else { 3 });
    }
    (sent, twins.count(&format!("{isa}, seed {seed}")))
}

/// Ports with tags, with several gateways, with clients on their own link, and with MTUs that not
/// all segments fit.
fn configs() -> Vec<Config> {
    let ports = |change: fn(usize, &mut Table)| {
        let edited = config().edit(|config| {
            config.ports.iter_mut().enumerate().for_each(|(at, port)| change(at, port));
        });
        edited.parse()
    };
    let gateways = |port: &mut Table, ips: [&str; 3]| {
        port.set("gateways", ips);
        port.set("gateway_macs", [1, 2, 3].map(|n| mac_text([2, 0, 0, 0, 7, n])));
    };
    let several = config().edit(|config| {
        gateways(&mut config.ports[0], ["192.0.2.1", "192.0.2.3", "192.0.2.4"]);
        gateways(&mut config.ports[1], ["10.1.0.1", "10.1.0.3", "10.1.0.4"]);
    });
    vec![
        config().parse(),
        ports(|at, port| _ = port.set("vlan", 7 + at as u16)),
        ports(|at, port| {
            if at == 0 {
                port.set("vlan", 7);
            }
        }),
        several.parse(),
        ports(|at, port| {
            if at == 0 {
                port.set("addresses", ["192.0.2.2/24", "198.18.5.1/24"]);
            }
        }),
        ports(|_, port| _ = port.set("mtu", 1400)),
        limited(4, 9),
        telling_config().parse(),
        telling_config().edit(|config| _ = config.ports[1].set("vlan", 7)).parse(),
    ]
}

/// With these limits of SYNs a second.
fn limited(per_prefix: u32, per_service: u32) -> Config {
    let config = config().limit("syn_per_prefix_per_second", per_prefix);
    config.limit("syn_per_service_per_second", per_service).parse()
}

/// The sets to test: the one that is asked for, or all that this CPU has.
fn sets() -> Vec<Isa> {
    let Ok(name) = std::env::var("ANYRELAY_ISA") else {
        return Isa::ALL.into_iter().filter(|isa| isa.is_available()).collect();
    };
    let isa: Isa = name.parse().expect("ANYRELAY_ISA is no set of instructions");
    assert!(isa.is_available(), "this CPU has {} at most", Isa::best());
    vec![isa]
}

/// Seeds of random traffic for each config, at least one.
fn seeds() -> u64 {
    match std::env::var("ANYRELAY_SEEDS") {
        Ok(number) => number.parse::<u64>().expect("ANYRELAY_SEEDS is no number").max(1),
        Err(_) if std::env::var_os("ANYRELAY_FULL").is_some() => 99,
        Err(_) => 20,
    }
}

#[test]
fn bursts_give_the_same_as_the_general_way() {
    for isa in sets() {
        for (number, config) in configs().iter().enumerate() {
            let (mut sent, mut fast) = (0, 0);
            for seed in 1..=seeds() {
                let of_seed = compare(isa, config, 100 * number as u64 + seed, 60);
                sent += of_seed.0;
                fast += of_seed.1;
            }
            println!("{isa}, config {number}: {sent} frames sent, {fast} went the fast way");
            let least = sent / if number == 0 { 3 } else { 4 };
            assert!(fast as usize > least, "{isa}, config {number}: {fast} of {sent}");
        }
    }
}

#[test]
fn segments_go_the_fast_way_up_to_the_longest_that_fit() {
    let mut twins = Twins::new(&config().parse(), Isa::best());
    let (egress, port, tag) = twins.fast.egress("web", CLIENT);
    let up = Tcp::new(CLIENT, WEB, ACK);
    let down = Tcp::new(WEB_TARGET, (egress, port), ACK).stamped(1, tag);
    let mut counted = 0;
    // Timestamps are 12 bytes, which a client's segment without them gets.
    for (side, segment, longest) in
        [(WAN, up.clone(), 1448), (WAN, up.stamped(1, 2), 1448), (LAN, down, 1448)]
    {
        for data in [0, 1, longest - 1, longest, longest + 1] {
            let datagram = segment.clone().data(&vec![7; data]).datagram();
            let frame = HeapFrame::new(&twins.fast.framed(side, &datagram));
            twins.burst(&format!("{data} bytes"), side, &[frame]);
            counted += u64::from(data <= longest);
            assert_eq!(twins.count("length"), counted, "{side:?} {data}");
        }
    }
}

/// Segments with data go the fast way where the option tells of clients; those that get it do not.
#[test]
fn only_segments_without_data_leave_the_fast_way_for_the_option() {
    let mut twins = Twins::new(&telling_config().parse(), Isa::best());
    let (egress, port, tag) = twins.fast.egress("web", CLIENT);
    let (up, down) = (Tcp::new(CLIENT, WEB, ACK), Tcp::new(WEB_TARGET, (egress, port), ACK));
    let mut counted = 0;
    for (side, segment, is_fast) in [
        (WAN, up.clone(), false),
        (WAN, up.clone().stamped(1, 2), false),
        (WAN, up.clone().data(b"1"), true),
        (WAN, up.stamped(1, 2).data(b"1"), true),
        (LAN, down.clone().stamped(1, tag), true),
        (LAN, down.stamped(1, tag).data(b"1"), true),
    ] {
        // Ethernet's padding is no data.
        let mut bytes = twins.fast.framed(side, &segment.datagram());
        bytes.resize(bytes.len().max(90), 0);
        twins.burst("option", side, &[HeapFrame::new(&bytes)]);
        counted += u64::from(is_fast);
        assert_eq!(twins.count("option"), counted, "{side:?} {segment:?}");
    }
}

#[test]
fn floods_are_dropped_the_fast_way() {
    let from = |number: u32, step: u32| (CLIENT.0 + number * step, 1024 + number as u16);
    let syn = |number: u32, step: u32, to| {
        let options = match number % 16 {
            // Hosts do not accept these, so no limit is what drops them.
            7 => [timestamps(1, 2), timestamps(3, 4)].concat(),
            _ => linux_syn_options(1460, 1, 0),
        };
        Tcp::new(from(number, step), to, SYN).options(&options)
    };
    let unserved = |number| Tcp::new(from(number, 1), (WEB.0, 9), ACK);
    type Flood<'a> = (&'a str, u64, &'a dyn Fn(u32) -> Tcp);
    let floods: [Flood<'_>; 4] = [
        ("of a network", 165, &|number| syn(number, 1, WEB)),
        ("from everywhere", 165, &|number| syn(number, 0x100, WEB)),
        ("to a port without service", 256, &unserved),
        ("of all kinds", 150, &|number| match number % 3 {
            0 => syn(number, 0x100, MANY),
            1 => unserved(number),
            _ => Tcp::new(from(number, 1), WEB, ACK).stamped(1, 2),
        }),
    ];
    for (name, least, flood) in floods {
        let mut twins = Twins::new(&limited(20, 40), Isa::best());
        for burst in 0..4_u32 {
            let frame =
                |number: u32| twins.fast.framed(WAN, &flood(64 * burst + number).datagram());
            let frames: Vec<_> = (0..64).map(|number| HeapFrame::new(&frame(number))).collect();
            twins.burst(name, WAN, &frames);
            twins.later(1);
        }
        let fast = twins.count(name);
        println!("{name}: {fast} of 256");
        assert!(fast >= least, "{name}: {fast}");
    }
}

#[test]
fn a_neighbour_that_is_learned_within_a_burst_is_used_at_once() {
    let config = learning_config().edit(|config| {
        config.ports.iter_mut().for_each(|port| _ = port.set("side", "both"));
    });
    let mut twins = Twins::new(&config.parse(), Isa::best());
    let traffic = &mut Traffic::new(7);
    let announced = |mac: Mac| {
        let reply = arp(2, (mac, 0x0a01_0001), (LAN_MAC, 0x0a01_0002));
        HeapFrame::new(&ethernet(LAN_MAC, mac, None, 0x0806, &reply))
    };
    let client = |traffic: &mut Traffic, world: &World| {
        // What goes the fast way to a target, by way of the gateway that is learned.
        HeapFrame::new(&world.framed(LAN, &traffic.plain(WAN)))
    };
    for round in 0..50_u8 {
        let mut frames = Vec::new();
        for number in 0..4 {
            frames.push(announced([2, 0, 0, 0, 9, 4 * round + number]));
            for _ in 0..3 {
                frames.push(client(traffic, &twins.fast));
            }
        }
        twins.burst(&format!("round {round}"), LAN, &frames);
    }
    let fast = twins.count("neighbours");
    assert!(fast > 200, "{fast}");
}
