//! The filters of the packet socket and of the raw socket: classic BPF (bpf(4), Linux's socket
//! filters).
//!
//! That of the packet socket accepts unfragmented TCP segments from the VIP to the agent's port
//! alone. The kernel runs it for each packet that the host receives, so the most selective fields
//! come first. It starts at the IP header, as packet sockets of type SOCK_DGRAM do.

use std::net::{IpAddr, SocketAddr};

use socket2::SockFilter;

use super::FlowEndpoints;

/// A comparison of one field: packets with another value are rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FieldTest {
    load: u16,
    at: u32,
    equals: u32,
}

/// The filter for segments from `endpoints.vip` to `endpoints.local`.
pub fn program(endpoints: &FlowEndpoints) -> Vec<SockFilter> {
    code(endpoints).into_iter().map(|(code, jt, jf, k)| SockFilter::new(code, jt, jf, k)).collect()
}

/// The filter of the raw socket: accepts segments to the agent's port. Raw sockets of IPv4 get the
/// IP header, those of IPv6 do not.
pub fn to_port(port: u16, is_v4: bool) -> [SockFilter; 5] {
    let start = if is_v4 { LDX_HEADER_LEN } else { LDX_NUMBER };
    [
        SockFilter::new(start, 0, 0, 0),
        SockFilter::new(LD_HALF_INDEXED, 0, 0, 2),
        SockFilter::new(JUMP_EQUAL, 0, 1, port.into()),
        SockFilter::new(RETURN, 0, 0, ALL),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

/// The instructions as numbers, which tests can read.
fn code(endpoints: &FlowEndpoints) -> Vec<(u16, u8, u8, u32)> {
    let FlowEndpoints { local, vip } = endpoints;
    let mut tests = vec![FieldTest { load: LD_WORD, at: PACKET_TYPE, equals: PACKET_HOST }];
    match (vip.ip(), local.ip()) {
        (IpAddr::V4(vip), IpAddr::V4(local)) => {
            tests.push(FieldTest { load: LD_BYTE, at: 9, equals: TCP });
            tests.push(FieldTest { load: LD_WORD, at: 12, equals: vip.to_bits() });
            tests.push(FieldTest { load: LD_WORD, at: 16, equals: local.to_bits() });
        }
        (vip, local) => {
            tests.push(FieldTest { load: LD_BYTE, at: 6, equals: TCP });
            tests.extend(words(vip, 8));
            tests.extend(words(local, 24));
        }
    }
    let ports = u32::from(vip.port()) << 16 | u32::from(local.port());
    let mut program = Vec::new();
    // Each comparison takes two instructions; a failed one jumps to the last instruction.
    let tail = if is_v4(vip) { 7 } else { 4 };
    let len = tests.len() * 2 + tail;
    for test in tests {
        program.push((test.load, 0, 0, test.at));
        let to_end = (len - 2 - program.len()) as u8;
        program.push((JUMP_EQUAL, 0, to_end, test.equals));
    }
    if is_v4(vip) {
        // Rejects fragments; then loads the header length, which the ports follow.
        program.push((LD_HALF, 0, 0, 6));
        program.push((JUMP_SET, (len - 2 - program.len()) as u8, 0, FRAGMENT));
        program.push((LDX_HEADER_LEN, 0, 0, 0));
        program.push((LD_WORD_INDEXED, 0, 0, 0));
    } else {
        program.push((LD_WORD, 0, 0, IPV6_HEADER_LEN));
    }
    program.push((JUMP_EQUAL, 0, 1, ports));
    program.push((RETURN, 0, 0, ALL));
    program.push((RETURN, 0, 0, 0));
    program
}

/// The four words of an IPv6 address, at offset `at`.
fn words(address: IpAddr, at: u32) -> impl Iterator<Item = FieldTest> {
    let bytes = match address {
        IpAddr::V6(address) => address.octets(),
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
    };
    let (words, _) = bytes.as_chunks::<4>();
    let words: Vec<_> = words.iter().map(|word| u32::from_be_bytes(*word)).collect();
    words.into_iter().zip(0..).map(move |(equals, word)| FieldTest {
        load: LD_WORD,
        at: at + 4 * word,
        equals,
    })
}

fn is_v4(address: &SocketAddr) -> bool {
    address.is_ipv4()
}

// linux/bpf_common.h
const LD_WORD: u16 = 0x20;
const LD_HALF: u16 = 0x28;
const LD_BYTE: u16 = 0x30;
const LD_WORD_INDEXED: u16 = 0x40;
const LD_HALF_INDEXED: u16 = 0x48;
const LDX_NUMBER: u16 = 0x01;
const LDX_HEADER_LEN: u16 = 0xb1;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_SET: u16 = 0x45;
const RETURN: u16 = 0x06;
/// SKF_AD_OFF + SKF_AD_PKTTYPE (linux/filter.h): whether the packet is for this host.
const PACKET_TYPE: u32 = 0xffff_f000 + 4;
const PACKET_HOST: u32 = 0;
const TCP: u32 = 6;
/// The flag "more fragments", and the fragment offset.
const FRAGMENT: u32 = 0x3fff;
const IPV6_HEADER_LEN: u32 = 40;
const ALL: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference implementation: runs the program over a packet as the kernel does.
    fn lets_through(program: &[(u16, u8, u8, u32)], packet: &[u8], kind: u32) -> bool {
        let (mut a, mut x, mut at) = (0u32, 0u32, 0usize);
        let load = |at: u32, len: usize| {
            packet
                .get(at as usize..at as usize + len)
                .map(|bytes| bytes.iter().fold(0u32, |value, &byte| value << 8 | u32::from(byte)))
        };
        for _ in 0..100 {
            let (code, jt, jf, k) = program[at];
            at += 1;
            let loaded = match code {
                LD_WORD if k == PACKET_TYPE => Some(kind),
                LD_WORD => load(k, 4),
                LD_HALF => load(k, 2),
                LD_BYTE => load(k, 1),
                LD_WORD_INDEXED => load(k + x, 4),
                LDX_HEADER_LEN => {
                    x = 4 * (load(k, 1).unwrap() & 0x0f);
                    Some(a)
                }
                JUMP_EQUAL | JUMP_SET => {
                    let holds = if code == JUMP_EQUAL { a == k } else { a & k != 0 };
                    at += usize::from(if holds { jt } else { jf });
                    Some(a)
                }
                RETURN => return k != 0,
                other => panic!("instruction {other:#x}"),
            };
            match loaded {
                Some(value) => a = value,
                None => return false,
            }
        }
        panic!("the program does not end");
    }

    fn endpoints(local: &str, vip: &str) -> FlowEndpoints {
        FlowEndpoints { local: local.parse().unwrap(), vip: vip.parse().unwrap() }
    }

    fn packet(from: SocketAddr, to: SocketAddr, options: usize) -> Vec<u8> {
        let mut bytes = match (from.ip(), to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let mut bytes = vec![0; 20 + options];
                bytes[0] = 0x45 + (options / 4) as u8;
                bytes[6] = 0x40;
                bytes[9] = 6;
                bytes[12..16].copy_from_slice(&from.octets());
                bytes[16..20].copy_from_slice(&to.octets());
                bytes
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let mut bytes = vec![0; 40];
                (bytes[0], bytes[6]) = (0x60, 6);
                bytes[8..24].copy_from_slice(&from.octets());
                bytes[24..40].copy_from_slice(&to.octets());
                bytes
            }
            _ => panic!("two families"),
        };
        bytes.extend(from.port().to_be_bytes());
        bytes.extend(to.port().to_be_bytes());
        bytes.extend([0; 16]);
        bytes
    }

    #[test]
    fn accepts_segments_of_the_flow_alone() {
        for (local, vip) in [
            ("192.0.2.7:40000", "203.0.113.20:443"),
            ("[2001:db8:1::7]:40000", "[2001:db8::20]:443"),
        ] {
            let endpoints = endpoints(local, vip);
            let program = code(&endpoints);
            let good = packet(endpoints.vip, endpoints.local, 0);
            assert!(lets_through(&program, &good, 0));
            if endpoints.vip.is_ipv4() {
                assert!(lets_through(&program, &packet(endpoints.vip, endpoints.local, 8), 0));
            }
            assert!(!lets_through(&program, &good, 3), "for another host");
            assert!(!lets_through(&program, &packet(endpoints.local, endpoints.vip, 0), 0));
            let header_len = good.len() - 20;
            let (protocol, addresses) =
                if endpoints.vip.is_ipv4() { (9, 12..20) } else { (6, 8..40) };
            for byte in addresses.chain([protocol]).chain(header_len..header_len + 4) {
                let mut other = good.clone();
                other[byte] ^= 1;
                assert!(!lets_through(&program, &other, 0), "{vip}: byte {byte}");
            }
            for len in 0..header_len + 4 {
                assert!(!lets_through(&program, &good[..len], 0), "{vip}: {len} bytes");
            }
        }
    }

    #[test]
    fn fragments_are_rejected() {
        let endpoints = endpoints("192.0.2.7:40000", "203.0.113.20:443");
        for (byte, value) in [(6, 0x20), (6, 0x01), (7, 0x10)] {
            let mut fragment = packet(endpoints.vip, endpoints.local, 0);
            fragment[byte] = value;
            assert!(!lets_through(&code(&endpoints), &fragment, 0));
        }
    }
}
