//! Which targets a client's segment goes to.

use super::*;
use anyrelay_core::relay::hints::Shows;
use anyrelay_core::relay::mapping::{EgressSide, Tag};
use anyrelay_core::relay::memo::{LIFETIME_MS, Owned};
use anyrelay_core::seq::SeqNum;

#[test]
fn a_segment_goes_to_all_candidates_as_if_each_were_the_only_one() {
    for service in SERVICES {
        let mut moved = Moved::at(service);
        let segment = moved.segment(ACK | PSH, 100, 5000);
        let segment = Segment { data: b"hello".to_vec(), ..segment };
        let sent = moved.sent(&segment);
        let [(_, one), (_, other)] = &sent[..] else { panic!("{sent:?}") };
        let mut both = moved.both();
        both.sort_unstable();
        assert_eq!([one.dst, other.dst], both);
        assert_eq!(&Segment { dst: other.dst, ..one.clone() }, other);
        assert_eq!((one.src, &one.data[..]), (moved.egress, &b"hello"[..]));
        let counters = moved.world.counters.service(moved.world.service(service).slot);
        assert_eq!((counters.up.packets.get(), counters.copies.packets.get()), (1, 1));
        // A POP without a buffer for the copy sends the first.
        moved.world.out.frames_left = Some(0);
        assert_eq!(moved.send(&segment).len(), 1);
        assert_eq!(moved.world.drops(WAN, DropReason::NoBuffer), 1);
    }
}

#[test]
fn a_syn_goes_to_the_target_of_new_connections_and_a_rst_to_all() {
    for service in SERVICES {
        let mut moved = Moved::at(service);
        let syn = moved.segment(SYN, 100, 0);
        moved.goes_to(&syn, &[moved.new]);
        let (rst, both) = (moved.segment(RST | ACK, 101, 5000), moved.both());
        moved.goes_to(&rst, &both);
        // Whatever is known.
        moved.refuse(moved.old, 5000);
        moved.goes_to(&rst, &both);
    }
}

#[test]
fn who_refused_is_not_asked_of_what_is_near() {
    for service in SERVICES {
        let mut moved = Moved::at(service);
        let both = moved.both();
        moved.goes_to(&moved.segment(ACK, 1, 5000), &both);
        moved.refuse(moved.old, 5000);
        let near = (1 << 24) - 1;
        for n in 0..4 {
            moved.goes_to(&moved.segment(ACK, 1, 5000 + n * near), &[moved.new]);
        }
        moved.goes_to(&moved.segment(ACK, 1, 5000 + 5 * near), &both);
        moved.world.later(LIFETIME_MS + 1);
        moved.goes_to(&moved.segment(ACK, 1, 5000 + 4 * near), &both);
        // Seven segments, of which three went to both.
        let relay = moved.world.service(service);
        let counters = |target: SocketAddr| {
            let slot = relay.targets.slot(relay.targets.index_of(&end(target)).unwrap());
            moved.world.counters.service(relay.slot).target(slot.0)
        };
        let (old, new) = (counters(moved.old), counters(moved.new));
        assert_eq!((old.refusals.get(), new.refusals.get()), (1, 0));
        assert_eq!((old.up.packets.get(), new.up.packets.get()), (3, 7));
        assert_eq!(old.copies.get() + new.copies.get(), 3);
    }
}

#[test]
fn a_new_connection_makes_what_is_known_forgotten() {
    for service in SERVICES {
        let mut moved = Moved::at(service);
        let both = moved.both();
        for known in [
            moved.refusal(moved.old, RST, 5000, 0),
            moved.answer(moved.new, ACK, 5000, 101),
            moved.answer(moved.old, ACK, 5000, 101),
        ] {
            moved.send(&known);
            let segment = moved.segment(ACK, 101, 5000);
            assert_eq!(moved.send(&segment).len(), 1, "{known:?}");
            moved.goes_to(&moved.segment(SYN, 100, 0), &[moved.new]);
            moved.goes_to(&segment, &both);
        }
    }
}

#[test]
fn the_owner_alone_gets_what_is_near_what_it_sent() {
    for service in SERVICES {
        for new in [false, true] {
            let mut moved = Moved::at(service);
            let (owner, both) = (if new { moved.new } else { moved.old }, moved.both());
            let data = Segment { data: vec![7; 100], ..moved.answer(owner, ACK, 5000, 1) };
            assert_eq!(moved.send(&data), [moved.client]);
            let (step, far) = (1 << 24, 1 << 26);
            moved.goes_to(&moved.segment(ACK, 1, 5100), &[owner]);
            moved.goes_to(&moved.segment(ACK, 1, 5100 + far), &both);
            moved.goes_to(&moved.segment(ACK, 1 + far, 5100), &both);
            // Segments that are near take it with them.
            moved.goes_to(&moved.segment(ACK, 1 + step, 5100 + step), &[owner]);
            moved.goes_to(&moved.segment(ACK, 1 + 2 * step, 5100 + 2 * step), &[owner]);
            moved.goes_to(&moved.segment(ACK, 1, 5100), &both);
            // It may refuse after that.
            moved.refuse(owner, 5101);
            let other = both.into_iter().find(|at| *at != owner).unwrap();
            moved.goes_to(&moved.segment(ACK, 1, 5100), &[other]);
        }
    }
}

#[test]
fn a_socket_of_the_connection_before_owns_nothing() {
    for service in SERVICES {
        let mut moved = Moved::at(service);
        let both = moved.both();
        // The client uses its port again: its SYN goes to the new target, and copies of what
        // follows meet a socket in TIME_WAIT at the old one, with numbers that are near.
        moved.goes_to(&moved.segment(SYN, 100, 0), &[moved.new]);
        let before = moved.answer(moved.old, ACK, 5000, 100);
        let segment = moved.segment(ACK, 101, 5000);
        assert_eq!(moved.send(&before), [moved.client]);
        moved.goes_to(&segment, &both);
        // Nor does another POP's hint say so.
        let tag = moved.tsval.unwrap_or(0) >> 1;
        let owned = Owned { tag, end: SeqNum(5000), ack: SeqNum(100) };
        moved.hint(moved.old, Shows::Owner(owned));
        moved.goes_to(&segment, &both);
        moved.send(&moved.answer(moved.new, ACK, 5000, 101));
        moved.goes_to(&segment, &[moved.new]);
        moved.send(&before);
        moved.goes_to(&segment, &[moved.new]);
    }
}

#[test]
fn a_damaged_segment_shows_no_owner() {
    for service in SERVICES {
        let mut moved = Moved::at(service);
        let both = moved.both();
        let answer = moved.answer(moved.old, ACK, 5000, 1);
        let mut damaged = answer.datagram();
        *damaged.last_mut().unwrap() ^= 1;
        moved.world.datagram(LAN, &damaged);
        moved.goes_to(&moved.segment(ACK, 1, 5000), &both);
        moved.send(&answer);
        moved.goes_to(&moved.segment(ACK, 1, 5000), &[moved.old]);
    }
}

#[test]
fn two_owners_are_both_asked() {
    // Both got the client's SYN, and answered.
    let mut moved = Moved::at("many");
    for (target, isn) in moved.both().into_iter().zip([5000, 6000]) {
        let syn_ack = moved.answer(target, SYN | ACK, isn, 101);
        assert_eq!(moved.send(&syn_ack), [moved.client]);
    }
    let both = moved.both();
    moved.goes_to(&moved.segment(ACK, 101, 5001), &both);
    moved.refuse(moved.new, 5001);
    moved.goes_to(&moved.segment(ACK, 101, 5001), &[moved.old]);
}

#[test]
fn a_target_with_another_clients_connection_is_not_asked() {
    let mut moved = Moved::at("many");
    let other = moved.tsval.unwrap() ^ 2;
    let relay = moved.world.service("many");
    let side = EgressSide { egress: end(moved.egress), tag: Some(Tag::of_timestamp(other)) };
    // A tag of no client, or of one that has not moved, shows nothing.
    let is_client = relay
        .inward(side, end(moved.old))
        .is_ok_and(|mapping| moved.world.snapshot.is_client(&mapping.client));
    let segment = Segment { options: timestamps(9, other), ..moved.answer(moved.old, ACK, 1, 1) };
    let sent = moved.send(&segment);
    assert_eq!(sent.len(), usize::from(is_client));
    // As a hint says it.
    let owned = Owned { tag: other >> 1, end: SeqNum(9), ack: SeqNum(1) };
    moved.hint(moved.old, Shows::Owner(owned));
    moved.goes_to(&moved.segment(ACK, 1, 5000), &[moved.new]);
}

#[test]
fn a_pop_that_lacks_a_change_asks_one_target_more() {
    // It has the same targets, all without a date, so that each client has one.
    let mut world = relay6_world();
    let relay = world.service("many");
    let client: SocketAddr = ([198, 18, 5, 9], 5000).into();
    let chosen = relay.targets.choose(&client.into(), world.now.unix);
    let next = relay.targets.next(&client.into(), world.now.unix, chosen.candidates).unwrap();
    let mapping = relay.outward(client.into(), world.now.unix).unwrap();
    let (old, new) = (mapping.target.into(), (*relay.targets.at(next).unwrap()).into());
    let tsval = mapping.tag.map(|tag| tag.timestamp());
    let (vip, egress) = (relay.vip(), mapping.egress.into());
    world.out.said.clear();
    let mut moved = Moved { world, service: "many", vip, client, egress, tsval, old, new };
    moved.goes_to(&moved.segment(ACK, 1, 5000), &[old]);
    moved.refuse(old, 5000);
    // Another segment may go there, but the same one goes to the next.
    moved.goes_to(&moved.segment(ACK, 1, 6000), &[old]);
    moved.goes_to(&moved.segment(ACK, 1, 5000), &[new]);
    // Which has the connection, and gets what follows.
    assert_eq!(moved.send(&moved.answer(new, ACK, 5000, 1)), [client]);
    moved.goes_to(&moved.segment(ACK, 1, 5000), &[new]);
    moved.goes_to(&moved.segment(ACK, 1, 9000), &[new]);
}
