//! ICMP errors of both families by their meaning (RFC 792, RFC 4443).
//!
//! An error's header has eight bytes in both families, and the low 16 bits of an MTU are the last
//! two of them, so one struct is written and read for both.

use std::net::IpAddr;

use super::icmp::{self, CODE_FRAGMENTATION_NEEDED};
use super::{get_u16, get_u32, icmpv6, ipv4, ipv6, put_u16};
use crate::net::Family;

/// Length in bytes of an error's header; the quoted datagram follows it.
pub const HEADER_LEN: usize = icmp::HEADER_LEN;
const _: () = assert!(HEADER_LEN == icmpv6::HEADER_LEN);

/// Protocol number of the messages of `family`: ICMP or ICMPv6.
pub const fn protocol(family: Family) -> u8 {
    match family {
        Family::V4 => ipv4::PROTOCOL_ICMP,
        Family::V6 => ipv6::PROTOCOL_ICMPV6,
    }
}

/// The MTU in bytes that an error announces, if it is a frag-needed or a packet-too-big.
pub fn announced_mtu(family: Family, head: &[u8; HEADER_LEN]) -> Option<u32> {
    match IcmpError::parse(family, head)? {
        IcmpError::TooBig(_) => Some(match family {
            Family::V4 => get_u16(head, icmp::field::MTU).into(),
            Family::V6 => get_u32(head, icmpv6::field::MTU),
        }),
        _ => None,
    }
}

/// Bytes of the quote of the error whose header is `head`, behind which extensions follow (RFC
/// 4884), if they do: a quote in front of extensions has 128 bytes at least, and less is another
/// meaning of the field.
pub fn quote_len(family: Family, head: &[u8; HEADER_LEN]) -> Option<usize> {
    let [kind, ..] = *head;
    let len = match (family, kind) {
        (Family::V4, icmp::UNREACHABLE | icmp::TIME_EXCEEDED | icmp::PARAMETER_PROBLEM) => {
            usize::from(head[icmp::field::QUOTE_WORDS]) * 4
        }
        (Family::V6, icmpv6::UNREACHABLE | icmpv6::TIME_EXCEEDED) => {
            usize::from(head[icmpv6::field::QUOTE_WORDS]) * 8
        }
        _ => 0,
    };
    (len >= 128).then_some(len)
}

/// Most bytes that an error of the POP's own quotes: over IPv4, with its headers, as many as the
/// 576 bytes that every host takes (RFC 1812, section 4.3.2.3), over IPv6 as fit the smallest MTU
/// (RFC 4443, section 3).
pub const fn quote_len_max(family: Family) -> usize {
    let len = match family {
        Family::V4 => 576,
        Family::V6 => ipv6::MTU_MIN,
    };
    len - family.ip_header_len() - HEADER_LEN
}

/// The meaning of an ICMP error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpError {
    /// The datagram does not fit the next link, whose MTU in bytes this is: frag-needed (RFC 1191)
    /// or packet-too-big.
    TooBig(u16),
    /// Destination unreachable.
    Unreachable(Unreachable),
    /// TTL or hop limit exceeded in transit.
    TimeExceeded,
    /// Not all fragments arrived in time.
    ReassemblyTimeExceeded,
}

/// Why a destination is unreachable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// No route, no neighbour, or another reason.
    Host,
    /// Nothing listens on the port.
    Port,
    /// Prohibited by an administrator.
    Prohibited,
}

impl IcmpError {
    /// The error whose header is `head`; `None` for other types. An MTU of more than 65,535 bytes
    /// reads as 65,535.
    pub fn parse(family: Family, head: &[u8; HEADER_LEN]) -> Option<IcmpError> {
        let [kind, code, ..] = *head;
        Some(match family {
            Family::V4 => match (kind, code) {
                (icmp::UNREACHABLE, CODE_FRAGMENTATION_NEEDED) => {
                    IcmpError::TooBig(get_u16(head, icmp::field::MTU))
                }
                (icmp::UNREACHABLE, CODE_PORT) => IcmpError::Unreachable(Unreachable::Port),
                // Network, host, or all communication prohibited (RFC 1812, section 5.2.7.1).
                (icmp::UNREACHABLE, 9 | 10 | CODE_PROHIBITED) => {
                    IcmpError::Unreachable(Unreachable::Prohibited)
                }
                (icmp::UNREACHABLE, _) => IcmpError::Unreachable(Unreachable::Host),
                (icmp::TIME_EXCEEDED, CODE_REASSEMBLY) => IcmpError::ReassemblyTimeExceeded,
                (icmp::TIME_EXCEEDED, _) => IcmpError::TimeExceeded,
                _ => return None,
            },
            Family::V6 => match (kind, code) {
                (icmpv6::PACKET_TOO_BIG, _) => {
                    let mtu = get_u32(head, icmpv6::field::MTU);
                    IcmpError::TooBig(u16::try_from(mtu).unwrap_or(u16::MAX))
                }
                (icmpv6::UNREACHABLE, CODE_PORT6) => IcmpError::Unreachable(Unreachable::Port),
                // Prohibited, source address failed policy, or reject route.
                (icmpv6::UNREACHABLE, CODE_PROHIBITED6 | 5 | 6) => {
                    IcmpError::Unreachable(Unreachable::Prohibited)
                }
                (icmpv6::UNREACHABLE, _) => IcmpError::Unreachable(Unreachable::Host),
                (icmpv6::TIME_EXCEEDED, CODE_REASSEMBLY) => IcmpError::ReassemblyTimeExceeded,
                (icmpv6::TIME_EXCEEDED, _) => IcmpError::TimeExceeded,
                _ => return None,
            },
        })
    }

    /// The error's header in messages of `family`, with a checksum of zero.
    pub fn header(self, family: Family) -> [u8; HEADER_LEN] {
        let (kind, code, mtu) = match family {
            Family::V4 => match self {
                IcmpError::TooBig(mtu) => (icmp::UNREACHABLE, CODE_FRAGMENTATION_NEEDED, mtu),
                IcmpError::Unreachable(why) => {
                    let code = match why {
                        Unreachable::Host => CODE_HOST,
                        Unreachable::Port => CODE_PORT,
                        Unreachable::Prohibited => CODE_PROHIBITED,
                    };
                    (icmp::UNREACHABLE, code, 0)
                }
                IcmpError::TimeExceeded => (icmp::TIME_EXCEEDED, 0, 0),
                IcmpError::ReassemblyTimeExceeded => (icmp::TIME_EXCEEDED, CODE_REASSEMBLY, 0),
            },
            Family::V6 => match self {
                IcmpError::TooBig(mtu) => (icmpv6::PACKET_TOO_BIG, 0, mtu),
                IcmpError::Unreachable(why) => {
                    let code = match why {
                        Unreachable::Host => CODE_ADDRESS6,
                        Unreachable::Port => CODE_PORT6,
                        Unreachable::Prohibited => CODE_PROHIBITED6,
                    };
                    (icmpv6::UNREACHABLE, code, 0)
                }
                IcmpError::TimeExceeded => (icmpv6::TIME_EXCEEDED, 0, 0),
                IcmpError::ReassemblyTimeExceeded => (icmpv6::TIME_EXCEEDED, CODE_REASSEMBLY, 0),
            },
        };
        let mut head = [kind, code, 0, 0, 0, 0, 0, 0];
        put_u16(&mut head, MTU_LOW, mtu);
        head
    }

    /// Writes the header of a message from `src` to `dst`, of their family, at the start of
    /// `message`, the rest of which is the quote, and the checksum over all of it.
    pub fn write(self, src: IpAddr, dst: IpAddr, message: &mut [u8]) {
        match (src, dst) {
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                self.write_icmpv6(src.to_bits(), dst.to_bits(), message);
            }
            _ => self.write_icmp(message),
        }
    }

    /// Writes the header of an ICMP message at the start of `message`, the rest of which is the
    /// quote, and the checksum over all of it.
    fn write_icmp(self, message: &mut [u8]) {
        let Some(head) = message.first_chunk_mut() else { return };
        *head = self.header(Family::V4);
        icmp::write_checksum(message);
    }

    /// Writes the header of an ICMPv6 message from `src` to `dst` at the start of `message`, the
    /// rest of which is the quote, and the checksum over all of it.
    fn write_icmpv6(self, src: u128, dst: u128, message: &mut [u8]) {
        let Some(head) = message.first_chunk_mut() else { return };
        *head = self.header(Family::V6);
        icmpv6::write_checksum(src, dst, message);
    }
}

/// Offset of the low 16 bits of the MTU, in both families.
const MTU_LOW: usize = icmp::field::MTU;
const _: () = assert!(MTU_LOW == icmpv6::field::MTU + 2);

/// Code of time exceeded in both families: fragment reassembly time exceeded.
const CODE_REASSEMBLY: u8 = 1;

// Codes of destination unreachable.
const CODE_HOST: u8 = 1;
const CODE_PORT: u8 = 3;
const CODE_PROHIBITED: u8 = 13;
const CODE_PROHIBITED6: u8 = 1;
const CODE_ADDRESS6: u8 = 3;
const CODE_PORT6: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Address;
    use proptest::prelude::*;

    fn errors() -> impl Strategy<Value = IcmpError> {
        use Unreachable::{Host, Port, Prohibited};
        prop_oneof![
            any::<u16>().prop_map(IcmpError::TooBig),
            prop::sample::select(vec![Host, Port, Prohibited]).prop_map(IcmpError::Unreachable),
            Just(IcmpError::TimeExceeded),
            Just(IcmpError::ReassemblyTimeExceeded),
        ]
    }

    proptest! {
        #[test]
        fn parse_is_the_inverse_of_write(
            error in errors(), quote in proptest::collection::vec(any::<u8>(), 0..99),
            src: u128, dst: u128,
        ) {
            let mut message = [&[0xee; HEADER_LEN][..], &quote].concat();
            let mtu = match error {
                IcmpError::TooBig(mtu) => Some(mtu),
                _ => None,
            };

            let (src4, dst4) = ((src as u32).ip(), (dst as u32).ip());
            error.write(src4, dst4, &mut message);
            prop_assert_eq!(icmp::parse(&message), Ok(icmp::Kind::Error { mtu }));
            let head = message.first_chunk().unwrap();
            prop_assert_eq!(announced_mtu(Family::V4, head), mtu.map(u32::from));
            let head = message.first_chunk().unwrap();
            prop_assert_eq!(IcmpError::parse(Family::V4, head), Some(error));
            prop_assert_eq!(&message[HEADER_LEN..], &quote);

            error.write(src.ip(), dst.ip(), &mut message);
            let mtu = mtu.map(u32::from);
            let kind = icmpv6::parse(src, dst, &message);
            prop_assert_eq!(kind, Ok(icmpv6::Kind::Error { mtu }));
            let head = message.first_chunk().unwrap();
            prop_assert_eq!(announced_mtu(Family::V6, head), mtu);
            let head = message.first_chunk().unwrap();
            prop_assert_eq!(IcmpError::parse(Family::V6, head), Some(error));
            prop_assert_eq!(&message[HEADER_LEN..], &quote);
        }

        /// What is read keeps its meaning when it is written again, in either family.
        #[test]
        fn a_meaning_survives_translation(
            kind in 0u8..13, code in 0u8..17, rest: [u8; 6], v6: bool,
        ) {
            let [a, b, c, d, e, f] = rest;
            let family = if v6 { Family::V6 } else { Family::V4 };
            if let Some(error) = IcmpError::parse(family, &[kind, code, a, b, c, d, e, f]) {
                for family in [Family::V4, Family::V6] {
                    prop_assert_eq!(IcmpError::parse(family, &error.header(family)), Some(error));
                }
            }
        }
    }

    #[test]
    fn headers_are_those_of_the_rfcs() {
        for (error, v4, v6) in [
            (IcmpError::TooBig(1400), [3, 4, 1400], [2, 0, 1400]),
            (IcmpError::Unreachable(Unreachable::Host), [3, 1, 0], [1, 3, 0]),
            (IcmpError::Unreachable(Unreachable::Port), [3, 3, 0], [1, 4, 0]),
            (IcmpError::Unreachable(Unreachable::Prohibited), [3, 13, 0], [1, 1, 0]),
            (IcmpError::TimeExceeded, [11, 0, 0], [3, 0, 0]),
            (IcmpError::ReassemblyTimeExceeded, [11, 1, 0], [3, 1, 0]),
        ] {
            for (family, [kind, code, mtu]) in [(Family::V4, v4), (Family::V6, v6)] {
                let [high, low] = u16::to_be_bytes(mtu);
                let want = [kind as u8, code as u8, 0, 0, 0, 0, high, low];
                assert_eq!(error.header(family), want, "{error:?} {family:?}");
            }
        }
        let jumbo = [2, 0, 0, 0, 0, 1, 0, 0];
        assert_eq!(IcmpError::parse(Family::V6, &jumbo), Some(IcmpError::TooBig(u16::MAX)));
        assert_eq!(IcmpError::parse(Family::V4, &[8; 8]), None);
        assert_eq!(IcmpError::parse(Family::V6, &[128; 8]), None);
    }
}
