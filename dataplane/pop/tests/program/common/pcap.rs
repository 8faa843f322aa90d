//! Captures in the classic pcap format, and segments to fill them with.

use std::net::{Ipv4Addr, Ipv6Addr};

/// A capture of `frames`, a microsecond apart.
pub fn capture(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Magic, version 2.4, no time zone, no accuracy, snap length, Ethernet.
    bytes.extend(0xa1b2_c3d4_u32.to_le_bytes());
    bytes.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    bytes.extend(65535_u32.to_le_bytes());
    bytes.extend(1_u32.to_le_bytes());
    for (number, frame) in (0_u32..).zip(frames) {
        let len = u32::try_from(frame.len()).unwrap();
        for field in [number / 1_000_000, number % 1_000_000, len, len] {
            bytes.extend(field.to_le_bytes());
        }
        bytes.extend(frame);
    }
    bytes
}

/// The frames of a capture.
pub fn frames(capture: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let mut rest = &capture[24..];
    while !rest.is_empty() {
        let len = u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
        frames.push(rest[16..16 + len].to_vec());
        rest = &rest[16 + len..];
    }
    frames
}

/// Options of a SYN: MSS 1460, SACK permitted, timestamps, no-operation, window scale 7.
pub const WITH_TIMESTAMPS: &[u8] =
    &[2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0, 1, 3, 3, 7];
/// The same without timestamps.
pub const WITHOUT_TIMESTAMPS: &[u8] = &[2, 4, 5, 0xb4, 4, 2, 1, 3, 3, 7, 1, 1];

pub const SYN: u8 = 2;
pub const SYN_ACK: u8 = 0x12;
pub const ACK: u8 = 0x10;
pub const PSH_ACK: u8 = 0x18;

/// A TCP segment as a port with the address `mac` receives it.
pub fn segment(
    mac: [u8; 6],
    from: (Ipv4Addr, u16),
    to: (Ipv4Addr, u16),
    flags: u8,
    options: &[u8],
) -> Vec<u8> {
    data_segment(mac, from, to, (flags, 1, 0), options, &[])
}

/// [`segment`] with flags, sequence and acknowledgment number, and `payload`.
pub fn data_segment(
    mac: [u8; 6],
    from: (Ipv4Addr, u16),
    to: (Ipv4Addr, u16),
    (flags, seq, ack): (u8, u32, u32),
    options: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    let addresses = [from.0.octets(), to.0.octets()].concat();
    let tcp = tcp(&addresses, (from.1, to.1), (flags, seq, ack), options, payload);
    let [high, low] = u16::try_from(20 + tcp.len()).unwrap().to_be_bytes();
    let mut ip = vec![0x45, 0, high, low, 0, 7, 0x40, 0, 64, 6, 0, 0];
    ip.extend(from.0.octets());
    ip.extend(to.0.octets());
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let neighbour = [2, 0, 0, 0, 0, 0x11];
    [&mac[..], &neighbour, &[8, 0], &ip, &tcp].concat()
}

/// [`data_segment`] over IPv6.
pub fn data_segment6(
    mac: [u8; 6],
    from: (Ipv6Addr, u16),
    to: (Ipv6Addr, u16),
    numbers: (u8, u32, u32),
    options: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    let addresses = [from.0.octets(), to.0.octets()].concat();
    let tcp = tcp(&addresses, (from.1, to.1), numbers, options, payload);
    let [high, low] = u16::try_from(tcp.len()).unwrap().to_be_bytes();
    let neighbour = [2, 0, 0, 0, 0, 0x11];
    let ip = [0x60, 0, 0, 0, high, low, 6, 64];
    [&mac[..], &neighbour, &[0x86, 0xdd], &ip, &addresses, &tcp].concat()
}

/// A TCP segment between two addresses, source first.
fn tcp(
    addresses: &[u8],
    (from, to): (u16, u16),
    (flags, seq, ack): (u8, u32, u32),
    options: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    let header_len = u8::try_from(20 + options.len()).unwrap();
    let mut tcp = Vec::new();
    tcp.extend(from.to_be_bytes());
    tcp.extend(to.to_be_bytes());
    tcp.extend([seq.to_be_bytes(), ack.to_be_bytes()].concat());
    // Data offset, flags, window, no checksum yet, no urgent pointer.
    tcp.extend([header_len << 2, flags, 0xff, 0xff, 0, 0, 0, 0]);
    tcp.extend(options);
    tcp.extend(payload);
    let sum = tcp_checksum(addresses, &tcp);
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    tcp
}

/// The checksum of a segment between two addresses of either family: 0 if its own is correct.
pub fn tcp_checksum(addresses: &[u8], tcp: &[u8]) -> u16 {
    let [high, low] = u16::try_from(tcp.len()).unwrap().to_be_bytes();
    checksum(&[addresses, &[0, 6, high, low], tcp].concat())
}

/// The checksum of RFC 1071.
pub fn checksum(bytes: &[u8]) -> u16 {
    let byte = |pair: &[u8], at| pair.get(at).copied().unwrap_or(0);
    let words = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], byte(pair, 1)])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
