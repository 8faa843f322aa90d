//! ICMP errors about the outer datagrams of tunnels to targets: each becomes one about the client's
//! datagram inside, for the client (RFC 2003, section 4; RFC 2473, section 8).

use std::net::{IpAddr, SocketAddr};

use super::super::egress::Egress;
use super::super::egress::ship::{Transform, Transmit, ship};
use super::super::limits::Limits;
use super::super::output::{Note, Output};
use super::super::packet::Packet;
use super::icmp::{announced, remember_unreachable};
use crate::config::{Encapsulate, Encapsulation};
use crate::frame::{self, Frame};
use crate::net::{Address, Family, IpEndpoint, ServiceIndex, Towards};
use crate::relay::Relay;
use crate::relay::encapsulated::Carried;
use crate::relay::icmp::Quote;
use crate::relay::mapping::{EgressSide, Mapping};
use crate::snapshot::Snapshot;
use crate::verdict::{AbsorbKind, DropReason};
use crate::wire::icmp_error::{self, HEADER_LEN, IcmpError};
use crate::wire::ipv4::Ipv4;
use crate::wire::ipv6::Ipv6;
use crate::wire::{ip, ipv4, ipv6};

/// What an error quotes: an outer datagram, and in it the beginning of a client's.
pub(in crate::pop) struct OuterQuote {
    /// A POP and a target.
    ends: (IpAddr, IpAddr),
    protocol: Encapsulate,
    /// Where the client's datagram begins in the quote.
    at: usize,
    quote: Quote,
}

impl OuterQuote {
    /// Reads the quote in `bytes`, which follow the header of an error of `family`. `None` for
    /// what is no datagram in another, or shows too little of it.
    pub fn parse(family: Family, bytes: &[u8]) -> Option<OuterQuote> {
        let (ends, protocol, at) = match family {
            Family::V4 => {
                let outer = Ipv4::parse_quoted(bytes).filter(|outer| !outer.is_later_fragment())?;
                ((outer.src.ip(), outer.dst.ip()), outer.protocol, outer.header_len)
            }
            Family::V6 => {
                let (outer, upper) = Ipv6::parse_quoted(bytes)?;
                ((outer.src.ip(), outer.dst.ip()), upper.protocol, upper.at)
            }
        };
        let carried = Carried::find(protocol, bytes.get(at..)?)?;
        let at = at + carried.at;
        let quote = Quote::parse(carried.family, bytes.get(at..)?).ok()?;
        Some(OuterQuote { ends, protocol: carried.protocol, at, quote })
    }

    /// The source of the outer datagram.
    pub fn from(&self) -> IpAddr {
        self.ends.0
    }

    /// The service of the client's datagram, if that left in this tunnel of it.
    fn relay<'a>(&self, snapshot: &'a Snapshot) -> Option<(ServiceIndex, &'a Relay)> {
        let protocol = self.quote.protocol();
        let index = match self.quote.dst() {
            IpEndpoint::V4(vip) => snapshot.service_at(protocol, vip.ip, vip.port),
            IpEndpoint::V6(vip) => snapshot.service_at(protocol, vip.ip, vip.port),
        }?;
        let relay = snapshot.relay(index)?;
        let Encapsulation { protocol, from, .. } = relay.mode.tunnel()?.encapsulation();
        (*protocol == self.protocol && *from == self.from()).then_some((index, relay))
    }
}

/// Tells the client of an error about the datagram that its own left in.
#[cold]
#[inline(never)]
pub(in crate::pop) fn outer_error<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    limits: &mut Limits<'_>,
    packet: &Packet,
    frame: F,
    outer: &OuterQuote,
) {
    let Some((service, relay)) = outer.relay(egress.arrival.snapshot) else {
        return egress.drop(None, DropReason::IcmpQuote, frame);
    };
    match about::<F, O>(egress, packet, &frame, outer, relay) {
        Ok((rewrite, mapping)) => {
            let chosen = relay.targets.choose(&mapping.client, egress.arrival.unix);
            let is_unreachable = matches!(rewrite.error, IcmpError::Unreachable(_));
            if is_unreachable && remember_unreachable(egress, relay, &mapping, chosen, &outer.quote)
            {
                return egress.absorb(AbsorbKind::Unreachable, frame);
            }
            let (towards, destination) = (Towards::Clients, mapping.client.ip());
            let (slot, target) = (relay.slot, None);
            let transmit =
                Transmit { service, slot, towards, destination, is_copy: false, target, rewrite };
            ship(egress, limits, packet, frame, &transmit);
        }
        Err(reason) => egress.drop(Some(service), reason, frame),
    }
}

/// What the client is told.
fn about<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    packet: &Packet,
    frame: &F,
    outer: &OuterQuote,
    relay: &Relay,
) -> Result<(OuterRewrite, Mapping), DropReason> {
    let (arrival, quote) = (egress.arrival, &outer.quote);
    let (client, vip) = (quote.src(), quote.dst());
    if !arrival.takes_targets() {
        return Err(DropReason::WrongSide);
    }
    if !arrival.snapshot.is_client(&client) {
        return Err(DropReason::IcmpQuote);
    }
    let target = IpEndpoint::from(SocketAddr::new(outer.ends.1, vip.port()));
    let index = relay.targets.index_of(&target).ok_or(DropReason::IcmpQuote)?;
    let chosen = relay.targets.choose(&client, arrival.unix);
    if !chosen.candidates.has(index) && chosen.new != Some(index) {
        return Err(DropReason::IcmpQuote);
    }
    let mapping = Mapping::new(client, EgressSide { egress: client, tag: None }, target);
    egress.note::<F>(Note::Mapped(relay.mode.name(), mapping));
    let family = packet.segment.ip.family();
    let message = packet.message(frame);
    let head = message.first_chunk().ok_or(DropReason::IcmpMalformed)?;
    let mut error = IcmpError::parse(family, head).ok_or(DropReason::IcmpType)?;
    if let IcmpError::TooBig(mtu) = error {
        let overhead = relay.mode.tunnel().map_or(0, |tunnel| tunnel.encapsulation().overhead());
        let inside = u32::from(mtu).saturating_sub(overhead as u32);
        let told = announced(egress, relay, quote, inside, (Towards::Clients, client.ip()));
        error = IcmpError::TooBig(u16::try_from(told).unwrap_or(u16::MAX));
    }
    // Extensions (RFC 4884) follow the quote, where its length is given.
    let end = icmp_error::quote_len(family, head).map(|len| HEADER_LEN + len);
    let rewrite = OuterRewrite { error, client, vip, quote_at: HEADER_LEN + outer.at, end };
    Ok((rewrite, mapping))
}

/// An error about an outer datagram that becomes one about the client's.
struct OuterRewrite {
    error: IcmpError,
    client: IpEndpoint,
    vip: IpEndpoint,
    /// Where the client's datagram begins in the ICMP message.
    quote_at: usize,
    /// Where the quote ends in it, if that is not its end.
    end: Option<usize>,
}

impl Transform for OuterRewrite {
    type Plan = ();

    const IS_ICMP_ERROR: bool = true;

    fn charged(&self) -> Option<IpAddr> {
        Some(self.client.ip())
    }

    fn plan<F: Frame>(&self, _: &Packet, _: &F) -> Result<(), DropReason> {
        Ok(())
    }

    /// The error comes from whom the client knows as its peer.
    fn apply<F: Frame>(
        &self,
        packet: &Packet,
        frame: &mut F,
        (): &(),
    ) -> Result<usize, DropReason> {
        let (src, dst) = (self.vip.ip(), self.client.ip());
        let (family, message) = (Family::of(dst), packet.l4());
        if let Some(end) = self.end.filter(|end| *end > self.quote_at) {
            frame.truncate(message + end);
        }
        let quote_at = message + self.quote_at;
        frame.truncate(quote_at + icmp_error::quote_len_max(family));
        let at = frame::put_before(frame, quote_at, &[0; HEADER_LEN]).ok_or(DropReason::NoRoom)?;
        let message = frame.bytes_mut().get_mut(at..).unwrap_or_default();
        self.error.write(src, dst, message);
        let (payload_len, protocol) = (message.len() as u16, icmp_error::protocol(family));
        let hops = ipv4::ORIGINATED_TTL;
        let header = ip::Header { class: 0, hops, protocol, payload_len, src, dst };
        let mut bytes = [0; ipv6::HEADER_LEN];
        header.write(&mut bytes);
        let header = bytes.get(..family.ip_header_len()).unwrap_or_default();
        frame::put_before(frame, at, header).ok_or(DropReason::NoRoom)
    }
}
