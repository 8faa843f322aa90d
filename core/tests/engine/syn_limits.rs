//! How many SYNs a relay service takes: from one network, and in all. What a connection sends after
//! its SYN is never held back.

use anyrelay_core::verdict::DropReason;

use crate::*;

/// A World in which these limits hold.
fn limited(per_prefix: u32, per_service: u32) -> World {
    World::of(
        &config()
            .limit("syn_per_prefix_per_second", per_prefix)
            .limit("syn_per_service_per_second", per_service),
    )
}

/// Whether a SYN from `src` to `vip` is sent on; if not, why.
fn syn(world: &mut World, src: u32, port: u16, vip: (u32, u16)) -> Result<(), DropReason> {
    let segment = Tcp::new((src, port), vip, SYN).options(&linux_syn_options(1460, 1, 0));
    let sent = world.datagram(WAN, &segment.datagram());
    if sent.is_empty() { Err(world.reason()) } else { Ok(()) }
}

fn taken(world: &mut World, count: u32, src: impl Fn(u32) -> u32, vip: (u32, u16)) -> usize {
    (0..count).filter(|&number| syn(world, src(number), 1024 + number as u16, vip).is_ok()).count()
}

#[test]
fn one_network_has_its_share_and_no_more() {
    for vip in [WEB, MANY, RAW] {
        let mut world = limited(50, 1_000_000);
        // From any address and port of the /24.
        assert_eq!(taken(&mut world, 300, |number| CLIENT.0 & !255 | (number & 255), vip), 50);
        assert_eq!(syn(&mut world, CLIENT.0, 1, vip), Err(DropReason::RateSynPrefix));
        // Its neighbours have their own.
        for other in 1..=50 {
            assert_eq!(syn(&mut world, CLIENT.0 + (other << 8), 1, vip), Ok(()));
        }
        // In time it has another.
        world.later(100);
        assert_eq!(taken(&mut world, 300, |_| CLIENT.0, vip), 5);
        world.later(10_000);
        assert_eq!(taken(&mut world, 300, |_| CLIENT.0, vip), 50);
    }
}

#[test]
fn each_service_has_its_share_and_no_more() {
    let anywhere = |number: u32| 0x0d00_0000 + (number << 8);
    for (vip, others) in [(WEB, [MANY, RAW]), (MANY, [WEB, RAW]), (RAW, [WEB, MANY])] {
        let mut world = limited(1_000_000, 200);
        assert_eq!(taken(&mut world, 999, anywhere, vip), 200);
        assert_eq!(syn(&mut world, CLIENT.0, 1, vip), Err(DropReason::RateSynService));
        for other in others {
            assert_eq!(syn(&mut world, CLIENT.0, 1, other), Ok(()));
        }
        world.later(100);
        assert_eq!(taken(&mut world, 999, anywhere, vip), 20);
    }
}

#[test]
fn what_a_network_sends_beyond_its_share_is_not_the_services() {
    let mut world = limited(50, 100);
    assert_eq!(taken(&mut world, 1000, |_| CLIENT.0, WEB), 50);
    // The service still takes as many from the rest of the world.
    let elsewhere = |number: u32| 0x0d00_0000 + (number << 8);
    assert_eq!(taken(&mut world, 1000, elsewhere, WEB), 50);
    let slot = world.service("web").slot;
    let counts = [DropReason::RateSynPrefix, DropReason::RateSynService]
        .map(|reason| (world.drops(WAN, reason), world.counters.service_drops(slot, reason)));
    assert_eq!(counts, [(950, 950), (950, 950)]);
}

#[test]
fn connections_that_exist_go_on() {
    let mut world = limited(1, 1);
    assert_eq!(syn(&mut world, CLIENT.0, CLIENT.1, WEB), Ok(()));
    assert_eq!(syn(&mut world, CLIENT.0, CLIENT.1, RAW), Ok(()));
    let (egress, port, tag) = world.egress("web", CLIENT);
    for number in 1..100 {
        assert_eq!(syn(&mut world, CLIENT.0, number, WEB), Err(DropReason::RateSynPrefix));
        let elsewhere = CLIENT.0 + (u32::from(number) << 8);
        assert_eq!(syn(&mut world, elsewhere, number, RAW), Err(DropReason::RateSynService));
        let up = Tcp::new(CLIENT, WEB, ACK | PSH).stamped(1, 2).data(b"up");
        world.forwarded(WAN, &up);
        world.forwarded(WAN, &Tcp::new(CLIENT, RAW, ACK | FIN));
        let syn_ack = Tcp::new(WEB_TARGET, (egress, port), SYN | ACK);
        world.forwarded(LAN, &syn_ack.options(&linux_syn_options(1460, 1, tag)));
        world.forwarded(LAN, &Tcp::new(WEB_TARGET, (egress, port), ACK).stamped(1, tag));
        let target = world.target("raw", CLIENT);
        world.forwarded(LAN, &Tcp::new(target, CLIENT, SYN | ACK));
    }
}

/// Only what could be a client's SYN counts: nobody uses up another's share with anything else.
#[test]
fn other_segments_use_up_nothing() {
    let mut world = limited(1, 1);
    for datagram in [
        Tcp::new(CLIENT, WEB, SYN | ACK).datagram(),
        Tcp::new(CLIENT, WEB, SYN | FIN).datagram(),
        Tcp::new(CLIENT, WEB, ACK).datagram(),
        Tcp::new(CLIENT, WEB, RST).datagram(),
        Tcp::new((CLIENT.0, 0), WEB, SYN).datagram(),
        Tcp::new((WEB_TARGET.0, 9), WEB, SYN).datagram(),
        Tcp::new(CLIENT, (WEB.0, 9), SYN).datagram(),
        Tcp::new(CLIENT, MANY, SYN).datagram(),
    ] {
        world.datagram(WAN, &datagram);
        world.datagram(LAN, &datagram);
    }
    assert_eq!(syn(&mut world, CLIENT.0, CLIENT.1, WEB), Ok(()));
}

/// A network is held to its own share where others exceed theirs, unless it meets them in both
/// rows.
#[test]
fn a_network_does_not_suffer_for_the_floods_of_others() {
    let mut world = limited(4, 1_000_000);
    let flooding = 200;
    for network in 0..flooding {
        for _ in 0..20 {
            let _ = syn(&mut world, 0x0d00_0001 + (network << 8), 1, WEB);
        }
    }
    let others = 4000u32;
    let refused = (0..others)
        .filter(|network| syn(&mut world, 0x1800_0001 + (network << 8), 1, WEB).is_err())
        .count();
    // Of one row, 200 in 4096 would be refused, and more as others fill theirs; of two, 1 in 400.
    assert!(refused < 60, "{refused} of {others}");
}

/// The workers of a POP have a share each.
#[test]
fn workers_have_their_own() {
    let mut world = limited(10, 1_000_000);
    assert_eq!(taken(&mut world, 99, |_| CLIENT.0, WEB), 10);
    world.restart_worker(0);
    assert_eq!(taken(&mut world, 99, |_| CLIENT.0, WEB), 10);
}
