//! Rules for any frame that leaves a POP, read by hand and by `etherparse`. Of the core, they use
//! only how the config classifies an address.

use anyrelay_core::frame::ChecksumVerdict;
use anyrelay_core::net::PortIndex;
use anyrelay_core::snapshot::Destination;
use anyrelay_kit::carried::inside;
use anyrelay_kit::frames::{check_mirrored, internet_checksum, is_fragment, word};
use etherparse::{Ipv4HeaderSlice, Ipv6HeaderSlice, TcpHeaderSlice};

use super::cases::Case;
use super::{carried, open};

/// Where the IP header of a frame begins, of which 40 bytes may not be there; `None` when it has
/// none.
pub fn l3(frame: &[u8]) -> Option<usize> {
    let at = if frame.get(12..14)? == [0x81, 0x00] { 18 } else { 14 };
    let ethertype = frame.get(at - 2..at)?;
    (ethertype == [0x08, 0x00] || ethertype == [0x86, 0xdd]).then_some(at)
}

/// Whether the frame asks for a hardware address.
pub fn is_address_query(frame: &[u8]) -> bool {
    let at = if frame[12..14] == [0x81, 0x00] { 18 } else { 14 };
    match frame[at - 2..at] {
        [0x08, 0x06] => frame[at + 7] == 1,
        // Of an agent it would be at least one hop further (RFC 4861, section 4.3).
        [0x86, 0xdd] => frame[at + 6..at + 8] == [58, 255] && frame[at + 40] == 135,
        _ => false,
    }
}

/// Whether the frame holds a part of a datagram, not the first. One that an agent sent is no part
/// to a POP.
pub fn is_later_fragment(case: &Case, frame: &[u8]) -> bool {
    let Some(at) = l3(frame) else { return false };
    match frame[at] >> 4 {
        4 => word(frame, at + 6) & 0x1fff != 0,
        _ if open::is_from_agent(case, &frame[at..]) => false,
        _ => frame[at + 6] == 44 && word(frame, at + 42) >> 3 != 0,
    }
}

/// Whether `frame` answers `input`, a fragment of an echo request, with a fragment of the reply.
pub fn mirrors(input: &[u8], frame: &[u8]) -> bool {
    let (Some(from), Some(to)) = (l3(input), l3(frame)) else { return false };
    let (from, to) = (&input[from..], &frame[to..]);
    is_fragment(from) && is_fragment(to) && check_mirrored(from, to).is_ok()
}

/// A datagram, as far as the rules ask.
pub struct Datagram<'a> {
    v6: bool,
    ttl: u8,
    pub protocol: u8,
    /// What it carries: not of fragments.
    pub payload: Option<&'a [u8]>,
    /// Whether the checksum of what it carries holds, where that is over addresses too.
    pub holds: bool,
}

/// Reads one whose form holds; `None` when it does not.
pub fn read(bytes: &[u8]) -> Option<Datagram<'_>> {
    match bytes.first()? >> 4 {
        4 => {
            let header = Ipv4HeaderSlice::from_slice(bytes).ok()?;
            let head = header.slice();
            let total_len = usize::from(header.total_len());
            if total_len < head.len() || total_len > bytes.len() || internet_checksum(&[head]) != 0
            {
                return None;
            }
            let payload = &bytes[head.len()..total_len];
            Some(Datagram {
                v6: false,
                ttl: header.ttl(),
                protocol: header.protocol().0,
                payload: (!header.is_fragmenting_payload()).then_some(payload),
                holds: holds(bytes, header.protocol().0, payload),
            })
        }
        6 => {
            let header = Ipv6HeaderSlice::from_slice(bytes).ok()?;
            let payload = bytes[40..].get(..header.payload_length().into())?;
            // Extension headers, which a POP does not send, stand before the segment that came in.
            let (protocol, payload) = behind_extensions(header.next_header().0, payload)?;
            let (protocol, payload) = match protocol {
                // All of its datagram (RFC 6946).
                44 if payload.len() >= 8 && word(payload, 2) & 0xfff9 == 0 => {
                    behind_extensions(payload[0], &payload[8..])?
                }
                44 => {
                    let protocol = *payload.first()?;
                    let (ttl, holds) = (header.hop_limit(), false);
                    return Some(Datagram { v6: true, ttl, protocol, payload: None, holds });
                }
                _ => (protocol, payload),
            };
            Some(Datagram {
                v6: true,
                ttl: header.hop_limit(),
                protocol,
                payload: Some(payload),
                holds: holds(bytes, protocol, payload),
            })
        }
        _ => None,
    }
}

/// Whether the checksum of a TCP segment, UDP datagram or ICMPv6 message in the datagram `ip` is
/// right. UDP over IPv4 may have none, and is as long as it says.
fn holds(ip: &[u8], protocol: u8, payload: &[u8]) -> bool {
    let mut payload = payload;
    if protocol == UDP && payload.len() >= 8 {
        payload = payload.get(..word(payload, 4).into()).unwrap_or(payload);
        if payload.len() >= 8 && word(payload, 6) == 0 {
            return ip[0] >> 4 == 4;
        }
    }
    let octets = if ip[0] >> 4 == 4 { &ip[12..20] } else { &ip[8..40] };
    let len = (payload.len() as u32).to_be_bytes();
    internet_checksum(&[octets, &len, &[0, 0, 0, protocol], payload]) == 0
}

fn behind_extensions(mut protocol: u8, mut payload: &[u8]) -> Option<(u8, &[u8])> {
    while [0, 43, 60].contains(&protocol) {
        let len = 8 + usize::from(*payload.get(1)?) * 8;
        protocol = payload[0];
        payload = payload.get(len..)?;
    }
    Some((protocol, payload))
}

/// Checks all that was sent because of `input`, which came in through `port`.
pub fn all(
    case: &Case,
    port: PortIndex,
    input: &[u8],
    verdict: ChecksumVerdict,
    sent: &[(PortIndex, Vec<u8>)],
) {
    let more = |frame: &[u8]| is_address_query(frame) || is_later_fragment(case, frame);
    let answers = sent.iter().filter(|(_, frame)| !more(frame));
    assert!(answers.count() <= 2, "one frame gave more than two");
    let came_in = l3(input).map(|at| &input[at..]);
    let came = came_in.and_then(read);
    let came = came.map(|came| {
        let carried = came.payload.and_then(|payload| inside(came.protocol, payload));
        carried.and_then(read).unwrap_or(came)
    });
    for (out, frame) in sent {
        let config = &case.snapshot.config.ports[usize::from(out.0)];
        assert_eq!(frame[6..12], case.macs[usize::from(out.0)], "another host's address");
        let tagged = frame[12..14] == [0x81, 0x00];
        assert_eq!(tagged.then(|| word(frame, 14) & 0xfff), config.vlan, "wrong VLAN");
        let Some(at) = l3(frame) else {
            arp(case, *out, frame);
            continue;
        };
        let datagram = read(&frame[at..]).expect("a malformed datagram is sent");
        let len = match datagram.v6 {
            true => usize::from(word(frame, at + 4)) + 40,
            false => usize::from(word(frame, at + 2)),
        };
        assert!(len <= config.mtu.into(), "{len} bytes are more than the MTU");
        let behind = &frame[at + len..];
        assert!(behind.is_empty() || frame.len() == 60 && behind.iter().all(|byte| *byte == 0));
        let ip = &frame[at..at + len];
        addresses(case, ip, datagram.v6);
        if open::checked(case, port, came_in, ip) {
            continue;
        }
        let (ip, datagram) = match carried::checked(case, ip) {
            Some(inside) => (inside, read(inside).expect("a malformed datagram is in a tunnel")),
            None => (ip, datagram),
        };
        assert!(datagram.ttl > 0, "sent at its last hop");
        assert!(datagram.v6 || ip[0] == 0x45, "IPv4 options are sent");
        let next = if datagram.v6 { ip[6] } else { datagram.protocol };
        let fragment = datagram.payload.is_none();
        assert!(fragment || next != 44, "a fragment that is all of its datagram is sent");
        assert!(
            fragment || next == datagram.protocol || came.as_ref().is_some_and(|came| came.v6),
            "extension headers are put in"
        );
        let Some(payload) = datagram.payload else { continue };
        match (datagram.protocol, datagram.v6) {
            (6, _) => {
                let passed = came.as_ref().filter(|came| {
                    came.protocol == 6 && (*out != port || came.ttl == datagram.ttl + 1)
                });
                segment(payload);
                match passed {
                    // Damage stays what it is; what the NIC found damaged does not get this far.
                    Some(came) => {
                        assert_eq!(datagram.holds, came.holds, "damage is hidden or done")
                    }
                    None => assert!(datagram.holds, "a segment of the POP's own is damaged"),
                }
                assert!(verdict != ChecksumVerdict::Bad, "what the NIC found damaged is sent on");
            }
            (UDP, _) => {
                let came = came.as_ref().expect("UDP of the POP's own is sent");
                assert_eq!(came.protocol, UDP, "what is no UDP is sent as UDP");
                assert_eq!(came.ttl, datagram.ttl + 1);
                assert!((8..=payload.len()).contains(&usize::from(word(payload, 4))));
                assert_eq!(datagram.holds, came.holds, "damage is hidden or done");
                let had_sum = came.payload.is_none_or(|payload| word(payload, 6) != 0);
                assert!(verdict != ChecksumVerdict::Bad || !had_sum, "what the NIC found damaged");
            }
            (1, false) => {
                assert_eq!(internet_checksum(&[payload]), 0, "wrong ICMP checksum");
                error(ip, payload, [0, 3, 11, 12].contains(&payload[0]), (8, 12, 4));
            }
            (58, true) => {
                assert!(datagram.holds, "wrong ICMPv6 checksum");
                let known = [1, 2, 3, 4, 129, 135, 136].contains(&payload[0]);
                error(ip, payload, known, (8, 8, 16));
            }
            _ => panic!("neither TCP, UDP nor ICMP is sent"),
        }
    }
}

const UDP: u8 = 17;

/// Nothing goes to a POP's own addresses, or to nobody.
fn addresses(case: &Case, ip: &[u8], v6: bool) {
    let snapshot = &case.snapshot;
    if v6 {
        let dst = u128::from_be_bytes(ip[24..40].try_into().unwrap());
        let own = snapshot.classify(dst);
        // Neighbours are asked and told by groups and link-local addresses.
        let link = dst >> 112 == 0xff02 || dst >> 118 == 0xfe80 >> 6;
        assert!(own.is_other() || link, "sent to an address of the POP's own");
        assert!(dst != 0 && dst != 1);
        return;
    }
    let [src, dst] = [12, 16].map(|at| u32::from_be_bytes(ip[at..at + 4].try_into().unwrap()));
    assert!(snapshot.classify(dst).is_other(), "sent to an address of the POP's own");
    assert!(src != dst, "a LAND packet");
    let first = dst >> 24;
    assert!(first != 0 && first != 127 && first < 224, "sent to nobody");
}

fn segment(payload: &[u8]) {
    let header = TcpHeaderSlice::from_slice(payload).expect("a malformed segment is sent");
    let (options, mut at) = (header.options(), 0);
    while let Some(&kind) = options.get(at).filter(|kind| **kind != 0) {
        let len = if kind == 1 { 1 } else { usize::from(options[at + 1]) };
        assert!(kind == 1 || len >= 2, "a lying option is sent");
        at += len;
        assert!(at <= options.len(), "a lying option is sent");
    }
    let flags = header.slice()[13];
    assert!((flags & 7).count_ones() <= 1, "flags that no segment has are sent");
}

/// An ICMP message: an error quotes what its addressee sent.
fn error(ip: &[u8], message: &[u8], known: bool, (head, src, len): (usize, usize, usize)) {
    assert!(known, "ICMP of another type is sent: {}", message[0]);
    if ip[0] >> 4 == 4 && message[0] == 0 || ip[0] >> 4 == 6 && message[0] >= 128 {
        return;
    }
    let to = if len == 4 { &ip[16..20] } else { &ip[24..40] };
    let at = head + if len == 4 { src } else { 8 };
    assert_eq!(&message[at..at + len], to, "an error about somebody else's segment");
}

fn arp(case: &Case, out: PortIndex, frame: &[u8]) {
    let at = if frame[12..14] == [0x81, 0x00] { 18 } else { 14 };
    assert_eq!(frame[at - 2..at], [0x08, 0x06], "an unknown ethertype is sent");
    assert_eq!(frame[at..at + 6], [0, 1, 8, 0, 6, 4]);
    assert_eq!(frame[at + 8..at + 14], case.macs[usize::from(out.0)]);
    let sender = u32::from_be_bytes(frame[at + 14..at + 18].try_into().unwrap());
    assert_eq!(case.snapshot.classify(sender), Destination::Own(out), "ARP for another's address");
}
