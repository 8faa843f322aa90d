//! Packets of all lengths, among datagrams: all arrive, no firewall finds anything INVALID.

use std::collections::HashSet;

use anyrelay_core::tunnel::agent::FlowState;
use anyrelay_kit::nat::Boxes;
use anyrelay_kit::tunnel::OPEN_PREFIX;

use super::*;
use crate::flows::{PLAIN, pair, seeds};
use crate::world::Weather;

/// Rounds of a packet each: to a host outside, from it, to the other agent, and a datagram. Returns
/// what is to arrive outside and at each of both agents.
fn rounds(world: &mut World, (a, b): (usize, usize), count: u64) -> [HashSet<Vec<u8>>; 3] {
    let mut wanted = [const { Vec::new() }; 3];
    for _ in 0..count {
        for (from, to) in [(a, b), (b, a)] {
            let (own, other) = (world.address(from), world.address(to));
            let out = world.packet(own, HOST, 1316);
            world.send_open(from, &out).unwrap();
            wanted[0].push(out);
            let across = world.packet(own, other, 1316);
            world.send_open(from, &across).unwrap();
            wanted[1 + to].push(one_hop_less(&across));
            let back = world.packet(HOST, own, 1316);
            assert!(world.come_from_outside(&back));
            wanted[1 + from].push(back);
            let token = world.token(to);
            world.send(from, &token, &[7; 500]).unwrap();
        }
        world.run(100);
    }
    world.run(1000);
    wanted.map(|packets| packets.into_iter().collect())
}

fn arrived(world: &World) -> [HashSet<Vec<u8>>; 3] {
    let at = |site: usize| world.sites[site].opened.iter().map(|(_, packet)| packet.clone());
    [world.outside.iter().cloned().collect(), at(0).collect(), at(1).collect()]
}

#[test]
fn agents_reach_hosts_and_each_other_through_any_pop() {
    for seed in seeds(10) {
        let mut world = World::open(seed).with_pops(&[0, 3000, -8000]);
        let sites = pair(&mut world, PLAIN);
        for site in [sites.0, sites.1] {
            let prefix = anyrelay_core::net::IpNet::parse(OPEN_PREFIX).unwrap();
            assert!(prefix.contains(ip(world.address(site)).into()));
            assert_eq!(world.sites[site].agent.open_packet_max(), 1356);
        }
        let wanted = rounds(&mut world, sites, 400);
        world.assert_clean(seed);
        assert!(arrived(&world) == wanted, "seed {seed}");
        let counters = *world.sites[0].agent.counters();
        let count = |packets: &HashSet<Vec<u8>>| {
            let bytes: usize = packets.iter().map(Vec::len).sum();
            (packets.len() as u64, bytes as u64)
        };
        let received = (counters.open_packets_received, counters.open_bytes_received);
        assert_eq!(received, count(&wanted[1]), "seed {seed}");
        assert_eq!(counters.open_packets_sent, 800, "seed {seed}");
    }
}

/// Boxes that rewrite numbers and strip the window scale, losses, doubles and reordering: what
/// arrives is what was sent, and nothing is INVALID.
#[test]
fn over_bad_paths_nothing_is_invalid() {
    for seed in seeds(10) {
        let mut world = World::open(seed).with_pops(&[0, 8000]);
        let boxes = Boxes { strips_scale: true, rewrites: seed % 2 == 0, ..PLAIN };
        let sites = pair(&mut world, boxes);
        world.weather = Weather { lost: 20, doubled: 20, delay_us: 10_000, jitter_us: 30_000 };
        let wanted = rounds(&mut world, sites, 400);
        world.assert_clean(seed);
        for (arrived, wanted) in arrived(&world).iter().zip(&wanted) {
            assert!(arrived.is_subset(wanted), "seed {seed}");
            let (arrived, wanted) = (arrived.len(), wanted.len());
            assert!(arrived * 100 > wanted * 90, "seed {seed}: {arrived} of {wanted}");
        }
        for site in [sites.0, sites.1] {
            assert_eq!(world.sites[site].agent.state(), FlowState::Ready, "seed {seed}");
        }
    }
}

/// A ping: a packet of each length there is goes up and down.
#[test]
fn every_length_fits() {
    let mut world = World::open(1);
    let (a, b) = pair(&mut world, PLAIN);
    let (own, other) = (world.address(a), world.address(b));
    let header = Ipv6Header { next: 59, ..Ipv6Header::new(own, other) };
    for len in 0..=1316 {
        world.send_open(a, &header.with(&vec![len as u8; len])).unwrap();
        world.run(20);
        assert_eq!(world.sites[b].opened.pop().unwrap().1.len(), 40 + len);
    }
    world.assert_clean(1);
}
