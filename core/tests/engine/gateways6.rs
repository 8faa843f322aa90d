//! Gateways of IPv6 that fall silent, and questions to those whose address is fixed.

use crate::links6::{asked, hop, tell};
use crate::*;
use anyrelay_core::link::{ASK_INTERVAL_MS, REFRESH_MS};
use anyrelay_core::verdict::{AbsorbKind, Verdict};
use anyrelay_kit::config::Table;

const STRANGER: Mac = [2, 0, 0, 0, 9, 9];

#[test]
fn a_silent_gateways_share_moves() {
    let mut world = world6();
    let (first, second) = (ip6("fe80::1"), ip6("2001:db8:2::1"));
    asked(&mut world);
    tell(&mut world, LAN, STRANGER, first);
    tell(&mut world, LAN, LAN_GATEWAY, second);
    world.later(REFRESH_MS);
    for _ in 0..3 {
        assert!(asked(&mut world).iter().any(|(.., target)| *target == second));
        let both = (0..300).map(|number| hop(&world, FAR6 + number).unwrap());
        assert!(both.filter(|mac| *mac == LAN_GATEWAY).count() > 50);
        tell(&mut world, LAN, STRANGER, first);
        world.later(ASK_INTERVAL_MS);
    }
    assert!((0..300).all(|number| hop(&world, FAR6 + number) == Ok(STRANGER)));
    tell(&mut world, LAN, LAN_GATEWAY, second);
    assert!((0..300).any(|number| hop(&world, FAR6 + number) == Ok(LAN_GATEWAY)));
}

#[test]
fn a_fixed_gateway_is_solicited_itself() {
    let fixed = config6().other("neighbours", Table::default().with("probe_fixed", true));
    let mut world = World::of(&fixed);
    world.poll();
    let sent = std::mem::take(&mut world.out.sent);
    let (_, frame) =
        sent.iter().find(|(port, frame)| *port == WAN && frame[12..14] == [0x86, 0xdd]).unwrap();
    let seen = Seen6::frame(frame);
    let gateway = ip6("fe80::1");
    assert_eq!((seen.dst_mac, seen.dst, seen.hop_limit), (WAN_GATEWAY, gateway, 255));
    assert_eq!(seen.message, nd(135, 0, gateway, Some((1, WAN_MAC))));
}

/// Linux answers so when the solicitation came to its own address.
#[test]
fn an_answer_without_an_address_is_a_sign_of_life_of_the_known_one() {
    let fixed = config6().other("neighbours", Table::default().with("probe_fixed", true));
    let mut world = World::of(&fixed);
    let (gateway, second) = (ip6("fe80::1"), ip6("2001:db8:2::1"));
    let targets = |world: &mut World| -> Vec<u128> {
        world.poll();
        let sent = std::mem::take(&mut world.out.sent).into_iter();
        let solicitations = sent.filter(|(_, frame)| frame[12..14] == [0x86, 0xdd]);
        solicitations.map(|(_, it)| u128::from_be_bytes(it[62..78].try_into().unwrap())).collect()
    };
    assert_eq!(targets(&mut world), [gateway, gateway, second], "on both links");
    let bare = |world: &mut World, port, mac: Mac, target: u128| {
        let to = if port == WAN { WAN_IP6 } else { LAN_IP6 };
        let datagram = Ipv6Header::icmp(target, to).with(&nd(136, 0xc0, target, None));
        world.bytes(port, &ethernet(world.mac(port), mac, None, 0x86dd, &datagram));
        world.verdict()
    };
    let absorbed = Verdict::Absorb(AbsorbKind::Neighbour);
    // Of another station; of an address that is not known yet; of the fixed one; of a known one.
    assert_ne!(bare(&mut world, WAN, STRANGER, gateway), absorbed);
    assert_ne!(bare(&mut world, LAN, LAN_GATEWAY, second), absorbed);
    assert_eq!(bare(&mut world, WAN, WAN_GATEWAY, gateway), absorbed);
    tell(&mut world, LAN, LAN_GATEWAY, second);
    for _ in 0..REFRESH_MS / 100 + 40 {
        world.later(100);
        if targets(&mut world).contains(&second) {
            assert_ne!(bare(&mut world, LAN, STRANGER, second), absorbed);
            assert_eq!(bare(&mut world, LAN, LAN_GATEWAY, second), absorbed);
        }
    }
    // The fixed one answered once, and is silent now.
    let silent = world.unresolved_gateways();
    let silent: Vec<_> = silent.iter().map(|(port, ip)| (*port, ip.to_string())).collect();
    assert!(silent.contains(&(WAN, "fe80::1".to_owned())), "{silent:?}");
    assert!(!silent.contains(&(LAN, "2001:db8:2::1".to_owned())), "{silent:?}");
}
