//! Tables of fragments: complete datagrams, refusals, and that every frame is freed.
use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use dpdk::{
    Eal, FRAGMENTS_MAX, FragmentHeaders, IpFragTable, IpFragTableConfig, IpFragTableError, Mbuf,
    Mempool, Reassembly,
};

const TIMEOUT: u64 = 1000;
const V4: FragmentHeaders = FragmentHeaders::V4 { l2_len: 14, l3_len: 20 };
const V6: FragmentHeaders = FragmentHeaders::V6 { l2_len: 14 };

type Case = fn(&Eal, &Mempool);

#[test]
fn fragments() {
    let eal = crate::common::eal();
    let pool = crate::common::pool(&eal, "fragments", 1023);
    let cases: [(&str, Case); 10] = [
        ("whole in any order", complete_in_any_order),
        ("IPv6", whole_over_ipv6),
        ("no room to be in one piece", no_room_to_be_in_one_piece),
        ("flood", flood_of_datagrams_that_are_never_complete),
        ("too many", too_many_fragments),
        ("overlaps", overlaps_give_nothing),
        ("headers", refuses_headers_that_do_not_fit),
        ("expiry in use", a_late_fragment_meets_no_old_ones),
        ("random", random_fragments_are_all_accounted_for),
        ("dropped with fragments in it", dropped_with_fragments_in_it),
    ];
    for (name, case) in cases {
        case(&eal, &pool);
        assert_eq!(pool.available(), 1023, "{name}: frames were lost, or freed twice");
    }
    refuses_sizes(&eal);
}

fn table(eal: &Eal, datagrams: u32) -> IpFragTable {
    IpFragTable::new(eal, &IpFragTableConfig { datagrams, bucket: 16, timeout: TIMEOUT }).unwrap()
}

/// The byte at offset `at` of a payload.
fn byte(at: usize) -> u8 {
    (at * 7 + at / 251) as u8
}

fn payload(from: usize, to: usize) -> Vec<u8> {
    (from..to).map(byte).collect()
}

/// The bytes `from..to` of the datagram `id`, as a frame.
fn ipv4(pool: &Mempool, id: u16, from: usize, to: usize, more: bool) -> Mbuf {
    let mut bytes = vec![0xee; 12];
    bytes.extend([8, 0]);
    let mut header = [0; 20];
    header[0] = 0x45;
    header[2..4].copy_from_slice(&((20 + to - from) as u16).to_be_bytes());
    header[4..6].copy_from_slice(&id.to_be_bytes());
    let word = (from / 8) as u16 | if more { 0x2000 } else { 0 };
    header[6..8].copy_from_slice(&word.to_be_bytes());
    header[8..10].copy_from_slice(&[64, 6]);
    header[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
    bytes.extend(header);
    bytes.extend(payload(from, to));
    pool.alloc_from(&bytes).unwrap()
}

fn ipv6(pool: &Mempool, id: u32, from: usize, to: usize, more: bool) -> Mbuf {
    let mut bytes = vec![0xee; 12];
    bytes.extend([0x86, 0xdd]);
    bytes.extend([0x60, 0, 0, 0]);
    bytes.extend(((8 + to - from) as u16).to_be_bytes());
    bytes.extend([44, 64]);
    bytes.extend([0x20; 16]);
    bytes.extend([0x30; 16]);
    bytes.extend([6, 0]);
    bytes.extend((from as u16 | u16::from(more)).to_be_bytes());
    bytes.extend(id.to_be_bytes());
    bytes.extend(payload(from, to));
    pool.alloc_from(&bytes).unwrap()
}

fn is_pending(result: &Reassembly) -> bool {
    matches!(result, Reassembly::Pending)
}

fn complete(result: Reassembly) -> Option<Mbuf> {
    match result {
        Reassembly::Complete(mbuf) => Some(mbuf),
        Reassembly::Pending | Reassembly::Refused => None,
    }
}

fn is_refused(result: &Reassembly) -> bool {
    matches!(result, Reassembly::Refused)
}

fn complete_in_any_order(eal: &Eal, pool: &Mempool) {
    let pieces = [(0, 480), (480, 960), (960, 1440), (1440, 1460)];
    for order in permutations(&[0, 1, 2, 3]) {
        let mut table = table(eal, 16);
        let mut became = None;
        for (place, &piece) in order.iter().enumerate() {
            let (from, to) = pieces[piece];
            match table.offer(ipv4(pool, 7, from, to, to != 1460), V4, 0) {
                Reassembly::Complete(mbuf) => became = Some((place, mbuf)),
                other => assert!(is_pending(&other), "{order:?}"),
            }
        }
        let (place, mut mbuf) = became.unwrap();
        assert_eq!((place, table.held(), mbuf.segments()), (3, 0, 4));
        assert!(mbuf.make_contiguous());
        assert!(mbuf.is_contiguous());
        assert_eq!(mbuf.data()[34..], payload(0, 1460), "{order:?}");
        let header = &mbuf.data()[14..34];
        assert_eq!(header[2..4], 1480u16.to_be_bytes());
        assert_eq!(header[6..8], [0, 0]);
        assert_eq!(header[10..12], [0, 0], "the checksum is the caller's business");
    }
}

fn permutations(of: &[usize]) -> Vec<Vec<usize>> {
    if of.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (at, &first) in of.iter().enumerate() {
        let rest: Vec<_> =
            of.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, &x)| x).collect();
        all.extend(permutations(&rest).into_iter().map(|rest| [vec![first], rest].concat()));
    }
    all
}

fn whole_over_ipv6(eal: &Eal, pool: &Mempool) {
    let mut table = table(eal, 16);
    assert!(is_pending(&table.offer(ipv6(pool, 9, 1000, 1100, false), V6, 0)));
    assert!(is_pending(&table.offer(ipv6(pool, 8, 0, 1000, true), V6, 0)));
    let mut mbuf = complete(table.offer(ipv6(pool, 9, 0, 1000, true), V6, 0)).unwrap();
    assert!(mbuf.make_contiguous());
    assert_eq!(mbuf.data()[..14], [&[0xee; 12][..], &[0x86, 0xdd]].concat());
    let datagram = &mbuf.data()[14..];
    assert_eq!((&datagram[4..6], datagram[6]), (&1100u16.to_be_bytes()[..], 6));
    assert_eq!(datagram[40..], payload(0, 1100));
    assert_eq!(table.held(), 1);
}

fn no_room_to_be_in_one_piece(eal: &Eal, pool: &Mempool) {
    let mut table = table(eal, 16);
    assert!(is_pending(&table.offer(ipv4(pool, 7, 0, 1480, true), V4, 0)));
    let mut mbuf = complete(table.offer(ipv4(pool, 7, 1480, 2960, false), V4, 0)).unwrap();
    assert!(!mbuf.make_contiguous());
    assert_eq!((mbuf.segments(), mbuf.frame_len()), (2, 34 + 2960));
}

fn flood_of_datagrams_that_are_never_complete(eal: &Eal, pool: &Mempool) {
    let mut table = table(eal, 64);
    let taken = (0..600).filter(|&id| is_pending(&table.offer(ipv4(pool, id, 0, 8, true), V4, 5)));
    let taken = taken.count();
    assert!((32..=64).contains(&taken), "{taken} of a table for 64");
    assert_eq!((table.held(), pool.in_use() as usize), (taken, taken));
    assert_eq!(table.expire(5 + TIMEOUT), 0, "not yet");
    // New datagrams replace expired ones: the bound holds.
    for id in 1000..1200 {
        let _ = table.offer(ipv4(pool, id, 0, 8, true), V4, 6 + TIMEOUT);
        assert!(table.held() <= 64 && pool.in_use() as usize == table.held());
    }
    let expired = table.expire(7 + 2 * TIMEOUT);
    assert!(expired > 0 && table.held() == 0, "{expired}");

    // Datagrams of the largest size: one call frees as many as a row holds.
    for id in 0..64 {
        for piece in 0..FRAGMENTS_MAX - 1 {
            let _ = table.offer(ipv4(pool, id, piece * 8, piece * 8 + 8, true), V4, 0);
        }
    }
    let mut calls = 0;
    while table.held() > 0 {
        assert!(table.expire(1 + TIMEOUT) > 0 && calls < 10, "{} are left", table.held());
        calls += 1;
    }
    assert!(calls >= 2, "one call is bounded");
}

fn too_many_fragments(eal: &Eal, pool: &Mempool) {
    let mut table = table(eal, 16);
    // The first and the last fragment have reserved entries.
    for piece in 1..FRAGMENTS_MAX - 1 {
        assert!(is_pending(&table.offer(ipv4(pool, 1, piece * 8, piece * 8 + 8, true), V4, 0)));
    }
    let one_more = ipv4(pool, 1, 800, 808, true);
    assert!(is_refused(&table.offer(one_more, V4, 0)));
    assert_eq!((table.held(), pool.in_use()), (0, 0));
}

fn overlaps_give_nothing(eal: &Eal, pool: &Mempool) {
    type Pieces = &'static [(usize, usize, bool)];
    // (from, to, more): none of these may pass as a complete datagram.
    let attacks: [Pieces; 6] = [
        // The second overlaps the first.
        &[(0, 24, true), (16, 48, false)],
        // The total is right, but one piece is a duplicate and another is missing.
        &[(0, 8, true), (8, 16, true), (8, 16, true), (24, 32, false)],
        // The first piece twice.
        &[(0, 24, true), (0, 24, true), (24, 48, false)],
        // Two last fragments.
        &[(0, 8, true), (24, 32, false), (16, 24, false), (8, 16, true)],
        // A piece within another.
        &[(0, 32, true), (8, 16, true), (32, 40, false)],
        // A piece beyond the end.
        &[(0, 8, true), (16, 24, true), (8, 16, false)],
    ];
    for attack in attacks {
        let mut table = table(eal, 16);
        for &(from, to, more) in attack {
            let result = table.offer(ipv4(pool, 3, from, to, more), V4, 0);
            assert!(!matches!(result, Reassembly::Complete(_)), "{attack:?}");
        }
        assert_eq!(table.held(), pool.in_use() as usize, "{attack:?}");
        let held = table.held();
        assert_eq!(table.expire(TIMEOUT + 1), held);
    }
}

fn refuses_headers_that_do_not_fit(eal: &Eal, pool: &Mempool) {
    let mut table = table(eal, 16);
    let frame = || ipv4(pool, 1, 0, 8, true);
    let headers = [
        FragmentHeaders::V4 { l2_len: 14, l3_len: 19 },
        FragmentHeaders::V4 { l2_len: 14, l3_len: 40 },
        FragmentHeaders::V4 { l2_len: 13, l3_len: 20 },
        FragmentHeaders::V4 { l2_len: 255, l3_len: 20 },
        FragmentHeaders::V6 { l2_len: 14 },
    ];
    for headers in headers {
        assert!(is_refused(&table.offer(frame(), headers, 0)), "{headers:?}");
    }
    let mut padded = frame();
    assert!(padded.append(4));
    assert!(is_refused(&table.offer(padded, V4, 0)), "padding is not the datagram's");
    let mut cut = ipv6(pool, 1, 0, 8, true);
    cut.truncate(60);
    assert!(is_refused(&table.offer(cut, V6, 0)));
    assert!(is_refused(&table.offer(pool.alloc().unwrap(), V4, 0)));
    // The library itself refuses a fragment without payload.
    assert!(is_refused(&table.offer(ipv4(pool, 1, 8, 8, true), V4, 0)));
    assert_eq!(table.held(), 0);
}

fn a_late_fragment_meets_no_old_ones(eal: &Eal, pool: &Mempool) {
    let mut table = table(eal, 16);
    assert!(is_pending(&table.offer(ipv4(pool, 7, 0, 80, true), V4, 0)));
    assert!(is_pending(&table.offer(ipv4(pool, 7, 80, 90, false), V4, TIMEOUT + 1)));
    assert_eq!((table.held(), pool.in_use()), (1, 1), "the first one's time was up");
    assert!(matches!(
        table.offer(ipv4(pool, 7, 0, 80, true), V4, TIMEOUT + 2),
        Reassembly::Complete(_)
    ));
}

/// Random fragments in random order: each result is the bytes of one datagram, in order, and the
/// table accounts for all frames.
fn random_fragments_are_all_accounted_for(eal: &Eal, pool: &Mempool) {
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    println!("seed {seed}");
    let mut state = seed | 1;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % below
    };
    let mut table = table(eal, 32);
    let mut ends: HashMap<u16, Vec<usize>> = HashMap::new();
    let mut wholes = 0;
    for now in 0..30_000 {
        let (id, from) = (random(12) as u16, random(6) * 8);
        let (to, more) = (from + (1 + random(3)) * 8, random(3) > 0);
        if !more {
            ends.entry(id).or_default().push(to);
        }
        let before = table.held();
        match table.offer(ipv4(pool, id, from, to, more), V4, now / 10) {
            Reassembly::Complete(mut mbuf) => {
                wholes += 1;
                assert_eq!(pool.in_use() as usize, table.held() + mbuf.segments());
                assert!(mbuf.make_contiguous());
                let len = mbuf.len() - 34;
                assert_eq!(mbuf.data()[34..], payload(0, len));
                assert!(ends[&id].contains(&len), "no fragment ended there");
            }
            Reassembly::Pending => {}
            // Its datagram is freed too, and expired ones with it.
            Reassembly::Refused => assert!(table.held() <= before),
        }
        if random(50) == 0 {
            table.expire(now / 10);
        }
        assert_eq!(pool.in_use() as usize, table.held());
    }
    assert!(wholes > 100, "{wholes}");
}

fn dropped_with_fragments_in_it(eal: &Eal, pool: &Mempool) {
    let mut table = table(eal, 16);
    for id in 0..10 {
        for piece in 0..5 {
            assert!(is_pending(&table.offer(
                ipv4(pool, id, piece * 8, piece * 8 + 8, true),
                V4,
                0
            )));
        }
    }
    assert_eq!(pool.in_use(), 50);
    drop(table);
}

fn refuses_sizes(eal: &Eal) {
    for (datagrams, bucket) in [(0, 16), (16, 0), (16, 15), (u32::MAX, 16)] {
        let config = IpFragTableConfig { datagrams, bucket, timeout: 1 };
        let error = IpFragTable::new(eal, &config).unwrap_err();
        assert!(matches!(error, IpFragTableError::Config { .. }), "{error}");
    }
    let huge = IpFragTableConfig { datagrams: 1 << 20, bucket: 16, timeout: 1 };
    let error = IpFragTable::new(eal, &huge).unwrap_err().to_string();
    assert!(error.contains("table of 1048576 datagrams") && error.contains("-m"), "{error}");
}
