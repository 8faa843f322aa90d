//! Rules for each kind of datagram.

use std::net::IpAddr;

use anyrelay_kit::frames::{ACK, ICMP, ICMPV6, RST, SYN, long, word};

use super::addresses::is_martian;
use super::{Checked, Input, require};
use crate::setup::{self, MTU, Port, Setup, TUNNEL4, TUNNEL6, is_egress};
use crate::wire::{self, Datagram, SegmentView};

/// Rules for any datagram.
pub(super) fn check_ip(ip: &Datagram<'_>) -> Checked {
    require(ip.bytes.len() <= usize::from(MTU), "larger than the MTU")?;
    require(ip.ttl > 0, "TTL 0 is sent")?;
    if ip.src.is_ipv4() {
        require(ip.payload_at == 20, "IPv4 options are sent")?;
    }
    require(ip.src != ip.dst, "to its own source")?;
    require(!is_martian(ip.src) && !is_martian(ip.dst), "a martian is sent")
}

/// ID and DF of IPv4 and the flow label of IPv6 stay, or follow RFC 7915 between families.
pub(super) fn check_identity<'a>(from: &Datagram<'a>, to: &Datagram<'a>) -> Checked {
    match (from.src.is_ipv4(), to.src.is_ipv4()) {
        (true, true) => require(from.bytes[4..8] == to.bytes[4..8], "ID or DF is changed"),
        (true, false) => {
            require(to.payload_at == 40, "extension headers out of IPv4")?;
            require(long(to.bytes, 0) & 0xf_ffff == 0, "a flow label")
        }
        (false, false) => {
            require(from.bytes[..4] == to.bytes[..4], "the flow label is changed")?;
            let extensions = |ip: &Datagram<'a>| (ip.bytes[6], &ip.bytes[40..ip.payload_at]);
            require(extensions(from) == extensions(to), "extension headers are changed")
        }
        (false, true) => {
            let (id, dont_fragment) = (word(to.bytes, 4), word(to.bytes, 6) == 0x4000);
            let large = to.bytes.len() > 1260;
            require(dont_fragment == large && (id == 0 || !large), "wrong DF or ID")
        }
    }
}

pub(super) fn check_options(
    from: &SegmentView<'_>,
    to: &SegmentView<'_>,
    mss: u16,
    less: u16,
) -> Checked {
    let mut stamps = 0;
    for option in to.options() {
        let (kind, value) = option.map_err(|()| "options with lengths that lie are sent")?;
        stamps += u32::from(kind == 8);
        if to.has(SYN) {
            require(
                ![19, 29, 30, 34, 200, 253, 254].contains(&kind),
                "an option passes that must not",
            )?;
            if (kind, value.len()) == (2, 2) {
                let mut all = from.options().flatten();
                let before = all.find(|(kind, value)| (*kind, value.len()) == (2, 2));
                let before = before.map_or(0, |(_, value)| word(value, 0));
                let wanted = before.min(mss) - less;
                require(word(value, 0) == wanted, "the MSS is wrong")?;
            }
        }
    }
    require(stamps <= 1, "timestamps twice")?;
    for kind in [2, 3, 4] {
        require(from.option(kind).is_some() == to.option(kind).is_some(), "an option got lost")?;
    }
    let (before, after) = (from.option(5).unwrap_or_default(), to.option(5).unwrap_or_default());
    // Where timestamps come in, 28 bytes are left: three blocks, less where there are other
    // options.
    let grows = from.option(8).is_none() && to.option(8).is_some();
    let others = from.options().flatten().filter(|option| option.0 != 5);
    let room = 26_usize.saturating_sub(others.map(|(_, value)| 2 + value.len()).sum());
    let most = if grows { room / 8 * 8 } else { 32 };
    let first = before.get(..most).unwrap_or(before);
    // Damage can make it an option that is no row of blocks: what is cut has whole ones.
    let whole = &first[..first.len() / 8 * 8];
    require(after == first || (grows && after == whole), "SACK is spoilt")
}

/// A RST of the POP itself.
pub(super) fn check_reset(
    from: &Datagram<'_>,
    segment: &SegmentView<'_>,
    ip: &Datagram<'_>,
    reset: &SegmentView<'_>,
    input: &Input<'_>,
) -> Checked {
    require(!input.damaged, "a damaged segment is answered")?;
    require((ip.src, ip.dst, ip.ttl) == (from.dst, from.src, 64), "wrong header of a RST")?;
    require((reset.src, reset.dst) == (segment.dst, segment.src), "wrong ends of a RST")?;
    require(ip.payload().len() == 20 && reset.flags & !ACK == RST, "a RST is not bare")?;
    require(reset.checksum_holds && !segment.has(RST), "a RST is wrong, or for a RST")?;
    let fits = match reset.has(ACK) {
        true => reset.ack == segment.end(),
        false => segment.has(ACK) && reset.seq == segment.ack,
    };
    require(fits, "a RST that does not answer the segment")
}

pub(super) fn check_icmp(
    setup: &Setup,
    (pop, port): (usize, Port),
    ip: &Datagram<'_>,
    from: &Datagram<'_>,
    input: &Input<'_>,
) -> Checked {
    let message = ip.payload();
    require([ICMP, ICMPV6].contains(&ip.protocol), "neither TCP nor ICMP")?;
    require(wire::icmp_holds(ip) && message.len() >= 8, "a wrong ICMP message is sent")?;
    require(port == input.port && ip.dst == from.src, "an ICMP error to somebody else")?;
    let (own4, own6) = setup::own_addresses(pop, port);
    // From the address that was written to, but nothing is said in the name of a client.
    let served = |address: IpAddr| {
        let tunnel = [TUNNEL4.ip(), TUNNEL6.ip()].contains(&address);
        let mut services = setup.services.iter();
        tunnel || services.any(|of| of.vip.ip() == address || is_egress(of.mode, address))
    };
    let from_own = [own4.into(), own6.into()].contains(&ip.src);
    let genuine = if served(from.dst) { ip.src == from.dst } else { from_own };
    require(genuine, "an ICMP error from another address")?;
    let allowed = match ip.src {
        IpAddr::V4(_) => (message[0], message[1]) == (11, 0) && from.ttl <= 1,
        IpAddr::V6(_) => {
            (message[0], message[1]) == (3, 0) && from.ttl <= 1
                || (message[0], message[1]) == (2, 0) && is_too_long(setup, from, long(message, 4))
        }
    };
    require(allowed, "an ICMP error without its reason")?;
    require(from.bytes.starts_with(&message[8..]), "an ICMP error does not quote the datagram")
}

/// Whether a segment, of full size with its extension headers, is too long with what its service
/// adds, and `mtu` is what fits.
fn is_too_long(setup: &Setup, from: &Datagram<'_>, mtu: u32) -> bool {
    let (len, most) = (from.bytes.len(), usize::from(MTU));
    let service = setup.services.iter().find(|of| of.vip.ip() == from.dst);
    let growth = service.map_or(0, |of| usize::from(of.mode.growth()));
    growth > 0 && from.payload_at > 40 && len + growth > most && mtu as usize == most - growth
}
