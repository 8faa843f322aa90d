//! The addresses of an inner IP packet, and a check of its length.
//!
//! Sources: RFC 791, RFC 8200.

use std::net::IpAddr;

/// The addresses of an IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The source.
    pub src: IpAddr,
    /// The destination.
    pub dst: IpAddr,
}

impl Addresses {
    /// Parses the header of a packet that fills `bytes` exactly; `None` for other lengths, and for
    /// bytes that are not an IP packet.
    pub fn parse(bytes: &[u8]) -> Option<Addresses> {
        match bytes.first()? >> 4 {
            4 => {
                let head: &[u8; V4_HEADER] = bytes.first_chunk()?;
                let [_, _, high, low, ..] = *head;
                if usize::from(u16::from_be_bytes([high, low])) != bytes.len() {
                    return None;
                }
                let [.., a, b, c, d, e, f, g, h] = *head;
                Some(Addresses { src: [a, b, c, d].into(), dst: [e, f, g, h].into() })
            }
            6 => {
                let head: &[u8; V6_HEADER] = bytes.first_chunk()?;
                let [_, _, _, _, high, low, ..] = *head;
                if usize::from(u16::from_be_bytes([high, low])) != bytes.len() - V6_HEADER {
                    return None;
                }
                let (rest, dst) = head.split_last_chunk::<16>()?;
                let (_, src) = rest.split_last_chunk::<16>()?;
                Some(Addresses { src: (*src).into(), dst: (*dst).into() })
            }
            _ => None,
        }
    }
}

const V4_HEADER: usize = 20;
const V6_HEADER: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_both_versions_and_refuses_wrong_lengths() {
        let mut v4 = [0; 24];
        v4[0] = 0x45;
        v4[3] = 24;
        v4[12..20].copy_from_slice(&[10, 9, 0, 1, 10, 9, 0, 2]);
        let expected = Addresses { src: [10, 9, 0, 1].into(), dst: [10, 9, 0, 2].into() };
        assert_eq!(Addresses::parse(&v4), Some(expected));
        let mut v6 = [0; 44];
        v6[0] = 0x60;
        v6[5] = 4;
        v6[23] = 1;
        v6[39] = 2;
        let address = |low: u128| IpAddr::from(low.to_be_bytes());
        let expected = Addresses { src: address(1), dst: address(2) };
        assert_eq!(Addresses::parse(&v6), Some(expected));
        for len in 0..24 {
            assert_eq!(Addresses::parse(&v4[..len]), None);
        }
        for len in 0..44 {
            assert_eq!(Addresses::parse(&v6[..len]), None);
        }
        assert_eq!(Addresses::parse(&[&v4[..], &[0]].concat()), None);
        assert_eq!(Addresses::parse(&[0x55; 60]), None);
    }
}
