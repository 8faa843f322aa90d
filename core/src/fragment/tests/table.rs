//! The decision on each fragment, and the bounds of the table.

use super::*;

#[test]
fn a_datagram_is_complete_with_its_last_missing_fragment() {
    let pieces = [(0, 24, true), (24, 48, true), (48, 55, false)];
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]] {
        let mut clocked = Clocked::new(LIMITS);
        for (place, &piece) in order.iter().enumerate() {
            let (from, to, more) = pieces[piece];
            let admitted = clocked.admit(&ipv4(9, from, to, more));
            if place < 2 {
                assert_eq!(admitted, Admitted::Waits);
                assert_eq!(clocked.table.kept(), place + 1);
                continue;
            }
            let (port, is_marked) = (PortIndex(1), false);
            let whole = Reassembled { port, fragments: 3, len: 55, is_marked };
            assert_eq!(admitted, Admitted::Completes(whole));
        }
        assert!(clocked.table.is_empty() && clocked.table.kept() == 0 && clocked.all_drops() == 0);
    }
}

/// Routers that hash ports send the first fragment another way than the others. The datagram has
/// the Ethernet header of the first, and so must enter through that fragment's port.
#[test]
fn a_datagram_enters_where_its_first_fragment_did() {
    let pieces =
        [(PortIndex(3), 0, 24, true), (PortIndex(2), 24, 48, true), (PortIndex(2), 48, 55, false)];
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
        let mut clocked = Clocked::new(LIMITS);
        let admitted = order.map(|piece: usize| {
            let (port, from, to, more) = pieces[piece];
            clocked.admit_through(port, Side::Client, &ipv4(9, from, to, more))
        });
        let whole = Reassembled { port: PortIndex(3), fragments: 3, len: 55, is_marked: false };
        assert_eq!(admitted, [Admitted::Waits, Admitted::Waits, Admitted::Completes(whole)]);
    }
}

#[test]
fn contradictions_end_the_datagram() {
    let marked = |ecn| Fragment { ecn, ..ipv4(9, 24, 48, true) };
    let first = ipv4(9, 0, 24, true);
    let icmp = Fragment { protocol: 1, ..ipv4(9, 24, 48, true) };
    let cases: [(&[Fragment], Fragment); 7] = [
        (&[first], ipv4(9, 0, 32, true)),
        (&[ipv4(9, 48, 72, true)], ipv4(9, 24, 56, true)),
        (&[first, ipv4(9, 48, 56, false)], ipv4(9, 56, 64, false)),
        (&[ipv4(9, 48, 56, false)], ipv4(9, 56, 64, true)),
        (&[ipv4(9, 48, 72, true)], ipv4(9, 24, 40, false)),
        (&[first], icmp),
        (&[first], marked(3)),
    ];
    for (before, contradiction) in cases {
        let mut clocked = Clocked::new(LIMITS);
        for fragment in before {
            assert_eq!(clocked.admit(fragment), Admitted::Waits);
        }
        assert_eq!(clocked.admit(&contradiction), Admitted::Refused, "{contradiction:?}");
        let count = before.len() as u64 + 1;
        assert_eq!(clocked.drops(DropReason::FragmentConflict), count);
        // Correct fragments do not revive it.
        for (from, to, more) in [(0, 24, true), (24, 48, true), (48, 56, false)] {
            assert_eq!(clocked.admit(&ipv4(9, from, to, more)), Admitted::Refused);
        }
        assert_eq!(clocked.drops(DropReason::FragmentConflict), count + 3);
        // Its frames are kept until it expires; they are counted once.
        assert_eq!(clocked.table.kept(), before.len());
        clocked.now = 101;
        clocked.expire();
        assert_eq!((clocked.table.kept(), clocked.all_drops()), (0, count + 3));
    }
    // A port of the other side.
    let mut clocked = Clocked::new(LIMITS);
    assert_eq!(clocked.admit(&first), Admitted::Waits);
    let last = ipv4(9, 24, 48, false);
    assert_eq!(clocked.admit_at(Side::Target, &last), Admitted::Refused);
    assert_eq!(clocked.drops(DropReason::FragmentConflict), 2);
}

#[test]
fn a_mark_on_one_fragment_marks_the_datagram() {
    let mut clocked = Clocked::new(LIMITS);
    let mark = |ecn, fragment| Fragment { ecn, ..fragment };
    assert_eq!(clocked.admit(&mark(2, ipv4(9, 0, 24, true))), Admitted::Waits);
    let admitted = clocked.admit(&mark(3, ipv4(9, 24, 48, false)));
    assert!(matches!(admitted, Admitted::Completes(Reassembled { is_marked: true, .. })));
}

#[test]
fn a_duplicate_is_refused_alone() {
    let mut clocked = Clocked::new(LIMITS);
    for fragment in [ipv4(9, 0, 24, true), ipv4(9, 48, 55, false)] {
        assert_eq!(clocked.admit(&fragment), Admitted::Waits);
        assert_eq!(clocked.admit(&fragment), Admitted::Refused);
    }
    assert_eq!(clocked.drops(DropReason::FragmentDuplicate), 2);
    assert!(matches!(clocked.admit(&ipv4(9, 24, 48, true)), Admitted::Completes(_)));
}

#[test]
fn a_datagram_in_too_many_pieces_is_refused() {
    let mut clocked = Clocked::new(FragmentLimits { per_datagram: 4, ..LIMITS });
    // Room is reserved for the first and the last.
    for from in [24, 32] {
        assert_eq!(clocked.admit(&ipv4(8, from, from + 8, true)), Admitted::Waits);
        assert_eq!(clocked.admit(&ipv4(9, from, from + 8, true)), Admitted::Waits);
    }
    assert_eq!(clocked.admit(&ipv4(9, 40, 48, true)), Admitted::Refused);
    assert_eq!(clocked.drops(DropReason::FragmentTooMany), 3);
    assert_eq!(clocked.admit(&ipv4(8, 40, 48, false)), Admitted::Waits);
    assert!(matches!(clocked.admit(&ipv4(8, 0, 24, true)), Admitted::Completes(_)));
}

#[test]
fn datagrams_frames_and_time_are_bounded() {
    // Datagrams.
    let mut clocked = Clocked::new(LIMITS);
    for id in 0..200 {
        // Each of another network: one alone gets only a share.
        let admitted = clocked.admit(&of_network(id as u8, id, 0, 24, true));
        assert_eq!(admitted == Admitted::Waits, id < 16, "{id}");
    }
    assert_eq!((clocked.table.kept(), clocked.drops(DropReason::FragmentTableFull)), (16, 184));
    // An expired datagram makes room, and its late fragments begin another.
    clocked.now = 100;
    clocked.expire();
    assert_eq!(clocked.table.kept(), 16, "not yet");
    clocked.now = 101;
    assert_eq!(clocked.admit(&of_network(3, 3, 24, 48, false)), Admitted::Waits);
    assert_eq!(clocked.drops(DropReason::FragmentTimeout), 1);
    clocked.expire();
    assert_eq!((clocked.table.kept(), clocked.drops(DropReason::FragmentTimeout)), (1, 16));
    // Frames.
    let mut clocked = Clocked::new(FragmentLimits { buffers: 4, ..LIMITS });
    for id in 0..4 {
        assert_eq!(clocked.admit(&of_network(id as u8, id, 0, 24, true)), Admitted::Waits);
    }
    assert_eq!(clocked.admit(&of_network(4, 4, 0, 24, true)), Admitted::Refused);
    assert_eq!(clocked.admit(&of_network(0, 0, 24, 48, false)), Admitted::Refused);
    assert_eq!(
        clocked.drops(DropReason::FragmentTableFull),
        3,
        "with the first fragment of the datagram"
    );
    assert_eq!(clocked.table.kept(), 4);
    // The work of one call is bounded.
    let mut clocked = Clocked::new(FragmentLimits { datagrams: 100, buffers: 200, ..LIMITS });
    for id in 0..100 {
        assert_eq!(clocked.admit(&of_network(id as u8, id, 0, 24, true)), Admitted::Waits);
    }
    clocked.now = 1000;
    clocked.expire();
    assert_eq!(clocked.table.kept(), 100 - EXPIRE_MAX);
}

#[test]
fn its_memory_is_as_documented() {
    // docs/operations.md: about 110 bytes for each datagram, and 64 KiB for the shares of networks.
    for datagrams in [16, 1024, 65_536] {
        let memory = ReassemblyTable::memory(&FragmentLimits { datagrams, ..LIMITS });
        let each = (memory - 64 * 1024) as f64 / f64::from(datagrams);
        assert!((100.0..120.0).contains(&each), "{each}");
    }
}

#[test]
fn a_datagram_that_the_frame_table_refuses_is_given_up() {
    let mut clocked = Clocked::new(LIMITS);
    let (first, second) = (ipv4(9, 0, 24, true), ipv4(9, 24, 48, true));
    assert_eq!(clocked.admit(&first), Admitted::Waits);
    assert_eq!(clocked.admit(&second), Admitted::Waits);
    clocked.table.discard(&second.key, &clocked.counters);
    assert_eq!((clocked.table.kept(), clocked.drops(DropReason::FragmentTableFull)), (0, 2));
    assert_eq!(clocked.admit(&ipv4(9, 48, 55, false)), Admitted::Refused);
    clocked.now = 101;
    clocked.expire();
    assert!(clocked.table.is_empty() && clocked.table.kept() == 0);
}
