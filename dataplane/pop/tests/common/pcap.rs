//! Captures: the classic pcap format, and segments to fill them with.

use std::net::Ipv4Addr;

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

/// A client's SYN with timestamps, to `vip`, as it reaches a port with the address `mac`.
pub fn syn(mac: [u8; 6], client: (Ipv4Addr, u16), vip: (Ipv4Addr, u16)) -> Vec<u8> {
    let mut tcp = Vec::new();
    tcp.extend(client.1.to_be_bytes());
    tcp.extend(vip.1.to_be_bytes());
    tcp.extend([0, 0, 0, 1, 0, 0, 0, 0]);
    // 40 bytes long, SYN, window, no checksum yet, no urgent data.
    tcp.extend([10 << 4, 2, 0xff, 0xff, 0, 0, 0, 0]);
    // MSS 1460, SACK permitted, timestamps, no-operation, window scale 7.
    tcp.extend([2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0, 1, 3, 3, 7]);
    let mut pseudo = Vec::new();
    pseudo.extend(client.0.octets());
    pseudo.extend(vip.0.octets());
    pseudo.extend([0, 6, 0, u8::try_from(tcp.len()).unwrap()]);
    pseudo.extend(&tcp);
    let sum = checksum(&pseudo);
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    let mut ip =
        vec![0x45, 0, 0, 20 + u8::try_from(tcp.len()).unwrap(), 0, 7, 0x40, 0, 64, 6, 0, 0];
    ip.extend(client.0.octets());
    ip.extend(vip.0.octets());
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let source = [2, 0, 0, 0, 0, 0x11];
    [&mac[..], &source, &[8, 0], &ip, &tcp].concat()
}

/// The checksum of RFC 1071 over an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
