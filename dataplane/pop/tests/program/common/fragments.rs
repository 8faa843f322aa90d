//! Segments, and their datagrams in fragments.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{WAN_MAC, pcap};

/// The VIP.
pub const VIP: (Ipv4Addr, u16) = (Ipv4Addr::new(203, 0, 113, 10), 443);
/// Two no-operations, and timestamps.
const TIMESTAMPS: &[u8] = &[1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0];
/// The VIP over IPv6.
pub const VIP6: (Ipv6Addr, u16) = (Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 0x10), 443);

/// A distinct segment of client `number` with `len` bytes.
pub fn segment(number: u16, len: usize) -> Vec<u8> {
    let client = (Ipv4Addr::new(10, 0, (number >> 8) as u8, number as u8), 1000 + number);
    let payload: Vec<u8> = (0..len).map(|at| (at * 31 + usize::from(number) * 7) as u8).collect();
    let numbers = (pcap::ACK, u32::from(number), 1);
    pcap::data_segment(WAN_MAC, client, VIP, numbers, TIMESTAMPS, &payload)
}

/// The part `from..to` of an IPv4 datagram's payload as a fragment with this ID.
pub fn fragment(frame: &[u8], id: u16, from: usize, to: usize, more: bool) -> Vec<u8> {
    let payload = &frame[34..];
    let part: Vec<u8> = (from..to).map(|at| payload.get(at).copied().unwrap_or(0)).collect();
    let mut header = frame[14..34].to_vec();
    header[2..4].copy_from_slice(&((20 + part.len()) as u16).to_be_bytes());
    header[4..6].copy_from_slice(&id.to_be_bytes());
    let word = (from / 8) as u16 | if more { 0x2000 } else { 0 };
    header[6..8].copy_from_slice(&word.to_be_bytes());
    header[10..12].fill(0);
    let sum = pcap::checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut fragment = [&frame[..14], &header, &part].concat();
    // Ethernet pads short frames with arbitrary bytes.
    fragment.resize(fragment.len().max(60), 0xa5);
    fragment
}

/// A datagram in fragments with `size` bytes of payload.
pub fn cut(frame: &[u8], id: u16, size: usize) -> Vec<Vec<u8>> {
    let len = frame.len() - 34;
    let piece = |from| fragment(frame, id, from, (from + size).min(len), from + size < len);
    (0..len).step_by(size).map(piece).collect()
}

/// [`segment`] over IPv6.
pub fn segment6(number: u16, len: usize) -> Vec<u8> {
    let client = (Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, number), 1000 + number);
    let payload: Vec<u8> = (0..len).map(|at| (at * 31 + usize::from(number) * 7) as u8).collect();
    let numbers = (pcap::ACK, u32::from(number), 1);
    pcap::data_segment6(WAN_MAC, client, VIP6, numbers, TIMESTAMPS, &payload)
}

/// [`fragment`] over IPv6.
pub fn fragment6(frame: &[u8], id: u32, from: usize, to: usize, more: bool) -> Vec<u8> {
    let payload = &frame[54..];
    let part: Vec<u8> = (from..to).map(|at| payload.get(at).copied().unwrap_or(0)).collect();
    let mut fragment = frame[..54].to_vec();
    fragment[18..20].copy_from_slice(&((8 + part.len()) as u16).to_be_bytes());
    fragment[20] = 44;
    fragment.extend([6, 0]);
    fragment.extend((from as u16 | u16::from(more)).to_be_bytes());
    fragment.extend(id.to_be_bytes());
    fragment.extend(part);
    fragment
}

/// [`cut`] over IPv6.
pub fn cut6(frame: &[u8], id: u32, size: usize) -> Vec<Vec<u8>> {
    let len = frame.len() - 54;
    let piece = |from| fragment6(frame, id, from, (from + size).min(len), from + size < len);
    (0..len).step_by(size).map(piece).collect()
}
