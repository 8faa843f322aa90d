//! ICMP errors translated between the families around any quote: headers and checksums are right,
//! and nothing is larger than hosts must accept.

use anyrelay_core::frame::{Frame, HeapFrame};
use anyrelay_core::net::{Endpoint, Endpoints};
use anyrelay_core::relay::icmp::{
    Quote4, Quote6, Translated, apply_4to6, apply_6to4, apply_6to6, mtu_for_ipv4, mtu_for_ipv6,
};
use anyrelay_core::wire::ipv4::{self, Ipv4};
use anyrelay_core::wire::ipv6::{self, Ipv6};
use anyrelay_core::wire::{icmp, icmpv6};

const TO4: Endpoints = Endpoints {
    src: Endpoint { ip: 0xc633_6401, port: 80 },
    dst: Endpoint { ip: 0xcb00_7109, port: 443 },
};
const TO6: Endpoints<u128> = Endpoints {
    src: Endpoint { ip: 0x2001_0db8 << 96 | 1, port: 80 },
    dst: Endpoint { ip: 0x2001_0db8 << 96 | 2, port: 443 },
};

/// Type and code of the errors that are tried, with the MTU that they announce.
const KINDS4: [(u8, u8, Option<u16>); 4] =
    [(3, 4, Some(1300)), (3, 1, None), (11, 0, None), (12, 0, None)];
const KINDS6: [(u8, u8, Option<u32>); 4] =
    [(2, 0, Some(1300)), (1, 4, None), (3, 0, None), (4, 0, None)];

/// Runs one quote.
pub fn run(quote: &[u8]) {
    let quote = &quote[..quote.len().min(1400)];
    if let Ok(parsed) = Quote4::parse(quote) {
        for (kind, code, mtu) in KINDS4 {
            let (mut frame, ip) = error4(kind, code, quote);
            let mtu = mtu.map(|mtu| mtu_for_ipv6(mtu, parsed.ip.total_len));
            let mapping = Translated { quote: TO6, mtu };
            if let Ok(l3) = apply_4to6(&mut frame, 14, &ip, &parsed, &mapping) {
                let found = check6(&frame.bytes()[l3..]);
                assert_eq!((found.src_port, found.dst_port), (TO6.src.port, TO6.dst.port));
            }
        }
    }
    if let Ok(parsed) = Quote6::parse(quote) {
        for (kind, code, mtu) in KINDS6 {
            let (mut frame, ip) = error6(kind, code, quote);
            let mapping = Translated { quote: TO4, mtu: mtu.map(|mtu| mtu_for_ipv4(mtu).into()) };
            if let Ok(l3) = apply_6to4(&mut frame, 14, (&ip, 40), &parsed, &mapping) {
                check4(&frame.bytes()[l3..]);
            }
            let (mut frame, ip) = error6(kind, code, quote);
            apply_6to6(&mut frame, 14, (&ip, 40), &parsed, &Translated { quote: TO6, mtu });
            assert_eq!(frame.bytes().len(), 14 + 48 + quote.len());
            let found = Quote6::parse(&frame.bytes()[14 + 48..]).unwrap();
            assert_eq!((found.ip.src, found.ip.dst), (TO6.src.ip, TO6.dst.ip));
            let message = &frame.bytes()[14 + 40..];
            assert!(icmpv6::parse(TO6.dst.ip, TO6.src.ip, message).is_ok());
        }
    }
}

fn error4(kind: u8, code: u8, quote: &[u8]) -> (HeapFrame, Ipv4) {
    let mut bytes = [&[0; 14 + 28], quote].concat();
    let total_len = (28 + quote.len()) as u16;
    let header = ipv4::Header { total_len, protocol: 1, src: 1, dst: 2, ..ipv4::ORIGINATED };
    header.write(&mut bytes[14..]);
    bytes[34..36].copy_from_slice(&[kind, code]);
    icmp::write_checksum(&mut bytes[34..]);
    let ip = Ipv4::parse(&bytes[14..]).unwrap();
    (HeapFrame::new(&bytes), ip)
}

fn error6(kind: u8, code: u8, quote: &[u8]) -> (HeapFrame, Ipv6) {
    let mut bytes = [&[0; 14 + 48], quote].concat();
    let payload_len = (8 + quote.len()) as u16;
    let header = ipv6::Header {
        payload_len,
        next_header: 58,
        hop_limit: 9,
        src: 1,
        dst: 2,
        ..ipv6::ORIGINATED
    };
    header.write(&mut bytes[14..]);
    bytes[54..56].copy_from_slice(&[kind, code]);
    icmpv6::write_checksum(1, 2, &mut bytes[54..]);
    let ip = Ipv6::parse(&bytes[14..]).unwrap();
    (HeapFrame::new(&bytes), ip)
}

fn check6(datagram: &[u8]) -> Quote6 {
    let ip = Ipv6::parse(datagram).unwrap();
    assert!(ip.total_len() == datagram.len() && datagram.len() <= 1280);
    assert_eq!((ip.src, ip.dst, ip.next_header), (TO6.dst.ip, TO6.src.ip, 58));
    let kind = icmpv6::parse(ip.src, ip.dst, &datagram[40..]).unwrap();
    assert!(matches!(kind, icmpv6::Kind::Error { .. }), "{kind:?}");
    let quote = Quote6::parse(&datagram[48..]).unwrap();
    assert_eq!((quote.ip.src, quote.ip.dst), (TO6.src.ip, TO6.dst.ip));
    quote
}

fn check4(datagram: &[u8]) {
    let ip = Ipv4::parse(datagram).unwrap();
    assert!(ip.total_len == datagram.len() && datagram.len() <= 576);
    assert_eq!((ip.src, ip.dst, ip.protocol), (TO4.dst.ip, TO4.src.ip, 1));
    let kind = icmp::parse(&datagram[20..]).unwrap();
    assert!(matches!(kind, icmp::Kind::Error { .. }), "{kind:?}");
    // The options of the quoted segment may be anything.
    let quoted = Ipv4::parse_quoted(&datagram[28..]).unwrap();
    assert_eq!((quoted.src, quoted.dst, quoted.header_len), (TO4.src.ip, TO4.dst.ip, 20));
    assert_eq!(datagram[48..52], [0, 80, 1, 187]);
}
