//! Fragments one by one, and the ledger against a plain table of bytes.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::bucket::BucketHash;
use crate::counters::Counters;
use crate::fragment::FragmentLimits;
use crate::frame::HeapFrame;
use crate::keys::Secret;
use crate::net::PortIndex;
use crate::net::Side;
use crate::time::Instant;

mod shares;

const LIMITS: FragmentLimits =
    FragmentLimits { datagrams: 16, per_datagram: 8, buffers: 64, timeout_ms: 100 };

fn ledger(limits: FragmentLimits) -> Ledger {
    let secret = Secret::new([7; 32]);
    let (hash, networks) = (FragmentHash::new(&secret), BucketHash::new(&secret));
    Ledger::new(limits, 2048, hash.unwrap(), networks.unwrap())
}

/// The IPv4 fragment `from..to` of the datagram `id` with that protocol, as a frame.
fn ipv4_frame(id: u16, protocol: u8, from: usize, to: usize, more: bool) -> Vec<u8> {
    let mut frame = vec![2; 12];
    frame.extend([8, 0]);
    let (total_len, word) = ((20 + to - from) as u16, (from / 8) as u16);
    let mut header = [0; 20];
    let fragment = word | if more { ipv4::MORE_FRAGMENTS } else { 0 };
    let (src, dst) = (0x0a00_0001, 0x0a00_0002);
    ipv4::Header { total_len, id, fragment, protocol, src, dst, ..ipv4::ORIGINATED }
        .write(&mut header);
    frame.extend(header);
    // Payload whose thirteenth byte reads as a TCP header of 20 bytes.
    frame.extend((from..to).map(|_| 0x50));
    frame
}

fn ipv6_frame(id: u32, from: usize, to: usize, more: bool) -> Vec<u8> {
    let mut frame = vec![2; 12];
    frame.extend([0x86, 0xdd]);
    let mut datagram = vec![0; 48];
    let (src, dst) = (0x2001 << 112 | 1, 0x2001 << 112 | 2);
    ipv6::Header {
        payload_len: (8 + to - from) as u16,
        next_header: ipv6::PROTOCOL_FRAGMENT,
        src,
        dst,
        ..ipv6::ORIGINATED
    }
    .write(&mut datagram);
    let header = ipv6::Fragment { at: 40, named_at: 6, next_header: 6, offset: from, more, id };
    header.write(&mut datagram);
    datagram.extend((from..to).map(|_| 0x50));
    frame.extend(datagram);
    frame
}

fn read(frame: &[u8]) -> Option<Result<Fragment, DropReason>> {
    Fragment::read(&Ethernet::parse(frame).unwrap(), frame)
}

fn ipv4(id: u16, from: usize, to: usize, more: bool) -> Fragment {
    read(&ipv4_frame(id, 6, from, to, more)).unwrap().unwrap()
}

/// A fragment of some host of the network 10.1.`network`.0/24.
fn of_network(network: u8, id: u16, from: usize, to: usize, more: bool) -> Fragment {
    let fragment = ipv4(id, from, to, more);
    let src = Ipv4Addr::new(10, 1, network, id as u8).into();
    Fragment { key: Key { src, ..fragment.key }, ..fragment }
}

#[test]
fn reads_ipv4_fragments_and_nothing_else() {
    let frame = ipv4_frame(0x1234, 6, 24, 48, true);
    let fragment = read(&frame).unwrap().unwrap();
    let (src, dst) = (Ipv4Addr::new(10, 0, 0, 1).into(), Ipv4Addr::new(10, 0, 0, 2).into());
    assert_eq!(fragment.key, Key { src, dst, id: 0x1234 });
    assert_eq!((fragment.offset, fragment.len, fragment.more), (24, 24, true));
    assert_eq!((fragment.l3, fragment.headers_len, fragment.protocol), (14, 20, 6));
    // Whole ones, damaged ones, and ones with a source route are the engine's.
    assert_eq!(read(&ipv4_frame(1, 6, 0, 24, false)), None);
    let mut damaged = frame.clone();
    damaged[24] ^= 1;
    assert_eq!(read(&damaged), None);
    for len in 14..frame.len() {
        assert_eq!(read(&frame[..len]), None, "{len}");
    }
}

#[test]
fn reads_ipv6_fragments_and_nothing_else() {
    let fragment = read(&ipv6_frame(0xcafe_babe, 1232, 1400, false)).unwrap().unwrap();
    let ip = |last: u128| Ipv6Addr::from_bits(0x2001 << 112 | last).into();
    assert_eq!(fragment.key, Key { src: ip(1), dst: ip(2), id: 0xcafe_babe });
    assert_eq!((fragment.offset, fragment.len, fragment.more), (1232, 168, false));
    assert_eq!((fragment.l3, fragment.headers_len, fragment.protocol), (14, 48, 6));
    assert_eq!(read(&ipv6_frame(1, 0, 24, false)), None, "an atomic one is whole");
    // Behind options: not put together.
    let mut behind = ipv6_frame(1, 0, 24, true);
    behind.splice(54..54, [44, 0, 1, 4, 0, 0, 0, 0]);
    behind[14 + 6] = 60;
    put_u16(&mut behind[14..], 4, 40);
    assert_eq!(read(&behind), Some(Err(DropReason::FragmentMalformed)));
}

/// RFC 6980, section 5: neighbours are not believed what came in fragments, and the first one says
/// what the datagram is.
#[test]
fn neighbour_discovery_is_not_put_together() {
    let message = |kind: u8, from: usize| {
        let mut frame = ipv6_frame(1, from, from + 24, true);
        frame[14 + 40] = 58;
        frame[14 + 48] = kind;
        read(&frame).unwrap()
    };
    for kind in 133..=137 {
        assert_eq!(message(kind, 0), Err(DropReason::NdMalformed), "{kind}");
        // Later ones begin with anything.
        assert!(message(kind, 24).is_ok());
    }
    for kind in [1, 2, 128, 132, 138] {
        assert!(message(kind, 0).is_ok(), "{kind}");
    }
}

#[test]
fn refuses_what_no_segment_is_cut_into() {
    use DropReason::{FragmentMalformed, FragmentTiny, FragmentTooLong};
    let check = |protocol, from, to, more| {
        read(&ipv4_frame(1, protocol, from, to, more)).unwrap().unwrap().check(2048)
    };
    assert_eq!(check(6, 0, 24, true), Ok(()));
    assert_eq!(check(6, 24, 31, false), Ok(()));
    assert_eq!(check(6, 24, 24, false), Err(FragmentMalformed), "empty");
    assert_eq!(check(6, 24, 47, true), Err(FragmentMalformed), "not a multiple of eight");
    // Ports and flags in different fragments (RFC 1858), or written over (RFC 3128).
    assert_eq!(check(6, 0, 8, true), Err(FragmentTiny));
    assert_eq!(check(6, 0, 16, true), Err(FragmentTiny));
    assert_eq!(check(6, 8, 1000, false), Err(FragmentTiny));
    assert_eq!(check(6, 16, 1000, false), Err(FragmentTiny));
    assert_eq!(check(1, 0, 8, true), Ok(()), "ICMP's header is eight bytes");
    // Options that are not there.
    let mut cut = ipv4_frame(1, 6, 0, 24, true);
    cut[34 + 12] = 0x80;
    assert_eq!(read(&cut).unwrap().unwrap().check(2048), Err(FragmentTiny));
    // Longer than a frame, and than any datagram ("ping of death").
    assert_eq!(check(6, 2000, 2014, false), Ok(()));
    assert_eq!(check(6, 2000, 2015, false), Err(FragmentTooLong));
    let last = read(&ipv4_frame(1, 6, 65528, 65528 + 100, false)).unwrap().unwrap();
    assert_eq!(last.check(1 << 20), Err(FragmentTooLong));
    let last = read(&ipv6_frame(1, 65528, 65528 + 8, false)).unwrap().unwrap();
    assert_eq!(last.check(1 << 20), Err(FragmentTooLong));
}

/// A ledger and its counters, with a clock.
struct Desk {
    ledger: Ledger,
    counters: Counters,
    now: u64,
}

impl Desk {
    fn new(limits: FragmentLimits) -> Desk {
        Desk { ledger: ledger(limits), counters: Counters::default(), now: 0 }
    }

    fn admit(&mut self, fragment: &Fragment) -> Admitted {
        self.admit_at(Side::Client, fragment)
    }

    fn admit_at(&mut self, side: Side, fragment: &Fragment) -> Admitted {
        self.admit_through(PortIndex(1), side, fragment)
    }

    fn admit_through(&mut self, port: PortIndex, side: Side, fragment: &Fragment) -> Admitted {
        let at = Arrival { now: Instant::from_millis(self.now), port, side };
        self.ledger.admit(at, fragment, &self.counters)
    }

    fn expire(&mut self) {
        self.ledger.expire(Instant::from_millis(self.now), &self.counters);
    }

    fn drops(&self, reason: DropReason) -> u64 {
        self.counters.drops(PortIndex(1), reason)
    }

    fn all_drops(&self) -> u64 {
        DropReason::ALL.iter().map(|&reason| self.drops(reason)).sum()
    }
}

#[test]
fn a_datagram_is_whole_with_its_last_fragment_to_come() {
    let pieces = [(0, 24, true), (24, 48, true), (48, 55, false)];
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]] {
        let mut desk = Desk::new(LIMITS);
        for (place, &piece) in order.iter().enumerate() {
            let (from, to, more) = pieces[piece];
            let admitted = desk.admit(&ipv4(9, from, to, more));
            if place < 2 {
                assert_eq!(admitted, Admitted::Waits);
                assert_eq!(desk.ledger.kept(), place + 1);
                continue;
            }
            let (port, is_marked) = (PortIndex(1), false);
            let whole = Finished { port, fragments: 3, len: 55, is_marked };
            assert_eq!(admitted, Admitted::Completes(whole));
        }
        assert!(desk.ledger.is_empty() && desk.ledger.kept() == 0 && desk.all_drops() == 0);
    }
}

/// Routers that spread by ports part the first fragment from the others: the datagram has the Ethernet
/// header of the first, so it must be that one's port which takes it.
#[test]
fn a_datagram_comes_in_where_its_header_did() {
    let pieces =
        [(PortIndex(3), 0, 24, true), (PortIndex(2), 24, 48, true), (PortIndex(2), 48, 55, false)];
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
        let mut desk = Desk::new(LIMITS);
        let admitted = order.map(|piece: usize| {
            let (port, from, to, more) = pieces[piece];
            desk.admit_through(port, Side::Client, &ipv4(9, from, to, more))
        });
        let whole = Finished { port: PortIndex(3), fragments: 3, len: 55, is_marked: false };
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
        let mut desk = Desk::new(LIMITS);
        for fragment in before {
            assert_eq!(desk.admit(fragment), Admitted::Waits);
        }
        assert_eq!(desk.admit(&contradiction), Admitted::Refused, "{contradiction:?}");
        let count = before.len() as u64 + 1;
        assert_eq!(desk.drops(DropReason::FragmentConflict), count);
        // Not even with fragments that would be right is anything made of it.
        for (from, to, more) in [(0, 24, true), (24, 48, true), (48, 56, false)] {
            assert_eq!(desk.admit(&ipv4(9, from, to, more)), Admitted::Refused);
        }
        assert_eq!(desk.drops(DropReason::FragmentConflict), count + 3);
        // Its frames are kept until its time is up; they are counted once.
        assert_eq!(desk.ledger.kept(), before.len());
        desk.now = 101;
        desk.expire();
        assert_eq!((desk.ledger.kept(), desk.all_drops()), (0, count + 3));
    }
    // The other side's port.
    let mut desk = Desk::new(LIMITS);
    assert_eq!(desk.admit(&first), Admitted::Waits);
    let last = ipv4(9, 24, 48, false);
    assert_eq!(desk.admit_at(Side::Target, &last), Admitted::Refused);
    assert_eq!(desk.drops(DropReason::FragmentConflict), 2);
}

#[test]
fn a_mark_on_one_is_a_mark_on_all() {
    let mut desk = Desk::new(LIMITS);
    let mark = |ecn, fragment| Fragment { ecn, ..fragment };
    assert_eq!(desk.admit(&mark(2, ipv4(9, 0, 24, true))), Admitted::Waits);
    let admitted = desk.admit(&mark(3, ipv4(9, 24, 48, false)));
    assert!(matches!(admitted, Admitted::Completes(Finished { is_marked: true, .. })));
}

#[test]
fn a_duplicate_is_refused_alone() {
    let mut desk = Desk::new(LIMITS);
    for fragment in [ipv4(9, 0, 24, true), ipv4(9, 48, 55, false)] {
        assert_eq!(desk.admit(&fragment), Admitted::Waits);
        assert_eq!(desk.admit(&fragment), Admitted::Refused);
    }
    assert_eq!(desk.drops(DropReason::FragmentDuplicate), 2);
    assert!(matches!(desk.admit(&ipv4(9, 24, 48, true)), Admitted::Completes(_)));
}

#[test]
fn a_datagram_in_too_many_pieces_is_refused() {
    let mut desk = Desk::new(FragmentLimits { per_datagram: 4, ..LIMITS });
    // Places are left for the first and the last.
    for from in [24, 32] {
        assert_eq!(desk.admit(&ipv4(8, from, from + 8, true)), Admitted::Waits);
        assert_eq!(desk.admit(&ipv4(9, from, from + 8, true)), Admitted::Waits);
    }
    assert_eq!(desk.admit(&ipv4(9, 40, 48, true)), Admitted::Refused);
    assert_eq!(desk.drops(DropReason::FragmentTooMany), 3);
    assert_eq!(desk.admit(&ipv4(8, 40, 48, false)), Admitted::Waits);
    assert!(matches!(desk.admit(&ipv4(8, 0, 24, true)), Admitted::Completes(_)));
}

#[test]
fn datagrams_frames_and_time_are_bounded() {
    // Datagrams.
    let mut desk = Desk::new(LIMITS);
    for id in 0..200 {
        // Of a network each: one alone has a share only.
        let admitted = desk.admit(&of_network(id as u8, id, 0, 24, true));
        assert_eq!(admitted == Admitted::Waits, id < 16, "{id}");
    }
    assert_eq!((desk.ledger.kept(), desk.drops(DropReason::FragmentTableFull)), (16, 184));
    // At its time's end a datagram makes room, and what comes late begins anew.
    desk.now = 100;
    desk.expire();
    assert_eq!(desk.ledger.kept(), 16, "not yet");
    desk.now = 101;
    assert_eq!(desk.admit(&of_network(3, 3, 24, 48, false)), Admitted::Waits);
    assert_eq!(desk.drops(DropReason::FragmentTimeout), 1);
    desk.expire();
    assert_eq!((desk.ledger.kept(), desk.drops(DropReason::FragmentTimeout)), (1, 16));
    // Frames.
    let mut desk = Desk::new(FragmentLimits { buffers: 4, ..LIMITS });
    for id in 0..4 {
        assert_eq!(desk.admit(&of_network(id as u8, id, 0, 24, true)), Admitted::Waits);
    }
    assert_eq!(desk.admit(&of_network(4, 4, 0, 24, true)), Admitted::Refused);
    assert_eq!(desk.admit(&of_network(0, 0, 24, 48, false)), Admitted::Refused);
    assert_eq!(desk.drops(DropReason::FragmentTableFull), 3, "a datagram's first one with it");
    assert_eq!(desk.ledger.kept(), 4);
    // One call's work is bounded.
    let mut desk = Desk::new(FragmentLimits { datagrams: 100, buffers: 200, ..LIMITS });
    for id in 0..100 {
        assert_eq!(desk.admit(&of_network(id as u8, id, 0, 24, true)), Admitted::Waits);
    }
    desk.now = 1000;
    desk.expire();
    assert_eq!(desk.ledger.kept(), 100 - EXPIRE_MAX);
}

#[test]
fn its_memory_is_what_the_documents_say() {
    // docs/operations.md: about 110 bytes for each datagram, and 64 KiB for the shares of networks.
    for datagrams in [16, 1024, 65_536] {
        let memory = Ledger::memory(&FragmentLimits { datagrams, ..LIMITS });
        let each = (memory - 64 * 1024) as f64 / f64::from(datagrams);
        assert!((100.0..120.0).contains(&each), "{each}");
    }
}

#[test]
fn what_the_table_of_frames_refuses_is_given_up() {
    let mut desk = Desk::new(LIMITS);
    let (first, second) = (ipv4(9, 0, 24, true), ipv4(9, 24, 48, true));
    assert_eq!(desk.admit(&first), Admitted::Waits);
    assert_eq!(desk.admit(&second), Admitted::Waits);
    desk.ledger.refused(&second.key, &desk.counters);
    assert_eq!((desk.ledger.kept(), desk.drops(DropReason::FragmentTableFull)), (0, 2));
    assert_eq!(desk.admit(&ipv4(9, 48, 55, false)), Admitted::Refused);
    desk.now = 101;
    desk.expire();
    assert!(desk.ledger.is_empty() && desk.ledger.kept() == 0);
}

#[test]
fn datagrams_are_spread_over_workers_and_never_parted() {
    let hash = FragmentHash::new(&Secret::new([7; 32])).unwrap();
    for workers in 1..9 {
        let mut counts = vec![0; workers];
        for id in 0..800 {
            let (one, other) = (ipv4(id, 0, 24, true), ipv4(id, 24, 48, false));
            let worker = hash.worker(&one.key, workers);
            assert_eq!(hash.worker(&other.key, workers), worker);
            counts[worker] += 1;
        }
        assert!(counts.iter().all(|&count| count > 400 / workers), "{counts:?}");
    }
    // Every bit of what tells datagrams apart matters.
    let six = read(&ipv6_frame(7, 0, 24, true)).unwrap().unwrap().key;
    let flip = |ip: IpAddr, bit: usize| match ip {
        IpAddr::V4(ip) => IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() ^ 1 << (bit % 32))),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() ^ 1 << bit)),
    };
    for key in [ipv4(7, 0, 24, true).key, six] {
        for bit in 0..128 {
            assert_ne!(hash.of(&Key { src: flip(key.src, bit), ..key }), hash.of(&key));
            assert_ne!(hash.of(&Key { dst: flip(key.dst, bit), ..key }), hash.of(&key));
        }
        for bit in 0..16 {
            assert_ne!(hash.of(&Key { id: key.id ^ 1 << bit, ..key }), hash.of(&key));
        }
    }
}

#[test]
fn headers_of_whole_datagrams_are_made_right() {
    let finished = Finished { port: PortIndex(0), fragments: 2, len: 24, is_marked: true };
    // As the table hands them back: length and fragment word right, no checksum.
    let mut bytes = ipv4_frame(1, 6, 0, 24, false);
    put_u16(&mut bytes[14..], 10, 0);
    let mut frame = HeapFrame::new(&bytes);
    assert!(finish(&mut frame, &finished));
    assert!(Ipv4::parse(&frame.bytes()[14..]).is_ok());
    assert_eq!(frame.bytes()[15] & 3, 3);
    for wrong in [23, 25] {
        let finished = Finished { len: wrong, ..finished };
        assert!(!finish(&mut HeapFrame::new(&bytes), &finished), "{wrong}");
    }
    assert!(!finish(&mut HeapFrame::new(&ipv4_frame(1, 6, 0, 24, true)), &finished));
}

/// A datagram as a table of bytes, written by rules of its own.
#[derive(Default)]
struct Painted {
    bytes: Vec<bool>,
    pieces: Vec<(usize, usize, bool)>,
    end: Option<usize>,
    is_spoilt: bool,
    started: u64,
}

#[derive(Debug, PartialEq)]
enum Want {
    Waits,
    Whole(usize),
    Refused,
}

impl Painted {
    /// Pieces that must still come, whatever else does.
    fn missing_ends(&self) -> usize {
        let has = |wanted: fn(&(usize, usize, bool)) -> bool| self.pieces.iter().any(wanted);
        usize::from(!has(|piece| piece.0 == 0)) + usize::from(!has(|piece| !piece.2))
    }

    fn add(&mut self, from: usize, to: usize, more: bool, most: usize) -> Want {
        if self.is_spoilt || self.pieces.contains(&(from, to, more)) {
            return Want::Refused;
        }
        self.pieces.push((from, to, more));
        self.bytes.resize(self.bytes.len().max(to), false);
        let second_end = !more && self.end.is_some();
        if !more {
            self.end = Some(to);
        }
        self.is_spoilt = second_end
            || self.bytes[from..to].iter().any(|&there| there)
            || self.pieces.len() + self.missing_ends() > most
            || self.end.is_some_and(|end| self.bytes.len() > end || (more && to == end));
        self.bytes[from..to].fill(true);
        let is_whole = self.end.is_some_and(|end| self.bytes.len() == end)
            && self.bytes.iter().all(|&there| there);
        match (self.is_spoilt, is_whole) {
            (true, _) => Want::Refused,
            (false, true) => Want::Whole(self.bytes.len()),
            (false, false) => Want::Waits,
        }
    }
}

proptest! {
    #[test]
    fn the_ledger_agrees_with_a_table_of_bytes(
        steps in proptest::collection::vec(
            (0u16..6, 0usize..8, 1usize..4, prop::bool::weighted(0.75), 0u64..25), 1..200),
    ) {
        let mut desk = Desk::new(FragmentLimits { per_datagram: 5, ..LIMITS });
        let mut painted: HashMap<u16, Painted> = HashMap::new();
        let mut refused = 0;
        let mut passed = 0;
        for (id, from, len, more, pause) in steps {
            desk.now += pause;
            painted.retain(|_, datagram| desk.now - datagram.started <= 100);
            let (from, to) = (24 + from * 8, 24 + (from + len) * 8);
            // The whole TCP header is in the first fragment, or there is none.
            let from = if from == 24 { 0 } else { from };
            if from == 0 && !more {
                continue;
            }
            let fresh = || Painted { started: desk.now, ..Painted::default() };
            let want = painted.entry(id).or_insert_with(fresh).add(from, to, more, 5);
            // Of a network each, so that none is short of its share.
            let admitted = desk.admit(&of_network(id as u8, id, from, to, more));
            let got = match admitted {
                Admitted::Waits => Want::Waits,
                Admitted::Completes(whole) => {
                    passed += whole.fragments as u64;
                    Want::Whole(whole.len)
                }
                Admitted::Refused => Want::Refused,
            };
            if let Want::Whole(_) = got {
                painted.remove(&id);
            }
            refused += 1;
            prop_assert_eq!(got, want);
        }
        // Every fragment went one of three ways.
        desk.now += 1000;
        (0..10).for_each(|_| desk.expire());
        prop_assert!(desk.ledger.is_empty() && desk.ledger.kept() == 0);
        prop_assert_eq!(desk.all_drops() + passed, refused);
    }

    #[test]
    fn reading_stays_inside(bytes in proptest::collection::vec(any::<u8>(), 14..120), six: bool) {
        let mut bytes = bytes;
        bytes[12..14].copy_from_slice(if six { &[0x86, 0xdd] } else { &[8, 0] });
        if let Some(first) = bytes.get_mut(14) {
            *first = if six { 0x60 } else { 0x45 };
        }
        if let Some(Ok(fragment)) = read(&bytes) {
            prop_assert!(fragment.l3 + fragment.headers_len + fragment.len <= bytes.len());
        }
    }
}

#[test]
fn any_part_of_a_datagram_is_a_fragment() {
    // First, middle and last fragment; DF and the reserved bit say nothing.
    for (fragment, whole) in
        [(0x2000, false), (0x2010, false), (0x0010, false), (0x4000, true), (0, true)]
    {
        let (header_len, total_len, ttl, protocol) = (20, 40, 9, 6);
        let ip = Ipv4 { header_len, total_len, fragment, ttl, protocol, src: 1, dst: 2 };
        assert_eq!(admit(!ip.is_fragment()).is_ok(), whole, "{fragment:#x}");
    }
}
