//! Routers behind the POPs that report a segment (ICMP, ICMPv6): the report must come to who sent
//! the segment, from the peer that it knows, about the segment as it sent it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyrelay_core::verdict::{AbsorbKind, DropReason, Verdict};
use anyrelay_kit::frames::{
    ACK, ICMP, ICMPV6, SYN, datagram, icmp6, internet_checksum, long, word,
};
use anyrelay_kit::pop::Recorder;

use crate::checks::{At, Input, Memory};
use crate::network::Packet;
use crate::setup::{Mode, Port, Setup, TUNNEL4, TUNNEL6};
use crate::stamps::Origin;
use crate::wire::{self, Datagram, SegmentView};
use crate::world::{Event, World};

/// What an ICMP error must be when it comes to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reported {
    /// The ends of the segment, as its sender sent it: from the first to the second.
    pub src: SocketAddr,
    pub dst: SocketAddr,
    pub seq: u32,
    /// The VIP and the client of the connection, and the target that the quote names.
    pub vip: SocketAddr,
    pub client: SocketAddr,
    pub target: SocketAddr,
    /// The acknowledgment number of the segment, if it has one, and whether the quote shows all of
    /// the header.
    pub ack: Option<(u32, bool)>,
    /// It was a SYN, and the quote shows that.
    pub shows_syn: bool,
    pub says_unreachable: bool,
    /// What it announces, if it announces an MTU.
    pub mtu: Option<u16>,
    /// The timestamps in its quote, or that there are none, where the quote shows all options.
    pub stamps: Option<Option<(u32, u32)>>,
}

impl World {
    /// A router drops a segment that a POP has sent on, and reports it. `sent` is what its sender
    /// had sent, `port` where the router is.
    pub(crate) fn report(&mut self, port: Port, became: &Packet, sent: &SegmentView<'_>) {
        let Some(ip) = Datagram::read(&became.bytes) else { return };
        let Some(out) = ip.segment() else { return };
        if [TUNNEL4, TUNNEL6].contains(&sent.dst) {
            return;
        }
        let service = match port {
            Port::Lan => self.setup.service_at(sent.dst),
            Port::Wan => self.setup.service_of(sent.src, sent.dst.ip()),
        };
        let Some(mode) = service.map(|at| self.setup.services[at].mode) else { return };
        let quote = self.quote(mode, port, ip.payload_at, out.options.len(), ip.bytes.len());
        let v6 = ip.src.is_ipv6();
        let mtu = if v6 { 1280 } else { 1180 } + self.rng.below(200) as u16;
        let (kind, code, announced) = match (self.rng.below(3), v6) {
            (0, false) => (11, 0, None),
            (0, true) => (3, 0, None),
            (1, false) => (3, 1, None),
            (1, true) => (1, 0, None),
            (_, false) => (3, 4, Some(mtu)),
            (_, true) => (2, 0, Some(mtu)),
        };
        let [high, low] = announced.unwrap_or(0).to_be_bytes();
        let message = icmp6(kind, code, [0, 0, high, low], &ip.bytes[..quote.len]);
        let router: IpAddr = match v6 {
            false => Ipv4Addr::new(198, 19, 7, 7).into(),
            true => Ipv6Addr::new(0x2001, 0xdb8, 0x99, 0, 0, 0, 0, 7).into(),
        };
        let protocol = if v6 { ICMPV6 } else { ICMP };
        let bytes = datagram(router, ip.src, 64, protocol, &message);
        // Clients share what a target remembers of an address of a pool.
        let floor = if mode.is_pool() { 1280 } else { 552 };
        let mtu = announced.map(|mtu| mtu.max(floor)).map(|mtu| match (mode, port) {
            // It may be about a segment that a POP made longer.
            (Mode::Pool(..) | Mode::Pool6(..), Port::Lan)
                if out.timestamps().is_some_and(|(_, echo)| echo == 0) =>
            {
                // No host over IPv6 takes less than 1280.
                if v6 { (mtu - 12).max(1280) } else { mtu - 12 }
            }
            (Mode::Prefix(..), Port::Lan) => mtu - 20,
            (Mode::Prefix(..), Port::Wan) => (mtu + 20).max(1280),
            _ => mtu,
        });
        let stamps = quoted_stamps(mode, port, sent, &out).filter(|_| quote.shows_options);
        let (vip, client, target) = match port {
            Port::Lan => (sent.dst, sent.src, out.dst),
            Port::Wan => (out.src, out.dst, sent.src),
        };
        let shows_header = quote.len >= ip.payload_at + 20;
        let reported = Reported {
            src: sent.src,
            dst: sent.dst,
            seq: sent.seq,
            vip,
            client,
            target,
            ack: sent.has(ACK).then_some((sent.ack, shows_header)),
            shows_syn: sent.has(SYN) && quote.len > ip.payload_at + 13,
            says_unreachable: (kind, code) == (3, 1) && !v6 || (kind, code) == (1, 0),
            mtu,
            stamps,
        };
        let origin = Origin { stamps: None, sent_us: self.now_us };
        let packet = Packet {
            reported: Some(reported),
            refused: quote.refused,
            ..Packet::new(bytes, origin)
        };
        let pop = self.route(port, &packet.bytes);
        self.send(packet, |packet| Event::ToPop(pop, port, packet));
    }

    /// An error about a segment to a client goes to each of its targets, which know it as theirs.
    pub(crate) fn readdress(&self, packet: &mut Packet) {
        let Some(reported) = &mut packet.reported else { return };
        let Some(ip) = Datagram::read(&packet.bytes) else { return };
        let of = |at: usize| self.setup.services[at].targets.iter();
        let Some(service) = self.setup.service_at(reported.vip) else { return };
        let same = |target: &&SocketAddr| target.ip() == ip.dst;
        if let Some(target) = of(service).find(same) {
            reported.src = *target;
        }
    }

    /// How much of a segment a router quotes: as much as it likes, which may be too little.
    fn quote(
        &mut self,
        mode: Mode,
        port: Port,
        tcp_at: usize,
        options_len: usize,
        len: usize,
    ) -> Quote {
        let headers = tcp_at + 20 + options_len;
        // Ports and number, by which all is mapped but what has a tag.
        let needed = match (mode, port) {
            (Mode::Pool(..) | Mode::Pool6(..), Port::Lan) => headers,
            _ => tcp_at + 8,
        };
        let past = mode == Mode::Transparent && port == Port::Lan;
        // Of a tunnel, both IP headers.
        let least = if matches!(mode, Mode::Tunnel(..)) { tcp_at } else { 0 };
        let (from, to, refused) = match self.rng.below(5) {
            // Those to the client of a transparent service are to nobody of the POP's.
            0 if past => (0, needed, Some(DropReason::NotOurs)),
            0 => (least, needed, Some(DropReason::IcmpQuote)),
            1 | 2 => (needed, headers + 1, None),
            _ => (headers, len.min(548) + 1, None),
        };
        let quoted = from + self.rng.below((to - from) as u64) as usize;
        Quote { len: quoted, shows_options: quoted >= headers, refused }
    }

    /// An ICMP message comes to a host; `reported` is what it must be.
    pub(crate) fn arrive_error(&mut self, ip: &Datagram<'_>, reported: Option<&Reported>) {
        // Others are a POP's own about a datagram of the host's, checked where they left.
        let Some(wanted) = reported else { return };
        if let Err(text) = check(ip, wanted) {
            let bytes = ip.bytes;
            self.fail(format!("an ICMP error to {}: {text}: {wanted:?}: {bytes:02x?}", ip.dst));
        }
        self.counts.errors_seen += 1;
    }
}

/// Whether a POP did with an error what it must, as far as that depends on the client's targets.
pub fn check_error(
    setup: &Setup,
    memory: &mut Memory,
    at: At<'_>,
    (input, reported): (&Input<'_>, &Reported),
    out: &Recorder,
) -> Result<(), String> {
    let Some(service) = setup.service_at(reported.vip) else { return Ok(()) };
    let choice = at.choose(setup, service, reported.client);
    let taken = out.verdicts().any(|one| one == Verdict::Absorb(AbsorbKind::Unreachable));
    let forwarded = out.verdicts().filter(|one| matches!(one, Verdict::Forward(_))).count();
    let dropped = |reasons: &[DropReason]| out.drops().any(|reason| reasons.contains(&reason));
    let foreign = dropped(&[DropReason::IcmpQuote, DropReason::NotOurs]);
    if input.port == Port::Wan {
        if taken || foreign {
            return Err("an error to the targets is taken in, or dropped".into());
        }
        let beside = choice.new.filter(|new| !choice.candidates.contains(new));
        let several = choice.candidates.len() + usize::from(beside.is_some());
        return match forwarded == several || out.drops().next().is_some() {
            true => Ok(()),
            false => Err(format!("an error goes to {forwarded} targets of {several}")),
        };
    }
    let of_its = choice.has(reported.target);
    let silent = reported.says_unreachable && !reported.shows_syn;
    if taken {
        let place = (service, reported.client, reported.target);
        let may = silent && of_its && memory.note_unreachable(setup, at, place, reported.ack);
        return if may {
            Ok(())
        } else {
            Err("an error that must be passed on is taken in".into())
        };
    }
    if forwarded > 0 && (!of_its || silent && choice.candidates.len() > 1) {
        return Err("an error is passed on that must not be".into());
    }
    match foreign && of_its {
        true => Err("an error of one of the client's targets is dropped".into()),
        false => Ok(()),
    }
}

/// What a router quotes.
struct Quote {
    len: usize,
    /// All options of the segment are in it.
    shows_options: bool,
    /// Too little to tell whose it is: what is to become of the error.
    refused: Option<DropReason>,
}

/// The timestamps that a quote of all options has where it arrives; the segment was `sent`, and
/// became `out` (`docs/protocol.md`, section 10).
fn quoted_stamps(
    mode: Mode,
    port: Port,
    sent: &SegmentView<'_>,
    out: &SegmentView<'_>,
) -> Option<Option<(u32, u32)>> {
    match (mode.is_pool(), port, out.timestamps()) {
        (true, Port::Lan, Some((_, 0))) => Some(None),
        // The client's own TSval is not known.
        (true, Port::Lan, Some((_, echo))) => Some(Some((0, echo))),
        // The target sent a tag, whose low bit is clear in a SYN-ACK to a bare SYN alone.
        (true, Port::Wan, stamps) => {
            let (_, echo) = sent.timestamps()?;
            Some(Some(stamps.map_or((0, echo), |(value, _)| (value, echo | 1))))
        }
        _ => Some(sent.timestamps()),
    }
}

fn check(ip: &Datagram<'_>, wanted: &Reported) -> Result<(), String> {
    if ip.dst != wanted.src.ip() {
        return Err("it comes to somebody else".into());
    }
    if ip.src != wanted.dst.ip() {
        return Err(format!("it comes from {}, not from the peer", ip.src));
    }
    let v6 = ip.src.is_ipv6();
    let message = ip.payload();
    if ip.protocol != if v6 { ICMPV6 } else { ICMP } || !wire::icmp_holds(ip) {
        return Err("it is damaged".into());
    }
    let quote = message.get(8..).unwrap_or_default();
    let header_len = if v6 { wire::upper6(quote).map_or(40, |(_, at)| at) } else { 20 };
    let (Some(header), Some(tcp)) = (quote.get(..header_len), quote.get(header_len..)) else {
        return Err("its quote is cut off".into());
    };
    if header[0] != if v6 { 0x60 } else { 0x45 } && header[0] >> 4 != if v6 { 6 } else { 4 } {
        return Err("its quote is of another family".into());
    }
    if !v6 && internet_checksum(&[header]) != 0 {
        return Err("the checksum of the quoted header is wrong".into());
    }
    let address = |at: usize| -> IpAddr {
        match v6 {
            false => Ipv4Addr::from_bits(long(quote, at)).into(),
            true => {
                let mut octets = [0; 16];
                octets.copy_from_slice(&quote[at..at + 16]);
                Ipv6Addr::from(octets).into()
            }
        }
    };
    let (src, dst) = if v6 { (address(8), address(24)) } else { (address(12), address(16)) };
    let src = SocketAddr::new(src, word(tcp, 0));
    let dst = SocketAddr::new(dst, word(tcp, 2));
    if (src, dst, long(tcp, 4)) != (wanted.src, wanted.dst, wanted.seq) {
        return Err(format!("it is about {src} to {dst}, number {}", long(tcp, 4)));
    }
    if let Some(stamps) = wanted.stamps {
        let header_len = tcp.get(12).map_or(0, |byte| usize::from(byte >> 4) * 4);
        let options = tcp.get(20..header_len).ok_or("its quote has lost options")?;
        let quoted = wire::timestamps(options);
        if quoted != stamps {
            return Err(format!("its quote has the timestamps {quoted:?}"));
        }
    }
    let announces = match (v6, message[0], message[1]) {
        (false, 3, 4) | (true, 2, 0) => Some(word(message, 6)),
        _ => None,
    };
    if announces != wanted.mtu {
        return Err(format!("it announces an MTU of {announces:?}"));
    }
    Ok(())
}
