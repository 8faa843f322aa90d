//! Neighbour discovery for IPv6 over Ethernet: solicitations and advertisements (RFC 4861, sections
//! 4.3, 4.4 and 7.1; RFC 2464).
//!
//! A message that breaks a rule of section 7.1 does not parse. Among these rules, hop limit 255
//! proves that no router forwarded the message, so that only hosts of the link are believed.

use super::icmpv6::{self, NEIGHBOUR_ADVERTISEMENT, NEIGHBOUR_SOLICITATION};
use super::ipv6::{self, Ipv6};
use super::{MacAddr, get_u64, put_u64};

/// Offsets in bytes from the start of the ICMPv6 message.
mod field {
    pub const FLAGS: usize = 4;
    pub const TARGET: usize = 8;
    pub const OPTIONS: usize = 24;
}

/// Length in bytes of a message with one link-layer address.
pub const LEN: usize = field::OPTIONS + MAC_OPTION_LEN;

/// Hop limit of all messages (RFC 4861, section 7.1).
pub const HOP_LIMIT: u8 = 255;

/// The all-nodes multicast address, link-local scope.
pub const ALL_NODES: u128 = 0xff02 << 112 | 1;

/// Whether `kind` is the ICMPv6 type of a neighbour discovery message.
#[inline]
pub const fn is_discovery(kind: u8) -> bool {
    matches!(kind, 133..=137)
}

/// The solicited-node multicast address of `ip` (RFC 4291, section 2.7.1).
#[inline]
pub const fn solicited_node(ip: u128) -> u128 {
    0xff02 << 112 | 0x01_ff00_0000 | ip & 0xff_ffff
}

/// The MAC address of the multicast address `group` (RFC 2464, section 7).
#[inline]
pub const fn group_mac(group: u128) -> MacAddr {
    MacAddr::from_u64(0x3333 << 32 | (group as u64 & 0xffff_ffff))
}

/// A neighbour solicitation: asks for the MAC address of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Solicitation {
    /// The address whose MAC address is requested.
    pub target: u128,
    /// MAC address of the sender, if the message has it.
    pub source_mac: Option<MacAddr>,
}

impl Solicitation {
    /// Reads the ICMPv6 message that fills `message` and came with the header `ip`. The caller has
    /// checked its checksum. `None` when it breaks a rule of RFC 4861, section 7.1.1.
    pub fn parse(ip: &Ipv6, message: &[u8]) -> Option<Solicitation> {
        let (target, source_mac) = parse(ip, message, SOURCE_MAC)?;
        // A DAD probe has no source address, so it has no source MAC either, and goes to the
        // solicited-node address.
        let probe = ip.src == 0;
        if probe && (source_mac.is_some() || ip.dst != solicited_node(target)) {
            return None;
        }
        Some(Solicitation { target, source_mac })
    }

    /// Writes the message from `src` to `dst` with its checksum over `message`, which is [`LEN`]
    /// bytes long, or 24 without a MAC address; nothing when it is shorter.
    pub fn write(&self, src: u128, dst: u128, message: &mut [u8]) {
        let option = self.source_mac.map(|mac| (SOURCE_MAC, mac));
        let fields = Fields { kind: NEIGHBOUR_SOLICITATION, flags: 0, target: self.target, option };
        fields.write(src, dst, message);
    }
}

/// A neighbour advertisement: states the MAC address of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// The address of the sender that this is about.
    pub target: u128,
    /// Its MAC address, if the message has it.
    pub target_mac: Option<MacAddr>,
    /// The Router flag: the sender is a router.
    pub router: bool,
    /// The Solicited flag: the message answers a solicitation.
    pub solicited: bool,
    /// The Override flag: the MAC address replaces another one that is known.
    pub replaces: bool,
}

impl Advertisement {
    /// Reads the ICMPv6 message that fills `message` and came with the header `ip`. The caller has
    /// checked its checksum. `None` when it breaks a rule of RFC 4861, section 7.1.2.
    pub fn parse(ip: &Ipv6, message: &[u8]) -> Option<Advertisement> {
        let (target, target_mac) = parse(ip, message, TARGET_MAC)?;
        let flags = message.get(field::FLAGS).copied().unwrap_or(0);
        let solicited = flags & SOLICITED != 0;
        if solicited && ipv6::is_multicast(ip.dst) {
            return None;
        }
        let (router, replaces) = (flags & ROUTER != 0, flags & OVERRIDE != 0);
        Some(Advertisement { target, target_mac, router, solicited, replaces })
    }

    /// Writes the message from `src` to `dst` with its checksum over `message`, which is [`LEN`]
    /// bytes long, or 24 without a MAC address; nothing when it is shorter.
    pub fn write(&self, src: u128, dst: u128, message: &mut [u8]) {
        let flag = |set, flag| if set { flag } else { 0 };
        let flags = flag(self.router, ROUTER)
            | flag(self.solicited, SOLICITED)
            | flag(self.replaces, OVERRIDE);
        let option = self.target_mac.map(|mac| (TARGET_MAC, mac));
        let fields = Fields { kind: NEIGHBOUR_ADVERTISEMENT, flags, target: self.target, option };
        fields.write(src, dst, message);
    }
}

/// Reads what both messages have: the target, and the MAC address in an option of type `kind`.
fn parse(ip: &Ipv6, message: &[u8], kind: u8) -> Option<(u128, Option<MacAddr>)> {
    if ip.hop_limit != HOP_LIMIT || message.len() < field::OPTIONS {
        return None;
    }
    let target = ipv6::get_address(message, field::TARGET);
    if ipv6::is_multicast(target) {
        return None;
    }
    let mut mac = None;
    let mut rest = message.get(field::OPTIONS..).unwrap_or_default();
    // Each turn consumes at least eight bytes of the message.
    while let Some((&option, tail)) = rest.split_first() {
        let len = usize::from(tail.first().copied().unwrap_or(0)) * 8;
        let after = rest.get(len..).filter(|_| len > 0)?;
        if option == kind && len == MAC_OPTION_LEN {
            // Type and length are the two highest bytes of the word, which the address cuts off.
            mac = mac.or(Some(MacAddr::from_u64(get_u64(rest, 0))));
        }
        rest = after;
    }
    Some((target, mac))
}

/// The fields of either message.
struct Fields {
    kind: u8,
    flags: u8,
    target: u128,
    option: Option<(u8, MacAddr)>,
}

impl Fields {
    fn write(&self, src: u128, dst: u128, message: &mut [u8]) {
        let len = if self.option.is_some() { LEN } else { field::OPTIONS };
        let Some(message) = message.get_mut(..len) else { return };
        let Some((head, option)) = message.split_first_chunk_mut::<{ field::OPTIONS }>() else {
            return;
        };
        *head = [0; field::OPTIONS];
        head[icmpv6::field::TYPE] = self.kind;
        head[field::FLAGS] = self.flags;
        ipv6::put_address(head, field::TARGET, self.target);
        if let Some((kind, mac)) = self.option {
            let units = MAC_OPTION_LEN as u64 / 8;
            put_u64(option, 0, u64::from(kind) << 56 | units << 48 | mac.to_u64());
        }
        icmpv6::write_checksum(src, dst, message);
    }
}

/// Option: source link-layer address, in solicitations.
const SOURCE_MAC: u8 = 1;
/// Option: target link-layer address, in advertisements.
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
    fn multicast_addresses_are_those_of_the_rfcs() {
        let group: std::net::Ipv6Addr = "ff02::1:ffab:cdef".parse().unwrap();
        assert_eq!(solicited_node(TARGET), group.to_bits());
        assert_eq!(group_mac(solicited_node(TARGET)).to_string(), "33:33:ff:ab:cd:ef");
        assert_eq!(group_mac(ALL_NODES).to_string(), "33:33:00:00:00:01");
    }

    #[test]
    fn the_mac_option_may_be_absent_and_others_present() {
        let message = solicitation();
        let want = Solicitation { target: TARGET, source_mac: Some(MAC) };
        assert_eq!(Solicitation::parse(&ip(SRC, TARGET), &message), Some(want));
        let without = Solicitation { source_mac: None, ..want };
        assert_eq!(Solicitation::parse(&ip(SRC, TARGET), &message[..24]), Some(without));
        let other = [&message[..24], &[14, 1, 0, 0, 0, 0, 0, 0], &message[24..]].concat();
        assert_eq!(Solicitation::parse(&ip(SRC, TARGET), &other), Some(want));
        // An option of the other kind is not read.
        let advertisement = Advertisement::parse(&ip(SRC, TARGET), &message).unwrap();
        assert_eq!(advertisement.target_mac, None);
    }

    #[test]
    fn dad_probes_have_no_source_and_go_to_the_solicited_node_address() {
        let bare = &solicitation()[..24];
        let group = solicited_node(TARGET);
        assert!(Solicitation::parse(&ip(0, group), bare).is_some());
        assert_eq!(Solicitation::parse(&ip(0, TARGET), bare), None);
        assert_eq!(Solicitation::parse(&ip(0, ALL_NODES), bare), None);
        assert_eq!(Solicitation::parse(&ip(0, group), &solicitation()), None);
    }

    #[test]
    fn messages_that_break_a_rule_do_not_parse() {
        let message = solicitation();
        let parse = |ip: &Ipv6, message: &[u8]| {
            let read = Solicitation::parse(ip, message);
            let other = Advertisement::parse(ip, message);
            assert_eq!(read.is_some(), other.is_some());
            read
        };
        for hop_limit in [0, 1, 64, 254] {
            assert_eq!(parse(&Ipv6 { hop_limit, ..ip(SRC, TARGET) }, &message), None);
        }
        for len in (0..24).chain(25..LEN) {
            assert_eq!(parse(&ip(SRC, TARGET), &message[..len]), None, "{len}");
        }
        for units in [0, 2, 255] {
            let mut wrong = message;
            wrong[25] = units;
            assert_eq!(parse(&ip(SRC, TARGET), &wrong), None);
        }
        let mut group = message;
        group[8] = 0xff;
        assert_eq!(parse(&ip(SRC, TARGET), &group), None);
    }

    proptest! {
        #[test]
        fn solicitation_parse_is_the_inverse_of_write(
            src in 1..=u128::MAX, target: u128, mac: Option<[u8; 6]>,
        ) {
            prop_assume!(!ipv6::is_multicast(target));
            let solicitation = Solicitation { target, source_mac: mac.map(MacAddr::new) };
            let mut message = [0xee; LEN];
            let message = &mut message[..if mac.is_some() { LEN } else { 24 }];
            solicitation.write(src, target, message);
            prop_assert_eq!(icmpv6::parse(src, target, message), Ok(Kind::Solicitation));
            prop_assert_eq!(Solicitation::parse(&ip(src, target), message), Some(solicitation));
        }

        #[test]
        fn advertisement_parse_is_the_inverse_of_write(
            target: u128, mac: Option<[u8; 6]>, router: bool, solicited: bool, replaces: bool,
        ) {
            prop_assume!(!ipv6::is_multicast(target));
            let target_mac = mac.map(MacAddr::new);
            let advertisement = Advertisement { target, target_mac, router, solicited, replaces };
            let mut message = [0xee; LEN];
            let message = &mut message[..if mac.is_some() { LEN } else { 24 }];
            advertisement.write(target, SRC, message);
            prop_assert_eq!(icmpv6::parse(target, SRC, message), Ok(Kind::Advertisement));
            prop_assert_eq!(Advertisement::parse(&ip(target, SRC), message), Some(advertisement));
            // A multicast message cannot answer a solicitation.
            let to_all = Advertisement::parse(&ip(target, ALL_NODES), message);
            prop_assert_eq!(to_all, (!solicited).then_some(advertisement));
        }

        #[test]
        fn no_bytes_cause_a_panic(message in proptest::collection::vec(any::<u8>(), 0..80)) {
            Solicitation::parse(&ip(SRC, TARGET), &message);
            Advertisement::parse(&ip(SRC, TARGET), &message);
        }
    }
}
