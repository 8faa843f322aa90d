//! UDP that no relay takes.

use anyrelay_core::frame::{ChecksumVerdict, HeapFrame};
use anyrelay_core::verdict::ReplyKind;

use super::*;

#[test]
fn what_is_wrong_is_dropped_for_its_reason() {
    use DropReason::*;
    let mut world = udp_world();
    for service in services() {
        let up = service.up(b"0123456789");
        let edited = |edit: fn(&mut Vec<u8>, usize)| {
            let mut datagram = up.datagram();
            let at = datagram.len() - up.data.len() - 8;
            edit(&mut datagram, at);
            datagram
        };
        let cases = [
            (edited(|bytes, at| put_word(bytes, at + 4, 7)), UdpMalformed),
            (edited(|bytes, at| put_word(bytes, at + 4, 19)), UdpMalformed),
            (edited(|bytes, at| cut(bytes, at + 7)), UdpMalformed),
            (edited(cut), UdpMalformed),
            (up.edit(|udp| udp.src.set_port(0)).datagram(), SourceNotAllowed),
            (up.edit(|udp| udp.src.set_ip(udp.dst.ip())).datagram(), SourceNotAllowed),
        ];
        for (number, (datagram, reason)) in cases.iter().enumerate() {
            assert_eq!(world.dropped(WAN, datagram), *reason, "{number} {service:?}");
        }
        assert_eq!(world.dropped(LAN, &up.datagram()), WrongSide);
        let none = up.edit(|udp| udp.has_sum = false).datagram();
        let bad = |world: &mut World, datagram: &[u8]| {
            let mut frame = HeapFrame::new(&world.framed(WAN, datagram));
            frame.checksum = ChecksumVerdict::Bad;
            world.frame(WAN, frame).len()
        };
        assert_eq!((bad(&mut world, &up.datagram()), world.reason()), (0, UdpChecksum));
        match service.vip.is_ipv6() {
            true => assert_eq!(world.dropped(WAN, &none), UdpChecksum),
            // The port cannot know what no sum says.
            false => assert_eq!(bad(&mut world, &none), 1),
        }
    }
}

fn cut(datagram: &mut Vec<u8>, len: usize) {
    datagram.truncate(len);
    set_length(datagram);
    repair_header(datagram);
}

#[test]
fn only_targets_answer_and_only_clients_are_answered() {
    use DropReason::*;
    let mut world = udp_world();
    for service in services().iter().filter(|service| service.passes()) {
        let good = service.answer(&world, b"answer").0;
        assert_eq!(world.dropped(WAN, &good), WrongSide, "{service:?}");
        let Mode::Tunnel(tunnel) = service.mode else {
            let (target, egress) = (service.target(&world), service.egress(&world));
            let from = |end| Udp::new(end, egress, b"x").datagram();
            let other_port = from(SocketAddr::new(target.ip(), target.port() + 1));
            let is_prefix = matches!(service.mode, Mode::Prefix);
            let stranger = if is_prefix { Protocol } else { NotOurs };
            assert_eq!(world.dropped(LAN, &other_port), stranger);
            let no_port = Udp::new(target, SocketAddr::new(egress.ip(), 0), b"x").datagram();
            assert_eq!(world.dropped(LAN, &no_port), if is_prefix { BadTag } else { NotOurs });
            if is_prefix {
                let mut made_up = egress;
                made_up.set_ip("2001:db8:64::1".parse().unwrap());
                assert_eq!(world.dropped(LAN, &Udp::new(target, made_up, b"x").datagram()), BadTag);
            }
            continue;
        };
        let inner = |edit: fn(&mut Udp)| {
            let udp = plain(service.vip, service.client, b"x").edit(edit);
            tunnel.answer(udp.tos, &udp.datagram())
        };
        let other_vip = inner(|udp| udp.src.set_port(9));
        assert_eq!(world.dropped(LAN, &other_vip), UnknownTarget);
        assert_eq!(world.dropped(LAN, &inner(|udp| udp.dst.set_port(0))), NotOurs);
    }
}

#[test]
fn a_port_without_a_service_is_unreachable() {
    let mut world = udp_world();
    for service in services() {
        let up = service.up(b"x").edit(|udp| udp.dst.set_port(9));
        let sent = world.datagram(WAN, &up.datagram());
        let (out, error) = only(sent, &world);
        assert_eq!((out, world.reason()), (WAN, DropReason::Protocol));
        assert!(world.out.said.contains(&Said::Sent(ReplyKind::PortUnreachable)));
        let (head, words) = if up.src.is_ipv4() { (20, [3, 3]) } else { (40, [1, 4]) };
        assert_eq!(error[head..head + 2], words);
        assert_eq!(error[head + 8..], up.datagram());
    }
}

#[test]
fn no_frame_of_random_bytes_is_sent_on_with_a_wrong_length() {
    let mut world = udp_world();
    let (mut rng, services) = (Rng(5), services());
    let mut passed = 0;
    for _ in 0..20_000 {
        let service = &services[rng.index(services.len())];
        let (port, good) = match rng.chance(1, 2) && service.passes() {
            true => (LAN, service.answer(&world, &[7; 40]).0),
            false => (WAN, service.up(&[7; 40]).datagram()),
        };
        let mut datagram = good;
        for _ in 0..1 + rng.index(3) {
            let at = rng.index(datagram.len());
            datagram[at] = rng.next() as u8;
        }
        if rng.chance(1, 4) {
            datagram.truncate(1 + rng.index(datagram.len()));
        }
        repair_header(&mut datagram);
        for (_, frame) in world.datagram(port, &datagram) {
            passed += 1;
            let claimed = match frame[14] >> 4 {
                4 => usize::from(word(&frame, 16)),
                _ => 40 + usize::from(word(&frame, 18)),
            };
            assert!(claimed == frame.len() - 14 || frame.len() == 60);
        }
    }
    assert!(passed > 5000, "{passed}");
}
