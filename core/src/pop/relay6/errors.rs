//! ICMP errors about segments of relay services with IPv6 on a side: each goes, in the family of the
//! endpoint that sent the segment, to that endpoint, with its own segment quoted.

use std::net::IpAddr;

use super::{endpoints, endpoints6, ethertype};
use crate::frame::Frame;
use crate::net::Towards;
use crate::net::{Address, Endpoint, ServiceIndex};
use crate::pop::errors::Error;
use crate::pop::ingress::Packet;
use crate::pop::run::Run;
use crate::pop::{Note, Output};
use crate::relay::icmp::{
    Mapping4, Mapping6, Quote6, apply_4to6, apply_6to4, apply_6to6, mtu_for_ipv4, mtu_for_ipv6,
};
use crate::snapshot::{Destination, Mode6, Service6};
use crate::verdict::{DropReason, Verdict};
use crate::wire::ipv6;

/// An ICMPv6 error in hand.
pub(in crate::pop) struct Error6<'a> {
    pub packet: &'a Packet,
    pub quote: Quote6,
    /// The MTU that it announces.
    pub mtu: Option<u32>,
}

/// Whom an error goes to.
struct Way {
    towards: Towards,
    /// The endpoint that it concerns.
    dst: IpAddr,
    /// The client of the connection, whichever side the error goes to.
    client: IpAddr,
}

/// What an ICMPv6 error becomes.
enum Mapping {
    To4(Mapping4),
    To6(Mapping6),
}

impl<'a, O> Run<'a, O> {
    /// About a segment that a POP sent on to a client over IPv4, out of one over IPv6: for the target.
    #[cold]
    #[inline(never)]
    pub(in crate::pop) fn error_to_prefix<F: Frame>(
        &mut self,
        error: &Error<'_>,
        frame: F,
        of: ServiceIndex,
        service: &'a Service6,
    ) where
        O: Output<F>,
    {
        let Error { packet, quote, announced, .. } = error;
        let (ip, client) =
            (&packet.segment.ip, Endpoint { ip: quote.ip.dst, port: quote.dst_port });
        if !self.takes_clients() {
            return self.drop(Some(of), DropReason::WrongSide, frame);
        }
        if !self.snapshot.client_ok(client.ip) || client.port == 0 {
            return self.drop(Some(of), DropReason::IcmpQuote, frame);
        }
        let (Mode6::Prefix { map, .. }, Some(target)) =
            (&service.mode, service.rendezvous.choose4(client))
        else {
            return self.drop(Some(of), DropReason::IcmpQuote, frame);
        };
        let egress = Endpoint { ip: map.address(client.ip), port: client.port };
        self.note(Note::Prefixed { client, egress, target });
        let floor = self.snapshot.config.pop.icmp_mtu_floor;
        // A router that announces 0 does not know of announcing: that is for the table of likely ones.
        let mtu = announced.map(|mtu| if mtu == 0 { 0 } else { mtu.max(floor) });
        let mtu = mtu.map(|mtu| mtu_for_ipv6(mtu, quote.ip.total_len));
        let mapping = Mapping6 { quote: endpoints6(target, egress), mtu };
        let way = Way { towards: Towards::Targets, dst: target.ip.ip(), client: client.ip.ip() };
        let apply = |frame: &mut F| apply_4to6(frame, packet.segment.l3, ip, quote, &mapping);
        self.pass_error(frame, of, service, ip.ttl, &way, apply);
    }

    /// About a segment over IPv6 of a relay. `to` is what the error's destination means.
    pub(in crate::pop) fn relay_error6<F: Frame>(
        &mut self,
        error: &Error6<'_>,
        frame: F,
        to: Destination,
    ) where
        O: Output<F>,
    {
        let quote = &error.quote;
        let (ip, port) = (quote.ip.dst, quote.dst_port);
        let of = match to {
            Destination::Vip => self.snapshot.service_at6(quote.ip.src, quote.src_port),
            Destination::Pool(prefix) => self.snapshot.service_from_prefix(prefix, ip, port),
            _ => self.snapshot.transparent_service6(ip, port),
        };
        let found = of.and_then(|of| Some((of, self.snapshot.service6(of)?)));
        let Some((of, service)) = found else {
            let other = to == Destination::Other;
            let reason = if other { DropReason::NotOurs } else { DropReason::IcmpQuote };
            return self.drop(None, reason, frame);
        };
        let towards = if to == Destination::Vip { Towards::Targets } else { Towards::Clients };
        let mapped = match towards {
            Towards::Targets => self.mapping6_for_target(error, service),
            Towards::Clients => self.mapping6_for_client(error, service),
        };
        let (mapping, dst, client) = match mapped {
            Ok(mapped) => mapped,
            Err(reason) => return self.drop(Some(of), reason, frame),
        };
        let (packet, way) = (error.packet, Way { towards, dst, client });
        let (l3, ip, at) = (packet.segment.l3, &packet.ipv6.ip, packet.ipv6.upper.at);
        match mapping {
            Mapping::To4(mapping) => {
                let apply = |frame: &mut F| apply_6to4(frame, l3, (ip, at), quote, &mapping);
                self.pass_error(frame, of, service, ip.hop_limit, &way, apply);
            }
            Mapping::To6(mapping) => {
                let apply = |frame: &mut F| {
                    apply_6to6(frame, l3, (ip, at), quote, &mapping);
                    Ok(l3)
                };
                self.pass_error(frame, of, service, ip.hop_limit, &way, apply);
            }
        }
    }

    /// About a segment on its way to a target.
    fn mapping6_for_client<F: Frame>(
        &mut self,
        error: &Error6<'_>,
        service: &Service6,
    ) -> Result<(Mapping, IpAddr, IpAddr), DropReason>
    where
        O: Output<F>,
    {
        let Error6 { quote, mtu, .. } = error;
        if !self.takes_targets() {
            return Err(DropReason::WrongSide);
        }
        let from = Endpoint { ip: quote.ip.src, port: quote.src_port };
        let target = Endpoint { ip: quote.ip.dst, port: quote.dst_port };
        match &service.mode {
            Mode6::Prefix { vip, map, .. } => {
                let client_ok = |ip: &u32| self.snapshot.client_ok(*ip) && from.port != 0;
                let ip = map.client(from.ip).filter(client_ok).ok_or(DropReason::BadTag)?;
                let client = Endpoint { ip, port: from.port };
                self.note(Note::Prefixed { client, egress: from, target });
                // No POP sent the segment if it is not to the target that they all choose.
                if service.rendezvous.choose4(client) != Some(target) {
                    return Err(DropReason::IcmpQuote);
                }
                let floor = self.snapshot.config.pop.icmp_mtu_floor;
                let mtu = mtu.map(|mtu| mtu_for_ipv4(mtu).max(floor));
                let mapping = Mapping4 { quote: endpoints(client, *vip), mtu };
                Ok((Mapping::To4(mapping), ip.ip(), ip.ip()))
            }
            Mode6::Transparent { vip } => {
                if !self.snapshot.client_ok6(from.ip) || from.port == 0 {
                    return Err(DropReason::NotOurs);
                }
                self.note(Note::Passed6 { client: from, target });
                // Clients may reach other targets by their own addresses, past the POP.
                if service.rendezvous.choose6(from) != Some(target) {
                    return Err(DropReason::NotOurs);
                }
                let mapping = Mapping6 { quote: endpoints6(from, *vip), mtu: raised(*mtu) };
                Ok((Mapping::To6(mapping), from.ip.ip(), from.ip.ip()))
            }
        }
    }

    /// About a segment on its way to a client.
    fn mapping6_for_target<F: Frame>(
        &mut self,
        error: &Error6<'_>,
        service: &Service6,
    ) -> Result<(Mapping, IpAddr, IpAddr), DropReason>
    where
        O: Output<F>,
    {
        let Error6 { quote, mtu, .. } = error;
        if !self.takes_clients() {
            return Err(DropReason::WrongSide);
        }
        let client = Endpoint { ip: quote.ip.dst, port: quote.dst_port };
        if !self.snapshot.client_ok6(client.ip) || client.port == 0 {
            return Err(DropReason::IcmpQuote);
        }
        let target = service.rendezvous.choose6(client).ok_or(DropReason::IcmpQuote)?;
        self.note(Note::Passed6 { client, target });
        let mapping = Mapping6 { quote: endpoints6(target, client), mtu: raised(*mtu) };
        Ok((Mapping::To6(mapping), target.ip.ip(), client.ip.ip()))
    }

    fn pass_error<F: Frame>(
        &mut self,
        mut frame: F,
        of: ServiceIndex,
        service: &Service6,
        hops: u8,
        way: &Way,
        apply: impl FnOnce(&mut F) -> Result<usize, DropReason>,
    ) where
        O: Output<F>,
    {
        let of = Some(of);
        // No ICMP error is sent about an ICMP error (RFC 4443, section 2.4).
        if hops <= 1 {
            return self.drop(of, DropReason::TtlExceeded, frame);
        }
        let admitted = self.admit_error(of, way.client);
        let hop = match admitted.and_then(|()| self.hop_either(way.towards, way.dst)) {
            Ok(hop) => hop,
            Err(reason) => return self.drop(of, reason, frame),
        };
        let l3 = match apply(&mut frame) {
            Ok(l3) => l3,
            Err(reason) => return self.drop(of, reason, frame),
        };
        let len = frame.bytes().len().saturating_sub(l3);
        if !self.fits(hop.port, len) {
            return self.drop(of, DropReason::TooBig, frame);
        }
        if !self.send(frame, l3, hop, ethertype(way.dst)) {
            return self.count_drop::<F>(of, DropReason::NoRoom);
        }
        self.count_forwarded(service.slot, way.towards, len);
        self.note(Note::Verdict(Verdict::Forward(hop.port)));
    }
}

/// An MTU that is smaller than any path's is a forgery or a mistake.
fn raised(mtu: Option<u32>) -> Option<u32> {
    mtu.map(|mtu| mtu.max(ipv6::MTU_MIN as u32))
}
