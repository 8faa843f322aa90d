//! Segments at their last hop or too large: errors and fragments.

use super::*;

/// An ICMP error of the POP's own over IPv4: type, code, second word, quote.
fn told4(world: &mut World, port: PortIndex, datagram: &[u8]) -> (u8, u8, u32, Vec<u8>) {
    let sent = world.datagram(port, datagram);
    let [(out, frame)] = &sent[..] else { panic!("{:?}", world.out.said) };
    assert_eq!(*out, port);
    Seen::frame(frame).icmp()
}

/// The same over IPv6.
fn told6(world: &mut World, port: PortIndex, datagram: &[u8]) -> Vec<u8> {
    let sent = world.datagram(port, datagram);
    let [(out, frame)] = &sent[..] else { panic!("{:?}", world.out.said) };
    assert_eq!(*out, port);
    Seen6::frame(frame).message
}

#[test]
fn who_sends_what_is_at_its_last_hop_is_told_in_his_family() {
    let mut world = relay6_world();
    let egress = world.egress6("web6", CLIENT);
    for ttl in [0, 1] {
        let datagram = up(ACK).edit(|s| s.ip.ttl = ttl).datagram();
        let (kind, code, _, quote) = told4(&mut world, WAN, &datagram);
        assert_eq!((kind, code, quote), (11, 0, datagram));
        for (port, from, to) in
            [(LAN, WEB6_TARGET, egress), (WAN, CLIENT6, RAW6), (LAN, RAW6_TARGETS[0], CLIENT6)]
        {
            let ip = Ipv6Header { hop_limit: ttl, ..Ipv6Header::new(from.0, to.0) };
            let datagram = ip.with(&segment6(from, to, &plain(ACK)));
            let message = told6(&mut world, port, &datagram);
            assert_eq!((message[..2].to_vec(), &message[8..]), (vec![3, 0], &datagram[..]));
        }
        assert_eq!(world.reason(), DropReason::TtlExceeded);
    }
}

#[test]
fn who_sends_what_does_not_fit_is_told_in_his_family_what_would() {
    // Towards the target there is less room: 20 bytes less still for IPv4, whose header is shorter.
    let mut world = World::of(&relay6_config().setting("lan", "mtu", 1400));
    for (data, fits) in [(1340, true), (1341, false)] {
        let datagram = up(ACK).data(&vec![1; data]).datagram();
        if fits {
            world.passed(WAN, &datagram);
            continue;
        }
        let (kind, code, word, quote) = told4(&mut world, WAN, &datagram);
        assert_eq!((kind, code, word, &quote[..]), (3, 4, 1380, &datagram[..548]));
    }
    let datagram = |data| over6(CLIENT6, RAW6, &plain(ACK).data(&vec![1; data]));
    world.passed(WAN, &datagram(1340));
    let message = told6(&mut world, WAN, &datagram(1341));
    assert_eq!(message[..8], [2, 0, 0, 0, 0, 0, 5, 120]);
    assert_eq!(message[8..], datagram(1341)[..1280 - 48]);
    let mut damaged = datagram(1341);
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(world.dropped(WAN, &damaged), DropReason::TcpChecksum);

    let mut world = World::of(&relay6_config().setting("wan", "mtu", 1400));
    let egress = world.egress6("web6", CLIENT);
    let datagram = |data| over6(WEB6_TARGET, egress, &plain(ACK).data(&vec![1; data]));
    world.passed(LAN, &datagram(1360));
    let message = told6(&mut world, LAN, &datagram(1361));
    assert_eq!(message[..8], [2, 0, 0, 0, 0, 0, 5, 140]);
    assert_eq!(world.reason(), DropReason::TooBig);
}

#[test]
fn what_may_be_fragmented_goes_on_in_fragments() {
    let mut wide = relay6_world();
    let mut narrow = World::of(&relay6_config().setting("lan", "mtu", 1400));
    let mut ids = Vec::new();
    for (number, data) in [1341, 1342, 1400, 1440].into_iter().enumerate() {
        let numbers = |s: &mut Tcp| (s.ip.fragment, s.ip.id) = (0, 7 + number as u16);
        let datagram = up(ACK).data(&vec![9; data]).edit(numbers).datagram();
        let (_, whole) = wide.passed(WAN, &datagram);
        let sent = narrow.datagram(WAN, &datagram);
        assert_eq!((sent.len(), narrow.verdict()), (2, Verdict::Forward(LAN)));
        let (together, id) = reassemble6(&sent).unwrap();
        assert_eq!(together, whole);
        ids.push(id);
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 4);
    // All or nothing.
    narrow.out.frames_left = Some(1);
    let datagram = up(ACK).data(&[9; 1400]).edit(|s| s.ip.fragment = 0).datagram();
    assert_eq!(narrow.dropped(WAN, &datagram), DropReason::NoBuffer);
}

#[test]
fn small_segments_to_ipv4_clients_may_be_fragmented() {
    // A port without IPv6 may have less than 1280 bytes, below which no target goes.
    let config = |mtu: usize| {
        relay6_config().edit(|of_all| {
            of_all.ports[0] = config().named("wan").clone().with("mtu", mtu);
            of_all.relays.retain(|relay| relay.name() != "raw6");
        })
    };
    let (mut wide, mut narrow) = (World::of(&config(1500)), World::of(&config(1000)));
    let egress = wide.egress6("web6", CLIENT);
    for data in [961, 1220] {
        let datagram = over6(WEB6_TARGET, egress, &plain(ACK).data(&vec![3; data]));
        let (_, whole) = wide.passed(LAN, &datagram);
        let sent = narrow.datagram(LAN, &datagram);
        let frames: Vec<_> = sent.into_iter().map(|(_, frame)| frame).collect();
        assert_eq!(frames.len(), 2);
        assert_eq!(reassemble(&frames, 1000), whole);
    }
    // A longer one has DF set: its target can send smaller ones, and is told.
    let datagram = over6(WEB6_TARGET, egress, &plain(ACK).data(&[3; 1221]));
    let message = told6(&mut narrow, LAN, &datagram);
    assert_eq!(message[..8], [2, 0, 0, 0, 0, 0, 5, 0]);
}
