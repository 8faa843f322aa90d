//! Probes take the way of clients' segments, to services of every kind.

use std::sync::Arc;

use anyrelay_core::counters::Counters;
use anyrelay_core::frame::{Frame, HeapFrame};
use anyrelay_core::pop::{is_query, probed};
use anyrelay_core::snapshot::Service;
use anyrelay_core::verdict::DropReason;

use crate::*;

/// What comes of the probe of this number, and the frame itself.
fn probe(world: &mut World, number: u64) -> Option<(Sent, Vec<u8>)> {
    let mut frame = HeapFrame::new(&[]);
    let port = world.workers[0].write_probe(&world.snapshot, number, &mut frame)?;
    assert_eq!(port, WAN);
    let bytes = frame.bytes().to_vec();
    Some((world.frame(port, frame), bytes))
}

#[test]
fn each_service_gets_probes_in_turns_and_forwards_them() {
    let with_tunnels = tunnel_world_of(&with_tunnels(relay6_config()), KEYS);
    for mut world in [World::new(), relay6_world(), with_tunnels] {
        let counts = Arc::clone(&world.counters);
        let mut counters = Arc::new(Counters::new(world.snapshot.slots()));
        world.workers[0].swap_counters(&mut counters);
        let count = world.snapshot.services().len() as u64;
        for number in 0..2 * count {
            let service = probed(&world.snapshot, number).unwrap();
            assert_eq!(service.name(), world.snapshot.services()[(number % count) as usize].name());
            let out = if matches!(service, Service::Relay(_)) { LAN } else { WAN };
            let (sent, bytes) = probe(&mut world, number).unwrap();
            let [(port, frame)] = &sent[..] else { panic!("{number}: {:?}", world.out.said) };
            assert_eq!(*port, out, "{number}");
            assert!(!is_query(frame) && !is_query(&bytes));
        }
        // Nothing of it is counted as traffic, or remembered.
        assert_eq!(world.soft.memo.len(), (0, 0));
        world.workers[0].swap_counters(&mut counters);
        for (_, slot) in world.snapshot.names() {
            assert_eq!(counts.service(slot).up.packets.get(), 0);
        }
        assert!(
            world
                .snapshot
                .relays()
                .all(|relay| { counters.service(relay.slot).up.packets.get() == 2 })
        );
    }
}

#[test]
fn a_probe_on_a_tagged_link_is_tagged() {
    let config = config().edit(|config| {
        let wan = config.ports.remove(0);
        config.ports.insert(0, wan.with("vlan", 9));
    });
    let (sent, _) = probe(&mut World::of(&config), 0).unwrap();
    assert_eq!(sent.len(), 1);
}

#[test]
fn what_keeps_clients_from_their_target_keeps_probes() {
    let mut world = World::of(&learning_config());
    let (sent, _) = probe(&mut world, 0).unwrap();
    // The question for the gateway, which was due, is let through.
    assert!(sent.iter().all(|(_, frame)| is_query(frame)), "{sent:02x?}");
    assert_eq!(world.reason(), DropReason::NeighbourUnresolved);
}

#[test]
fn without_a_client_or_a_service_there_is_no_probe() {
    let refused = ["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "198.18.0.0/15"];
    let mut world = World::of(&config().set("not_clients", refused.to_vec()));
    assert_eq!(probe(&mut world, 0).unwrap().0.len(), 1);
    let mut world = World::of(&config().set("not_clients", ["0.0.0.0/1", "128.0.0.0/1"].to_vec()));
    assert!(probe(&mut world, 0).is_none());
    let mut world = World::of(&config().edit(|config| config.relays.clear()));
    assert!(probe(&mut world, 0).is_none());
}

#[test]
fn solicitations_are_queries_and_their_answers_are_not() {
    let arp = |dst| ethernet(dst, WAN_GATEWAY, None, 0x0806, &[0; 46]);
    assert!(is_query(&arp([0xff; 6])));
    let typed = |datagram: &[u8]| ethernet(WAN_MAC, WAN_GATEWAY, Some(3), 0x86dd, datagram);
    assert!(is_query(&typed(&solicitation(NEIGHBOUR6, WAN_IP6, None))));
    assert!(!is_query(&typed(&echo6(NEIGHBOUR6, WAN_IP6, b""))));
    assert!(!is_query(&[]));
}
