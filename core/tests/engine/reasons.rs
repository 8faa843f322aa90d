//! Every reason to drop a frame has a frame that is dropped for it.

use anyrelay_core::frame::{ChecksumVerdict, HeapFrame};
use anyrelay_core::net::PortIndex;
use anyrelay_core::time::UnixTime;
use anyrelay_core::verdict::DropReason;

use crate::udp::udp_world;
use crate::*;

/// A frame that is dropped, and for which reason; `None` for reasons that no frame of the engine's
/// own has: those of the data plane.
fn dropped_for(reason: DropReason) -> Option<(World, PortIndex, Vec<u8>)> {
    use DropReason::*;
    let world = World::new();
    let (egress, port, tag) = world.egress("web", CLIENT);
    let up = Tcp::new(CLIENT, WEB, ACK).stamped(1, 2);
    let down = Tcp::new(WEB_TARGET, (egress, port), ACK).stamped(1, tag);
    let big = up.clone().data(&[0; 1460]);
    let syn_ack = up.clone().edit(|segment| segment.flags = SYN | ACK);
    let to_client = |datagram: &[u8]| ethernet(WAN_MAC, WAN_GATEWAY, None, 0x0800, datagram);
    let typed =
        |ethertype, payload: &[u8]| ethernet(WAN_MAC, WAN_GATEWAY, None, ethertype, payload);
    let with_ip =
        |edit: fn(&mut Ipv4Header)| to_client(&up.clone().edit(|s| edit(&mut s.ip)).datagram());
    let icmp_up = |message: &[u8]| {
        to_client(&Ipv4Header { protocol: 1, ..Ipv4Header::new(CLIENT.0, WEB.0) }.with(message))
    };
    let udp = udp::services()[0].up(b"datagram");
    let datagram = |message: &[u8]| {
        Ipv4Header { protocol: UDP, ..Ipv4Header::new(CLIENT.0, ip("203.0.113.40")) }.with(message)
    };
    let wan = |frame: Vec<u8>| Some((World::new(), WAN, frame));
    let lan = |segment: &Tcp| Some((World::new(), LAN, world.framed(LAN, &segment.datagram())));
    let limited = |limit: &str, datagram: &[u8]| {
        Some((World::of(&config().limit(limit, 0)), WAN, to_client(datagram)))
    };
    let full = |limit: &str| {
        let mut world = World::of(&config().limit(limit, 1));
        let syn = to_client(&up.clone().edit(|segment| segment.flags = SYN).datagram());
        assert_eq!(world.bytes(WAN, &syn).len(), 1);
        Some((world, WAN, syn))
    };
    match reason {
        Runt => wan(vec![0; 13]),
        WrongMac => wan(ethernet([2; 6], WAN_GATEWAY, None, 0x0800, &up.datagram())),
        LinkControl => wan(ethernet([1, 0x80, 0xc2, 0, 0, 0], WAN_GATEWAY, None, 38, &[0x42; 46])),
        OtherGroup => wan(ethernet([0xff; 6], WAN_GATEWAY, None, 0x0800, &up.datagram())),
        WrongVlan => wan(ethernet(WAN_MAC, WAN_GATEWAY, Some(9), 0x0800, &up.datagram())),
        Ethertype => wan(typed(0x8847, &[0; 50])),
        Ipv6Malformed => wan(typed(0x86dd, &[0x60; 50])),
        Ipv6Options => wan(typed(0x86dd, &Ipv6Header::new(NEIGHBOUR6, WAN_IP6).after(60, &[6, 9]))),
        NdMalformed => wan(typed(
            0x86dd,
            &Ipv6Header::icmp(NEIGHBOUR6, WAN_IP6).with(&[135, 0, 0, 0, 9, 9, 9, 9]),
        )),
        NdNotOurs => wan(typed(0x86dd, &solicitation(NEIGHBOUR6, WAN_IP6 + 1, None))),
        ArpMalformed => wan(typed(0x0806, &[0; 28])),
        ArpNotOurs => wan(typed(0x0806, &arp(1, ([2; 6], 1), ([0; 6], 2)))),
        Ipv4Malformed => wan(to_client(&up.datagram()[..30])),
        Ipv4Checksum => {
            let mut datagram = up.datagram();
            datagram[10] ^= 1;
            wan(to_client(&datagram))
        }
        Ipv4Options => wan(with_ip(|ip| ip.options = vec![7, 200, 0, 0])),
        SourceRoute => wan(with_ip(|ip| ip.options = vec![131, 3, 4, 0])),
        Fragment => wan(with_ip(|ip| ip.fragment = 0x2000)),
        NotOurs => wan(with_ip(|ip| ip.dst = 0x0808_0808)),
        WrongSide => lan(&up),
        Protocol => wan(with_ip(|ip| ip.protocol = 17)),
        TcpMalformed => wan(to_client(&Ipv4Header::new(CLIENT.0, WEB.0).with(&up.segment()[..19]))),
        TcpChecksum => Some((World::new(), WAN, to_client(&up.datagram()))),
        TcpFlags => wan(to_client(&up.edit(|segment| segment.flags = 0).datagram())),
        TcpOptions => wan(to_client(&up.options(&[8, 0, 0, 0]).datagram())),
        UdpMalformed => Some((udp_world(), WAN, to_client(&datagram(&udp.message()[..7])))),
        UdpChecksum => Some((udp_world(), WAN, to_client(&datagram(&udp.message())))),
        OptionsFull => {
            wan(to_client(&up.options(&[[77, 40].to_vec(), vec![0; 38]].concat()).datagram()))
        }
        UnservedPort => wan(to_client(&Tcp::new(CLIENT, (WEB.0, 9), ACK).datagram())),
        SourceNotAllowed => wan(with_ip(|ip| ip.src = 0x7f00_0001)),
        SynAckFromClient => wan(to_client(&syn_ack.datagram())),
        SynFromTarget => lan(&down.edit(|segment| segment.flags = SYN)),
        UnknownTarget => lan(&down.edit(|segment| segment.sport = 1)),
        TunnelMark => {
            let egress = anyrelay_kit::config::Egress::Ipip("100.64.20.1");
            let relay = anyrelay_kit::config::relay(
                "tunnel",
                "203.0.113.20:443",
                &["198.51.100.60:443"],
                egress,
            );
            let answer = Tcp::new((ip("203.0.113.20"), 443), CLIENT, ACK);
            let inner = answer.edit(|segment| segment.ip.tos = 0).datagram();
            let outer = Ipv4Header::new(ip("198.51.100.60"), ip("100.64.20.1"));
            let marked = Ipv4Header { tos: 3, protocol: 4, ..outer }.with(&inner);
            let world = World::of(&config().relay(relay));
            let frame = world.framed(LAN, &marked);
            Some((world, LAN, frame))
        }
        TargetWithoutTimestamps => lan(&down.options(&[])),
        BadTag => lan(&down.stamped(1, 0)),
        TtlExceeded => wan(with_ip(|ip| ip.ttl = 1)),
        TooBig => wan(to_client(&big.datagram())),
        IcmpMalformed => wan(icmp_up(&[3, 4, 0, 0])),
        IcmpChecksum => wan(icmp_up(&[8, 0, 0, 1, 0, 0, 0, 0])),
        IcmpType => wan(icmp_up(&icmp(13, 0, [0; 4], &[0; 12]))),
        IcmpQuote => wan(icmp_up(&icmp(3, 4, [0; 4], &[0; 28]))),
        NoTarget => {
            let mut config = config().parse();
            config.relays[0].targets.entries[0].since = UnixTime::NEVER;
            Some((World::with(&config), WAN, to_client(&up.datagram())))
        }
        NoRoute => {
            let mut config = config().parse();
            config.ports[1].gateways.clear();
            Some((World::with(&config), WAN, to_client(&up.datagram())))
        }
        NeighbourUnresolved => {
            Some((World::of(&learning_config()), WAN, to_client(&up.datagram())))
        }
        RateNeighbour => {
            let mut config = config().parse();
            config.limits.neighbour_per_second = 0;
            let to_link = Tcp::new(RAW_TARGETS[0], (ip("192.0.2.77"), 4000), ACK);
            let frame = world.framed(LAN, &to_link.datagram());
            Some((World::with(&config), LAN, frame))
        }
        RateRst => limited("rst_per_second", &Tcp::new(CLIENT, (WEB.0, 9), SYN).datagram()),
        RateEcho => {
            let request = icmp(8, 0, [0; 4], &[]);
            let request =
                Ipv4Header { protocol: 1, ..Ipv4Header::new(CLIENT.0, WEB.0) }.with(&request);
            limited("echo_per_second", &request)
        }
        RateSynPrefix => full("syn_per_prefix_per_second"),
        RateSynService => full("syn_per_service_per_second"),
        RateIcmp => {
            let seen = World::new().forwarded(LAN, &down).1;
            limited(
                "icmp_forward_per_second",
                &frag_needed(CLIENT.0, WEB.0, 1400, &seen.datagram, 548),
            )
        }
        NoRoom => wan(to_client(&up.options(&[]).datagram())),
        NoBuffer => wan(to_client(&big.edit(|segment| segment.ip.fragment = 0).datagram())),
        NotContiguous | EgressQueueFull | TxFull => None,
        // Those of tunnels, to be met where there is one.
        _ => None,
    }
}

/// Reasons that are known only where the service is.
fn has_service(reason: DropReason) -> bool {
    use DropReason::*;
    matches!(
        reason,
        SourceNotAllowed | SynAckFromClient | SynFromTarget | TargetWithoutTimestamps | BadTag
    ) || matches!(reason, TtlExceeded | TooBig | OptionsFull | NoRoom | NoBuffer)
        || matches!(
            reason,
            NoTarget | NoRoute | NeighbourUnresolved | RateSynPrefix | RateSynService | RateIcmp
        )
}

#[test]
fn every_reason_is_hit_and_counted_once() {
    use DropReason::*;
    let mut missed = Vec::new();
    for &reason in DropReason::ALL {
        let Some((mut world, port, frame)) = dropped_for(reason) else {
            missed.push(reason);
            continue;
        };
        match reason {
            TcpChecksum | UdpChecksum => {
                let mut frame = HeapFrame::new(&frame);
                frame.checksum = ChecksumVerdict::Bad;
                world.frame(port, frame);
            }
            NoRoom => {
                world.frame(port, Tight::from_bytes(&frame));
            }
            NoBuffer => {
                world.out.frames_left = Some(0);
                world.bytes(port, &frame);
            }
            _ => {
                world.bytes(port, &frame);
            }
        }
        assert_eq!(world.reason(), reason);
        for &other in DropReason::ALL {
            let want = u64::from(other == reason);
            assert_eq!(world.drops(port, other), want, "{other} after {reason}");
            let slot = world.service("web").slot;
            let want = u64::from(other == reason && has_service(reason));
            assert_eq!(world.counters.service_drops(slot, other), want, "{other} after {reason}");
        }
    }
    let tunnels = RateSynAck as usize..=RateOpenService as usize;
    missed.retain(|reason| !tunnels.contains(&(*reason as usize)) && *reason != IcmpForged);
    // Those of reassembly are the reassembly table's and the workers'.
    let fragments = FragmentMalformed as usize..=FragmentQueueFull as usize;
    missed.retain(|reason| !fragments.contains(&(*reason as usize)));
    assert_eq!(missed, [NotContiguous, EgressQueueFull, TxFull]);
}
