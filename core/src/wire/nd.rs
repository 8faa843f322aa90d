//! Neighbour discovery for IPv6 over Ethernet: solicitation and advertisement (RFC 4861, sections
//! 4.3, 4.4 and 7.1; RFC 2464).
//!
//! A message that came through a router, or breaks a rule of section 7.1, is not one: neighbours
//! are believed, so it must be certain that they are neighbours.

use super::icmpv6::{self, NEIGHBOUR_ADVERTISEMENT, NEIGHBOUR_SOLICITATION};
use super::ipv6::{self, Ipv6};
use super::{MacAddr, get_u64};

/// Offsets from the start of the ICMPv6 message.
mod field {
    pub const FLAGS: usize = 4;
    pub const TARGET: usize = 8;
    pub const OPTIONS: usize = 24;
}

/// Length in bytes of a message with one link-layer address.
pub const LEN: usize = field::OPTIONS + 8;

/// Hop limit of all messages: what was forwarded has less.
pub const HOP_LIMIT: u8 = 255;

/// The group of all nodes on the link.
pub const ALL_NODES: u128 = 0xff02 << 112 | 1;

/// Whether an ICMPv6 message of this type is one of neighbour discovery.
#[inline]
pub const fn is_discovery(kind: u8) -> bool {
    matches!(kind, 133..=137)
}

/// The group in which who has `ip` is asked for it (RFC 4291, section 2.7.1).
#[inline]
pub const fn solicited_node(ip: u128) -> u128 {
    0xff02 << 112 | 0x01_ff00_0000 | ip & 0xff_ffff
}

/// The hardware address of a group (RFC 2464, section 7).
#[inline]
pub const fn group_mac(group: u128) -> MacAddr {
    MacAddr::from_u64(0x3333 << 32 | (group as u64 & 0xffff_ffff))
}

/// Who has the target address?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Solicitation {
    /// The address that is asked for.
    pub target: u128,
    /// Hardware address of who asks, if it is told.
    pub source_mac: Option<MacAddr>,
}

impl Solicitation {
    /// Reads the ICMPv6 message that fills `message`, whose checksum holds; `None` when it breaks a
    /// rule.
    pub fn parse(ip: &Ipv6, message: &[u8]) -> Option<Solicitation> {
        let (target, source_mac) = read(ip, message, SOURCE_MAC)?;
        // Who has no address yet asks the group, and can not be answered alone.
        let probe = ip.src == 0;
        if probe && (source_mac.is_some() || ip.dst != solicited_node(target)) {
            return None;
        }
        Some(Solicitation { target, source_mac })
    }

    /// Writes the message, sent from `src` to `dst`, over `message`, which is [`LEN`] bytes long.
    pub fn write(&self, src: u128, dst: u128, message: &mut [u8]) {
        let mac = self.source_mac.unwrap_or_default();
        write(src, dst, message, NEIGHBOUR_SOLICITATION, 0, self.target, SOURCE_MAC, mac);
    }
}

/// The sender has the target address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// The address that it has.
    pub target: u128,
    /// Its hardware address, if it is told.
    pub target_mac: Option<MacAddr>,
    /// Whether it forwards datagrams.
    pub router: bool,
    /// Whether it answers a solicitation.
    pub solicited: bool,
    /// Whether it takes the place of another hardware address that is known.
    pub replaces: bool,
}

impl Advertisement {
    /// Reads the ICMPv6 message that fills `message`, whose checksum holds; `None` when it breaks a
    /// rule.
    pub fn parse(ip: &Ipv6, message: &[u8]) -> Option<Advertisement> {
        let (target, target_mac) = read(ip, message, TARGET_MAC)?;
        let flags = message.get(field::FLAGS).copied().unwrap_or(0);
        let solicited = flags & SOLICITED != 0;
        if solicited && ipv6::is_multicast(ip.dst) {
            return None;
        }
        let (router, replaces) = (flags & ROUTER != 0, flags & OVERRIDE != 0);
        Some(Advertisement { target, target_mac, router, solicited, replaces })
    }

    /// Writes the message, sent from `src` to `dst`, over `message`, which is [`LEN`] bytes long.
    pub fn write(&self, src: u128, dst: u128, message: &mut [u8]) {
        let flag = |set, flag| if set { flag } else { 0 };
        let flags = flag(self.router, ROUTER)
            | flag(self.solicited, SOLICITED)
            | flag(self.replaces, OVERRIDE);
        let mac = self.target_mac.unwrap_or_default();
        write(src, dst, message, NEIGHBOUR_ADVERTISEMENT, flags, self.target, TARGET_MAC, mac);
    }
}

/// What both messages have in common: the target, and the link-layer address of this kind.
fn read(ip: &Ipv6, message: &[u8], kind: u8) -> Option<(u128, Option<MacAddr>)> {
    if ip.hop_limit != HOP_LIMIT || message.len() < field::OPTIONS {
        return None;
    }
    let target = ipv6::get_address(message, field::TARGET);
    if ipv6::is_multicast(target) {
        return None;
    }
    let mut mac = None;
    let mut rest = message.get(field::OPTIONS..).unwrap_or_default();
    // At least eight bytes of the message are used up in each turn.
    while let Some((&option, tail)) = rest.split_first() {
        let len = usize::from(tail.first().copied().unwrap_or(0)) * 8;
        let after = rest.get(len..).filter(|_| len > 0)?;
        if option == kind && len == MAC_OPTION_LEN {
            // Type and length are the first two bytes of the word.
            mac = mac.or(Some(MacAddr::from_u64(get_u64(rest, 0))));
        }
        rest = after;
    }
    Some((target, mac))
}

#[expect(clippy::too_many_arguments, reason = "the fields of a message, each of another type")]
fn write(
    src: u128,
    dst: u128,
    message: &mut [u8],
    kind: u8,
    flags: u8,
    target: u128,
    option: u8,
    mac: MacAddr,
) {
    let Some(bytes) = message.first_chunk_mut::<LEN>() else { return };
    *bytes = [0; LEN];
    bytes[icmpv6::field::TYPE] = kind;
    bytes[field::FLAGS] = flags;
    ipv6::put_address(bytes, field::TARGET, target);
    bytes[field::OPTIONS] = option;
    bytes[field::OPTIONS + 1] = 1;
    bytes[field::OPTIONS + 2..].copy_from_slice(&mac.octets());
    icmpv6::write_checksum(src, dst, message);
}

/// Option: link-layer address of the sender of a solicitation.
const SOURCE_MAC: u8 = 1;
/// Option: link-layer address of an advertisement's target.
const TARGET_MAC: u8 = 2;
/// Length in bytes of either, for Ethernet.
const MAC_OPTION_LEN: usize = 8;

const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// Writes the IPv6 header of a message at the start of `datagram`; gives back the rest.
pub fn write_header(datagram: &mut [u8], src: u128, dst: u128) -> &mut [u8] {
    let header = ipv6::Header {
        payload_len: LEN as u16,
        next_header: ipv6::PROTOCOL_ICMPV6,
        hop_limit: HOP_LIMIT,
        src,
        dst,
        ..ipv6::ORIGINATED
    };
    header.write(datagram);
    datagram.get_mut(ipv6::HEADER_LEN..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::icmpv6::Kind;
    use proptest::prelude::*;

    const SRC: u128 = 0x2001_0db8 << 96 | 7;
    const TARGET: u128 = 0x2001_0db8 << 96 | 0xab_cdef;
    const MAC: MacAddr = MacAddr::new([2, 0, 0, 0, 0, 9]);

    fn ip(src: u128, dst: u128) -> Ipv6 {
        let (next_header, payload_len) = (ipv6::PROTOCOL_ICMPV6, LEN);
        Ipv6 { src, dst, next_header, hop_limit: 255, traffic_class: 0, payload_len }
    }

    fn solicitation() -> [u8; LEN] {
        let mut message = [0xee; LEN];
        Solicitation { target: TARGET, source_mac: Some(MAC) }.write(SRC, TARGET, &mut message);
        message
    }

    #[test]
    fn groups_are_those_of_the_rfcs() {
        let group: std::net::Ipv6Addr = "ff02::1:ffab:cdef".parse().unwrap();
        assert_eq!(solicited_node(TARGET), group.to_bits());
        assert_eq!(group_mac(solicited_node(TARGET)).to_string(), "33:33:ff:ab:cd:ef");
        assert_eq!(group_mac(ALL_NODES).to_string(), "33:33:00:00:00:01");
    }

    #[test]
    fn solicitations_are_read_as_written() {
        let message = solicitation();
        assert_eq!(icmpv6::parse(SRC, TARGET, &message), Ok(Kind::Solicitation));
        let want = Solicitation { target: TARGET, source_mac: Some(MAC) };
        assert_eq!(Solicitation::parse(&ip(SRC, TARGET), &message), Some(want));
        // The option may be missing, and others may be there.
        let without = Solicitation { source_mac: None, ..want };
        assert_eq!(Solicitation::parse(&ip(SRC, TARGET), &message[..24]), Some(without));
        let other = [&message[..24], &[14, 1, 0, 0, 0, 0, 0, 0], &message[24..]].concat();
        assert_eq!(Solicitation::parse(&ip(SRC, TARGET), &other), Some(want));
    }

    #[test]
    fn probes_come_from_nowhere_to_the_group() {
        let bare = &solicitation()[..24];
        let group = solicited_node(TARGET);
        assert!(Solicitation::parse(&ip(0, group), bare).is_some());
        assert_eq!(Solicitation::parse(&ip(0, TARGET), bare), None);
        assert_eq!(Solicitation::parse(&ip(0, ALL_NODES), bare), None);
        assert_eq!(Solicitation::parse(&ip(0, group), &solicitation()), None);
    }

    #[test]
    fn messages_that_break_a_rule_are_none() {
        let message = solicitation();
        let parse = |ip: &Ipv6, message: &[u8]| {
            let read = Solicitation::parse(ip, message);
            let told = Advertisement::parse(ip, message);
            assert_eq!(read.is_some(), told.is_some());
            read
        };
        for hop_limit in [0, 1, 64, 254] {
            assert_eq!(parse(&Ipv6 { hop_limit, ..ip(SRC, TARGET) }, &message), None);
        }
        for len in (0..24).chain(25..LEN) {
            assert_eq!(parse(&ip(SRC, TARGET), &message[..len]), None, "{len}");
        }
        for units in [0, 2, 255] {
            let mut lying = message;
            lying[25] = units;
            assert_eq!(parse(&ip(SRC, TARGET), &lying), None);
        }
        let mut group = message;
        group[8] = 0xff;
        assert_eq!(parse(&ip(SRC, TARGET), &group), None);
    }

    #[test]
    fn advertisements_are_read_as_written() {
        for bits in 0..8 {
            let [router, solicited, replaces] = [1, 2, 4].map(|bit| bits & bit != 0);
            let want = Advertisement {
                target: TARGET,
                target_mac: Some(MAC),
                router,
                solicited,
                replaces,
            };
            let mut message = [0xee; LEN];
            want.write(TARGET, SRC, &mut message);
            assert_eq!(icmpv6::parse(TARGET, SRC, &message), Ok(Kind::Advertisement));
            assert_eq!(Advertisement::parse(&ip(TARGET, SRC), &message), Some(want));
            // What goes to a group answers nobody.
            let to_all = Advertisement::parse(&ip(TARGET, ALL_NODES), &message);
            assert_eq!(to_all, (!solicited).then_some(want));
            // An option of the other kind says nothing.
            message[24] = SOURCE_MAC;
            let without = Advertisement { target_mac: None, ..want };
            assert_eq!(Advertisement::parse(&ip(TARGET, SRC), &message), Some(without));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(message in proptest::collection::vec(any::<u8>(), 0..80)) {
            Solicitation::parse(&ip(SRC, TARGET), &message);
            Advertisement::parse(&ip(SRC, TARGET), &message);
        }
    }
}
