//! Fragments as they are read, and as others read them.

use std::net::IpAddr;

use anyrelay_core::fragment::{self, Fragment, Reassembled};
use anyrelay_core::frame::{Frame, HeapFrame};
use anyrelay_core::net::PortIndex;
use anyrelay_core::wire::ethernet::Ethernet;
use anyrelay_core::wire::ipv6::Ipv6;
use anyrelay_kit::frames::internet_checksum;
use etherparse::{Ipv4HeaderSlice, Ipv6FragmentHeaderSlice, Ipv6HeaderSlice};

use super::twin::Piece;

/// What was written is what is read.
pub fn same(fragment: &Fragment, piece: &Piece) {
    assert_eq!(
        (fragment.offset, fragment.len, fragment.more),
        (piece.offset, piece.len, piece.more)
    );
    assert_eq!((fragment.protocol, fragment.ecn), (piece.protocol, piece.ecn));
    assert_eq!(fragment.key.id, piece.key.id);
    let last = match fragment.key.dst {
        IpAddr::V4(dst) => dst.octets()[3],
        IpAddr::V6(dst) => dst.octets()[15],
    };
    assert_eq!((fragment.key.dst.is_ipv6(), last), (piece.key.is_six, 8 + piece.key.dst));
}

/// Reads any frame: what is read lies within it and is what `etherparse` reads.
pub fn any_frame(bytes: &[u8]) {
    let Some(ethernet) = Ethernet::parse(bytes) else { return };
    let Some(datagram) = bytes.get(ethernet.header_len()..) else { return };
    let read = Fragment::read(&ethernet, bytes);
    match ethernet.ethertype {
        0x0800 => ipv4(datagram, read),
        0x86dd => ipv6(bytes, ethernet.header_len(), read),
        _ => assert_eq!(read, None),
    }
    // What a table of frames hands back may be anything.
    let len = datagram.len();
    for (is_marked, len) in [(false, len.saturating_sub(20)), (true, len.saturating_sub(40))] {
        let reassembled = Reassembled { port: PortIndex(0), fragments: 2, len, is_marked };
        let mut frame = HeapFrame::new(bytes);
        if fragment::complete_header(&mut frame, &reassembled) {
            assert_eq!(frame.bytes().len(), bytes.len());
            let made = Fragment::read(&ethernet, frame.bytes());
            assert!(made.is_none() || ethernet.ethertype == 0x86dd, "made of fragments, and one");
        }
    }
}

fn ipv4(datagram: &[u8], read: Option<Result<Fragment, anyrelay_core::verdict::DropReason>>) {
    let theirs = Ipv4HeaderSlice::from_slice(datagram).ok().filter(|header| {
        let total_len = usize::from(header.total_len());
        internet_checksum(&[header.slice()]) == 0
            && (header.slice().len()..=datagram.len()).contains(&total_len)
            && header.is_fragmenting_payload()
    });
    let (Some(fragment), Some(header)) = (read, theirs) else {
        // What is refused for its options is the engine's.
        let refused = read.is_none() && theirs.is_none_or(|header| !header.options().is_empty());
        assert!(refused, "{read:?} {theirs:?}");
        return;
    };
    let fragment = fragment.unwrap();
    let len = usize::from(header.total_len()) - header.slice().len();
    let offset = usize::from(header.fragments_offset().value()) * 8;
    assert_eq!((fragment.offset, fragment.len), (offset, len));
    assert_eq!((fragment.more, fragment.protocol), (header.more_fragments(), header.protocol().0));
    assert_eq!(
        (fragment.key.src, fragment.key.dst),
        (IpAddr::from(header.source_addr()), IpAddr::from(header.destination_addr()),)
    );
    assert_eq!(fragment.key.id, u32::from(header.identification()));
    assert_eq!((fragment.ecn, fragment.headers_len), (header.ecn().value(), header.slice().len()));
    inside(&fragment, datagram.len());
}

fn ipv6(
    bytes: &[u8],
    l3: usize,
    read: Option<Result<Fragment, anyrelay_core::verdict::DropReason>>,
) {
    let datagram = &bytes[l3..];
    let theirs = Ipv6HeaderSlice::from_slice(datagram).ok();
    let payload =
        theirs.and_then(|header| datagram.get(40..40 + usize::from(header.payload_length())));
    let first = theirs.zip(payload).filter(|(header, _)| header.next_header().0 == 44);
    let header = first.and_then(|(_, payload)| Ipv6FragmentHeaderSlice::from_slice(payload).ok());
    let is_atomic = |header: &Ipv6FragmentHeaderSlice<'_>| !header.is_fragmenting_payload();
    match (read, header.clone()) {
        (Some(Ok(fragment)), Some(header)) => {
            let theirs = theirs.unwrap();
            assert!(!is_atomic(&header));
            let offset = usize::from(header.fragment_offset().value()) * 8;
            let len = usize::from(theirs.payload_length()) - 8;
            assert_eq!((fragment.offset, fragment.len), (offset, len));
            let (more, protocol) = (header.more_fragments(), header.next_header().0);
            assert_eq!((fragment.more, fragment.protocol), (more, protocol));
            assert_eq!(
                (fragment.key.src, fragment.key.dst),
                (IpAddr::from(theirs.source_addr()), IpAddr::from(theirs.destination_addr()),)
            );
            assert_eq!(fragment.key.id, header.identification());
            assert_eq!((fragment.ecn, fragment.headers_len), (datagram[1] >> 4 & 3, 48));
            inside(&fragment, datagram.len());
        }
        (Some(Ok(fragment)), None) => panic!("{fragment:?} is none"),
        (None, Some(header)) => assert!(is_atomic(&header), "a fragment is taken for whole"),
        // Behind other headers, it is refused; none is none.
        (Some(Err(_)), Some(header)) => {
            // Neighbour discovery (RFC 6980).
            let is_first = header.next_header().0 == 58 && header.fragment_offset().value() == 0;
            assert!(is_first && (133..=137).contains(&datagram[48]));
        }
        (Some(Err(_)), None) => assert!(theirs.is_some_and(|header| header.next_header().0 != 44)),
        (None, None) => {}
    }
    atomic(bytes, l3, header.filter(is_atomic));
}

/// An atomic fragment becomes a whole datagram with the same payload; nothing else is touched.
fn atomic(bytes: &[u8], l3: usize, header: Option<Ipv6FragmentHeaderSlice<'_>>) {
    let Some(ip) = Ipv6::parse(&bytes[l3..]) else { return };
    let mut frame = HeapFrame::new(bytes);
    let removed = fragment::remove_atomic(&mut frame, l3, &ip);
    assert!(removed || (frame.bytes() == bytes && header.is_none()));
    let Some(header) = header else { return };
    let made = Ipv6HeaderSlice::from_slice(&frame.bytes()[l3..]).unwrap();
    assert_eq!(made.next_header(), header.next_header());
    assert_eq!(usize::from(made.payload_length()), ip.payload_len - 8);
    assert_eq!(frame.bytes()[..l3], bytes[..l3]);
    assert_eq!(frame.bytes()[l3 + 40..], bytes[l3 + 48..]);
    assert_eq!((made.source(), made.destination()), (ip.src.to_be_bytes(), ip.dst.to_be_bytes()));
}

fn inside(fragment: &Fragment, len: usize) {
    assert!(fragment.headers_len + fragment.len <= len, "{fragment:?} in {len} bytes");
}
