//! What ICMP errors of one family say in the other's words (RFC 7915, sections 4.2 and 5.2).

use super::quote::Quote;
use crate::net::Family;
use crate::wire::icmp::{self, CODE_FRAGMENTATION_NEEDED};
use crate::wire::{get_u32, icmp_error, icmpv6, ipv6, put_u32};

/// The head of an error: type, code, and the four bytes after the checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub kind: u8,
    pub code: u8,
    pub word: u32,
}

/// Offset in bytes of the word; the heads of both families are alike.
const WORD: usize = 4;

impl Head {
    pub fn read(head: &[u8; icmp::HEADER_LEN]) -> Head {
        Head {
            kind: head[icmp::field::TYPE],
            code: head[icmp::field::CODE],
            word: get_u32(head, WORD),
        }
    }

    /// The head with a checksum of zero.
    pub fn bytes(&self) -> [u8; icmp::HEADER_LEN] {
        let mut head = [0; icmp::HEADER_LEN];
        head[icmp::field::TYPE] = self.kind;
        head[icmp::field::CODE] = self.code;
        put_u32(&mut head, WORD, self.word);
        head
    }

    /// An ICMP error in the words of ICMPv6, with `mtu` in a packet-too-big; `None` where there are
    /// none for it.
    pub fn for_ipv6(self, mtu: Option<u32>) -> Option<Head> {
        let (kind, code, word) = match (self.kind, self.code) {
            (icmp::UNREACHABLE, CODE_FRAGMENTATION_NEEDED) => (icmpv6::PACKET_TOO_BIG, 0, mtu?),
            // The field in the IPv6 header that names what is not there: the next header.
            (icmp::UNREACHABLE, CODE_PROTOCOL) => {
                (icmpv6::PARAMETER_PROBLEM, 1, ipv6::field::NEXT_HEADER as u32)
            }
            (icmp::UNREACHABLE, code) => {
                let code = match code {
                    // Network, host, source route; unknown; isolated; by type of service.
                    0 | 1 | 5..=8 | 11 | 12 => 0,
                    // Prohibited by an administrator, or by precedence.
                    9 | 10 | 13 | 15 => 1,
                    CODE_PORT => 4,
                    _ => return None,
                };
                (icmpv6::UNREACHABLE, code, 0)
            }
            (icmp::TIME_EXCEEDED, code) => (icmpv6::TIME_EXCEEDED, code, 0),
            (icmp::PARAMETER_PROBLEM, 0 | CODE_BAD_LENGTH) => {
                (icmpv6::PARAMETER_PROBLEM, 0, pointer_for_ipv6((self.word >> 24) as u8)?)
            }
            _ => return None,
        };
        Some(Head { kind, code, word })
    }

    /// An ICMPv6 error in the words of ICMP, with `mtu` in a frag-needed; `None` where there are
    /// none for it.
    pub fn for_ipv4(self, mtu: Option<u32>) -> Option<Head> {
        let (kind, code, word) = match (self.kind, self.code) {
            (icmpv6::PACKET_TOO_BIG, _) => (icmp::UNREACHABLE, CODE_FRAGMENTATION_NEEDED, mtu?),
            (icmpv6::UNREACHABLE, code) => {
                let code = match code {
                    // No route, beyond the source's scope, or no neighbour of that address.
                    0 | 2 | 3 => 1,
                    1 => 10,
                    4 => CODE_PORT,
                    _ => return None,
                };
                (icmp::UNREACHABLE, code, 0)
            }
            (icmpv6::TIME_EXCEEDED, code) => (icmp::TIME_EXCEEDED, code, 0),
            (icmpv6::PARAMETER_PROBLEM, 0) => {
                (icmp::PARAMETER_PROBLEM, 0, u32::from(pointer_for_ipv4(self.word)?) << 24)
            }
            (icmpv6::PARAMETER_PROBLEM, 1) => (icmp::UNREACHABLE, CODE_PROTOCOL, 0),
            _ => return None,
        };
        Some(Head { kind, code, word })
    }

    /// An ICMPv6 error around a quote of another length, without extensions behind it (RFC 4884),
    /// and with `mtu` in a packet-too-big.
    pub fn around_another_quote(self, mtu: Option<u32>) -> Head {
        let word = match self.kind {
            icmpv6::PACKET_TOO_BIG => mtu.unwrap_or(self.word),
            icmpv6::UNREACHABLE | icmpv6::TIME_EXCEEDED => self.word & 0x00ff_ffff,
            _ => self.word,
        };
        Head { word, ..self }
    }

    /// Bytes of the quote of an ICMP error behind which extensions follow (RFC 4884), if they do.
    pub fn quote_len_ipv4(&self) -> Option<usize> {
        icmp_error::quote_len(Family::V4, &self.bytes())
    }

    /// [`Head::quote_len_ipv4`] of an ICMPv6 error.
    pub fn quote_len_ipv6(&self) -> Option<usize> {
        icmp_error::quote_len(Family::V6, &self.bytes())
    }
}

const CODE_PROTOCOL: u8 = 2;
const CODE_PORT: u8 = 3;
const CODE_BAD_LENGTH: u8 = 2;

/// Which byte of an IPv6 header holds what the byte at `pointer` of an IPv4 header does (RFC 7915,
/// figure 3).
fn pointer_for_ipv6(pointer: u8) -> Option<u32> {
    Some(match pointer {
        0 => 0,
        1 => 1,
        2 | 3 => 4,
        8 => 7,
        9 => 6,
        12..=15 => 8,
        16..=19 => 24,
        _ => return None,
    })
}

/// Which byte of an IPv4 header holds what the byte at `pointer` of an IPv6 header does (RFC 7915,
/// figure 6).
fn pointer_for_ipv4(pointer: u32) -> Option<u8> {
    Some(match pointer {
        0 => 0,
        1 => 1,
        4 | 5 => 2,
        6 => 9,
        7 => 8,
        8..=23 => 12,
        24..=39 => 16,
        _ => return None,
    })
}

/// The MTU for a host over IPv6, from a frag-needed with `mtu` about a datagram of `total_len`
/// bytes. A router that does not know RFC 1191 says 0: then it is the next of the values that are
/// likely (RFC 1191, section 7).
pub fn mtu_for_ipv6(mtu: u16, total_len: usize) -> u32 {
    let mtu = match mtu {
        0 => PLATEAUS.into_iter().find(|mtu| usize::from(*mtu) < total_len).unwrap_or(0),
        mtu => mtu,
    };
    (u32::from(mtu) + GROWTH).max(ipv6::MTU_MIN as u32)
}

/// The MTU for a host over IPv4, from a packet-too-big with `mtu`: that of no link is less than
/// 1280.
pub fn mtu_for_ipv4(mtu: u32) -> u16 {
    let mtu = mtu.max(ipv6::MTU_MIN as u32) - GROWTH;
    u16::try_from(mtu).unwrap_or(u16::MAX)
}

/// The MTU that an error with `quote`, which announces `mtu`, announces to a host of the family
/// `to`. One that is smaller than that of any real path is a forgery or a mistake: it is raised to
/// `floor` over IPv4, to 1280 over IPv6.
pub fn raised_mtu(mtu: u32, quote: &Quote, to: Family, floor: u16) -> u32 {
    let floor = u32::from(floor);
    match (quote, to) {
        (Quote::V4(_), Family::V4) => mtu.max(floor),
        (Quote::V4(quote), Family::V6) => {
            // A router that announces 0 does not know RFC 1191.
            let mtu = if mtu == 0 { 0 } else { mtu.max(floor) };
            mtu_for_ipv6(mtu as u16, quote.ip.total_len)
        }
        (Quote::V6(_), Family::V4) => u32::from(mtu_for_ipv4(mtu)).max(floor),
        (Quote::V6(_), Family::V6) => mtu.max(ipv6::MTU_MIN as u32),
    }
}

const GROWTH: u32 = crate::relay::rewrite::families::GROWTH as u32;

const PLATEAUS: [u16; 7] = [65_535, 32_000, 17_914, 8166, 4352, 2002, 1492];
