//! Fragments one by one.

use super::*;

#[test]
fn reads_ipv4_fragments_and_nothing_else() {
    let frame = ipv4_frame(0x1234, 6, 24, 48, true);
    let fragment = read(&frame).unwrap().unwrap();
    let (src, dst) = (Ipv4Addr::new(10, 0, 0, 1).into(), Ipv4Addr::new(10, 0, 0, 2).into());
    assert_eq!(fragment.key, DatagramKey { src, dst, id: 0x1234 });
    assert_eq!((fragment.offset, fragment.len, fragment.more), (24, 24, true));
    assert_eq!((fragment.l3, fragment.headers_len, fragment.protocol), (14, 20, 6));
    // Whole datagrams, and damaged ones or ones with a source route, are left to the POP.
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
    assert_eq!(fragment.key, DatagramKey { src: ip(1), dst: ip(2), id: 0xcafe_babe });
    assert_eq!((fragment.offset, fragment.len, fragment.more), (1232, 168, false));
    assert_eq!((fragment.l3, fragment.headers_len, fragment.protocol), (14, 48, 6));
    assert_eq!(read(&ipv6_frame(1, 0, 24, false)), None, "an atomic one is whole");
    // Behind other extension headers: not reassembled.
    let mut behind = ipv6_frame(1, 0, 24, true);
    behind.splice(54..54, [44, 0, 1, 4, 0, 0, 0, 0]);
    behind[14 + 6] = 60;
    put_u16(&mut behind[14..], 4, 40);
    assert_eq!(read(&behind), Some(Err(DropReason::FragmentMalformed)));
}

/// RFC 6980, section 5: neighbour discovery in fragments is ignored; the first fragment has the
/// type of the message.
#[test]
fn neighbour_discovery_is_not_reassembled() {
    let message = |kind: u8, from: usize| {
        let mut frame = ipv6_frame(1, from, from + 24, true);
        frame[14 + 40] = 58;
        frame[14 + 48] = kind;
        read(&frame).unwrap()
    };
    for kind in 133..=137 {
        assert_eq!(message(kind, 0), Err(DropReason::NdMalformed), "{kind}");
        // Later fragments begin with anything.
        assert!(message(kind, 24).is_ok());
    }
    for kind in [1, 2, 128, 132, 138] {
        assert!(message(kind, 0).is_ok(), "{kind}");
    }
}

#[test]
fn refuses_fragments_that_no_sender_makes_of_a_segment() {
    use DropReason::{FragmentMalformed, FragmentTiny, FragmentTooLong};
    let check = |protocol, from, to, more| {
        read(&ipv4_frame(1, protocol, from, to, more)).unwrap().unwrap().check(2048)
    };
    assert_eq!(check(6, 0, 24, true), Ok(()));
    assert_eq!(check(6, 24, 31, false), Ok(()));
    assert_eq!(check(6, 24, 24, false), Err(FragmentMalformed), "empty");
    assert_eq!(check(6, 24, 47, true), Err(FragmentMalformed), "not a multiple of eight");
    // Ports and flags in different fragments (RFC 1858), or overwritten (RFC 3128).
    assert_eq!(check(6, 0, 8, true), Err(FragmentTiny));
    assert_eq!(check(6, 0, 16, true), Err(FragmentTiny));
    assert_eq!(check(6, 8, 1000, false), Err(FragmentTiny));
    assert_eq!(check(6, 16, 1000, false), Err(FragmentTiny));
    assert_eq!(check(1, 0, 8, true), Ok(()), "ICMP's header is eight bytes");
    // A data offset beyond the fragment.
    let mut cut = ipv4_frame(1, 6, 0, 24, true);
    cut[34 + 12] = 0x80;
    assert_eq!(read(&cut).unwrap().unwrap().check(2048), Err(FragmentTiny));
    // Longer than a frame, and longer than any datagram ("ping of death").
    assert_eq!(check(6, 2000, 2014, false), Ok(()));
    assert_eq!(check(6, 2000, 2015, false), Err(FragmentTooLong));
    let last = read(&ipv4_frame(1, 6, 65528, 65528 + 100, false)).unwrap().unwrap();
    assert_eq!(last.check(1 << 20), Err(FragmentTooLong));
    let last = read(&ipv6_frame(1, 65528, 65528 + 8, false)).unwrap().unwrap();
    assert_eq!(last.check(1 << 20), Err(FragmentTooLong));
}

#[test]
fn any_part_of_a_datagram_is_a_fragment() {
    // First, middle and last fragment; DF and the reserved bit make none.
    for (fragment, whole) in
        [(0x2000, false), (0x2010, false), (0x0010, false), (0x4000, true), (0, true)]
    {
        let (header_len, total_len, ttl, protocol) = (20, 40, 9, 6);
        let ip = Ipv4 { header_len, total_len, fragment, ttl, protocol, src: 1, dst: 2 };
        assert_eq!(!ip.is_fragment(), whole, "{fragment:#x}");
    }
}

proptest! {
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
