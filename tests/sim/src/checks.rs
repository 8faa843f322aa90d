//! Rules that every frame must keep that leaves a POP, written down a second time from
//! `docs/protocol.md`, and the same mapping for ever, whichever POP a segment meets.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyrelay_core::verdict::ReplyKind;
use anyrelay_kit::frames::{
    ACK, BROADCAST, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ICMP, ICMPV6, RST, SYN, TCP,
    arp, long, word,
};

use crate::setup::{self, MTU, Mode, Port, Setup, TUNNEL4, TUNNEL6, Targets, is_egress};
use crate::wire::{self, Datagram, ETHERNET_LEN, SegmentView};

/// A frame that came in, and what is known of it.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    pub port: Port,
    pub frame: &'a [u8],
    /// Bits were flipped on the way.
    pub damaged: bool,
}

/// The POP that a frame leaves.
#[derive(Clone, Copy, Debug)]
pub struct At {
    pub pop: usize,
    pub version: u32,
}

/// Egress, target and tag of a client; the tag is 0 where there is none.
type Mapped = (SocketAddr, SocketAddr, u32);

/// What POPs did before.
#[derive(Debug, Default)]
pub struct Memory {
    mapped: BTreeMap<(SocketAddr, usize, bool), Mapped>,
    owners: BTreeMap<(SocketAddr, SocketAddr), (SocketAddr, bool)>,
    /// Clients that share egress and target with another.
    pub collided: Vec<SocketAddr>,
}

pub type Checked = Result<(), String>;

fn require(holds: bool, rule: &str) -> Checked {
    if holds { Ok(()) } else { Err(rule.to_owned()) }
}

impl Memory {
    /// Checks a frame that left through `port`.
    pub fn check(
        &mut self,
        setup: &Setup,
        at: At,
        (port, frame): (Port, &[u8]),
        input: Option<&Input<'_>>,
        replies: &[ReplyKind],
    ) -> Checked {
        require(frame.len() > ETHERNET_LEN, "a runt is sent")?;
        require(frame[6..12] == setup::mac(at.pop, port), "wrong source MAC")?;
        let payload = &frame[ETHERNET_LEN..];
        match word(frame, 12) {
            ETHERTYPE_ARP => check_arp(at.pop, port, frame),
            ETHERTYPE_IPV4 | ETHERTYPE_IPV6 => {
                let ip = Datagram::read(payload).ok_or("a malformed datagram is sent")?;
                if ip.protocol == ICMPV6 && input.is_none() {
                    return check_solicitation(at.pop, port, &ip);
                }
                require(frame[..6] == setup::router_mac(port), "wrong destination MAC")?;
                let padding = &payload[ip.bytes.len()..];
                require(
                    padding.is_empty() || (frame.len() == 60 && padding.iter().all(|b| *b == 0)),
                    "the frame is longer than its datagram",
                )?;
                let input = input.ok_or("a datagram is sent for no reason")?;
                check_ip(&ip)?;
                self.check_datagram(setup, at, port, &ip, input, replies)
            }
            _ => Err("a frame of an unknown type is sent".into()),
        }
    }

    /// An address of a prefix that stands for a client.
    pub fn egress_of_prefix(&self, first: u128) -> Option<u128> {
        self.mapped.values().find_map(|(egress, ..)| match egress.ip() {
            IpAddr::V6(ip) if ip.to_bits() >> 96 == first >> 96 => Some(ip.to_bits()),
            _ => None,
        })
    }

    fn check_datagram(
        &mut self,
        setup: &Setup,
        at: At,
        port: Port,
        ip: &Datagram<'_>,
        input: &Input<'_>,
        replies: &[ReplyKind],
    ) -> Checked {
        let from = input.frame.get(ETHERNET_LEN..).and_then(Datagram::read);
        let from = from.ok_or("a malformed datagram or a fragment is sent on or answered")?;
        if ip.protocol != TCP && port != input.port {
            // Whether it is right in all is seen where it arrives.
            require(!input.damaged && from.protocol != TCP, "an ICMP error out of damage")?;
            require(wire::icmp_holds(ip), "a wrong ICMP message is sent on")?;
            return require(from.ttl > 1 && ip.ttl == from.ttl - 1, "TTL is not one less");
        }
        if ip.protocol != TCP {
            return check_icmp(at.pop, port, ip, &from, input);
        }
        let out = ip.segment().ok_or("a malformed segment is sent")?;
        require(out.src != out.dst && out.src.ip() != out.dst.ip(), "a LAND segment is sent")?;
        let segment = from.segment().ok_or("a malformed segment is sent on")?;
        if [TUNNEL4, TUNNEL6].contains(&segment.dst) {
            require(port == Port::Wan && !input.damaged, "a damaged tunnel segment is acted on")?;
            return check_tunnel(ip, &out);
        }
        if port == input.port {
            let service = setup.service_of(segment.src, segment.dst.ip());
            let old = |at: usize| setup.services[at].targets_are == Targets::Old;
            let kind = match port {
                Port::Lan if service.is_some_and(old) => ReplyKind::NoTimestamps,
                _ => ReplyKind::PendingRst,
            };
            require(replies == [kind], "a RST that nobody asked for")?;
            return check_reset(&from, &segment, ip, &out, input);
        }
        require(from.ttl > 1 && ip.ttl == from.ttl - 1, "TTL is not one less")?;
        require(from.tos == ip.tos, "DSCP or ECN is changed")?;
        check_identity(&from, ip)?;
        let numbers = |s: &SegmentView<'_>| (s.seq, s.ack, s.flags, s.window);
        require(numbers(&segment) == numbers(&out), "numbers, flags or window are changed")?;
        require(segment.data == out.data, "data are changed")?;
        require(segment.checksum_holds == out.checksum_holds, "damage is hidden or done")?;
        require(out.checksum_holds != input.damaged, "damage does not show")?;
        match port {
            Port::Lan => self.check_up(setup, at, &segment, &out, input.damaged),
            Port::Wan => self.check_down(setup, at, &segment, &out, input.damaged),
        }
    }

    fn check_up(
        &mut self,
        setup: &Setup,
        at: At,
        from: &SegmentView<'_>,
        to: &SegmentView<'_>,
        damaged: bool,
    ) -> Checked {
        let number = setup.service_at(from.dst).ok_or("sent on from no VIP")?;
        let service = &setup.services[number];
        require(is_client(setup, at.pop, from.src), "no client sent this")?;
        require(service.targets.contains(&to.dst), "to no target of the service")?;
        require(to.flags & (SYN | ACK) != SYN | ACK, "a SYN|ACK goes to a target")?;
        let case = from.timestamps().is_some();
        let tag = match service.mode {
            Mode::Pool(..) => {
                require(is_egress(service.mode, to.src.ip()), "from no egress address")?;
                require(to.src.port() >= 1024, "from a low port")?;
                let (tag, echo) = to.timestamps().ok_or("to a target without its tag")?;
                let wanted = from.timestamps().map_or(0, |(_, echo)| echo);
                require(tag != 0 && echo == wanted, "wrong TSecr towards a target")?;
                tag
            }
            Mode::Prefix(..) => {
                require(is_egress(service.mode, to.src.ip()), "from no egress address")?;
                require(to.src.port() == from.src.port(), "from another port")?;
                require(from.options == to.options || from.has(SYN), "options are changed")?;
                0
            }
            Mode::Transparent => {
                require(to.src == from.src, "transparent, but from another address")?;
                require(from.timestamps() == to.timestamps(), "timestamps are changed")?;
                0
            }
        };
        check_options(from, to, setup.mss(number, at.version), 0)?;
        if damaged {
            return Ok(());
        }
        // A RST without timestamps goes out in both variants: each is that of a case.
        let bare_rst = from.has(RST) && !case && service.is_pool();
        let found = (to.src, to.dst, tag);
        if bare_rst {
            let known = [false, true].map(|case| self.mapped.get(&(from.src, number, case)));
            let fits = known.iter().all(Option::is_none) || known.contains(&Some(&found));
            // The variant of the case that the client does not have was never seen.
            let strange = known.iter().flatten().count() == 2 && !fits;
            return require(!strange, "a RST goes elsewhere than its connection");
        }
        let key = (from.src, number, case || !service.is_pool());
        let first = *self.mapped.entry(key).or_insert(found);
        require(first == found, "another egress, target or tag than before")?;
        let owner = *self.owners.entry((to.src, to.dst)).or_insert((from.src, case));
        if owner.0 != from.src {
            self.collided.extend([owner.0, from.src]);
        }
        Ok(())
    }

    fn check_down(
        &mut self,
        setup: &Setup,
        at: At,
        from: &SegmentView<'_>,
        to: &SegmentView<'_>,
        damaged: bool,
    ) -> Checked {
        let number = setup.service_of(from.src, from.dst.ip()).ok_or("sent on from no target")?;
        let service = &setup.services[number];
        require(to.src == service.vip, "not from the VIP of the service")?;
        require(is_client(setup, at.pop, to.dst), "to no client")?;
        require(!to.opens(), "a SYN goes to a client")?;
        let case = to.timestamps().is_some();
        let (tag, less) = match service.mode {
            Mode::Pool(..) => {
                let (value, tag) = from.timestamps().ok_or("mapped without a tag")?;
                require(to.timestamps().is_none_or(|to| to == (value, 0)), "a tag leaks")?;
                (tag, if case { 0 } else { 12 })
            }
            Mode::Prefix(..) => {
                require(to.dst.port() == from.dst.port(), "to another port")?;
                require(from.options == to.options || from.has(SYN), "options are changed")?;
                (0, 0)
            }
            Mode::Transparent => {
                require(to.dst == from.dst, "transparent, but to another address")?;
                require(from.timestamps() == to.timestamps(), "timestamps are changed")?;
                (0, 0)
            }
        };
        check_options(from, to, setup.mss(number, at.version), less)?;
        if damaged {
            return Ok(());
        }
        let key = (to.dst, number, case || !service.is_pool());
        let known = self.mapped.get(&key).ok_or("to a client that nothing came from")?;
        require(*known == (from.dst, from.src, tag), "to another client than it came from")
    }
}

/// What holds of any datagram.
fn check_ip(ip: &Datagram<'_>) -> Checked {
    require(ip.bytes.len() <= usize::from(MTU), "larger than the MTU")?;
    require(ip.ttl > 0, "TTL 0 is sent")?;
    if ip.src.is_ipv4() {
        require(ip.payload_at == 20, "IPv4 options are sent")?;
    }
    require(ip.src != ip.dst, "to its own source")?;
    require(!is_martian(ip.src) && !is_martian(ip.dst), "a martian is sent")
}

/// ID and DF of IPv4, the flow label of IPv6: those that came, or by RFC 7915 where there were
/// none.
fn check_identity<'a>(from: &Datagram<'a>, to: &Datagram<'a>) -> Checked {
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

fn check_options(from: &SegmentView<'_>, to: &SegmentView<'_>, mss: u16, less: u16) -> Checked {
    let mut stamps = 0;
    for option in to.options() {
        let (kind, value) = option.map_err(|()| "options with lengths that lie are sent")?;
        stamps += u32::from(kind == 8);
        if to.has(SYN) {
            require(![19, 29, 30, 34, 253, 254].contains(&kind), "an option passes that must not")?;
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

/// A RST of the POP's own.
fn check_reset(
    from: &Datagram<'_>,
    segment: &SegmentView<'_>,
    ip: &Datagram<'_>,
    reset: &SegmentView<'_>,
    input: &Input<'_>,
) -> Checked {
    require(!input.damaged, "a damaged segment is answered")?;
    require((ip.src, ip.dst, ip.ttl) == (from.dst, from.src, 64), "wrong header of a RST")?;
    require((reset.src, reset.dst) == (segment.dst, segment.src), "wrong ends of a RST")?;
    require(ip.bytes.len() == 40 && reset.flags & !ACK == RST, "a RST is not bare")?;
    require(reset.checksum_holds && !segment.has(RST), "a RST is wrong, or for a RST")?;
    let fits = match reset.has(ACK) {
        true => reset.ack == segment.end(),
        false => segment.has(ACK) && reset.seq == segment.ack,
    };
    require(fits, "a RST that does not answer the segment")
}

fn check_tunnel(ip: &Datagram<'_>, out: &SegmentView<'_>) -> Checked {
    require([TUNNEL4, TUNNEL6].contains(&out.src), "a tunnel's segment from another VIP")?;
    require(out.checksum_holds && out.has(ACK), "a tunnel's segment is wrong")?;
    require(out.flags & RST == 0, "a tunnel resets")?;
    require(ip.src.is_ipv6() || ip.bytes[6] & 0x40 != 0, "a tunnel's segment without DF")?;
    require(ip.dst.is_ipv6() == out.src.is_ipv6(), "families are mixed")
}

fn check_icmp(
    pop: usize,
    port: Port,
    ip: &Datagram<'_>,
    from: &Datagram<'_>,
    input: &Input<'_>,
) -> Checked {
    let message = ip.payload();
    require([ICMP, ICMPV6].contains(&ip.protocol), "neither TCP nor ICMP")?;
    require(wire::icmp_holds(ip) && message.len() >= 8, "a wrong ICMP message is sent")?;
    require(port == input.port && ip.dst == from.src, "an ICMP error to somebody else")?;
    let (own4, own6) = setup::own_addresses(pop, port);
    require([own4.into(), own6.into()].contains(&ip.src), "an ICMP error from another address")?;
    let allowed = match ip.src {
        IpAddr::V4(_) => (message[0], message[1]) == (11, 0) && from.ttl <= 1,
        IpAddr::V6(_) => (message[0], message[1]) == (3, 0) && from.ttl <= 1,
    };
    require(allowed, "an ICMP error without its reason")?;
    require(from.bytes.starts_with(&message[8..]), "an ICMP error does not quote the datagram")
}

fn check_arp(pop: usize, port: Port, frame: &[u8]) -> Checked {
    let (own, _) = setup::own_addresses(pop, port);
    let (gateway, _) = setup::gateways(port);
    let sender = (setup::mac(pop, port), own.to_bits());
    let wanted = arp(1, sender, ([0; 6], gateway.to_bits()));
    let sent = &frame[ETHERNET_LEN..];
    let padded = sent.len() >= 28 && sent[28..].iter().all(|byte| *byte == 0);
    let known: [u8; 6] = setup::router_mac(port);
    let unicast = frame[..6] == known;
    require(padded && sent[..28] == wanted[..], "a wrong ARP request")?;
    require(frame[..6] == BROADCAST || unicast, "an ARP request to another host")
}

fn check_solicitation(pop: usize, port: Port, ip: &Datagram<'_>) -> Checked {
    let (_, own) = setup::own_addresses(pop, port);
    let (_, gateway) = setup::gateways(port);
    let message = ip.payload();
    require(wire::icmp_holds(ip) && ip.ttl == 255, "a wrong solicitation")?;
    require(message.len() >= 24 && message[0] == 135, "ICMPv6 that nobody asked for")?;
    require(ip.src == IpAddr::from(own), "a solicitation from another address")?;
    require(message[8..24] == gateway.octets(), "a solicitation for another host")
}

/// Addresses that nobody on the Internet has.
fn is_martian(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            ip.octets()[0] == 0 || ip.is_loopback() || ip.is_link_local() || ip.octets()[0] >= 224
        }
        IpAddr::V6(ip) => {
            let high = ip.segments()[0];
            let low = ip.to_bits() >> 32;
            high >= 0xfc00 || high == 0x0100 || low == 0 || low == 0xffff
        }
    }
}

/// Whether a client can have that address and port, as far as a POP knows its own addresses.
fn is_client(setup: &Setup, pop: usize, client: SocketAddr) -> bool {
    let private = |ip: Ipv4Addr| {
        let [a, b, ..] = ip.octets();
        ip.is_private() || (a == 100 && b & 0xc0 == 64)
    };
    let ours = setup.services.iter().any(|service| {
        let target = service.targets.iter().any(|target| target.ip() == client.ip());
        target || service.vip.ip() == client.ip() || is_egress(service.mode, client.ip())
    });
    let tunnel = [TUNNEL4.ip(), TUNNEL6.ip()].contains(&client.ip());
    let (own4, own6) = setup::own_addresses(pop, Port::Wan);
    let held = match client.ip() {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            let of_link = [a, b, c] == [192, 0, 2] && [0, 255].contains(&d);
            private(ip) || of_link || ip == own4
        }
        // Each port's own address, and that of its link's routers (RFC 4291, section 2.6.1).
        IpAddr::V6(ip) => {
            let (_, other6) = setup::own_addresses(pop, Port::Lan);
            let anycast = [own6, other6].map(|own| own.to_bits() & !0xffff);
            [own6, other6].contains(&ip) || anycast.contains(&ip.to_bits())
        }
    };
    !is_martian(client.ip()) && !ours && !tunnel && !held && client.port() != 0
}
