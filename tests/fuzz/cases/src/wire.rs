//! Every parser of headers on the same bytes: what it reads lies within them, and agrees with
//! `etherparse` or writes the same bytes again.
//!
//! Input: a frame, a datagram, a segment, options or a message; each parser takes it as its own
//! kind.

use anyrelay_core::relay::rewrite::options::{self, MssRule, TimestampsOption};
use anyrelay_core::wire::arp::Arp;
use anyrelay_core::wire::ethernet::Ethernet;
use anyrelay_core::wire::ipv4::{self, Ipv4};
use anyrelay_core::wire::ipv6::{self, Ipv6};
use anyrelay_core::wire::nd::{Advertisement, Solicitation};
use anyrelay_core::wire::tcp::{self, Tcp};
use anyrelay_core::wire::{checksum, icmp, icmpv6};
use anyrelay_kit::frames::tcp_checksum;

/// Runs one input.
pub fn run(input: &[u8]) {
    if let Some(ethernet) = Ethernet::parse(input) {
        assert!([14, 18].contains(&ethernet.header_len()));
        assert!(ethernet.header_len() <= input.len());
    }
    ipv4_header(input);
    ipv6_header(input);
    segment(input);
    for len in [input.len(), input.len().min(40)] {
        tcp_options(&input[..len]);
    }
    let _ = icmp::parse(input);
    let _ = icmpv6::parse(1, 2, input);
    let padded = [input, &[0][..input.len() % 2]].concat();
    assert_eq!(checksum::is_valid(input), checksum::is_valid(&padded));
    if let Some(arp) = Arp::parse(input) {
        let mut written = [0; 28];
        arp.write(&mut written);
        assert_eq!(Arp::parse(&written), Some(arp));
    }
}

fn ipv4_header(input: &[u8]) {
    let theirs = etherparse::Ipv4HeaderSlice::from_slice(input).ok();
    if let Some(ip) = Ipv4::parse_quoted(input) {
        assert!(ip.header_len >= 20 && ip.header_len <= ip.total_len.min(input.len()));
    }
    let Ok(ip) = Ipv4::parse(input) else { return };
    let theirs = theirs.unwrap().to_header();
    assert!(ip.header_len <= ip.total_len && ip.total_len <= input.len());
    assert_eq!((ip.header_len, ip.total_len), (theirs.header_len(), theirs.total_len.into()));
    assert_eq!((ip.ttl, ip.protocol), (theirs.time_to_live, theirs.protocol.0));
    assert_eq!((ip.src.to_be_bytes(), ip.dst.to_be_bytes()), (theirs.source, theirs.destination));
    assert_eq!(ip.is_fragment(), theirs.is_fragmenting_payload());
    let _ = ipv4::classify_options(ip.options(input));
}

fn ipv6_header(input: &[u8]) {
    let _ = Ipv6::parse_quoted(input);
    let Some(ip) = Ipv6::parse(input) else { return };
    let theirs = etherparse::Ipv6HeaderSlice::from_slice(input).unwrap().to_header();
    assert!(ip.total_len() <= input.len());
    assert_eq!((ip.next_header, ip.hop_limit), (theirs.next_header.0, theirs.hop_limit));
    assert_eq!((ip.src.to_be_bytes(), ip.dst.to_be_bytes()), (theirs.source, theirs.destination));
    let Ok(upper) = ip.upper(input) else { return };
    assert!(upper.at >= ipv6::HEADER_LEN && upper.at <= ip.total_len());
    let message = &input[upper.at..ip.total_len()];
    let _ = icmpv6::parse(ip.src, ip.dst, message);
    let mut written = [0; 32];
    if let Some(solicitation) = Solicitation::parse(&ip, message) {
        solicitation.write(ip.src, ip.dst, &mut written);
    }
    if let Some(advertisement) = Advertisement::parse(&ip, message) {
        advertisement.write(ip.src, ip.dst, &mut written);
    }
}

fn segment(input: &[u8]) {
    let Some(tcp) = Tcp::parse(input) else { return };
    assert!(tcp.header_len >= 20 && tcp.header_len <= input.len());
    let theirs = etherparse::TcpHeaderSlice::from_slice(input).unwrap();
    assert_eq!(tcp.header_len, theirs.slice().len());
    assert_eq!((tcp.src_port, tcp.dst_port), (theirs.source_port(), theirs.destination_port()));
    assert_eq!((tcp.seq.0, tcp.ack.0), (theirs.sequence_number(), theirs.acknowledgment_number()));
    tcp_options(&input[20..tcp.header_len]);
    // A field of 0 and one of 0xffff mean the same (RFC 1071).
    let holds = tcp_checksum(0x0102_0304, 0x0506_0708, input) == 0;
    assert_eq!(tcp::checksum_holds(0x0102_0304u32, 0x0506_0708, input), holds);
}

fn tcp_options(bytes: &[u8]) {
    let mut end = 0;
    for option in tcp::Options::new(bytes) {
        let Ok(option) = option else { break };
        assert!(option.at >= end && option.len >= 2);
        end = option.at + option.len;
        assert!(end <= bytes.len());
    }
    // What follows is asked for options whose lengths hold, of a header's size.
    if bytes.len() > 40 || !bytes.len().is_multiple_of(4) {
        return;
    }
    let Ok(found) = options::find_timestamps(bytes) else { return };
    let stamps = TimestampsOption { value: 0x1234_5678, echo: 0x9abc_def0 };
    match found {
        Some(at) => {
            let mut changed = bytes.to_vec();
            let _ = options::set_timestamp_value(&mut changed, at, stamps.value);
            let _ = options::set_timestamp_echo(&mut changed, at, stamps.echo);
            assert_eq!(options::timestamp_value(&changed, at), stamps.value);
            assert_eq!(options::timestamp_echo(&changed, at), stamps.echo);
            let stripped = options::strip_timestamps(bytes);
            let stripped = stripped.as_bytes();
            assert!(stripped.len().is_multiple_of(4) && stripped.len() <= bytes.len());
            assert_eq!(options::find_timestamps(stripped), Ok(None));
        }
        None => {
            if let Some(rebuilt) = options::squeeze_in_timestamps(bytes, stamps) {
                let rebuilt = rebuilt.as_bytes();
                assert!(rebuilt.len().is_multiple_of(4) && rebuilt.len() <= 40);
                let at = options::find_timestamps(rebuilt).unwrap().unwrap();
                assert_eq!(options::timestamp_value(rebuilt, at), stamps.value);
            }
        }
    }
    let mut syn = bytes.to_vec();
    let _ = options::prepare_syn(&mut syn, MssRule { clamp: 1400, less: 12 });
    assert!(options::find_timestamps(&syn).is_ok());
    for option in tcp::Options::new(&syn) {
        let option = option.unwrap();
        assert!(![19, 29, 30, 34, 200, 253, 254].contains(&option.kind));
        if (option.kind, option.len) == (2, 4) {
            let mss = u16::from_be_bytes([syn[option.at + 2], syn[option.at + 3]]);
            assert!(mss <= 1400);
        }
    }
}
