//! Which target a datagram goes to: one, of the client's address or of its address and port.

use std::collections::BTreeMap;

use anyrelay_core::net::Towards;
use anyrelay_core::time::{Now, UnixTime};
use anyrelay_kit::config::{Table, inline};

use super::*;

/// The targets of 400 datagrams of clients with these addresses and ports.
fn targets_of(world: &mut World, service: &Service, clients: &[(u8, u16)]) -> Vec<SocketAddr> {
    let target = |(host, port): &(u8, u16)| {
        let client = SocketAddr::new(format!("198.18.7.{host}").parse().unwrap(), *port);
        let up = service.up(b"x").edit(|udp| udp.src = client);
        let sent = world.datagram(WAN, &up.datagram());
        Udp::read(&only(sent, world).1).unwrap().dst
    };
    clients.iter().map(target).collect()
}

#[test]
fn all_of_a_host_goes_to_one_target_unless_ports_are_to_be_spread() {
    let service = &services()[0];
    let ports: Vec<_> = (0..100).map(|port| (1, 50_000 + port)).collect();
    let hosts: Vec<_> = (1..=100).map(|host| (host, 50_000)).collect();
    let mut by_address = udp_world();
    let of_host = targets_of(&mut by_address, service, &ports);
    assert!(of_host.iter().all(|target| *target == of_host[0]));
    let of_hosts = targets_of(&mut by_address, service, &hosts);
    assert!(service.targets.iter().all(|target| of_hosts.contains(target)));
    let mut by_endpoint = World::of(&udp_config().setting("q4", "choose_by", "endpoint"));
    let spread = targets_of(&mut by_endpoint, service, &ports);
    assert!(service.targets.iter().all(|target| spread.contains(target)));
}

#[test]
fn a_host_has_one_target_by_tcp_and_by_udp() {
    let (mut world, service) = (udp_world(), &services()[0]);
    for host in 1..=60 {
        let udp = targets_of(&mut world, service, &[(host, 50_000)])[0];
        let client = SocketAddr::new(format!("198.18.7.{host}").parse().unwrap(), 41_000);
        let syn = Segment::new(client, service.vip, SYN);
        let sent = world.datagram(WAN, &syn.datagram());
        assert_eq!(Segment::read(&only(sent, &world).1).unwrap().dst, udp);
    }
}

/// A list of targets of "q4", one of which is added or ends at `at`.
fn changed(since: Option<UnixTime>, until: Option<UnixTime>) -> PopConfig {
    let target = |address: &str| Table::default().with("address", address);
    let mut second = target("198.51.100.81:8443");
    if let Some(since) = since {
        second.set("since", since);
    }
    if let Some(until) = until {
        second.set("until", until);
    }
    let targets = inline(&[target("198.51.100.80:8443"), second]);
    udp_config().setting("q4", "targets", targets)
}

#[test]
fn a_change_of_targets_moves_its_share_and_copies_nothing() {
    let service = &services()[0];
    let noon = UnixTime::from_millis(1_800_000_000_000);
    let clients: Vec<_> = (0..2000).map(|n| ((n / 40) as u8, 50_000 + n % 40)).collect();
    for (config, moved_to) in [
        (changed(Some(noon), None), "198.51.100.81:8443"),
        (changed(None, Some(noon)), "198.51.100.80:8443"),
    ] {
        let mut world = World::of(&config.setting("q4", "choose_by", "endpoint"));
        let mut at = |ms: u64| {
            world.now = Now { unix: UnixTime::from_millis(ms), ..world.now };
            targets_of(&mut world, service, &clients)
        };
        let before = at(noon.as_millis() - 10);
        // From this very moment on, though TCP has two candidates now.
        let after = at(noon.as_millis());
        assert_eq!(after, at(noon.as_millis() + 3_600_000));
        let moved: Vec<_> =
            before.iter().zip(&after).filter(|(before, after)| before != after).collect();
        assert!(moved.iter().all(|(_, after)| **after == moved_to.parse().unwrap()));
        // One of two targets: half, within four standard deviations.
        assert!((910..=1090).contains(&moved.len()), "{}", moved.len());
        let slot = world.service("q4").slot;
        assert_eq!(world.counters.service(slot).copies.packets.get(), 0);
    }
}

#[test]
fn answers_of_every_target_reach_the_client() {
    let (mut world, service) = (udp_world(), &services()[0]);
    for target in &service.targets {
        let down = Udp::new(*target, service.client, b"late");
        let sent = world.datagram(LAN, &down.datagram());
        let (out, datagram) = only(sent, &world);
        assert_eq!(out, WAN);
        assert_eq!(Udp::read(&datagram).unwrap().src, service.vip);
    }
    let slot = world.service("q4").slot;
    assert_eq!(world.counters.service(slot).traffic(Towards::Clients).packets.get(), 2);
}

#[test]
fn relays_of_both_protocols_at_one_vip_give_what_each_gives_alone() {
    // TCP by a pool, the fast way; UDP beside it by the clients' own addresses, same target.
    let quic = relay("quic", "203.0.113.10:443", &["198.51.100.10:8443"], Egress::Transparent);
    let config = config().relay(quic.with("protocol", "udp"));
    let (mut both, mut tcp) = (World::of(&config), World::of(&crate::config()));
    let vip = at("203.0.113.10:443");
    let mut rng = Rng(11);
    let mut counts = BTreeMap::new();
    for _ in 0..200 {
        let frames: Vec<_> = (0..40)
            .map(|_| {
                let client = (0xc612_0700 + rng.index(200) as u32, 40_000 + rng.index(9) as u16);
                let end =
                    SocketAddr::from(IpEndpoint::from(Endpoint { ip: client.0, port: client.1 }));
                match rng.chance(1, 3) {
                    true => (true, Udp::new(end, vip, b"0123").datagram()),
                    false => (false, Tcp::new(client, WEB, ACK).stamped(1, 2).datagram()),
                }
            })
            .collect();
        let framed = |all: bool, world: &World| {
            let of = frames.iter().filter(|(is_udp, _)| all || !is_udp);
            of.map(|(_, datagram)| world.framed(WAN, datagram)).collect::<Vec<_>>()
        };
        let mut out = anyrelay_kit::pop::Collector::default();
        let mut run = |world: &mut World, all: bool| {
            let bursts = framed(all, world);
            let frames: Vec<_> =
                bursts.iter().map(|frame| anyrelay_core::frame::HeapFrame::new(frame)).collect();
            let now = world.now;
            anyrelay_kit::pop::RunningPop::burst(world, now, 0, WAN, frames, &mut out);
            std::mem::take(&mut out.sent)
        };
        let (sent, alone) = (run(&mut both, true), run(&mut tcp, false));
        assert_eq!(sent.len(), frames.len());
        let (udp, rest): (Vec<_>, Vec<_>) =
            sent.into_iter().partition(|(_, frame)| frame[14 + 9] == 17);
        assert_eq!(rest, alone);
        for (out, frame) in udp {
            let read = Udp::read(&frame[14..]).unwrap();
            assert_eq!((out, read.dst), (LAN, at("198.51.100.10:8443")));
            *counts.entry(read.src).or_insert(0) += 1;
        }
    }
    assert!(both.counters.fast_frames.get() > 1000 && counts.len() > 500);
    assert_eq!(both.counters.fast_frames.get(), tcp.counters.fast_frames.get());
}
