//! The Internet checksum (RFC 1071), the plain way: a slow twin of the core's incremental ones.
//!
//! The oracle of the engine's tests (`core/tests/engine/validator.rs`) does not use it, but
//! `etherparse`: two independent implementations judge the core's.

use std::net::{IpAddr, Ipv4Addr};

use super::{ICMP, ICMPV6, TCP, UDP, addresses, put_word, udp_checksum, upper, word};

/// The checksum over all parts, one behind the other; 0 where the field in them is right.
pub fn internet_checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u64;
    for (at, byte) in parts.iter().copied().flatten().enumerate() {
        sum += u64::from(*byte) << if at % 2 == 0 { 8 } else { 0 };
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// The checksum of a TCP segment, UDP datagram or ICMPv6 message with its pseudo header (RFC 9293,
/// section 3.1; RFC 8200, section 8.1); 0 where the field in it is right.
pub fn transport_checksum(src: IpAddr, dst: IpAddr, protocol: u8, message: &[u8]) -> u16 {
    let len = (message.len() as u32).to_be_bytes();
    let rest = [0, 0, 0, protocol];
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            internet_checksum(&[&src.octets(), &dst.octets(), &len, &rest, message])
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            internet_checksum(&[&src.octets(), &dst.octets(), &len, &rest, message])
        }
        _ => panic!("{src} and {dst} are of two families"),
    }
}

/// The checksum of a TCP segment over IPv4; 0 where the field in it is right.
pub fn tcp_checksum(src: u32, dst: u32, segment: &[u8]) -> u16 {
    let [src, dst] = [src, dst].map(|ip| Ipv4Addr::from_bits(ip).into());
    transport_checksum(src, dst, TCP, segment)
}

/// Writes the length of a datagram of either family into its header.
pub fn set_length(datagram: &mut [u8]) {
    let len = datagram.len() as u16;
    match datagram[0] >> 4 {
        6 => put_word(datagram, 4, len - 40),
        _ => put_word(datagram, 2, len),
    }
}

/// Corrects the header checksum of an IPv4 datagram whose header is whole; nothing of IPv6.
pub fn repair_header(datagram: &mut [u8]) {
    let header_len = datagram.first().map_or(0, |first| usize::from(first & 15) * 4);
    if datagram.first().is_none_or(|first| first >> 4 != 4)
        || !(20..=datagram.len()).contains(&header_len)
    {
        return;
    }
    put_word(datagram, 10, 0);
    let sum = internet_checksum(&[&datagram[..header_len]]);
    put_word(datagram, 10, sum);
}

/// Corrects the checksum of the TCP segment, UDP datagram or ICMP message in a datagram, as far as
/// its header says that it reaches.
pub fn repair_payload(datagram: &mut [u8]) {
    let Some((protocol, at)) = upper(datagram) else { return };
    let claimed = match datagram[0] >> 4 {
        4 => usize::from(word(datagram, 2)),
        _ => 40 + usize::from(word(datagram, 4)),
    };
    let end = claimed.min(datagram.len());
    repair_at(&mut datagram[..end], protocol, at);
}

/// Corrects the checksum of a TCP segment, UDP datagram or ICMP message that reaches from `at` to
/// the end of a datagram, whatever its header says.
pub fn repair_at(datagram: &mut [u8], protocol: u8, at: usize) {
    let field = match protocol {
        TCP => at + 16,
        UDP => at + 6,
        ICMP | ICMPV6 => at + 2,
        _ => return,
    };
    if field + 2 > datagram.len() {
        return;
    }
    put_word(datagram, field, 0);
    let message = &datagram[at..];
    let sum = match protocol {
        ICMP => internet_checksum(&[message]),
        _ => {
            let Some((src, dst)) = addresses(datagram) else { return };
            match protocol {
                UDP => udp_checksum(src, dst, message),
                _ => transport_checksum(src, dst, protocol, message),
            }
        }
    };
    put_word(datagram, field, sum);
}

/// Corrects all checksums of a datagram of either family.
pub fn repair(datagram: &mut [u8]) {
    repair_header(datagram);
    repair_payload(datagram);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_that_of_the_rfc() {
        // RFC 1071, section 3: the sum of these is ddf2.
        let bytes = [0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(internet_checksum(&[&bytes]), !0xddf2);
        // Parts of odd lengths are one run of bytes; the last byte is the high one.
        assert_eq!(internet_checksum(&[&bytes[..3], &bytes[3..]]), !0xddf2);
        assert_eq!(internet_checksum(&[&[1]]), !0x0100);
        assert_eq!(internet_checksum(&[]), 0xffff);
    }

    #[test]
    fn repairs_what_was_changed() {
        for (src, dst) in [("192.0.2.1", "198.51.100.2"), ("2001:db8::1", "2001:db8::2")] {
            let (src, dst): (IpAddr, IpAddr) = (src.parse().unwrap(), dst.parse().unwrap());
            let good = super::super::datagram(src, dst, 64, TCP, &[7; 24]);
            let mut changed = good.clone();
            changed[7] ^= 1;
            let at = good.len() - 24;
            changed[at + 17] ^= 0xff;
            assert_ne!(transport_checksum(src, dst, TCP, &changed[at..]), 0);
            repair(&mut changed);
            assert_eq!(changed[at..], good[at..]);
            assert_eq!(transport_checksum(src, dst, TCP, &changed[at..]), 0);
            assert!(src.is_ipv6() || internet_checksum(&[&changed[..20]]) == 0);
        }
    }
}
