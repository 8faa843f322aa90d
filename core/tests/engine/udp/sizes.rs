//! Datagrams that do not fit: reported, or sent in fragments where routers may fragment them.

use anyrelay_core::verdict::ReplyKind;

use super::*;

/// A datagram to or from a client, of `len` bytes as it arrives.
fn long(service: &Service, len: usize) -> Udp {
    let headers = if service.vip.is_ipv6() { 48 } else { 28 };
    service.up(&vec![9; len - headers])
}

/// How many bytes of a client's datagram fit through the link to the targets.
fn fits(service: &Service) -> usize {
    match service.mode {
        Mode::Transparent => 1500,
        Mode::Prefix => 1480,
        Mode::Tunnel(tunnel) => 1500 - tunnel.overhead(),
    }
}

#[test]
fn what_may_not_be_fragmented_is_reported_with_what_would_fit() {
    let mut world = udp_world();
    for service in services() {
        let fits = fits(&service);
        let sent = world.datagram(WAN, &long(&service, fits).datagram());
        assert_eq!(only(sent, &world).0, LAN);
        if fits == 1500 {
            continue;
        }
        let up = long(&service, fits + 1).datagram();
        let sent = world.datagram(WAN, &up);
        let (out, error) = only(sent, &world);
        assert_eq!((out, world.reason()), (WAN, DropReason::TooBig), "{service:?}");
        let is_v6 = service.vip.is_ipv6();
        let kind = if is_v6 { ReplyKind::PacketTooBig } else { ReplyKind::FragmentationNeeded };
        assert!(world.out.said.contains(&Said::Sent(kind)), "{:?}", world.out.said);
        let message = if is_v6 { 40 } else { 20 };
        assert_eq!(usize::from(word(&error, message + 6)), fits);
        assert_eq!(error[message + 8..][..40], up[..40]);
        // A damaged one is not answered: its length may be what is wrong.
        let mut damaged = up.clone();
        *damaged.last_mut().unwrap() ^= 1;
        assert_eq!(world.dropped(WAN, &damaged), DropReason::UdpChecksum);
    }
}

#[test]
fn a_datagram_without_df_leaves_in_fragments() {
    let mut world = udp_world();
    for service in services().iter().filter(|service| service.vip.is_ipv4()) {
        let up = long(service, 2400).edit(|udp| udp.fragment = 0);
        let sent = world.datagram(WAN, &up.datagram());
        assert!(sent.len() >= 2 && sent.iter().all(|(out, _)| *out == LAN), "{service:?}");
        let whole = whole_of(&sent);
        let arrived = service.arrived(&world, &up, &whole);
        assert_eq!(whole[..], same_around(&whole, &arrived)[..], "{service:?}");
    }
}

/// The datagram whose fragments these are, in order.
fn whole_of(sent: &Sent) -> Vec<u8> {
    let first = &sent[0].1[14..];
    let is_v6 = first[0] >> 4 == 6;
    let mut whole = first[..if is_v6 { 40 } else { 20 }].to_vec();
    for (number, (_, frame)) in sent.iter().enumerate() {
        let datagram = &frame[14..];
        let (at, more, offset) = match is_v6 {
            true => (48, word(datagram, 42) & 1, usize::from(word(datagram, 42) & !7)),
            false => {
                assert_eq!(internet_checksum(&[&datagram[..20]]), 0);
                assert_eq!(word(datagram, 4), word(first, 4));
                (20, word(datagram, 6) >> 13, usize::from(word(datagram, 6) & 0x1fff) * 8)
            }
        };
        assert!(datagram.len() <= if is_v6 { 1280 } else { 1500 });
        let header = if is_v6 { 40 } else { 20 };
        assert_eq!(
            (offset, usize::from(more)),
            (whole.len() - header, usize::from(number + 1 < sent.len()))
        );
        whole.extend(&datagram[at..]);
    }
    if is_v6 {
        whole[6] = first[40];
    } else {
        put_word(&mut whole, 6, 0);
    }
    set_length(&mut whole);
    repair_header(&mut whole);
    whole
}

/// `arrived` with the identification and flags of `whole`.
fn same_around(whole: &[u8], arrived: &[u8]) -> Vec<u8> {
    let mut arrived = arrived.to_vec();
    if whole[0] >> 4 == 4 {
        arrived[4..8].copy_from_slice(&whole[4..8]);
        repair_header(&mut arrived);
    }
    arrived
}

#[test]
fn what_came_in_fragments_over_ipv6_leaves_in_fragments() {
    let mut world = udp_world();
    for service in services() {
        let up = long(&service, 3000);
        if service.vip.is_ipv6() {
            let sent = world.datagram(WAN, &up.datagram());
            assert!(sent.len() >= 2 && sent.iter().all(|(out, _)| *out == LAN), "{service:?}");
            let whole = whole_of(&sent);
            let arrived = service.arrived(&world, &up, &whole);
            assert_eq!(whole[..], same_around(&whole, &arrived)[..], "{service:?}");
        }
        let over_ipv6 = service.targets[0].is_ipv6() || service.vip.is_ipv6();
        if service.passes() && over_ipv6 {
            let (down, want) = service.answer(&world, &[3; 2600]);
            if down[0] >> 4 == 4 {
                continue;
            }
            let sent = world.datagram(LAN, &down);
            // In a tunnel over IPv6 from an IPv4 VIP, the datagram inside has DF.
            let inside_has_df = matches!(service.mode, Mode::Tunnel(_)) && want.src.is_ipv4();
            if inside_has_df {
                assert_eq!(world.reason(), DropReason::TooBig, "{service:?}");
                continue;
            }
            assert!(sent.len() >= 2 && sent.iter().all(|(out, _)| *out == WAN), "{service:?}");
            let got = Udp::read(&whole_of(&sent)).unwrap();
            assert_eq!(got.edit(|udp| (udp.id, udp.fragment) = (want.id, want.fragment)), want);
        }
    }
}

#[test]
fn fragments_have_ids_by_their_contents() {
    let mut world = udp_world();
    let mut ids = Vec::new();
    for service in services().iter().take(3) {
        for data in 0..20 {
            let up = long(service, 2400).edit(|udp| (udp.fragment, udp.data[5]) = (0, data));
            let sent = world.datagram(WAN, &up.datagram());
            let first = &sent[0].1[14..];
            ids.push(if first[0] >> 4 == 6 { long_at(first, 44) } else { word(first, 4).into() });
            let again = world.datagram(WAN, &up.datagram());
            assert_eq!(sent, again);
        }
    }
    ids.sort_unstable();
    ids.dedup();
    assert!(ids.len() >= 58, "{}", ids.len());
}

fn long_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(word(bytes, at)) << 16 | u32::from(word(bytes, at + 2))
}

#[test]
fn fragments_of_what_is_relayed_are_set_aside() {
    use anyrelay_core::frame::HeapFrame;
    use anyrelay_core::pop::{Arrived, Pop};
    let world = udp_world();
    let looked = |port, datagram: &[u8]| {
        let mut frame = HeapFrame::new(&world.framed(port, datagram));
        Pop::incoming(&world.workers[0], &world.snapshot, port, &mut frame)
    };
    for service in services() {
        let up = long(&service, 1400);
        let parts = fragments(&up.edit(|udp| udp.fragment = 0).datagram(), &[8, 16], 7);
        for part in &parts {
            assert!(matches!(looked(WAN, part), Arrived::Fragment(_)), "{service:?}");
        }
        let (down, _) = service.answer(&world, &[1; 900]);
        let parts = fragments(&down, &[8, 16], 7);
        if service.passes() {
            assert!(matches!(looked(LAN, &parts[1]), Arrived::Fragment(_)), "{service:?}");
        }
    }
    // To a VIP without UDP, there is no use for them.
    let other = Udp::new(at("198.18.5.9:1"), at("203.0.113.12:443"), &[0; 99]);
    let parts = fragments(&other.datagram(), &[8, 16], 7);
    assert!(matches!(looked(WAN, &parts[1]), Arrived::Refused(DropReason::Protocol)));
}
