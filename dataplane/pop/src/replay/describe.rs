//! Frames and decisions as text, for `--explain`.
//!
//! A frame is described as far as its bytes allow, whether or not the engine accepts it: wrong
//! checksums and lengths are what `--explain` is for.

use std::fmt;
use std::net::Ipv4Addr;

use anyrelay_core::pop::{Note, Standing};
use anyrelay_core::relay::mapping::Mapping;
use anyrelay_core::verdict::{AbsorbKind, Verdict};
use anyrelay_core::wire::arp::{Arp, Operation};
use anyrelay_core::wire::ethernet::{self, Ethernet};
use anyrelay_core::wire::icmp;
use anyrelay_core::wire::ipv4::{self, Ipv4};
use anyrelay_core::wire::tcp::{self, Tcp};
use anyrelay_core::wire::udp;

use super::{describe_ipv6, describe_quote, describe_tunnel};

/// An Ethernet frame; its `Display` is `SRC -> DST [flags] seq ack len`.
pub struct Described<'a>(pub &'a [u8]);

impl fmt::Display for Described<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(ethernet) = Ethernet::parse(self.0) else {
            return write!(f, "runt of {} bytes", self.0.len());
        };
        if let Some(vlan) = ethernet.vlan {
            write!(f, "vlan {vlan} ")?;
        }
        let payload = self.0.get(ethernet.header_len()..).unwrap_or_default();
        match ethernet.ethertype {
            ethernet::TYPE_ARP => arp(f, payload),
            ethernet::TYPE_IPV4 => datagram(f, payload),
            ethernet::TYPE_IPV6 => describe_ipv6::datagram(f, payload),
            other => write!(f, "{} -> {} ethertype {other:#06x}", ethernet.src, ethernet.dst),
        }
    }
}

fn arp(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    let Some(arp) = Arp::parse(bytes) else { return f.write_str("ARP, malformed") };
    let (sender, target) = (Ipv4Addr::from_bits(arp.sender_ip), Ipv4Addr::from_bits(arp.target_ip));
    match arp.operation {
        Operation::Request => write!(f, "ARP who has {target}, tell {sender}"),
        Operation::Reply => write!(f, "ARP {sender} is at {}", arp.sender_mac),
    }
}

fn datagram(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    let Some(ip) = Ipv4::parse_quoted(bytes) else {
        return write!(f, "IPv4, malformed, {} bytes", bytes.len());
    };
    let (src, dst) = (Ipv4Addr::from_bits(ip.src), Ipv4Addr::from_bits(ip.dst));
    // The captured part, without Ethernet's padding.
    let end = ip.total_len.min(bytes.len());
    let payload = bytes.get(ip.header_len..end).unwrap_or_default();
    let segment = (ip.protocol == ipv4::PROTOCOL_TCP && !ip.is_later_fragment())
        .then(|| Tcp::parse(payload))
        .flatten();
    match (segment, ip.protocol) {
        (Some(tcp), _) => {
            write!(f, "{src}:{} -> {dst}:{} ", tcp.src_port, tcp.dst_port)?;
            let data = ip.total_len.saturating_sub(ip.header_len + tcp.header_len);
            segment_words(f, &tcp, payload, data)?;
        }
        (None, ipv4::PROTOCOL_TCP) => write!(f, "{src} -> {dst} TCP")?,
        (None, ipv4::PROTOCOL_UDP) if payload.len() >= 4 && !ip.is_later_fragment() => {
            let [from, to] = [0, 2].map(|at| number(payload, at, 2));
            write!(f, "{src}:{from} -> {dst}:{to} UDP ")?;
            udp_words(f, payload)?;
        }
        (None, ipv4::PROTOCOL_ICMP) if !ip.is_later_fragment() => {
            write!(f, "{src} -> {dst} ICMP ")?;
            icmp_words(f, payload)?;
        }
        (None, protocol) => write!(f, "{src} -> {dst} protocol {protocol}")?,
    }
    if ip.is_fragment() {
        f.write_str(" fragment")?;
    }
    if ip.total_len > bytes.len() {
        write!(f, " (claims {} bytes, {} are there)", ip.total_len, bytes.len())?;
    }
    Ok(())
}

/// The data of a UDP datagram, as its header says, and whether it lacks a checksum.
pub(super) fn udp_words(f: &mut fmt::Formatter<'_>, datagram: &[u8]) -> fmt::Result {
    let [len, sum] = [udp::field::LEN, udp::field::CHECKSUM].map(|at| number(datagram, at, 2));
    write!(f, "len {}", (len as usize).saturating_sub(udp::HEADER_LEN))?;
    if sum == 0 && datagram.len() >= udp::HEADER_LEN { f.write_str(" no checksum") } else { Ok(()) }
}

pub(super) fn segment_words(
    f: &mut fmt::Formatter<'_>,
    segment: &Tcp,
    bytes: &[u8],
    data: usize,
) -> fmt::Result {
    f.write_str("[")?;
    for (flag, letter) in FLAGS {
        if segment.has(flag) {
            write!(f, "{letter}")?;
        }
    }
    write!(f, "] seq {}", segment.seq.0)?;
    if segment.has(tcp::ACK) {
        write!(f, " ack {}", segment.ack.0)?;
    }
    let options = bytes.get(tcp::HEADER_LEN..segment.header_len).unwrap_or_default();
    for option in tcp::Options::new(options).flatten() {
        let value = options.get(option.at + 2..option.at + option.len).unwrap_or_default();
        match option.kind {
            tcp::kind::TIMESTAMPS => {
                write!(f, " ts {}/{}", number(value, 0, 4), number(value, 4, 4))?
            }
            tcp::kind::MSS => write!(f, " mss {}", number(value, 0, 2))?,
            _ => {}
        }
    }
    write!(f, " len {data}")
}

fn icmp_words(f: &mut fmt::Formatter<'_>, message: &[u8]) -> fmt::Result {
    let (Some(kind), Some(code)) = (message.get(icmp::field::TYPE), message.get(icmp::field::CODE))
    else {
        return f.write_str("cut off");
    };
    let quote = message.get(icmp::HEADER_LEN..).unwrap_or_default();
    match (kind, code) {
        (8, 0) => return f.write_str("echo request"),
        (0, 0) => return f.write_str("echo reply"),
        (3, 4) if message.len() >= icmp::HEADER_LEN => {
            write!(f, "frag-needed mtu {}", number(message, icmp::field::MTU, 2))?;
        }
        (3, _) => write!(f, "unreachable code {code}")?,
        (11, _) => f.write_str("time exceeded")?,
        _ => return write!(f, "type {kind} code {code}"),
    }
    describe_quote::about(f, quote)
}

/// A big-endian number of `len` bytes at `at`, without the bytes that are missing.
pub(super) fn number(bytes: &[u8], at: usize, len: usize) -> u32 {
    let bytes = bytes.iter().skip(at).take(len);
    bytes.fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// Appends a step of the engine's reasoning to a line.
pub fn reason(line: &mut String, note: Note<'_>, port_name: impl Fn(u8) -> String) {
    use fmt::Write;
    // Writing into a String cannot fail.
    let _ = match note {
        Note::Service(name) => write!(line, " | service {name}"),
        Note::Mapped(mode, Mapping { client, egress, target, tag }) => match tag {
            Some(tag) => {
                let tsval = tag.timestamp();
                write!(line, " | {mode} client {client} <-> {egress} tsval {tsval} target {target}")
            }
            None if client == egress => write!(line, " | {mode} client {client} target {target}"),
            None => write!(line, " | {mode} client {client} <-> {egress} target {target}"),
        },
        Note::Target(target, standing) => {
            write!(line, " | candidate {target} {}", standing_words(standing))
        }
        Note::ClientAddress { is_told: true } => write!(line, " | tells the client's address"),
        Note::ClientAddress { is_told: false } => {
            write!(line, " | no room for the client's address")
        }
        Note::Tunnelled { .. }
        | Note::Keepalive { .. }
        | Note::Sender { .. }
        | Note::Destination { .. }
        | Note::OpenAddress { .. }
        | Note::OpenPacket { .. }
        | Note::TunnelQuote { .. } => describe_tunnel::reason(line, &note),
        Note::Sent(kind) => write!(line, " | sends {kind}: {}", kind.text()),
        Note::Withheld(kind) => write!(line, " | {kind} held back by its rate limit"),
        Note::Verdict(Verdict::Forward(port)) => {
            write!(line, " | forward to {}", port_name(port.0))
        }
        // The answer was described when it was sent.
        Note::Verdict(Verdict::Reply(_)) => write!(line, " | answered"),
        Note::Verdict(Verdict::Absorb(kind @ AbsorbKind::TunnelAck)) => {
            write!(line, " | take {kind}: {}", kind.text())
        }
        Note::Verdict(Verdict::Absorb(kind)) => write!(line, " | keep {kind}: {}", kind.text()),
        Note::Verdict(Verdict::Drop(why)) => write!(line, " | drop {why}: {}", why.text()),
    };
}

fn standing_words(standing: Standing) -> &'static str {
    match standing {
        Standing::Unknown => "may have the connection",
        Standing::Owner => "has the connection",
        Standing::Refused => "refused segments near this one",
        Standing::RefusedThis => "refused this segment",
        Standing::OfAnother => "has a connection of another client there",
        Standing::Asked => "was asked after all others",
    }
}

/// The letters of flags, as in tcpdump.
const FLAGS: [(u8, char); 8] = [
    (tcp::SYN, 'S'),
    (tcp::FIN, 'F'),
    (tcp::RST, 'R'),
    (0x08, 'P'),
    (0x20, 'U'),
    (0x40, 'E'),
    (0x80, 'W'),
    (tcp::ACK, '.'),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn described(frame: &[u8]) -> String {
        Described(frame).to_string()
    }

    /// A SYN of 192.0.2.7:4660 to 203.0.113.1:80 with MSS 1460 and wrong checksums.
    fn syn() -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
        frame.extend([0x45, 0, 0, 44, 0, 0, 0x40, 0, 64, 6, 0, 0, 192, 0, 2, 7, 203, 0, 113, 1]);
        frame.extend([0x12, 0x34, 0, 80, 0, 0, 0, 9, 0, 0, 0, 0, 0x60, 2, 1, 0, 0, 0, 0, 0]);
        frame.extend([2, 4, 5, 180]);
        frame
    }

    #[test]
    fn a_segment_is_described_with_its_flags_and_options() {
        let text = described(&syn());
        assert_eq!(text, "192.0.2.7:4660 -> 203.0.113.1:80 [S] seq 9 mss 1460 len 0");
    }

    #[test]
    fn a_datagram_is_described_with_its_length() {
        let mut frame = syn();
        frame[14 + 9] = 17;
        frame[14 + 20 + 4..][..4].copy_from_slice(&[0, 24, 0, 0]);
        let text = "192.0.2.7:4660 -> 203.0.113.1:80 UDP len 16 no checksum";
        assert_eq!(described(&frame), text);
        frame[14 + 20 + 7] = 9;
        assert_eq!(described(&frame), "192.0.2.7:4660 -> 203.0.113.1:80 UDP len 16");
    }

    #[test]
    fn arbitrary_frames_are_described_without_a_panic() {
        let frame = syn();
        for len in 0..frame.len() {
            assert!(!described(&frame[..len]).is_empty());
        }
        assert!(described(&frame[..40]).contains("claims 44 bytes, 26 are there"));
        for at in 0..frame.len() {
            for value in [0, 1, 8, 0x4f, 0x60, 0xff] {
                let mut frame = frame.clone();
                frame[at] = value;
                described(&frame);
            }
        }
        assert_eq!(described(&frame[..9]), "runt of 9 bytes");
    }
}
