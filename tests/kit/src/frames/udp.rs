//! UDP datagrams of either family (RFC 768).

use std::net::{IpAddr, SocketAddr};

use super::{Ipv4Header, Ipv6Header, UDP, addresses, put_word, transport_checksum, upper, word};

/// A UDP datagram with its IP header, which has no options, extension headers or flow label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Udp {
    /// Source.
    pub src: SocketAddr,
    /// Destination, of the same family.
    pub dst: SocketAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// DSCP and ECN.
    pub tos: u8,
    /// Identification, over IPv4.
    pub id: u16,
    /// The word of flags and fragment offset, over IPv4.
    pub fragment: u16,
    /// Whether it has a checksum; it is right.
    pub has_sum: bool,
    /// Data.
    pub data: Vec<u8>,
}

impl Udp {
    /// A datagram with DF and a checksum.
    pub fn new(src: SocketAddr, dst: SocketAddr, data: &[u8]) -> Udp {
        let (ttl, tos, id, fragment) = (57, 0xb9, 0x1234, 0x4000);
        Udp { src, dst, ttl, tos, id, fragment, has_sum: true, data: data.to_vec() }
    }

    /// The same with what `edit` changes.
    pub fn edit(&self, edit: impl FnOnce(&mut Udp)) -> Udp {
        let mut other = self.clone();
        edit(&mut other);
        other
    }

    /// The UDP header and the data.
    pub fn message(&self) -> Vec<u8> {
        let len = (8 + self.data.len()) as u16;
        let header = [self.src.port(), self.dst.port(), len, 0].map(u16::to_be_bytes).concat();
        let mut message = [header, self.data.clone()].concat();
        if self.has_sum {
            let sum = udp_checksum(self.src.ip(), self.dst.ip(), &message);
            put_word(&mut message, 6, sum);
        }
        message
    }

    /// The IP datagram.
    pub fn datagram(&self) -> Vec<u8> {
        match (self.src.ip(), self.dst.ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let Udp { ttl, tos, id, fragment, .. } = *self;
                let header = Ipv4Header::new(src.to_bits(), dst.to_bits());
                Ipv4Header { ttl, tos, id, fragment, protocol: UDP, ..header }.with(&self.message())
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let header = Ipv6Header::new(src.to_bits(), dst.to_bits());
                let (hop_limit, traffic_class) = (self.ttl, self.tos);
                Ipv6Header { hop_limit, traffic_class, flow: 0, next: UDP, ..header }
                    .with(&self.message())
            }
            (src, dst) => panic!("{src} and {dst} are of two families"),
        }
    }

    /// Reads a whole datagram; `None` where it is none of UDP, or a length or the checksum is
    /// wrong.
    pub fn read(datagram: &[u8]) -> Option<Udp> {
        let (protocol, at) = upper(datagram)?;
        let ((src, dst), message) = (addresses(datagram)?, &datagram[at..]);
        let claimed = match src {
            IpAddr::V4(_) => usize::from(word(datagram, 2)),
            IpAddr::V6(_) => 40 + usize::from(word(datagram, 4)),
        };
        let fits = usize::from(word(message, 4)) == message.len() && claimed == datagram.len();
        if protocol != UDP || message.len() < 8 || !fits {
            return None;
        }
        let has_sum = word(message, 6) != 0;
        if has_sum && !matches!(transport_checksum(src, dst, UDP, message), 0 | 0xffff) {
            return None;
        }
        let first = word(datagram, 0);
        let (ttl, tos, id, fragment) = match src {
            IpAddr::V4(_) => (datagram[8], datagram[1], word(datagram, 4), word(datagram, 6)),
            IpAddr::V6(_) => (datagram[7], (first >> 4) as u8, 0, 0),
        };
        Some(Udp {
            src: SocketAddr::new(src, word(message, 0)),
            dst: SocketAddr::new(dst, word(message, 2)),
            ttl,
            tos,
            id,
            fragment,
            has_sum,
            data: message[8..].to_vec(),
        })
    }
}

/// The checksum of a UDP datagram, in which the field is 0. One of 0 is sent as ones.
pub fn udp_checksum(src: IpAddr, dst: IpAddr, message: &[u8]) -> u16 {
    match transport_checksum(src, dst, UDP, message) {
        0 => 0xffff,
        sum => sum,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for (src, dst) in [("192.0.2.1:5", "192.0.2.2:53"), ("[2001:db8::1]:5", "[2001:db8::2]:53")]
        {
            let udp = Udp::new(src.parse().unwrap(), dst.parse().unwrap(), b"query");
            let (id, fragment) = if udp.src.is_ipv4() { (0x1234, 0x4000) } else { (0, 0) };
            let udp = Udp { id, fragment, ..udp };
            assert_eq!(Udp::read(&udp.datagram()), Some(udp.clone()));
            let none = udp.edit(|udp| udp.has_sum = false);
            assert_eq!(Udp::read(&none.datagram()), Some(none));
            let mut wrong = udp.datagram();
            *wrong.last_mut().unwrap() ^= 1;
            assert_eq!(Udp::read(&wrong), None);
            wrong.pop();
            assert_eq!(Udp::read(&wrong), None);
        }
    }
}
