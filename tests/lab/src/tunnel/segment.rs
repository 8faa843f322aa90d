//! TCP segments made by hand, to be injected, and read from captures.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// A TCP segment in its datagram. No options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Where it says to come from.
    pub src: SocketAddr,
    /// Where it goes.
    pub dst: SocketAddr,
    /// Its sequence number.
    pub seq: u32,
    /// What it acknowledges.
    pub ack: u32,
    /// [`SYN`], [`RST`], [`PSH`], [`ACK`] ...
    pub flags: u8,
    /// What it carries.
    pub payload: Vec<u8>,
}

/// Synchronise sequence numbers.
pub const SYN: u8 = 0x02;
/// Reset the connection.
pub const RST: u8 = 0x04;
/// Push.
pub const PSH: u8 = 0x08;
/// The acknowledgment is significant.
pub const ACK: u8 = 0x10;

impl Default for Segment {
    fn default() -> Self {
        let nobody = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
        Self { src: nobody, dst: nobody, seq: 0, ack: 0, flags: PSH | ACK, payload: Vec::new() }
    }
}

impl Segment {
    /// The whole IP datagram, with right checksums.
    #[must_use]
    pub fn datagram(&self) -> Vec<u8> {
        let tcp_len = 20 + self.payload.len();
        let mut pseudo = Vec::with_capacity(60 + self.payload.len());
        match (self.src.ip(), self.dst.ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                pseudo.extend(src.octets());
                pseudo.extend(dst.octets());
            }
            (src, dst) => {
                pseudo.extend(v6_octets(src));
                pseudo.extend(v6_octets(dst));
            }
        }
        let addresses = pseudo.clone();
        pseudo.extend([0, 6]);
        pseudo.extend((tcp_len as u16).to_be_bytes());
        let tcp_at = pseudo.len();
        pseudo.extend(self.src.port().to_be_bytes());
        pseudo.extend(self.dst.port().to_be_bytes());
        pseudo.extend(self.seq.to_be_bytes());
        pseudo.extend(self.ack.to_be_bytes());
        pseudo.extend([0x50, self.flags, 0xff, 0xff, 0, 0, 0, 0]);
        pseudo.extend(&self.payload);
        let sum = checksum(&pseudo);
        pseudo[tcp_at + 16..tcp_at + 18].copy_from_slice(&sum.to_be_bytes());
        let tcp = &pseudo[tcp_at..];

        let mut datagram = Vec::with_capacity(40 + tcp.len());
        if addresses.len() == 8 {
            datagram.extend([0x45, 0]);
            datagram.extend((20 + tcp_len as u16).to_be_bytes());
            datagram.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
            datagram.extend(&addresses);
            let sum = checksum(&datagram);
            datagram[10..12].copy_from_slice(&sum.to_be_bytes());
        } else {
            datagram.extend([0x60, 0, 0, 0]);
            datagram.extend((tcp_len as u16).to_be_bytes());
            datagram.extend([6, 64]);
            datagram.extend(&addresses);
        }
        datagram.extend(tcp);
        datagram
    }

    /// Reads a frame; `None` if it holds no TCP segment. Options are passed over.
    #[must_use]
    pub fn from_frame(frame: &[u8]) -> Option<Self> {
        Self::from_datagram(frame.get(14..)?)
    }

    /// Reads an IP datagram, which may be cut off in its payload, or have padding behind it.
    #[must_use]
    pub fn from_datagram(ip: &[u8]) -> Option<Self> {
        let (src, dst, total, tcp_at) = match ip.first()? >> 4 {
            4 if ip.get(9) == Some(&6) => (
                IpAddr::from(<[u8; 4]>::try_from(ip.get(12..16)?).ok()?),
                IpAddr::from(<[u8; 4]>::try_from(ip.get(16..20)?).ok()?),
                usize::from(u16::from_be_bytes([ip[2], ip[3]])),
                usize::from(ip[0] & 0x0f) * 4,
            ),
            6 if ip.get(6) == Some(&6) => (
                IpAddr::from(<[u8; 16]>::try_from(ip.get(8..24)?).ok()?),
                IpAddr::from(<[u8; 16]>::try_from(ip.get(24..40)?).ok()?),
                40 + usize::from(u16::from_be_bytes([ip[4], ip[5]])),
                40,
            ),
            _ => return None,
        };
        let tcp = ip.get(tcp_at..total.min(ip.len()))?;
        let number = |at: usize| -> Option<u32> {
            Some(u32::from_be_bytes(tcp.get(at..at + 4)?.try_into().ok()?))
        };
        let ports = number(0)?;
        Some(Self {
            src: SocketAddr::new(src, (ports >> 16) as u16),
            dst: SocketAddr::new(dst, ports as u16),
            seq: number(4)?,
            ack: number(8)?,
            flags: *tcp.get(13)?,
            payload: tcp.get(usize::from(tcp.get(12)? >> 4) * 4..)?.to_vec(),
        })
    }
}

fn v6_octets(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

fn checksum(bytes: &[u8]) -> u16 {
    let word = |w: &[u8]| u32::from(u16::from_be_bytes([w[0], w.get(1).copied().unwrap_or(0)]));
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for (src, dst) in [("192.0.2.1:7", "203.0.113.2:443"), ("[2001::1]:7", "[2001::2]:443")] {
            let segment = Segment {
                src: src.parse().unwrap(),
                dst: dst.parse().unwrap(),
                seq: 0xdead_beef,
                ack: 5,
                flags: RST,
                payload: b"odd".to_vec(),
            };
            let datagram = segment.datagram();
            let kind: [u8; 2] = if datagram[0] >> 4 == 4 { [0x08, 0] } else { [0x86, 0xdd] };
            let frame = [&[0; 12], &kind[..], &datagram, b"padding"].concat();
            assert_eq!(Segment::from_frame(&frame), Some(segment));
        }
    }
}
