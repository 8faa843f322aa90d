//! Rules for datagrams inside others, on their way to targets.

use anyrelay_core::config::{Encapsulate, RelayConfig};
use anyrelay_kit::frames::word;
use std::net::IpAddr;

use super::cases::Case;
use super::check::Datagram;

/// The datagram inside another, where one may be.
pub fn inside<'a>(outer: &Datagram<'a>) -> Option<&'a [u8]> {
    match outer.protocol {
        IPV4 | IPV6 => outer.payload,
        UDP => outer.payload.filter(|udp| udp.len() >= GUE && word(udp, 2) == GUE_PORT)?.get(GUE..),
        _ => None,
    }
}

/// The datagram inside `outer`, which a POP sent and whose bytes are `ip`, if it is one to a
/// target; not inside a fragment.
///
/// # Panics
/// If its headers are not those of a service, to one of its targets.
pub fn checked<'a>(case: &Case, ip: &[u8], outer: &Datagram<'a>) -> Option<&'a [u8]> {
    let (protocol, carried) = match outer.protocol {
        IPV4 | IPV6 => (Encapsulate::IpIp, outer.protocol),
        UDP => (Encapsulate::Gue, outer.payload?[9]),
        _ => return None,
    };
    outer.payload?;
    let inside = inside(outer).expect("a tunnel without a datagram");
    if protocol == Encapsulate::Gue {
        gue(ip, outer);
    }
    let (is_v6, is_v4) = (inside[0] >> 4 == 6, inside[0] >> 4 == 4);
    assert!(is_v6 && carried == IPV6 || is_v4 && carried == IPV4, "of another family");
    let len = if is_v6 { usize::from(word(inside, 4)) + 40 } else { word(inside, 2).into() };
    assert_eq!(inside.len(), len, "more or less than one datagram in a tunnel");
    assert_eq!(class(ip), class(inside), "DSCP and ECN");
    if ip[0] >> 4 == 4 {
        assert_eq!(ip[8], 64, "the TTL of a tunnel");
        let df = |ip: &[u8]| ip[6] & 0x40;
        let is_segment = is_v4 && inside[9] == TCP;
        assert_eq!(df(ip), if is_segment { df(inside) } else { 0x40 }, "DF of a tunnel");
        assert!(df(ip) == 0 || word(ip, 4) == 0, "an identification beside DF");
    } else {
        assert_eq!(ip[7], 64, "the hop limit of a tunnel");
    }
    let ends = addresses(ip);
    let to = addresses(inside).1;
    let is_this = |relay: &&RelayConfig| {
        let tunnel = relay.egress.encapsulation();
        tunnel.is_some_and(|tunnel| (tunnel.protocol, tunnel.from) == (protocol, ends.0))
            && relay.vip.ip() == to
            && relay.target_addresses().any(|target| target.ip() == ends.1)
    };
    let services = &case.snapshot.config.relays;
    assert!(services.iter().any(|relay| is_this(&relay)), "a tunnel of no service: {ip:02x?}");
    Some(inside)
}

/// The UDP and GUE headers of a datagram that a POP sent.
fn gue(ip: &[u8], outer: &Datagram<'_>) {
    let udp = outer.payload.unwrap();
    assert!(word(udp, 0) >= 0xc000, "the source port of a tunnel");
    assert_eq!(usize::from(word(udp, 4)), udp.len(), "the length of a UDP datagram");
    let is_summed = word(udp, 6) != 0;
    assert_eq!(is_summed, ip[0] >> 4 == 6, "a UDP checksum over IPv6, and over IPv4 none");
    assert!(!is_summed || outer.holds, "a wrong UDP checksum");
    assert_eq!((udp[8], word(udp, 10)), (0, 0), "GUE variant 0 without flags");
}

/// Source and destination.
fn addresses(ip: &[u8]) -> (IpAddr, IpAddr) {
    fn of<const N: usize>(bytes: &[u8]) -> [u8; N] {
        bytes[..N].try_into().unwrap()
    }
    match ip[0] >> 4 {
        4 => (of::<4>(&ip[12..]).into(), of::<4>(&ip[16..]).into()),
        _ => (of::<16>(&ip[8..]).into(), of::<16>(&ip[24..]).into()),
    }
}

/// The byte of DSCP and ECN.
fn class(ip: &[u8]) -> u8 {
    if ip[0] >> 4 == 4 { ip[1] } else { (word(ip, 0) >> 4) as u8 }
}

/// Protocol numbers, of which the first two are those of datagrams inside.
const IPV4: u8 = 4;
const IPV6: u8 = 41;
const TCP: u8 = 6;
const UDP: u8 = 17;
/// UDP and GUE headers.
const GUE: usize = 12;
const GUE_PORT: u16 = 6080;
