//! TCP segments with options.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{
    Ipv4Header, Ipv6Header, TCP, addresses, datagram, long, put_word, transport_checksum, upper,
    word,
};

/// The flag FIN.
pub const FIN: u8 = 1;
/// The flag SYN.
pub const SYN: u8 = 2;
/// The flag RST.
pub const RST: u8 = 4;
/// The flag PSH.
pub const PSH: u8 = 8;
/// The flag ACK.
pub const ACK: u8 = 16;

/// A TCP segment over IPv4, with its header.
#[derive(Clone, Debug)]
pub struct Tcp {
    /// The header of its datagram.
    pub ip: Ipv4Header,
    /// Source port.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number.
    pub ack: u32,
    /// Flags.
    pub flags: u8,
    /// Window.
    pub window: u16,
    /// Options, whole words of them.
    pub options: Vec<u8>,
    /// Data.
    pub data: Vec<u8>,
}

impl Tcp {
    /// A segment from an address and port to another, without options and data.
    pub fn new(src: (u32, u16), dst: (u32, u16), flags: u8) -> Tcp {
        Tcp {
            ip: Ipv4Header::new(src.0, dst.0),
            sport: src.1,
            dport: dst.1,
            seq: 0x0102_0304,
            ack: if flags & ACK != 0 { 0x0a0b_0c0d } else { 0 },
            flags,
            window: 0x7210,
            options: Vec::new(),
            data: Vec::new(),
        }
    }

    /// With these options.
    pub fn options(mut self, options: &[u8]) -> Tcp {
        self.options = options.to_vec();
        self
    }

    /// With `NOP NOP TS` as the only options.
    pub fn stamped(self, value: u32, echo: u32) -> Tcp {
        self.options(&timestamps(value, echo))
    }

    /// With this data.
    pub fn data(mut self, data: &[u8]) -> Tcp {
        self.data = data.to_vec();
        self
    }

    /// With these sequence and acknowledgment numbers.
    pub fn numbers(mut self, seq: u32, ack: u32) -> Tcp {
        (self.seq, self.ack) = (seq, ack);
        self
    }

    /// With whatever `edit` changes.
    pub fn edit(mut self, edit: impl FnOnce(&mut Tcp)) -> Tcp {
        edit(&mut self);
        self
    }

    /// The segment without its datagram, checksum right.
    pub fn segment(&self) -> Vec<u8> {
        let [src, dst] = [self.ip.src, self.ip.dst].map(|ip| Ipv4Addr::from_bits(ip).into());
        self.between(src, dst)
    }

    /// The IPv4 datagram.
    pub fn datagram(&self) -> Vec<u8> {
        self.ip.with(&self.segment())
    }

    /// The segment without its datagram, with the checksum of these addresses.
    fn between(&self, src: IpAddr, dst: IpAddr) -> Vec<u8> {
        assert!(self.options.len().is_multiple_of(4) && self.options.len() <= 40);
        let mut bytes = Vec::with_capacity(20 + self.options.len() + self.data.len());
        bytes.extend(self.sport.to_be_bytes());
        bytes.extend(self.dport.to_be_bytes());
        bytes.extend(self.seq.to_be_bytes());
        bytes.extend(self.ack.to_be_bytes());
        // The data offset counts words, in the high half of the byte.
        bytes.push(((20 + self.options.len()) * 4) as u8);
        bytes.push(self.flags);
        bytes.extend(self.window.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(&self.options);
        bytes.extend(&self.data);
        let sum = transport_checksum(src, dst, TCP, &bytes);
        put_word(&mut bytes, 16, sum);
        bytes
    }
}

/// The datagram of `segment` over IPv6 from `src` to `dst`, which replace its addresses and ports.
pub fn over6(src: (u128, u16), dst: (u128, u16), segment: &Tcp) -> Vec<u8> {
    Ipv6Header::new(src.0, dst.0).with(&segment6(src, dst, segment))
}

/// The segment alone, from `src` to `dst`, with its checksum over IPv6.
pub fn segment6(src: (u128, u16), dst: (u128, u16), segment: &Tcp) -> Vec<u8> {
    let segment = segment.clone().edit(|segment| (segment.sport, segment.dport) = (src.1, dst.1));
    let [src, dst] = [src.0, dst.0].map(|ip| Ipv6Addr::from_bits(ip).into());
    segment.between(src, dst)
}

/// A TCP segment over either family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Source.
    pub src: SocketAddr,
    /// Destination, of the same family.
    pub dst: SocketAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// DSCP and ECN.
    pub tos: u8,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number.
    pub ack: u32,
    /// Flags.
    pub flags: u8,
    /// Window.
    pub window: u16,
    /// Options, whole words of them.
    pub options: Vec<u8>,
    /// Data.
    pub data: Vec<u8>,
}

impl Segment {
    /// A segment without options and data.
    pub fn new(src: SocketAddr, dst: SocketAddr, flags: u8) -> Segment {
        let (options, data) = (Vec::new(), Vec::new());
        let (seq, ack, window) = (1, 0, 65535);
        Segment { src, dst, ttl: 57, tos: 0xb9, seq, ack, flags, window, options, data }
    }

    /// Reads a datagram, which may be cut off in its data or have padding behind it; `None` when it
    /// has no TCP segment. Checksums are not looked at.
    pub fn read(datagram: &[u8]) -> Option<Segment> {
        let (protocol, at) = upper(datagram)?;
        let v6 = datagram[0] >> 4 != 4;
        let end = if v6 { 40 + usize::from(word(datagram, 4)) } else { word(datagram, 2).into() };
        let tcp = datagram.get(at..end.min(datagram.len())).filter(|_| protocol == TCP)?;
        let (src, dst) = addresses(datagram)?;
        let data_at = usize::from(tcp.get(12)? >> 4) * 4;
        Some(Segment {
            src: SocketAddr::new(src, word(tcp, 0)),
            dst: SocketAddr::new(dst, word(tcp, 2)),
            ttl: datagram[if v6 { 7 } else { 8 }],
            tos: if v6 { (word(datagram, 0) >> 4) as u8 } else { datagram[1] },
            seq: long(tcp, 4),
            ack: long(tcp, 8),
            flags: *tcp.get(13)?,
            window: word(tcp, 14),
            options: tcp.get(20..data_at)?.to_vec(),
            data: tcp.get(data_at..)?.to_vec(),
        })
    }

    /// A copy with whatever `edit` changes.
    pub fn edit(&self, edit: impl FnOnce(&mut Segment)) -> Segment {
        let mut segment = self.clone();
        edit(&mut segment);
        segment
    }

    /// The segment without its datagram, checksum right.
    pub fn segment(&self) -> Vec<u8> {
        self.tcp().between(self.src.ip(), self.dst.ip())
    }

    /// The datagram as a plain host sends it, see [`datagram`].
    pub fn from_host(&self) -> Vec<u8> {
        datagram(self.src.ip(), self.dst.ip(), self.ttl, TCP, &self.segment())
    }

    fn tcp(&self) -> Tcp {
        Tcp::new((0, self.src.port()), (0, self.dst.port()), self.flags)
            .numbers(self.seq, self.ack)
            .edit(|tcp| tcp.window = self.window)
            .options(&self.options)
            .data(&self.data)
    }

    /// The datagram, checksums right.
    pub fn datagram(&self) -> Vec<u8> {
        let tcp = self.tcp();
        match (self.src.ip(), self.dst.ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let ip = Ipv4Header::new(src.to_bits(), dst.to_bits());
                let ip = Ipv4Header { ttl: self.ttl, tos: self.tos, ..ip };
                Tcp { ip, ..tcp }.datagram()
            }
            (src @ IpAddr::V6(from), dst @ IpAddr::V6(to)) => {
                let ip = Ipv6Header::new(from.to_bits(), to.to_bits());
                let ip = Ipv6Header { hop_limit: self.ttl, traffic_class: self.tos, ..ip };
                ip.with(&tcp.between(src, dst))
            }
            _ => panic!("{} and {} are of two families", self.src, self.dst),
        }
    }
}

/// `NOP NOP TS` (RFC 7323, appendix A).
pub fn timestamps(value: u32, echo: u32) -> Vec<u8> {
    let mut bytes = vec![1, 1, 8, 10];
    bytes.extend(value.to_be_bytes());
    bytes.extend(echo.to_be_bytes());
    bytes
}

/// The options of a SYN of Linux: MSS, SACK permitted, timestamps, window scale.
pub fn linux_syn_options(mss: u16, value: u32, echo: u32) -> Vec<u8> {
    let mut bytes = vec![2, 4];
    bytes.extend(mss.to_be_bytes());
    bytes.extend([4, 2, 8, 10]);
    bytes.extend(value.to_be_bytes());
    bytes.extend(echo.to_be_bytes());
    bytes.extend([1, 3, 3, 7]);
    bytes
}

/// The options of a SYN of Linux with `tcp_timestamps=0`.
pub fn plain_syn_options(mss: u16) -> Vec<u8> {
    let [high, low] = mss.to_be_bytes();
    vec![2, 4, high, low, 1, 1, 4, 2, 1, 3, 3, 7]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for (src, dst) in [("192.0.2.1:7", "203.0.113.2:443"), ("[2001::1]:7", "[2001::2]:443")] {
            let segment = Segment {
                seq: 0xdead_beef,
                ack: 5,
                options: timestamps(1, 2),
                data: b"odd".to_vec(),
                ..Segment::new(src.parse().unwrap(), dst.parse().unwrap(), RST)
            };
            let padded = [&segment.datagram()[..], b"padding"].concat();
            assert_eq!(Segment::read(&padded), Some(segment.clone()));
            assert_eq!(Segment::read(&padded[..39]), None);
            let plain = Segment::read(&segment.from_host());
            assert_eq!(plain, Some(Segment { tos: 0, ..segment }));
        }
    }
}
