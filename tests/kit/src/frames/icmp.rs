//! ICMP messages of both families (RFC 792, RFC 4443).

use super::{ICMP, Ipv4Header, Ipv6Header, internet_checksum};

/// An ICMP message with its checksum; `rest` is the second word of its header.
pub fn icmp(kind: u8, code: u8, rest: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut bytes = icmp6(kind, code, rest, payload);
    let sum = internet_checksum(&[&bytes]);
    bytes[2..4].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// An ICMPv6 message without its checksum, which [`Ipv6Header::with`] fills in.
pub fn icmp6(kind: u8, code: u8, rest: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, code, 0, 0];
    bytes.extend(rest);
    bytes.extend(payload);
    bytes
}

/// A frag-needed datagram that quotes the first `quoted` bytes of a datagram.
pub fn frag_needed(src: u32, dst: u32, mtu: u16, datagram: &[u8], quoted: usize) -> Vec<u8> {
    let [high, low] = mtu.to_be_bytes();
    let quote = &datagram[..quoted.min(datagram.len())];
    let message = icmp(3, 4, [0, 0, high, low], quote);
    Ipv4Header { protocol: ICMP, tos: 0xc0, ..Ipv4Header::new(src, dst) }.with(&message)
}

/// An ICMPv6 echo request.
pub fn echo6(src: u128, dst: u128, payload: &[u8]) -> Vec<u8> {
    let message = icmp6(128, 0, [0xab, 0xcd, 0, 7], payload);
    Ipv6Header { hop_limit: 57, ..Ipv6Header::icmp(src, dst) }.with(&message)
}
