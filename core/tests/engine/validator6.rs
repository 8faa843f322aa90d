//! Rules for what a POP sends that has services with IPv6, checked against the frame that it was
//! sent for. Own rules; nothing of the core's but which address and target a client has. For the
//! config [`pool6_config`].

use anyrelay_core::net::PortIndex;

use crate::seen::{checksum, upper_checksum};
use crate::validator::{
    Checked, Datagram, Segment, can_be_client, check_options, long, read_datagram, read_segment,
    read_tcp, remove_client_address, walk_options, walk_to_tail, word,
};
use crate::validator_echo::check_fragment;
use crate::*;

/// A datagram of either family.
struct Any<'a> {
    ipv6: bool,
    /// IPv4 addresses are their number.
    src: u128,
    dst: u128,
    hops: u8,
    class: u8,
    len: usize,
    protocol: u8,
    payload: &'a [u8],
}

impl<'a> Any<'a> {
    fn read(ethertype: u16, bytes: &'a [u8]) -> Option<Any<'a>> {
        match ethertype {
            0x0800 => {
                let Datagram { bytes, options, payload, ttl, protocol, src, dst } =
                    read_datagram(bytes)?;
                let options = walk_options(options)?;
                let routed = options.iter().any(|option| [131, 137].contains(&option.0));
                let (src, dst) = (src.into(), dst.into());
                let (hops, class, len) = (ttl, bytes[1], bytes.len());
                let ipv6 = false;
                (!routed).then_some(Any { ipv6, src, dst, hops, class, len, protocol, payload })
            }
            0x86dd => {
                let len = 40 + usize::from(word(bytes.get(..40)?, 4));
                let datagram = bytes.get(..len).filter(|bytes| bytes[0] >> 4 == 6)?;
                let (protocol, at) = behind_extensions(datagram)?;
                Some(Any {
                    ipv6: true,
                    src: address(datagram, 8),
                    dst: address(datagram, 24),
                    hops: datagram[7],
                    class: datagram[0] << 4 | datagram[1] >> 4,
                    len,
                    protocol,
                    payload: &datagram[at..],
                })
            }
            _ => None,
        }
    }

    fn segment(&self) -> Option<Segment<'a>> {
        let holds = self.checksum(6) == 0;
        let tcp = self.protocol == 6;
        tcp.then(|| read_tcp(self.payload, holds)).flatten()
    }

    /// Whether it is an ICMP message of its family, undamaged.
    fn is_icmp(&self) -> bool {
        match (self.ipv6, self.protocol) {
            (false, 1) => checksum(&[self.payload]) == 0,
            (true, 58) => self.checksum(58) == 0,
            _ => false,
        }
    }

    /// The checksum with the pseudo header; 0 where the field in the payload is right.
    fn checksum(&self, protocol: u8) -> u16 {
        let (src, dst) = (self.src.to_be_bytes(), self.dst.to_be_bytes());
        let from = if self.ipv6 { 0 } else { 12 };
        upper_checksum(&src[from..], &dst[from..], protocol, self.payload)
    }
}

pub fn address(bytes: &[u8], at: usize) -> u128 {
    u128::from_be_bytes(bytes[at..at + 16].try_into().unwrap())
}

fn behind_extensions(datagram: &[u8]) -> Option<(u8, usize)> {
    let (mut next, mut at) = (datagram[6], 40);
    while [0, 60].contains(&next) {
        let header = datagram.get(at..at + 2)?;
        (next, at) = (header[0], at + 8 + 8 * usize::from(header[1]));
    }
    (at <= datagram.len()).then_some((next, at))
}

fn require(holds: bool, rule: &'static str) -> Checked {
    if holds { Ok(()) } else { Err(rule) }
}

/// Whether an IPv6 host of the Internet that is none of the POP's can have the address.
pub fn can_be_client6(ip: u128) -> bool {
    let high = (ip >> 112) as u16;
    let prefix = |len: u32| ip >> (128 - len);
    let never = high >= 0xfc00 || prefix(64) == 0x0100 << 48 || ip >> 32 == 0 || ip >> 32 == 0xffff;
    let target = [WEB6_TARGET.0, RAW6_TARGETS[0].0, RAW6_TARGETS[1].0];
    let many = [0x20, 0x21, 0x50, 0x60, 0x61].map(|host| 0x2001_0db8_0005 << 80 | host);
    let own = [WAN_IP6, LAN_IP6, WAN_IP6 & !0xff, LAN_IP6 & !0xff, RAW6.0, DEEP.0];
    let held = target.contains(&ip) || many.contains(&ip) || own.contains(&ip);
    !never && !held && prefix(64) != PREFIX6 >> 64
}

/// Checks all that was sent because of `frame`, which came in through `port`. What concerns
/// services between IPv4 and IPv4, ARP and neighbour discovery is for others to check.
pub fn check6(world: &World, port: PortIndex, frame: &[u8], sent: &Sent) -> Checked {
    if let Some(checked) = check_fragment(port, frame, sent) {
        return checked;
    }
    if sent.len() < 2 {
        return sent
            .first()
            .map_or(Ok(()), |(out, bytes)| check_one(world, port, frame, (*out, bytes)));
    }
    // Fragments of one segment, out of one that says that it may be.
    let (whole, _) = reassemble6(sent).ok_or("more frames than one, and no fragments")?;
    let l3 = if word(frame, 12) == 0x8100 { 18 } else { 14 };
    let may = frame[l3] >> 4 == 4 && frame[l3 + 6] & 0x40 == 0;
    require(may && whole.len() > 1514, "fragments of what must stay whole, or fits")?;
    check_one(world, port, frame, (LAN, &whole))
}

fn check_one(
    world: &World,
    port: PortIndex,
    frame: &[u8],
    (out, bytes): (PortIndex, &[u8]),
) -> Checked {
    let priority = word(frame, 12) == 0x8100 && frame.len() >= 18;
    let l3 = if priority { 18 } else { 14 };
    let input = Any::read(word(frame, l3 - 2), &frame[l3..]).ok_or("nothing sound is answered")?;
    let output = Any::read(word(bytes, 12), &bytes[14..]).ok_or("something malformed is sent")?;
    let was_cut = !input.ipv6 && output.ipv6 && frame[l3 + 6] & 0x40 == 0;
    require(output.len <= 1500 || was_cut, "larger than the MTU")?;
    require(
        bytes.len() == (14 + output.len).max(60) || out != port && bytes.len() == 14 + output.len,
        "padding goes on",
    )?;
    if out == port {
        return check_own(&input, &output);
    }
    require(input.hops > 1 && output.hops == input.hops - 1, "the hop limit is not one less")?;
    require(input.class == output.class, "DSCP or ECN is changed")?;
    match (input.segment(), output.segment()) {
        (Some(from), Some(to)) => {
            require(
                from.fixed == to.fixed && from.data == to.data,
                "what nobody changes is changed",
            )?;
            require(from.checksum_holds == to.checksum_holds, "damage is hidden or done")?;
            let segments = (&from, &to);
            let (from, to) = (Ends::of(&input, &from), Ends::of(&output, &to));
            match from.pooled(out) {
                true => check_pooled(world, out, segments, (&from, &to))?,
                false => check_options6(out, segments.0, segments.1)?,
            }
            require(flags_fit(out, input.payload[13]), "a handshake the wrong way round")?;
            require(mapped(world, out, &from, &to) == Some(to), "to or from a wrong address")?;
            check_id(&output, &bytes[14..], &input)
        }
        (None, None) => check_error6(world, out, &input, &output),
        _ => Err("TCP becomes something else"),
    }
}

fn flags_fit(out: PortIndex, flags: u8) -> bool {
    let flags = flags & (SYN | ACK);
    flags != if out == LAN { SYN | ACK } else { SYN }
}

/// Addresses and ports of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ends {
    ipv6: bool,
    src: End6,
    dst: End6,
}

impl Ends {
    fn of(ip: &Any<'_>, tcp: &Segment<'_>) -> Ends {
        Ends { ipv6: ip.ipv6, src: (ip.src, tcp.sport), dst: (ip.dst, tcp.dport) }
    }

    fn reversed(self) -> Ends {
        Ends { src: self.dst, dst: self.src, ..self }
    }

    /// Whether they are of a segment of pool mode that goes on through that port.
    fn pooled(&self, out: PortIndex) -> bool {
        let is_vip = [DEEP, DEEPS].contains(&self.dst);
        self.ipv6 && if out == LAN { is_vip } else { self.dst.0 >> 116 == 0xfd4 }
    }
}

/// Egress endpoint and TSval of a client that can have them.
fn pooled(world: &World, service: &str, client: End6) -> Option<(End6, u32)> {
    let is_global = client.0 >> 125 == 1 && can_be_client6(client.0) && client.1 != 0;
    is_global.then(|| world.pooled6(service, client))
}

/// A segment of pool mode: its options, and its tag.
fn check_pooled(
    world: &World,
    out: PortIndex,
    (from, to): (&Segment<'_>, &Segment<'_>),
    (ends, became): (&Ends, &Ends),
) -> Checked {
    let stamps = |segment: &Segment<'_>| {
        let walked = walk_to_tail(segment.options).0;
        walked.iter().find(|option| option.0 == 8).map(|option| option.1 + 2)
    };
    if out == WAN && stamps(from).is_none() {
        // Whose it is follows from what the POP remembers of the client's segments.
        let refuses = from.flags & RST != 0 && from.options == to.options;
        return require(refuses, "a target's segment without its tag goes on");
    }
    check_options(out, true, from, to)?;
    let (vip, client) = if out == LAN { (ends.dst, ends.src) } else { (became.src, became.dst) };
    let (_, tsval) = pooled(world, service_at(vip), client).ok_or("no client")?;
    let (tagged, place) = if out == LAN { (to, 0) } else { (from, 4) };
    let tag = stamps(tagged).map(|at| long(tagged.options, at + place) | 1);
    require(tag == Some(tsval), "another client's tag")?;
    let (options, _) = walk_to_tail(to.options);
    let mut mss = options.iter().filter(|o| (o.0, o.2) == (2, 4) && to.flags & SYN != 0);
    require(mss.all(|option| word(to.options, option.1 + 2) <= 1440), "MSS is not clamped")
}

/// What a segment becomes on its way to that port, by the definitions; none for one that must not
/// go on. The client of an egress endpoint of a pool is the one to whom it went, `to`.
fn mapped(world: &World, out: PortIndex, from: &Ends, to: &Ends) -> Option<Ends> {
    match out {
        LAN => mapped_up(world, from),
        _ if from.pooled(out) => {
            let (egress, service) = (mapped_up(world, &to.reversed())?.src, service_at(to.src));
            let targets = world.targets::<u128>(service);
            let is_target = targets.iter().any(|at| (at.ip, at.port) == from.src);
            (is_target && egress == from.dst).then_some(*to)
        }
        _ => mapped_down(world, from),
    }
}

fn service_at(vip: End6) -> &'static str {
    if vip == DEEP { "deep" } else { "deeps" }
}

fn mapped_up(world: &World, from: &Ends) -> Option<Ends> {
    let vip = from.dst;
    if from.pooled(LAN) {
        let service = service_at(vip);
        let (src, _) = pooled(world, service, from.src)?;
        return Some(Ends { ipv6: true, src, dst: world.target6(service, from.src) });
    }
    if from.ipv6 {
        let target = world.target6("raw6", from.src);
        let ok = vip == RAW6 && can_be_client6(from.src.0) && from.src.1 != 0;
        return ok.then_some(Ends { dst: target, ..*from });
    }
    let vip = (vip.0 as u32, vip.1);
    let service = [(WEB6, "web6"), (MANY6, "many6")].into_iter().find(|(at, _)| *at == vip)?.1;
    let client = (from.src.0 as u32, from.src.1);
    let ok = can_be_client(client.0) && client.0 != WEB6.0 && client.1 != 0;
    let (src, dst) = (world.egress6(service, client), world.target4(service, client));
    ok.then_some(Ends { ipv6: true, src, dst })
}

fn mapped_down(world: &World, from: &Ends) -> Option<Ends> {
    let (target, to) = (from.src, from.dst);
    if !from.ipv6 {
        return None;
    }
    if RAW6_TARGETS.contains(&target) && can_be_client6(to.0) && to.1 != 0 {
        return Some(Ends { src: RAW6, ..*from });
    }
    let (service, vip) = [("web6", WEB6), ("many6", MANY6)].into_iter().find(|(name, _)| {
        let targets = world.targets::<u128>(name);
        targets.iter().any(|at| (at.ip, at.port) == target)
    })?;
    // The client is in the address: 32 bits in front of the last 32.
    let client = ((to.0 >> 32) as u32, to.1);
    let genuine = world.egress6(service, client) == to;
    let ok = genuine && can_be_client(client.0) && client.0 != WEB6.0 && client.1 != 0;
    let (src, dst) = ((vip.0.into(), vip.1), (client.0.into(), client.1));
    ok.then_some(Ends { ipv6: false, src, dst })
}

fn check_options6(out: PortIndex, from: &Segment<'_>, to: &Segment<'_>) -> Checked {
    let mut want = from.options.to_vec();
    if to.flags & SYN == 0 {
        remove_client_address(&mut want, out)?;
        return require(want == to.options, "options are changed");
    }
    let after = walk_options(to.options).ok_or("lying options are sent")?;
    let (before, tail) = walk_to_tail(from.options);
    want[tail.unwrap_or(from.options.len())..].fill(1);
    for (kind, at, len) in before {
        if [19, 29, 30, 34, 200, 253, 254].contains(&kind) {
            want[at..at + len].fill(1);
        }
        if (kind, len) == (2, 4) {
            let mss = word(from.options, at + 2).min(1440);
            want[at + 2..at + 4].copy_from_slice(&mss.to_be_bytes());
        }
    }
    require(want == to.options && after.len() <= 40, "options of a SYN are not what they should be")
}

/// DF and ID of what goes on over IPv4; version and flow label of what was IPv4 before.
fn check_id(output: &Any<'_>, bytes: &[u8], input: &Any<'_>) -> Checked {
    if output.ipv6 {
        let flow = long(bytes, 0) & 0xf_ffff;
        return require(input.ipv6 || flow == 0, "a flow label comes from nowhere");
    }
    let (id, fragment) = (word(bytes, 4), word(bytes, 6));
    let want = if output.len > 1260 { 0x4000 } else { 0 };
    require(fragment == want && (id == 0 || want == 0), "wrong DF or ID")
}

/// What a POP sends back by itself.
fn check_own(input: &Any<'_>, output: &Any<'_>) -> Checked {
    require(input.ipv6 == output.ipv6 && output.dst == input.src, "an answer to somebody else")?;
    if let Some(reset) = output.segment() {
        let from = input.segment().ok_or("no segment is reset")?;
        require(reset.checksum_holds && reset.flags & !ACK == RST, "a RST is not bare")?;
        return require(from.flags & RST == 0 && output.src == input.dst, "a RST for a RST");
    }
    require(output.is_icmp() && output.hops == 64, "a damaged message")?;
    let quote = &output.payload[8..];
    let unreachable = if output.ipv6 { [1, 4] } else { [3, 3] };
    if input.protocol == 17 && output.payload[..2] == unreachable {
        return require(output.src == input.dst, "a port unreachable of somebody else");
    }
    let error = match (output.ipv6, output.payload[0]) {
        (true, 129) | (false, 0) => return require(input.is_icmp(), "an echo of nothing"),
        (false, 11) | (true, 3) => input.hops <= 1,
        (false, 3) | (true, 2) => true,
        _ => false,
    };
    require(error && input.protocol == 6 && quote.len() >= 28, "an error about nothing")
}

/// Somebody's ICMP error that was sent on.
fn check_error6(world: &World, out: PortIndex, input: &Any<'_>, output: &Any<'_>) -> Checked {
    require(input.is_icmp() && output.is_icmp(), "damage in an ICMP error")?;
    let (before, after) = (&input.payload[8..], &output.payload[8..]);
    let from = quoted(input.ipv6, before).ok_or("an error without a quote is sent on")?;
    let to = quoted(output.ipv6, after).ok_or("an error without a quote is sent")?;
    require(from.src.0 == input.dst, "an error that is not for who sent the segment")?;
    require((to.src.0, to.dst.0) == (output.dst, output.src), "not from the endpoint's own peer")?;
    // The quote is what became of the segment that the addressee sent.
    let other = if out == LAN { WAN } else { LAN };
    let became = mapped(world, other, &to, &from);
    let seen = if out == LAN { mapped_back(world, &from) } else { became };
    require(if out == LAN { seen == Some(to) } else { seen == Some(from) }, "a wrong quote")?;
    let mtu = match (output.ipv6, output.payload[0], output.payload[1]) {
        (true, 2, _) => long(output.payload, 4),
        (false, 3, 4) => u32::from(word(output.payload, 6)),
        _ => return Ok(()),
    };
    require(mtu >= if output.ipv6 { 1280 } else { 1260 }, "an MTU below the floor")
}

/// Whose segment to a client it was that a POP made `from` of: that of the target it would choose.
fn mapped_back(world: &World, from: &Ends) -> Option<Ends> {
    mapped_up(world, &from.reversed()).map(Ends::reversed)
}

fn quoted(ipv6: bool, quote: &[u8]) -> Option<Ends> {
    let (src, dst, at) = match ipv6 {
        true => {
            let (next, at) = quote.get(..40).and_then(|_| behind_extensions(quote))?;
            (next == 6).then_some((address(quote, 8), address(quote, 24), at))?
        }
        false => {
            let header = quote.get(..20)?;
            let (src, dst) = (long(header, 12).into(), long(header, 16).into());
            (src, dst, usize::from(header[0] & 15) * 4)
        }
    };
    let ports = quote.get(at..at + 8)?;
    Some(Ends { ipv6, src: (src, word(ports, 0)), dst: (dst, word(ports, 2)) })
}

/// Whether the segment of `datagram` is of a service between IPv4 and IPv4.
pub fn is_of_others(frame: &[u8]) -> bool {
    let Some(ip) = frame.get(14..).and_then(read_datagram) else { return false };
    let of = |ip: u32| ip == WEB.0 || ip == RAW.0 || ip >> 8 == 0x64_4008;
    let quoted = ip.protocol == 1 && ip.payload.len() > 28;
    let quoted = quoted.then(|| (long(ip.payload, 20), long(ip.payload, 24)));
    let target = read_segment(&ip).is_some() && ip.src >> 8 == 0xc6_3364;
    of(ip.dst) || target || quoted.is_some_and(|(src, dst)| of(src) || dst >> 8 == 0xc6_3364)
}
