//! When a client is told that its targets have no socket for it.

use super::*;

/// The client is told: a RST with the numbers of the refusal.
fn told(moved: &mut Moved, segment: &Segment, seq: u32) {
    let sent = moved.sent(segment);
    let [(_, rst)] = &sent[..] else { panic!("{sent:?} {:?}", moved.world.out.said) };
    assert_eq!((rst.src, rst.dst), (moved.vip, moved.client));
    assert_eq!((rst.flags, rst.seq), (RST, seq));
}

#[test]
fn the_client_is_told_when_all_refused_this_very_segment_and_one_more_was_asked() {
    for service in SERVICES {
        let mut moved = Moved::at(service);
        let segment = moved.segment(ACK, 1, 5000);
        moved.refuse(moved.old, 5000);
        moved.goes_to(&segment, &[moved.new]);
        moved.refuse(moved.new, 5000);
        match moved.next() {
            Some(next) => {
                moved.goes_to(&segment, &[next]);
                // It refuses too, and the client is told at once.
                let refusal = moved.refusal(next, RST, 5000, 0);
                told(&mut moved, &refusal, 5000);
            }
            None => told(&mut moved, &segment, 5000),
        }
    }
}

#[test]
fn one_more_target_is_asked_once() {
    let mut moved = Moved::at("many");
    let (segment, next) = (moved.segment(ACK, 1, 5000), moved.next().unwrap());
    moved.both().into_iter().for_each(|target| moved.refuse(target, 5000));
    moved.goes_to(&segment, &[next]);
    // It is silent.
    told(&mut moved, &segment, 5000);
    // Told once: all are asked again.
    let both = moved.both();
    moved.goes_to(&segment, &both);
}

#[test]
fn a_refusal_of_another_segment_is_not_told() {
    for service in SERVICES {
        let mut moved = Moved::at(service);
        moved.refuse(moved.old, 5000);
        moved.refuse(moved.new, 5001);
        let both = moved.both();
        moved.goes_to(&moved.segment(ACK, 1, 5000), &both);
        // The one that refused this very segment is known; the other one was forgotten.
        moved.goes_to(&moved.segment(ACK, 1, 5000), &[moved.new]);
    }
}

#[test]
fn a_damaged_segment_goes_to_all_and_is_not_told() {
    let mut moved = Moved::at("raw");
    moved.both().into_iter().for_each(|target| moved.refuse(target, 5000));
    let segment = Segment { data: b"abc".to_vec(), ..moved.segment(ACK, 1, 5000) };
    let mut damaged = segment.datagram();
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(moved.world.datagram(WAN, &damaged).len(), 2);
    told(&mut moved, &segment, 5000);
}

#[test]
fn a_damaged_refusal_is_dropped() {
    for service in SERVICES {
        let mut moved = Moved::at(service);
        let mut rst = moved.refusal(moved.old, RST, 5000, 0).datagram();
        let at = rst.len() - 12;
        rst[at] ^= 1;
        assert_eq!(moved.world.dropped(LAN, &rst), DropReason::TcpChecksum, "{service}");
        assert!(moved.world.soft.memo.knows_nothing());
    }
}

#[test]
fn the_rst_of_a_socket_goes_to_the_client() {
    for service in SERVICES {
        let mut moved = Moved::at(service);
        let rst = moved.answer(moved.old, RST, 5000, 0);
        assert_eq!(moved.send(&rst), [moved.client]);
        // Of a socket without timestamps, where its owner is known and the number is the next.
        let data = Segment { data: vec![7; 10], ..moved.answer(moved.old, ACK, 6000, 1) };
        moved.send(&data);
        let abort = moved.refusal(moved.old, RST, 6010, 0);
        assert_eq!(moved.send(&abort), [moved.client]);
        // Once; and not with another number.
        moved.refuse(moved.old, 6010);
        moved.send(&data);
        moved.refuse(moved.old, 6009);
    }
}

#[test]
fn a_closed_port_is_told_at_once_where_the_syn_was_seen() {
    for service in SERVICES {
        let mut moved = Moved::at(service);
        let syn = moved.segment(SYN, 100, 0);
        moved.goes_to(&syn, &[moved.new]);
        let refusal = moved.refusal(moved.new, RST | ACK, 0, 101);
        let sent = moved.sent(&refusal);
        let [(_, rst)] = &sent[..] else { panic!("{sent:?}") };
        assert_eq!((rst.dst, rst.flags, rst.ack), (moved.client, RST | ACK, 101));
        // Elsewhere at the SYN that comes again.
        let mut other = Moved::at(service);
        let refusal = other.refusal(other.new, RST | ACK, 0, 101);
        assert_eq!(other.send(&refusal), []);
        let sent = other.sent(&syn);
        let [(_, rst)] = &sent[..] else { panic!("{sent:?}") };
        assert_eq!((rst.dst, rst.flags, rst.ack), (other.client, RST | ACK, 101));
        other.goes_to(&syn, &[other.new]);
    }
}

#[test]
fn a_damaged_syn_is_not_answered_and_uses_up_nothing() {
    for service in SERVICES {
        let mut moved = Moved::at(service);
        let refusal = moved.refusal(moved.new, RST | ACK, 0, 101);
        assert_eq!(moved.send(&refusal), []);
        let syn = moved.segment(SYN, 100, 0);
        let mut damaged = syn.datagram();
        *damaged.last_mut().unwrap() ^= 1;
        let sent = moved.world.datagram(WAN, &damaged);
        assert_eq!((sent.len(), sent[0].0), (1, LAN));
        let sent = moved.sent(&syn);
        let [(_, rst)] = &sent[..] else { panic!("{sent:?}") };
        assert_eq!((rst.dst, rst.flags, rst.ack), (moved.client, RST | ACK, 101));
    }
}

#[test]
fn an_owner_is_asked_whatever_it_has_refused_before() {
    for service in SERVICES {
        let mut moved = Moved::at(service);
        let segment = moved.segment(ACK, 101, 5000);
        let refusal = moved.refusal(moved.old, RST | ACK, 5000, 101);
        assert_eq!(moved.send(&refusal), []);
        moved.goes_to(&segment, &[moved.new]);
        assert_eq!(moved.send(&moved.answer(moved.old, ACK, 5000, 101)), [moved.client]);
        moved.goes_to(&segment, &[moved.old]);
    }
}

#[test]
fn a_client_that_did_not_move_gets_the_rsts_of_its_target() {
    for service in ["many6", "raw", "raw6"] {
        let mut moved = Moved::at(service);
        let relay = moved.world.service(service);
        let still = (6000..7000)
            .map(|port| SocketAddr::new(moved.client.ip(), port))
            .find(|client| {
                let chosen = relay.targets.choose(&(*client).into(), moved.world.now.unix);
                chosen.candidates.len() == 1
            })
            .unwrap();
        let mapping = relay.outward(still.into(), moved.world.now.unix).unwrap();
        let (target, egress): (SocketAddr, SocketAddr) =
            (mapping.target.into(), mapping.egress.into());
        let rst = Segment { seq: 5000, ..Segment::new(target, egress, RST) };
        let sent = moved.world.datagram(LAN, &rst.datagram());
        assert_eq!(Segment::read(&sent[0].1[14..]).unwrap().dst, still);
        // Of a target that is not its own, nobody knows whom it is for.
        let other = moved.both().into_iter().find(|at| *at != target).unwrap();
        let rst = Segment { seq: 5000, ..Segment::new(other, egress, RST) };
        assert!(moved.world.datagram(LAN, &rst.datagram()).is_empty());
    }
}
