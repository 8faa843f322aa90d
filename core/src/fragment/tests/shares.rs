//! The share of one network in the table's datagrams and frames.

use super::*;
use crate::bucket::{BucketPlace, Purpose};

#[test]
fn a_flood_from_one_network_leaves_room_for_others() {
    let mut clocked = Clocked::new(LIMITS);
    for id in 0..1000 {
        let admitted = clocked.admit(&of_network(1, id, 0, 24, true));
        assert_eq!(admitted == Admitted::Waits, id < 4, "a quarter of 16: {id}");
    }
    assert_eq!(clocked.drops(DropReason::FragmentShare), 996);
    let src = |network| Ipv4Addr::new(10, 1, network, 77).into();
    assert_eq!(clocked.table.waiting_of(src(1)), Waiting { datagrams: 4, frames: 4 });
    // Its datagrams may still become complete, which makes room for as many.
    assert!(matches!(clocked.admit(&of_network(1, 2, 24, 48, false)), Admitted::Completes(_)));
    assert_eq!(clocked.admit(&of_network(1, 2, 0, 24, true)), Admitted::Waits);
    assert_eq!(clocked.admit(&of_network(1, 4, 0, 24, true)), Admitted::Refused);
    // Meanwhile, other networks.
    for (network, id) in [(2, 0), (3, 1), (2, 2)] {
        assert_eq!(clocked.admit(&of_network(network, id, 24, 48, false)), Admitted::Waits);
        let whole = clocked.admit(&of_network(network, id, 0, 24, true));
        assert!(matches!(whole, Admitted::Completes(_)), "{whole:?}");
    }
    assert_eq!(clocked.table.waiting_of(src(2)), Waiting::default());
    // When its datagrams expire, its share is free again.
    clocked.now = 101;
    clocked.expire();
    assert_eq!(clocked.table.shares.sums(), [Waiting::default(); 2]);
    assert_eq!(clocked.admit(&of_network(1, 0, 0, 24, true)), Admitted::Waits);
}

/// Few datagrams can have many frames, so frames are shared too, also for known datagrams.
#[test]
fn frames_are_shared_as_datagrams_are() {
    let mut clocked = Clocked::new(FragmentLimits { datagrams: 1024, buffers: 32, ..LIMITS });
    for id in 0..3 {
        for from in [0, 24, 48] {
            let admitted = clocked.admit(&of_network(1, id, from, from + 24, true));
            assert_eq!(admitted == Admitted::Waits, id < 2 || from < 48, "{id} {from}");
        }
    }
    // A quarter of 32; the last one ended its datagram, whose fragments are all counted.
    assert_eq!((clocked.table.kept(), clocked.drops(DropReason::FragmentShare)), (8, 3));
    assert_eq!(clocked.admit(&of_network(1, 3, 0, 24, true)), Admitted::Refused);
    assert_eq!(clocked.table.waiting_of(Ipv4Addr::new(10, 1, 1, 9).into()).datagrams, 3);
    assert_eq!(clocked.admit(&of_network(2, 0, 0, 24, true)), Admitted::Waits);
    clocked.now = 101;
    clocked.expire();
    assert_eq!(clocked.table.shares.sums(), [Waiting::default(); 2]);
}

/// docs/limits.md: n networks leave (3/4)^n * (N + 3) - 3 of N, and 22 fill 1024.
#[test]
fn networks_leave_room_as_documented() {
    let mut clocked = Clocked::new(FragmentLimits {
        datagrams: 1024,
        buffers: 2048,
        per_datagram: 8,
        timeout_ms: 1000,
    });
    let mut left = vec![1024];
    while left.last() != Some(&0) {
        let network = left.len() as u8;
        // One network after another is the worst order.
        (0..2000).for_each(|id| {
            clocked.admit(&of_network(network, id, 0, 24, true));
        });
        left.push(1024 - clocked.table.kept());
    }
    println!("{left:?}");
    for (networks, &left) in (0..).zip(&left) {
        assert!(left as f64 >= 0.75f64.powi(networks) * 1027.0 - 3.0, "{networks}: {left}");
    }
    assert_eq!((left[1], left[4], left[10], left.len() - 1), (768, 324, 57, 22));
}

/// A network's count is the smaller of two: to share one place with a flood does no harm.
#[test]
fn a_shared_place_harms_no_network_whose_other_is_its_own() {
    let hash = BucketHash::new(&Secret::new([7; 32])).unwrap();
    let ip = |network: u32| Ipv4Addr::from_bits(0x0a00_0001 + (network << 8));
    let of = |network| hash.both(Purpose::Fragments, 0, ip(network).into()).map(BucketPlace::index);
    let admit = |clocked: &mut Clocked, network, id| {
        let fragment = ipv4(id, 0, 24, true);
        let key = DatagramKey { src: ip(network).into(), ..fragment.key };
        clocked.admit(&Fragment { key, ..fragment })
    };
    for table in 0..2 {
        let shared = |network: &u32| {
            of(*network)[table] == of(0)[table] && of(*network)[1 - table] != of(0)[1 - table]
        };
        let neighbour = (1..65_536).find(shared).unwrap();
        let mut clocked = Clocked::new(LIMITS);
        (0..20).for_each(|id| {
            admit(&mut clocked, 0, id);
        });
        assert_eq!(admit(&mut clocked, 0, 20), Admitted::Refused);
        for id in 0..3 {
            assert_eq!(admit(&mut clocked, neighbour, id), Admitted::Waits, "table {table}");
        }
    }
}

/// Few targets may send to very many clients, so that they are exempt.
#[test]
fn targets_on_ports_of_their_own_are_exempt() {
    let mut clocked = Clocked::new(LIMITS);
    for id in 0..20 {
        let admitted = clocked.admit_at(Side::Target, &of_network(1, id, 0, 24, true));
        assert_eq!(admitted == Admitted::Waits, id < 16, "{id}");
    }
    assert_eq!(clocked.drops(DropReason::FragmentTableFull), 4);
    let mut clocked = Clocked::new(LIMITS);
    for id in 0..20 {
        let admitted = clocked.admit_at(Side::Both, &of_network(1, id, 0, 24, true));
        assert_eq!(admitted == Admitted::Waits, id < 4, "such a port takes clients too: {id}");
    }
}

/// An IPv6 /56 is a network, as an IPv4 /24 is.
#[test]
fn networks_are_those_of_other_limits() {
    let mut clocked = Clocked::new(LIMITS);
    let of = |host: u128, id| {
        let fragment = read(&ipv6_frame(id, 0, 24, true)).unwrap().unwrap();
        let src = Ipv6Addr::from_bits(0x2001_0db8 << 96 | host).into();
        Fragment { key: DatagramKey { src, ..fragment.key }, ..fragment }
    };
    for id in 0..4 {
        assert_eq!(clocked.admit(&of(u128::from(id) << 64 | 1, id)), Admitted::Waits);
    }
    assert_eq!(clocked.admit(&of(0xff << 64, 5)), Admitted::Refused);
    assert_eq!(clocked.admit(&of(0x100 << 64, 6)), Admitted::Waits);
    assert_eq!(clocked.drops(DropReason::FragmentShare), 1);
}

/// One step: a network, a datagram of it, a piece, whether more follow, a pause, an operation.
type Step = (u8, u16, usize, bool, u64, u8);

proptest! {
    /// Counts never drift, and the free room is never less than documented.
    #[test]
    fn the_account_of_networks_is_exact(
        networks in 1u8..12,
        steps in proptest::collection::vec(
            (any::<u8>(), 0u16..40, 0usize..6, prop::bool::weighted(0.8), 0u64..12, 0u8..40),
            1..600),
    ) {
        let limits =
            FragmentLimits { datagrams: 64, per_datagram: 4, buffers: 100, timeout_ms: 300 };
        let mut clocked = Clocked::new(limits);
        for (network, id, at, more, pause, what) in steps as Vec<Step> {
            clocked.now += pause.saturating_sub(10);
            let from = if at == 0 { 0 } else { 16 + at * 8 };
            let fragment = of_network(network % networks, id, from, 24 + at * 8, more || at == 0);
            match what {
                0 => clocked.table.discard(&fragment.key, &clocked.counters),
                1 => clocked.expire(),
                _ => {
                    clocked.admit(&fragment);
                }
            }
            let table = &clocked.table;
            let (datagrams, frames) = (table.entries.len() as u32, table.kept() as u32);
            let all = Waiting { datagrams, frames };
            prop_assert_eq!(table.shares.sums(), [all; 2]);
            let of = |network| table.waiting_of(Ipv4Addr::new(10, 1, network, 1).into());
            let each: Vec<_> = (0..networks).map(of).collect();
            prop_assert_eq!(each.iter().map(|of| of.datagrams).sum::<u32>(), all.datagrams);
            prop_assert_eq!(each.iter().map(|of| of.frames).sum::<u32>(), all.frames);
            for (limit, taken) in [(64.0, all.datagrams), (100.0, all.frames)] {
                let left = 0.75f64.powi(networks.into()) * (limit + 3.0) - 3.0;
                prop_assert!(limit - f64::from(taken) >= left, "{} of {}", taken, limit);
            }
        }
        clocked.now += 1000;
        (0..2).for_each(|_| clocked.expire());
        prop_assert!(clocked.table.is_empty());
        prop_assert_eq!(clocked.table.shares.sums(), [Waiting::default(); 2]);
    }
}
