//! Rules that whatever a POP sends must keep, checked against the frame that it was sent for. Own
//! rules and `etherparse`; nothing of the core's. For the config [`config`].

use anyrelay_core::net::PortIndex;
use etherparse::Ipv4HeaderSlice;

use crate::reassembly::{fill_header_checksum, reassemble};
use crate::seen::{checksum, upper_checksum};
use crate::validator_echo::check_fragment;
use crate::*;

/// What a rule says against a frame.
pub type Checked = Result<(), &'static str>;

/// An IPv4 datagram, read by hand.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    pub bytes: &'a [u8],
    pub options: &'a [u8],
    pub payload: &'a [u8],
    pub ttl: u8,
    pub protocol: u8,
    pub src: u32,
    pub dst: u32,
}

pub fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

pub fn long(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// Reads a datagram that a relay may act on at all.
pub fn read_datagram(bytes: &[u8]) -> Option<Datagram<'_>> {
    let header_len = usize::from(*bytes.first()? & 15) * 4;
    if bytes.len() < 20 || bytes[0] >> 4 != 4 || header_len < 20 || header_len > bytes.len() {
        return None;
    }
    let total_len = usize::from(word(bytes, 2));
    let whole = total_len >= header_len && total_len <= bytes.len();
    if !whole || checksum(&[&bytes[..header_len]]) != 0 || word(bytes, 6) & 0x3fff != 0 {
        return None;
    }
    Some(Datagram {
        bytes: &bytes[..total_len],
        options: &bytes[20..header_len],
        payload: &bytes[header_len..total_len],
        ttl: bytes[8],
        protocol: bytes[9],
        src: long(bytes, 12),
        dst: long(bytes, 16),
    })
}

/// A segment, read by hand.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    pub sport: u16,
    pub dport: u16,
    pub flags: u8,
    pub options: &'a [u8],
    pub data: &'a [u8],
    /// Numbers, reserved bits, flags, window and urgent pointer: what nobody changes.
    pub fixed: [u8; 14],
    pub checksum_holds: bool,
}

pub fn read_segment<'a>(ip: &Datagram<'a>) -> Option<Segment<'a>> {
    let holds = upper_checksum(&ip.src.to_be_bytes(), &ip.dst.to_be_bytes(), 6, ip.payload) == 0;
    (ip.protocol == 6).then(|| read_tcp(ip.payload, holds)).flatten()
}

/// Reads a segment whose checksum holds, or not.
pub fn read_tcp(bytes: &[u8], checksum_holds: bool) -> Option<Segment<'_>> {
    let header_len = usize::from(*bytes.get(12)? >> 4) * 4;
    if bytes.len() < 20 || header_len < 20 || header_len > bytes.len() {
        return None;
    }
    let mut fixed = [0; 14];
    fixed[..8].copy_from_slice(&bytes[4..12]);
    fixed[8..12].copy_from_slice(&bytes[12..16]);
    fixed[8] &= 15;
    fixed[12..].copy_from_slice(&bytes[18..20]);
    Some(Segment {
        sport: word(bytes, 0),
        dport: word(bytes, 2),
        flags: bytes[13],
        options: &bytes[20..header_len],
        data: &bytes[header_len..],
        fixed,
        checksum_holds,
    })
}

/// Kind, offset and length of each option; `None` when a length lies.
pub fn walk_options(options: &[u8]) -> Option<Vec<(u8, usize, usize)>> {
    let (walked, tail) = walk_to_tail(options);
    tail.is_none().then_some(walked)
}

/// The options up to the first that lies, and where that one is.
pub fn walk_to_tail(options: &[u8]) -> (Vec<(u8, usize, usize)>, Option<usize>) {
    let (mut at, mut walked) = (0, Vec::new());
    while at < options.len() && options[at] != 0 {
        if options[at] == 1 {
            at += 1;
            continue;
        }
        let len = options.get(at + 1).map_or(0, |len| usize::from(*len));
        if len < 2 || at + len > options.len() {
            return (walked, Some(at));
        }
        walked.push((options[at], at, len));
        at += len;
    }
    (walked, None)
}

fn require(holds: bool, rule: &'static str) -> Checked {
    if holds { Ok(()) } else { Err(rule) }
}

pub fn can_be_client(ip: u32) -> bool {
    let nets = [
        (0, 8),
        (0x7f00_0000, 8),
        (0xa9fe_0000, 16),
        (0xe000_0000, 3),
        (0x0a00_0000, 8),
        (0x6440_0000, 10),
        (0xac10_0000, 12),
        (0xc0a8_0000, 16),
        (0xc000_0200, 32),
        (0xc000_0202, 32),
        (0xc000_02ff, 32),
    ];
    let held = nets.iter().any(|(net, len)| (ip ^ net) >> (32 - len) == 0);
    !held && ip != WEB.0 && ip != RAW.0 && !services().iter().any(|s| s.2.iter().any(|t| t.0 == ip))
}

type Endpoint = (u32, u16);

/// VIP, whether it is in pool mode, and targets of each service.
fn services() -> [(Endpoint, bool, Vec<Endpoint>); 3] {
    let many = [(0xc633_6414, 80), (0xc633_6415, 80), (0xc633_6416, 81)];
    [(WEB, true, vec![WEB_TARGET]), (MANY, true, many.to_vec()), (RAW, false, RAW_TARGETS.to_vec())]
}

fn in_pool(ip: u32) -> bool {
    ip & 0xffff_ff00 == 0x6440_0800
}

/// Checks all that was sent because of `frame`, which came in through `port`.
pub fn check(port: PortIndex, frame: &[u8], sent: &Sent) -> Checked {
    if let Some(checked) = check_fragment(port, frame, sent) {
        return checked;
    }
    // A datagram in fragments is judged as the one that they are of.
    if sent.len() > 1 && sent.iter().all(|(_, bytes)| is_fragment(bytes)) {
        let l3 = if word(frame, 12) == 0x8100 { 18 } else { 14 };
        let may = frame.len() > l3 + 7 && frame[l3 + 6] & 0x40 == 0;
        require(may, "fragments of what may not be fragmented")?;
        let out = sent[0].0;
        require(sent.iter().all(|(port, _)| *port == out), "fragments leave by several ports")?;
        let frames: Vec<_> = sent.iter().map(|(_, bytes)| bytes.clone()).collect();
        let mut whole = reassemble(&frames, 1500);
        // The ID is the POP's own, and fragments have the reserved bit clear, as kernels make them.
        whole[18..20].copy_from_slice(&frame[l3 + 4..l3 + 6]);
        whole[20] |= frame[l3 + 6] & 0x80;
        fill_header_checksum(&mut whole);
        return check_within(9000, port, frame, &vec![(out, whole)]);
    }
    check_within(1500, port, frame, sent)
}

fn is_fragment(frame: &[u8]) -> bool {
    frame.len() >= 34 && word(frame, 12) == 0x0800 && word(frame, 20) & 0x3fff != 0
}

fn check_within(mtu: u16, port: PortIndex, frame: &[u8], sent: &Sent) -> Checked {
    if sent.is_empty() {
        return Ok(());
    }
    let own_mac = if port == WAN { WAN_MAC } else { LAN_MAC };
    require(frame.len() >= 14, "a runt is answered")?;
    let to_us = frame[..6] == own_mac || frame[..6] == [0xff; 6] && word(frame, 12) == 0x0806;
    require(to_us && frame[6] & 1 == 0, "a frame of others is answered")?;
    let priority = word(frame, 12) == 0x8100 && frame.len() >= 18 && word(frame, 14) & 0xfff == 0;
    let l3 = if priority { 18 } else { 14 };
    if word(frame, l3 - 2) == 0x0806 {
        return check_arp(port, frame, &frame[l3..], sent);
    }
    require(word(frame, l3 - 2) == 0x0800, "an unknown ethertype is answered")?;
    let input = read_datagram(&frame[l3..]).ok_or("a malformed datagram is answered")?;
    let options = walk_options(input.options).ok_or("lying IPv4 options are answered")?;
    require(!options.iter().any(|o| [131, 137].contains(&o.0)), "a source route is followed")?;
    for (out, bytes) in sent {
        let peer: Mac = frame[6..12].try_into().unwrap();
        let (mac, gateway) =
            if *out == WAN { (WAN_MAC, WAN_GATEWAY) } else { (LAN_MAC, LAN_GATEWAY) };
        let reflected = *out == port;
        require(bytes[..6] == if reflected { peer } else { gateway }, "wrong destination MAC")?;
        require(bytes[6..12] == mac && word(bytes, 12) == 0x0800, "wrong Ethernet header")?;
        let output = check_datagram(mtu, &bytes[14..])?;
        let len = 14 + output.bytes.len();
        let padded = reflected && bytes.len() == 60 && bytes[len..].iter().all(|byte| *byte == 0);
        require(bytes.len() == len || padded, "the frame is longer than its datagram")?;
        match (reflected, output.protocol) {
            (true, 6) => check_own_reset(&input, &output)?,
            (true, 1) => check_own_icmp(port, &input, &output)?,
            (false, 6) => check_forwarded(*out, &input, &output)?,
            (false, 1) => check_error(*out, &input, &output)?,
            _ => return Err("neither TCP nor ICMP"),
        }
    }
    require(sent.len() == 1, "more frames than one")
}

fn check_arp(port: PortIndex, frame: &[u8], request: &[u8], sent: &Sent) -> Checked {
    let [(out, bytes)] = &sent[..] else { return Err("ARP gave more than one frame") };
    let (mac, own) = if port == WAN { (WAN_MAC, "192.0.2.2") } else { (LAN_MAC, "10.1.0.2") };
    let reply = arp(2, (mac, ip(own)), (request[8..14].try_into().unwrap(), long(request, 14)));
    require(*out == port && long(request, 24) == ip(own), "ARP for another port's address")?;
    let mut want = ethernet(frame[6..12].try_into().unwrap(), mac, None, 0x0806, &reply);
    want.resize(60, 0);
    require(*bytes == want, "wrong ARP reply")
}

/// What holds for any datagram that is sent.
fn check_datagram(mtu: u16, bytes: &[u8]) -> Result<Datagram<'_>, &'static str> {
    let slice = Ipv4HeaderSlice::from_slice(bytes).map_err(|_| "etherparse refuses the header")?;
    let header = slice.to_header();
    require(header.header_len() == 20, "IPv4 options are sent")?;
    // etherparse knows nothing of the reserved bit; `read_datagram` sums all bytes.
    let reserved = bytes[6] & 0x80 != 0;
    let sum_holds = header.header_checksum == header.calc_header_checksum();
    require(reserved || sum_holds, "wrong IPv4 checksum")?;
    require(!header.is_fragmenting_payload(), "a fragment is sent")?;
    require(header.total_len <= mtu, "larger than the MTU")?;
    read_datagram(bytes).ok_or("a malformed datagram is sent")
}

fn check_own_reset(input: &Datagram<'_>, output: &Datagram<'_>) -> Checked {
    let from = read_segment(input).ok_or("no segment is reset")?;
    let reset = read_segment(output).ok_or("a malformed RST is sent")?;
    require(
        (output.src, output.dst, output.ttl) == (input.dst, input.src, 64),
        "wrong RST header",
    )?;
    require((reset.sport, reset.dport) == (from.dport, from.sport), "wrong ports of a RST")?;
    require(output.bytes.len() == 40 && reset.flags & !ACK == RST, "a RST is not bare")?;
    require(from.flags & RST == 0 && reset.checksum_holds, "a RST is wrong or for a RST")
}

fn check_own_icmp(port: PortIndex, input: &Datagram<'_>, output: &Datagram<'_>) -> Checked {
    let message = output.payload;
    require(checksum(&[message]) == 0, "wrong ICMP checksum")?;
    require((output.dst, output.ttl) == (input.src, 64), "wrong header of an ICMP answer")?;
    if message[0] == 0 {
        require(input.protocol == 1 && input.payload[0] == 8, "no echo request is answered")?;
        require(output.src == input.dst && input.payload[4..] == message[4..], "wrong echo reply")?;
        return require(checksum(&[input.payload]) == 0, "a damaged echo is answered");
    }
    // Nothing is said in the name of a client.
    let to_client = port == LAN && input.protocol == 6 && !in_pool(input.dst);
    let own = if to_client { ip("10.1.0.2") } else { input.dst };
    require(output.src == own, "wrong source of an error")?;
    let quoted = &input.bytes[..input.bytes.len().min(548)];
    require(&message[8..] == quoted, "an error does not quote the datagram")?;
    match (input.protocol, message[0], message[1]) {
        (6, 11, 0) => require(input.ttl <= 1, "time exceeded before it was"),
        (6, 3, 4) => require(input.bytes[6] & 0x40 != 0, "frag-needed without DF"),
        (17, 3, 3) => Ok(()),
        _ => Err("an error of another kind"),
    }
}

/// A segment that was sent on.
fn check_forwarded(out: PortIndex, input: &Datagram<'_>, output: &Datagram<'_>) -> Checked {
    let from = read_segment(input).ok_or("a malformed segment is sent on")?;
    let to = read_segment(output).ok_or("a malformed segment is sent")?;
    require(input.ttl > 1 && output.ttl == input.ttl - 1, "TTL is not one less")?;
    require(input.bytes[1] == output.bytes[1], "DSCP or ECN is changed")?;
    require(input.bytes[4..8] == output.bytes[4..8], "ID or DF is changed")?;
    require(from.fixed == to.fixed && from.data == to.data, "what nobody changes is changed")?;
    require(from.checksum_holds == to.checksum_holds, "damage is hidden or done")?;
    let (source, destination) = ((output.src, to.sport), (output.dst, to.dport));
    let pool_mode = if out == LAN {
        let vip = (input.dst, from.dport);
        let service = services().into_iter().find(|service| service.0 == vip);
        let (_, pool, targets) = service.ok_or("no service is there")?;
        require(can_be_client(input.src) && from.sport != 0, "no client sent this")?;
        require(targets.contains(&destination), "to no target of the service")?;
        let egress = in_pool(source.0) && source.1 >= 1024;
        let client = source == (input.src, from.sport);
        require(if pool { egress } else { client }, "from a wrong source")?;
        require(to.flags & (SYN | ACK) != SYN | ACK, "a SYN|ACK goes to a target")?;
        pool
    } else {
        let target = (input.src, from.sport);
        let mut of_target = services().into_iter().filter(|service| service.2.contains(&target));
        let service = of_target.find(|service| service.0 == source);
        let (_, pool, _) = service.ok_or("from a VIP of another service")?;
        require(can_be_client(output.dst) && to.dport != 0, "to no client")?;
        let addressed =
            if pool { in_pool(input.dst) } else { destination == (input.dst, from.dport) };
        require(addressed, "to a client that it was not sent to")?;
        require(to.flags & (SYN | ACK) != SYN, "a SYN goes to a client")?;
        pool
    };
    check_options(out, pool_mode, &from, &to)
}

/// What a client's segment that is no SYN loses: options that name a client.
pub fn remove_client_address(options: &mut [u8], out: PortIndex) -> Checked {
    for (kind, at, len) in walk_options(options).ok_or("lying options are sent on")? {
        if out == LAN && [200, 253, 254].contains(&kind) {
            options[at..at + len].fill(1);
        }
    }
    Ok(())
}

pub fn check_options(out: PortIndex, pool: bool, from: &Segment<'_>, to: &Segment<'_>) -> Checked {
    let after = walk_options(to.options).ok_or("lying options are sent")?;
    let stamps = |walked: &[(u8, usize, usize)]| walked.iter().filter(|o| o.0 == 8).count();
    require(after.iter().all(|o| o.0 != 8 || o.2 == 10), "timestamps of a wrong length")?;
    if to.flags & SYN != 0 {
        let doomed = |kind| [19, 29, 30, 34, 200, 253, 254].contains(&kind);
        require(!after.iter().any(|o| doomed(o.0)), "an option that does not survive")?;
        let mut mss = after.iter().filter(|o| (o.0, o.2) == (2, 4));
        require(mss.all(|o| word(to.options, o.1 + 2) <= 1460), "MSS is not clamped")?;
        if !pool {
            return Ok(());
        }
        let (before, _) = walk_to_tail(from.options);
        if out == WAN {
            let echo = before.iter().find(|o| o.0 == 8).ok_or("a SYN|ACK without a tag")?.1 + 6;
            let kept = usize::from(long(from.options, echo) & 1 == 1);
            return require(stamps(&after) == kept, "timestamps that the client did not ask for");
        }
        require(stamps(&after) == 1, "a SYN without its tag")?;
        return check_low_bit(to, &after, stamps(&before) == 0);
    }
    let before = walk_options(from.options).ok_or("lying options are sent on")?;
    if out == LAN {
        require(!after.iter().any(|o| [200, 253, 254].contains(&o.0)), "a client names itself")?;
    }
    if !pool {
        let mut want = from.options.to_vec();
        remove_client_address(&mut want, out)?;
        return require(want == to.options, "options are changed in transparent mode");
    }
    if out == LAN && stamps(&before) == 0 {
        let inserted = to.options[..4] == [1, 1, 8, 10] && stamps(&after) == 1;
        require(inserted && long(to.options, 8) == 0, "no tag is put in")?;
        return check_low_bit(to, &after, false);
    }
    // In place: all but four bytes, the tag's or those of TSecr, is the same.
    let at = before.iter().find(|o| o.0 == 8).ok_or("timestamps come from nowhere")?.1;
    let changed = if out == LAN { at + 2..at + 6 } else { at + 6..at + 10 };
    let mut expected = from.options.to_vec();
    remove_client_address(&mut expected, out)?;
    require(to.options.len() == expected.len(), "options grow or shrink")?;
    expected[changed.clone()].copy_from_slice(&to.options[changed.clone()]);
    require(expected == to.options, "other options are changed")?;
    let value = long(to.options, changed.start);
    require(if out == LAN { value > 1 } else { value == 0 }, "a tag of zero, or one that leaks")?;
    if out == LAN { check_low_bit(to, &after, false) } else { Ok(()) }
}

/// The low bit of TSval is 0 in a bare SYN alone.
fn check_low_bit(to: &Segment<'_>, walked: &[(u8, usize, usize)], bare_syn: bool) -> Checked {
    let at = walked.iter().find(|o| o.0 == 8).ok_or("no tag")?.1 + 2;
    require((long(to.options, at) & 1 == 0) == bare_syn, "the low bit of a tag is wrong")
}

/// Somebody's ICMP error that was sent on.
fn check_error(out: PortIndex, input: &Datagram<'_>, output: &Datagram<'_>) -> Checked {
    let (from, to) = (input.payload, output.payload);
    require(input.protocol == 1 && from.len() >= 36, "no error is sent on as one")?;
    require(checksum(&[from]) == 0, "a damaged error is sent on")?;
    require(checksum(&[to]) == 0, "wrong ICMP checksum")?;
    require(from[..2] == to[..2] && [3, 11, 12].contains(&to[0]), "type or code is changed")?;
    require(input.ttl > 1 && output.ttl == input.ttl - 1, "TTL is not one less")?;
    let target = services().iter().any(|service| service.2.iter().any(|t| t.0 == output.dst));
    require(if out == LAN { target } else { can_be_client(output.dst) }, "to nobody it concerns")?;
    let quote = &to[8..];
    require(quote.len() >= 28 && quote[0] == 0x45, "a quote without headers")?;
    require(long(quote, 12) == output.dst, "a quote of somebody else's segment")?;
    require(long(quote, 16) == output.src, "not from the endpoint's own peer")?;
    let held = from[8] == 0x45 && checksum(&[&from[8..28]]) == 0;
    require(!held || checksum(&[&quote[..20]]) == 0, "wrong checksum in the quote")?;
    // The POP may have put timestamps into the client's segment.
    let pool = if out == LAN { (output.src, 1280) } else { (input.dst, 1280 - 12) };
    let floor = if in_pool(pool.0) { pool.1 } else { 552 };
    require(to[..2] != [3, 4] || word(to, 6) >= floor, "an MTU below the floor")
}
