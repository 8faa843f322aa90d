//! The core's parsers beside `etherparse`, on random and mutated frames: what one refuses the other
//! refuses, and what both accept they read alike. Where they differ on purpose, it says so here.
//! And checksums: updated by the engine, beside sums over all bytes.

use anyrelay_core::relay::rewrite::options::{self, TimestampsAt};
use anyrelay_core::wire::arp::{Arp, Operation};
use anyrelay_core::wire::ethernet::Ethernet;
use anyrelay_core::wire::icmp as core_icmp;
use anyrelay_core::wire::ipv4::{Ipv4, Ipv4Error};
use anyrelay_core::wire::tcp;
use etherparse::{
    ArpOperation, ArpPacketSlice, Ethernet2Slice, Icmpv4Slice, IpNumber, Ipv4HeaderSlice,
    SingleVlanSlice, TcpHeaderSlice, TcpOptionElement, TcpOptionReadError,
};

use crate::bad_input::{mutate, random};

use crate::traffic::Traffic;
use crate::*;

/// How often both accepted.
#[derive(Debug, Default)]
struct Accepted {
    ethernet: u32,
    ipv4: u32,
    tcp: u32,
    options: u32,
    icmp: u32,
    arp: u32,
}

fn compare_ethernet(frame: &[u8], accepted: &mut Accepted) -> Option<Ethernet> {
    let ours = Ethernet::parse(frame);
    let theirs = Ethernet2Slice::from_slice_without_fcs(frame).ok();
    let tagged = theirs.as_ref().filter(|header| header.ether_type().0 == 0x8100);
    let tag = tagged.map(|header| SingleVlanSlice::from_slice(header.payload_slice()));
    if let Some(Err(_)) = tag {
        assert_eq!(ours, None, "a tag that is cut off");
        return None;
    }
    assert_eq!(ours.is_some(), theirs.is_some());
    let (ours, theirs) = (ours?, theirs?);
    assert_eq!((ours.dst.octets(), ours.src.octets()), (theirs.destination(), theirs.source()));
    match tag {
        Some(Ok(tag)) => {
            assert_eq!(ours.vlan, Some(tag.vlan_identifier().value()));
            assert_eq!((ours.ethertype, ours.header_len()), (tag.ether_type().0, 18));
        }
        _ => {
            assert_eq!((ours.vlan, ours.header_len()), (None, 14));
            assert_eq!(ours.ethertype, theirs.ether_type().0);
        }
    }
    accepted.ethernet += 1;
    Some(ours)
}

fn compare_ipv4<'a>(bytes: &'a [u8], accepted: &mut Accepted) -> Option<(Ipv4, &'a [u8])> {
    let ours = Ipv4::parse(bytes);
    let theirs = Ipv4HeaderSlice::from_slice(bytes).ok();
    // Whether the payload fits is not the header's to say: `payload_len` knows one half of it.
    let theirs = theirs.filter(|header| {
        header.payload_len().is_ok() && usize::from(header.total_len()) <= bytes.len()
    });
    assert_eq!(ours == Err(Ipv4Error::Malformed), theirs.is_none(), "{ours:?}");
    let header = theirs?.to_header();
    // etherparse knows nothing of the reserved bit, and takes 0 and 0xffff for different sums.
    let exempt = bytes[6] & 0x80 != 0 || header.header_checksum == 0xffff;
    if !exempt {
        let sum_holds = header.header_checksum == header.calc_header_checksum();
        assert_eq!(ours.is_ok(), sum_holds);
    }
    let ours = ours.ok()?;
    assert_eq!(ours.header_len, header.header_len());
    assert_eq!((ours.total_len, ours.ttl), (header.total_len.into(), header.time_to_live));
    assert_eq!(ours.protocol, header.protocol.0);
    assert_eq!(ours.src.to_be_bytes(), header.source);
    assert_eq!(ours.dst.to_be_bytes(), header.destination);
    assert_eq!(ours.is_fragment(), header.is_fragmenting_payload());
    assert_eq!(ours.is_later_fragment(), header.fragment_offset.value() != 0);
    assert_eq!(ours.dont_fragment(), header.dont_fragment);
    accepted.ipv4 += 1;
    Some((ours, &bytes[ours.header_len..ours.total_len]))
}

fn compare_tcp(bytes: &[u8], accepted: &mut Accepted) {
    let (ours, theirs) = (tcp::Tcp::parse(bytes), TcpHeaderSlice::from_slice(bytes));
    assert_eq!(ours.is_some(), theirs.is_ok());
    let (Some(ours), Ok(theirs)) = (ours, theirs) else { return };
    assert_eq!(ours.src_port, theirs.source_port());
    assert_eq!(ours.dst_port, theirs.destination_port());
    assert_eq!(ours.seq.0, theirs.sequence_number());
    assert_eq!(ours.ack.0, theirs.acknowledgment_number());
    assert_eq!(ours.header_len, theirs.slice().len());
    let flags = [theirs.fin(), theirs.syn(), theirs.rst(), theirs.ack()];
    let ours_flags = [tcp::FIN, tcp::SYN, tcp::RST, tcp::ACK].map(|flag| ours.has(flag));
    assert_eq!(ours_flags, flags);
    accepted.tcp += 1;
    compare_options(theirs.options(), theirs.options_iterator(), accepted);
}

/// Compares up to the first option that etherparse does not know: it stops there. It also wants
/// each option to have its usual length, where a relay cares for the length of timestamps alone.
fn compare_options(
    bytes: &[u8],
    theirs: etherparse::TcpOptionsIterator<'_>,
    accepted: &mut Accepted,
) {
    let mut ours = tcp::Options::new(bytes);
    let mut stamps = Vec::new();
    let mut at = 0;
    for element in theirs {
        let (kind, len) = match element {
            Ok(TcpOptionElement::Noop) => (1, 1),
            Ok(TcpOptionElement::MaximumSegmentSize(_)) => (2, 4),
            Ok(TcpOptionElement::WindowScale(_)) => (3, 3),
            Ok(TcpOptionElement::SelectiveAcknowledgementPermitted) => (4, 2),
            Ok(TcpOptionElement::SelectiveAcknowledgement(_, more)) => {
                (5, 10 + 8 * more.iter().flatten().count())
            }
            Ok(TcpOptionElement::Timestamp(value, echo)) => {
                stamps.push((at, value, echo));
                (8, 10)
            }
            Err(TcpOptionReadError::UnknownId(_)) => return,
            Err(_) => {
                let stated = usize::from(bytes.get(at + 1).copied().unwrap_or(0));
                let fits = stated >= 2 && at + stated <= bytes.len();
                let ours = ours.next().map(|option| option.map(|option| option.len).ok());
                assert_eq!(ours, Some(fits.then_some(stated)), "{bytes:?} at {at}");
                let refused = !fits || bytes[at] == 8;
                assert!(!refused || options::find_timestamps(bytes).is_err(), "{bytes:?}");
                return;
            }
        };
        if kind != 1 {
            let option = ours.next().and_then(Result::ok);
            assert_eq!(option.map(|o| (o.kind, o.at, o.len)), Some((kind, at, len)), "{bytes:?}");
        }
        at += len;
    }
    assert_eq!(ours.next(), None, "{bytes:?}");
    match (&stamps[..], options::find_timestamps(bytes)) {
        ([], found) => assert_eq!(found, Ok(None)),
        ([(at, value, echo)], found) => {
            assert_eq!(found, Ok(Some(TimestampsAt(*at as u8))));
            let at = TimestampsAt(*at as u8);
            assert_eq!(options::timestamp_value(bytes, at), *value);
            assert_eq!(options::timestamp_echo(bytes, at), *echo);
        }
        // Two are one too many for a relay.
        (_, found) => assert!(found.is_err()),
    }
    accepted.options += 1;
}

fn compare_icmp(bytes: &[u8], accepted: &mut Accepted) {
    let (ours, theirs) = (core_icmp::parse(bytes), Icmpv4Slice::from_slice(bytes));
    // etherparse wants timestamp messages to be 20 bytes long; a relay drops them all.
    let timestamp = bytes.first().is_some_and(|kind| [13, 14].contains(kind));
    let malformed = ours == Err(core_icmp::ParseError::Malformed);
    assert!(timestamp || malformed == theirs.is_err());
    let (Ok(ours), Ok(theirs)) = (ours, theirs) else { return };
    assert_eq!(internet_checksum(&[bytes]), 0);
    let [_, _, high, low] = theirs.bytes5to8();
    let mtu = u16::from_be_bytes([high, low]);
    let expected = match (theirs.type_u8(), theirs.code_u8()) {
        (8, _) => core_icmp::Kind::EchoRequest,
        (3, 4) => core_icmp::Kind::Error { mtu: Some(mtu) },
        (3 | 11 | 12, _) => core_icmp::Kind::Error { mtu: None },
        _ => core_icmp::Kind::Other,
    };
    assert_eq!(ours, expected);
    accepted.icmp += 1;
}

fn compare_arp(bytes: &[u8], accepted: &mut Accepted) {
    let theirs = ArpPacketSlice::from_slice(bytes).ok().filter(|arp| {
        (arp.hw_addr_type().0, arp.proto_addr_type().0) == (1, 0x0800)
            && (arp.hw_addr_size(), arp.proto_addr_size()) == (6, 4)
            && [ArpOperation::REQUEST, ArpOperation::REPLY].contains(&arp.operation())
    });
    let ours = Arp::parse(bytes);
    assert_eq!(ours.is_some(), theirs.is_some());
    let (Some(ours), Some(theirs)) = (ours, theirs) else { return };
    assert_eq!(ours.operation == Operation::Reply, theirs.operation() == ArpOperation::REPLY);
    assert_eq!(ours.sender_mac.octets(), theirs.sender_hw_addr());
    assert_eq!(ours.target_mac.octets(), theirs.target_hw_addr());
    assert_eq!(ours.sender_ip.to_be_bytes(), theirs.sender_protocol_addr());
    assert_eq!(ours.target_ip.to_be_bytes(), theirs.target_protocol_addr());
    accepted.arp += 1;
}

fn compare(frame: &[u8], accepted: &mut Accepted) {
    let Some(ethernet) = compare_ethernet(frame, accepted) else { return };
    let payload = &frame[ethernet.header_len()..];
    if ethernet.ethertype == 0x0806 {
        compare_arp(payload, accepted);
    }
    // Whatever the type says, so that other bytes are read as these headers too.
    let Some((ip, payload)) = compare_ipv4(payload, accepted) else { return };
    match IpNumber(ip.protocol) {
        IpNumber::ICMP => compare_icmp(payload, accepted),
        _ => compare_tcp(payload, accepted),
    }
}

#[test]
fn parsers_agree_with_etherparse() {
    let full = std::env::var_os("ANYRELAY_FULL").is_some();
    let (mut traffic, mut rng, world) = (Traffic::new(5), Rng(6), World::new());
    let mut accepted = Accepted::default();
    let request = arp(1, ([2; 6], 1), ([0; 6], 2));
    for number in 0..if full { 3_000_000 } else { 150_000u32 } {
        let port = rng.pick(&[WAN, LAN]);
        let mut frame = match rng.index(8) {
            0 => random(&mut rng, &world, port),
            1 => ethernet(WAN_MAC, WAN_GATEWAY, None, 0x0806, &request),
            2 => {
                ethernet(WAN_MAC, WAN_GATEWAY, Some(number as u16), 0x0800, &traffic.datagram(port))
            }
            _ => {
                let datagram = traffic.datagram(port);
                world.framed(port, &datagram)
            }
        };
        mutate(&mut rng, &mut frame);
        compare(&frame, &mut accepted);
    }
    let Accepted { ethernet, ipv4, tcp, options, icmp, arp } = accepted;
    let enough = ethernet > 100_000 && ipv4 > 50_000 && tcp > 30_000 && options > 10_000;
    assert!(enough && icmp > 1000 && arp > 1000, "{accepted:?}");
}

#[test]
fn options_agree_with_etherparse() {
    let (mut rng, mut accepted) = (Rng(7), Accepted::default());
    for _ in 0..200_000 {
        let words = rng.index(11);
        let mut segment = Tcp::new(CLIENT, WEB, ACK).options(&vec![1; 4 * words]).segment();
        // Kinds and lengths rather than any bytes.
        for byte in segment.iter_mut().skip(20) {
            if rng.chance(1, 2) {
                *byte = rng.pick(&[0, 1, 1, 2, 3, 4, 4, 5, 8, 10, 10, 10, 18, 255]);
            }
        }
        if rng.chance(1, 2) && words >= 3 {
            let at = 20 + rng.index(4 * words - 10);
            segment[at..at + 2].copy_from_slice(&[8, 10]);
        }
        compare_tcp(&segment, &mut accepted);
    }
    assert!(accepted.options > 10_000, "{accepted:?}");
}

/// Where one's complement has two zeros: segments whose checksum field, on the way in or out, is
/// 0x0000 or beside it and 0xffff.
#[test]
fn updated_checksums_agree_with_full_ones_at_the_edges() {
    let mut world = World::new();
    let mut rng = Rng(8);
    let mut seen_out = [0; 2];
    for number in 0..60_000u32 {
        let client = (CLIENT.0 + rng.index(5) as u32, 1 + rng.index(65535) as u16);
        let stamps = if rng.chance(1, 2) { timestamps(1, rng.next() as u32) } else { Vec::new() };
        let want = [0x0000, 0xffff, 0x0001, 0xfffe][number as usize % 4];
        let aimed_out = number % 3 == 0;
        let mut segment = Tcp::new(client, WEB, ACK).options(&stamps).data(&[0, 0, 7]);
        let aim = |segment: &mut Tcp, field: u16, want: u16| {
            // The last word makes up for what the sum lacks.
            let sum = u32::from(!want) + u32::from(field);
            let word = (sum & 0xffff) + (sum >> 16);
            segment.data[..2].copy_from_slice(&(word as u16).to_be_bytes());
        };
        let field = if aimed_out {
            word_at(&world.forwarded(WAN, &segment).1.payload, 16)
        } else {
            word_at(&segment.segment(), 16)
        };
        aim(&mut segment, field, want);
        let (_, seen) = world.forwarded(WAN, &segment);
        assert_eq!(tcp_checksum(seen.src, seen.dst, &seen.payload), 0, "{segment:?}");
        match word_at(&seen.payload, 16) {
            0x0000 => seen_out[0] += 1,
            0xfffe | 0x0001 => seen_out[1] += 1,
            _ => {}
        }
    }
    assert!(seen_out.iter().all(|count| *count > 1000), "{seen_out:?}");
}

fn word_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}
