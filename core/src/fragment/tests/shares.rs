//! What one network may have of the ledger's datagrams and frames.

use super::*;
use crate::bucket::{BucketPlace, Purpose};

#[test]
fn a_flood_from_one_network_leaves_room_for_others() {
    let mut desk = Desk::new(LIMITS);
    for id in 0..1000 {
        let admitted = desk.admit(&of_network(1, id, 0, 24, true));
        assert_eq!(admitted == Admitted::Waits, id < 4, "a quarter of 16: {id}");
    }
    assert_eq!(desk.drops(DropReason::FragmentShare), 996);
    let src = |network| Ipv4Addr::new(10, 1, network, 77).into();
    assert_eq!(desk.ledger.waiting_of(src(1)), Waiting { datagrams: 4, frames: 4 });
    // What it has already may still become whole, and makes room for as much.
    assert!(matches!(desk.admit(&of_network(1, 2, 24, 48, false)), Admitted::Completes(_)));
    assert_eq!(desk.admit(&of_network(1, 2, 0, 24, true)), Admitted::Waits);
    assert_eq!(desk.admit(&of_network(1, 4, 0, 24, true)), Admitted::Refused);
    // Others, whose time comes meanwhile.
    for (network, id) in [(2, 0), (3, 1), (2, 2)] {
        assert_eq!(desk.admit(&of_network(network, id, 24, 48, false)), Admitted::Waits);
        let whole = desk.admit(&of_network(network, id, 0, 24, true));
        assert!(matches!(whole, Admitted::Completes(_)), "{whole:?}");
    }
    assert_eq!(desk.ledger.waiting_of(src(2)), Waiting::default());
    // With its time its share comes back.
    desk.now = 101;
    desk.expire();
    assert_eq!(desk.ledger.shares.sums(), [Waiting::default(); 2]);
    assert_eq!(desk.admit(&of_network(1, 0, 0, 24, true)), Admitted::Waits);
}

/// Few datagrams can have many frames: those are shared too, also with datagrams that wait already.
#[test]
fn frames_are_shared_as_datagrams_are() {
    let mut desk = Desk::new(FragmentLimits { datagrams: 1024, buffers: 32, ..LIMITS });
    for id in 0..3 {
        for from in [0, 24, 48] {
            let admitted = desk.admit(&of_network(1, id, from, from + 24, true));
            assert_eq!(admitted == Admitted::Waits, id < 2 || from < 48, "{id} {from}");
        }
    }
    // A quarter of 32; the last one ended its datagram, which is counted whole.
    assert_eq!((desk.ledger.kept(), desk.drops(DropReason::FragmentShare)), (8, 3));
    assert_eq!(desk.admit(&of_network(1, 3, 0, 24, true)), Admitted::Refused);
    assert_eq!(desk.ledger.waiting_of(Ipv4Addr::new(10, 1, 1, 9).into()).datagrams, 3);
    assert_eq!(desk.admit(&of_network(2, 0, 0, 24, true)), Admitted::Waits);
    desk.now = 101;
    desk.expire();
    assert_eq!(desk.ledger.shares.sums(), [Waiting::default(); 2]);
}

/// docs/limits.md: n networks leave (3/4)^n * (N + 3) - 3 of N, and 22 fill 1024.
#[test]
fn what_networks_leave_is_what_the_documents_say() {
    let mut desk = Desk::new(FragmentLimits {
        datagrams: 1024,
        buffers: 2048,
        per_datagram: 8,
        timeout_ms: 1000,
    });
    let mut left = vec![1024];
    while left.last() != Some(&0) {
        let network = left.len() as u8;
        // One after another is the worst of all orders.
        (0..2000).for_each(|id| {
            desk.admit(&of_network(network, id, 0, 24, true));
        });
        left.push(1024 - desk.ledger.kept());
    }
    println!("{left:?}");
    for (networks, &left) in (0..).zip(&left) {
        assert!(left as f64 >= 0.75f64.powi(networks) * 1027.0 - 3.0, "{networks}: {left}");
    }
    assert_eq!((left[1], left[4], left[10], left.len() - 1), (768, 324, 57, 22));
}

/// The smaller of its two counts is a network's: one that shares a place with a flood is not held to it.
#[test]
fn a_place_that_is_shared_harms_nobody_whose_other_is_not() {
    let hash = BucketHash::new(&Secret::new([7; 32])).unwrap();
    let ip = |network: u32| Ipv4Addr::from_bits(0x0a00_0001 + (network << 8));
    let of = |network| hash.both(Purpose::Fragments, 0, ip(network).into()).map(BucketPlace::index);
    let admit = |desk: &mut Desk, network, id| {
        let fragment = ipv4(id, 0, 24, true);
        let key = Key { src: ip(network).into(), ..fragment.key };
        desk.admit(&Fragment { key, ..fragment })
    };
    for table in 0..2 {
        let shared = |network: &u32| {
            of(*network)[table] == of(0)[table] && of(*network)[1 - table] != of(0)[1 - table]
        };
        let neighbour = (1..65_536).find(shared).unwrap();
        let mut desk = Desk::new(LIMITS);
        (0..20).for_each(|id| {
            admit(&mut desk, 0, id);
        });
        assert_eq!(admit(&mut desk, 0, 20), Admitted::Refused);
        for id in 0..3 {
            assert_eq!(admit(&mut desk, neighbour, id), Admitted::Waits, "table {table}");
        }
    }
}

/// Few targets may send to very many clients.
#[test]
fn targets_on_a_side_of_their_own_are_held_to_no_share() {
    let mut desk = Desk::new(LIMITS);
    for id in 0..20 {
        let admitted = desk.admit_at(Side::Target, &of_network(1, id, 0, 24, true));
        assert_eq!(admitted == Admitted::Waits, id < 16, "{id}");
    }
    assert_eq!(desk.drops(DropReason::FragmentTableFull), 4);
    let mut desk = Desk::new(LIMITS);
    for id in 0..20 {
        let admitted = desk.admit_at(Side::Both, &of_network(1, id, 0, 24, true));
        assert_eq!(admitted == Admitted::Waits, id < 4, "nobody can tell them apart there: {id}");
    }
}

/// An IPv6 /56 is a network, like an IPv4 /24.
#[test]
fn networks_are_told_apart_like_those_of_other_limits() {
    let mut desk = Desk::new(LIMITS);
    let of = |host: u128, id| {
        let fragment = read(&ipv6_frame(id, 0, 24, true)).unwrap().unwrap();
        let src = Ipv6Addr::from_bits(0x2001_0db8 << 96 | host).into();
        Fragment { key: Key { src, ..fragment.key }, ..fragment }
    };
    for id in 0..4 {
        assert_eq!(desk.admit(&of(u128::from(id) << 64 | 1, id)), Admitted::Waits);
    }
    assert_eq!(desk.admit(&of(0xff << 64, 5)), Admitted::Refused);
    assert_eq!(desk.admit(&of(0x100 << 64, 6)), Admitted::Waits);
    assert_eq!(desk.drops(DropReason::FragmentShare), 1);
}

/// One step: a network, a datagram of it, a piece, whether more follow, a pause, and what is done.
type Step = (u8, u16, usize, bool, u64, u8);

proptest! {
    /// Counts never drift, whatever becomes of datagrams, and what is left is never less than said.
    #[test]
    fn the_account_of_networks_is_exact(
        networks in 1u8..12,
        steps in proptest::collection::vec(
            (any::<u8>(), 0u16..40, 0usize..6, prop::bool::weighted(0.8), 0u64..12, 0u8..40),
            1..600),
    ) {
        let limits = FragmentLimits { datagrams: 64, per_datagram: 4, buffers: 100, timeout_ms: 300 };
        let mut desk = Desk::new(limits);
        for (network, id, at, more, pause, what) in steps as Vec<Step> {
            desk.now += pause.saturating_sub(10);
            let from = if at == 0 { 0 } else { 16 + at * 8 };
            let fragment = of_network(network % networks, id, from, 24 + at * 8, more || at == 0);
            match what {
                0 => desk.ledger.refused(&fragment.key, &desk.counters),
                1 => desk.expire(),
                _ => {
                    desk.admit(&fragment);
                }
            }
            let ledger = &desk.ledger;
            let all = Waiting { datagrams: ledger.count as u32, frames: ledger.kept() as u32 };
            prop_assert_eq!(ledger.shares.sums(), [all; 2]);
            let of = |network| ledger.waiting_of(Ipv4Addr::new(10, 1, network, 1).into());
            let each: Vec<_> = (0..networks).map(of).collect();
            prop_assert_eq!(each.iter().map(|of| of.datagrams).sum::<u32>(), all.datagrams);
            prop_assert_eq!(each.iter().map(|of| of.frames).sum::<u32>(), all.frames);
            for (limit, taken) in [(64.0, all.datagrams), (100.0, all.frames)] {
                let left = 0.75f64.powi(networks.into()) * (limit + 3.0) - 3.0;
                prop_assert!(limit - f64::from(taken) >= left, "{} of {}", taken, limit);
            }
        }
        desk.now += 1000;
        (0..2).for_each(|_| desk.expire());
        prop_assert!(desk.ledger.is_empty());
        prop_assert_eq!(desk.ledger.shares.sums(), [Waiting::default(); 2]);
    }
}
