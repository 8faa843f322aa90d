//! Rate limits of answers.

use super::*;

#[test]
fn syn_acks_are_bounded_for_each_network() {
    let config = tunnel_config(1).limit("syn_ack_per_second", 10);
    for (own, neighbour, other) in
        [(A4, "198.18.5.200:7", "198.18.6.9:7"), (A6, "[2600:1:0:ff::1]:7", "[2600:1:0:100::1]:7")]
    {
        let mut world = tunnel_world_of(&config, KEYS);
        let syn = |world: &World, addr| Agent::new(1, 1, addr).syn(world).datagram();
        let answered = |world: &mut World, addr, count| {
            let datagram = syn(world, addr);
            (0..count).filter(|_| !world.datagram(WAN, &datagram).is_empty()).count()
        };
        assert_eq!(answered(&mut world, own, 4) + answered(&mut world, neighbour, 96), 10);
        assert_eq!(world.reason(), DropReason::RateSynAck);
        assert_eq!(world.drops(WAN, DropReason::RateSynAck), 90);
        assert_eq!(answered(&mut world, other, 5), 5);
        world.later(500);
        assert_eq!(answered(&mut world, own, 100), 5);
        // Who is connected feels nothing of it.
        let agent = Agent::new(1, 1, own);
        let mut calm = tunnel_world(1);
        calm.now = world.now;
        let mut known = agent.clone();
        known.connect(&mut calm);
        let request = known.keepalive(&world);
        answer(&mut world, &request, ReplyKind::Keepalive);
    }
}

/// Somebody behind a NAT sends 5,000 wrong MACs in a second, from so many ports in turn, at the
/// default rate: of twelve agents behind the same address each gets its answer. Returns how many of
/// the wrong ones are verified.
fn flood_behind_a_nat(ports: u16) -> u32 {
    let mut world = tunnel_world(1);
    let nat = |port| format!("198.18.5.9:{port}");
    let flooders: Vec<_> =
        (0..ports).map(|port| Agent::connected(&mut world, 1, 1, &nat(50_000 + port))).collect();
    let mut flooders = flooders.iter().cycle();
    let others: Vec<_> =
        (0..12).map(|port| Agent::connected(&mut world, 1, 2, &nat(41_000 + port))).collect();
    let (mut verified, mut answered) = (0, 0);
    for ms in 0..1000 {
        for _ in 0..5 {
            let flooder = flooders.next().unwrap();
            let forged = flooder.keepalive(&world).edit(|request| request.data[9] ^= 1);
            let reason = refused(&mut world, &forged);
            verified += u32::from(reason == DropReason::KeepaliveMac);
        }
        if ms % 80 == 79
            && let Some(other) = others.get(ms / 80)
        {
            let request = other.keepalive(&world);
            let sent = world.datagram(WAN, &request.datagram());
            answered += sent.len();
        }
        world.later(1);
    }
    assert_eq!(answered, 12);
    verified
}

/// With a bucket of the host alone, one of the twelve was answered.
#[test]
fn a_flood_from_one_port_does_not_silence_the_others_behind_the_nat() {
    let verified = flood_behind_a_nat(1);
    // A second's worth at once, and a second's rate: a tenth of the host's.
    assert!((195..=200).contains(&verified), "{verified}");
}

/// Ports that use up what their host has, all together.
#[test]
fn nor_does_a_flood_from_many_ports() {
    for ports in [10, 50, 100] {
        let verified = flood_behind_a_nat(ports);
        assert!((1990..=2000 + u32::from(ports)).contains(&verified), "{ports}: {verified}");
    }
}

#[test]
fn wrong_macs_are_bounded_for_each_port_and_host() {
    let config = tunnel_config(1).limit("keepalive_mac_per_second", 100);
    let mut world = tunnel_world_of(&config, KEYS);
    let nat = |port| format!("198.18.5.9:{port}");
    let a = Agent::connected(&mut world, 1, 1, &nat(40_001));
    let behind_same_nat = Agent::connected(&mut world, 1, 2, &nat(40_002));
    let b = Agent::connected(&mut world, 1, 2, B4);
    // Right ones are not counted.
    for _ in 0..150 {
        let request = a.keepalive(&world);
        answer(&mut world, &request, ReplyKind::Keepalive);
    }
    let forge = |world: &mut World, agent: &Agent, count: usize| {
        let forged = agent.keepalive(world).edit(|request| request.data[9] ^= 1);
        let reasons = (0..count).map(|_| refused(world, &forged));
        reasons.filter(|reason| *reason == DropReason::KeepaliveMac).count()
    };
    assert_eq!(forge(&mut world, &a, 15), 10);
    let request = a.keepalive(&world);
    assert_eq!(refused(&mut world, &request), DropReason::RateKeepalive);
    // Neither who shares its address nor anybody else suffers for it.
    for other in [&behind_same_nat, &b] {
        let request = other.keepalive(&world);
        answer(&mut world, &request, ReplyKind::Keepalive);
    }
    // Many ports of a host have a limit together, beyond which each is verified once.
    let ports: Vec<_> =
        (0..12).map(|port| Agent::connected(&mut world, 1, 2, &nat(50_000 + port))).collect();
    let verified: usize = ports.iter().map(|agent| forge(&mut world, agent, 15)).sum();
    assert_eq!(verified, 90 + 3);
    let request = ports[11].keepalive(&world);
    assert_eq!(refused(&mut world, &request), DropReason::RateKeepalive);
    // Right ones of a port without wrong ones are answered as often as they come.
    for other in [&behind_same_nat, &b, &behind_same_nat] {
        let request = other.keepalive(&world);
        answer(&mut world, &request, ReplyKind::Keepalive);
    }
    world.later(1000);
    let request = a.keepalive(&world);
    answer(&mut world, &request, ReplyKind::Keepalive);
    assert_eq!(world.verdict(), Verdict::Reply(ReplyKind::Keepalive));
}
