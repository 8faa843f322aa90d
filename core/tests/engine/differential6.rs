//! The core's IPv6 parsers beside `etherparse`, on random and mutated datagrams. Where they differ
//! on purpose, it says so here.

use anyrelay_core::wire::icmp::ParseError;
use anyrelay_core::wire::icmpv6::{self, Kind};
use anyrelay_core::wire::ipv6::{EXTENSIONS_MAX, ExtensionError, Ipv6};
use etherparse::{Icmpv6Slice, IpNumber, Ipv6HeaderSlice, Ipv6RawExtHeaderSlice};

use crate::*;

/// How often both accepted, and what else was met.
#[derive(Debug, Default)]
struct Met {
    headers: u32,
    extended: u32,
    refused: u32,
    icmp: u32,
}

fn compare_header<'a>(bytes: &'a [u8], met: &mut Met) -> Option<(Ipv6, &'a [u8])> {
    let ours = Ipv6::parse(bytes);
    let theirs = Ipv6HeaderSlice::from_slice(bytes).ok();
    // Whether the payload is there is not the header's to say.
    let theirs = theirs.filter(|header| 40 + usize::from(header.payload_length()) <= bytes.len());
    assert_eq!(ours.is_some(), theirs.is_some(), "{bytes:02x?}");
    let (ours, theirs) = (ours?, theirs?);
    assert_eq!(
        (ours.src.to_be_bytes(), ours.dst.to_be_bytes()),
        (theirs.source(), theirs.destination())
    );
    assert_eq!((ours.next_header, ours.hop_limit), (theirs.next_header().0, theirs.hop_limit()));
    assert_eq!(ours.traffic_class, theirs.traffic_class());
    assert_eq!(ours.payload_len, usize::from(theirs.payload_length()));
    met.headers += 1;
    Some((ours, &bytes[..ours.total_len()]))
}

/// Walks as etherparse reads one extension header, by the rules of a POP: which kinds there are, in
/// which order, and how many. Options are read here, by hand.
fn walk(first: u8, payload: &[u8]) -> Result<(u8, usize), ExtensionError> {
    let (mut kind, mut rest) = (IpNumber(first), payload);
    for place in 0..=EXTENSIONS_MAX {
        match kind {
            IpNumber::IPV6_ROUTE_HEADER => return Err(ExtensionError::Routing),
            IpNumber::IPV6_FRAGMENTATION_HEADER => return Err(ExtensionError::Fragment),
            IpNumber::IPV6_HEADER_HOP_BY_HOP if place > 0 => break,
            IpNumber::IPV6_HEADER_HOP_BY_HOP | IpNumber::IPV6_DESTINATION_OPTIONS => {}
            _ => return Ok((kind.0, payload.len() - rest.len())),
        }
        let Ok(header) = Ipv6RawExtHeaderSlice::from_slice(rest) else { break };
        let mut options = header.payload().iter();
        while let Some(option) = options.next() {
            let Some(len) = (*option != 0).then(|| options.next()) else { continue };
            let len = usize::from(*len.ok_or(ExtensionError::Malformed)?);
            let skipped = options.by_ref().take(len).count();
            if option >> 6 != 0 || skipped < len {
                return Err(ExtensionError::Malformed);
            }
        }
        (kind, rest) = (header.next_header(), &rest[header.slice().len()..]);
    }
    Err(ExtensionError::Malformed)
}

fn compare(bytes: &[u8], met: &mut Met) {
    let Some((ip, datagram)) = compare_header(bytes, met) else { return };
    let ours = ip.upper(datagram).map(|upper| (upper.protocol, upper.at - 40));
    assert_eq!(ours, walk(ip.next_header, &datagram[40..]), "{datagram:02x?}");
    let Ok((protocol, at)) = ours else {
        met.refused += 1;
        return;
    };
    met.extended += u32::from(at > 0);
    if protocol != 58 {
        return;
    }
    let message = &datagram[40 + at..];
    let ours = icmpv6::parse(ip.src, ip.dst, message);
    let theirs = Icmpv6Slice::from_slice(message);
    assert_eq!(ours == Err(ParseError::Malformed), theirs.is_err());
    let Ok(theirs) = theirs else { return };
    let holds = theirs.is_checksum_valid(ip.src.to_be_bytes(), ip.dst.to_be_bytes());
    // etherparse takes 0 and 0xffff for different sums.
    if message[2..4] != [0xff, 0xff] {
        assert_eq!(ours.is_ok(), holds, "{datagram:02x?}");
    }
    let Ok(ours) = ours else { return };
    let mtu = u32::from_be_bytes(theirs.bytes5to8());
    let expected = match (theirs.type_u8(), theirs.code_u8()) {
        (128, _) => Kind::EchoRequest,
        (135, 0) => Kind::Solicitation,
        (136, 0) => Kind::Advertisement,
        (2, _) => Kind::Error { mtu: Some(mtu) },
        (1 | 3 | 4, _) => Kind::Error { mtu: None },
        _ => Kind::Other,
    };
    assert_eq!(ours, expected);
    met.icmp += 1;
}

#[test]
fn parsers_agree_with_etherparse() {
    let full = std::env::var_os("ANYRELAY_FULL").is_some();
    let (mut rng, mut met) = (Rng(12), Met::default());
    for _ in 0..if full { 3_000_000 } else { 150_000 } {
        let kinds = [0, 6, 43, 44, 58, 58, 60, 60, 60];
        let count = rng.index(4) * rng.index(4);
        let first = if rng.chance(1, 3) { 0 } else { rng.pick(&kinds) };
        let mut payload: Vec<u8> = (0..count)
            .flat_map(|_| {
                let next = if rng.chance(2, 3) { 60 } else { rng.pick(&kinds) };
                [next, 0, rng.pick(&[0, 1, 1, 5]), 4, 0, 0, 0, 0]
            })
            .collect();
        let message = match rng.index(3) {
            0 => echo6(FAR6, WAN_IP6, b"payload")[40..].to_vec(),
            1 => solicitation(NEIGHBOUR6, WAN_IP6, Some([2; 6]))[40..].to_vec(),
            _ => {
                let len = rng.index(60);
                rng.vec(len)
            }
        };
        if let Some(last) = payload.len().checked_sub(8) {
            payload[last] = 58;
        }
        payload.extend(message);
        let first = if count == 0 { 58 } else { first };
        let mut datagram = Ipv6Header::new(FAR6, WAN_IP6).after(first, &payload);
        for _ in 0..rng.index(3) {
            let at = rng.index(datagram.len().min(120));
            datagram[at] = rng.next() as u8;
        }
        if rng.chance(3, 4) {
            repair_at(&mut datagram, ICMPV6, 40 + 8 * count);
        }
        if rng.chance(1, 8) {
            let len = rng.index(datagram.len());
            datagram.truncate(len);
        }
        compare(&datagram, &mut met);
    }
    let enough = met.headers > 100_000 && met.extended > 10_000 && met.refused > 10_000;
    assert!(enough && met.icmp > 10_000, "{met:?}");
}
