//! ICMP errors: those of others are mapped to the endpoint they concern, and our own are sent.

use std::net::Ipv4Addr;

use super::forward::chosen_target;
use super::ingress::Packet;
use super::lanes::{self, Up};
use super::run::Run;
use super::{Note, Of, Output};
use crate::frame::Frame;
use crate::net::Endpoint;
use crate::net::Family;
use crate::net::Towards;
use crate::relay::icmp::{self as mapped_icmp, Mapping, Quote, Seen};
use crate::relay::options::{INSERTED_LEN, TimestampsOption};
use crate::relay::permutation::{Client, ClientTimestamps, DecodeError, Mapped};
use crate::relay::translate::{Endpoints, Rewrite, Segment, Timestamps};
use crate::snapshot::{Destination, Egress, Service};
use crate::verdict::{DropReason, ReplyKind, Verdict};
use crate::wire::icmp;
use crate::wire::icmp_error::IcmpError;
use crate::wire::{ethernet, ipv4};

/// Bytes of a datagram that our own errors quote at most: with their headers they fit the 576
/// bytes that every host takes (RFC 1812, section 4.3.2.3).
const QUOTE_LEN_MAX: usize = 548;

impl<O> Run<'_, O> {
    /// Maps an ICMP error that somebody sent to a VIP, an egress address, or the client of a
    /// transparent service.
    pub(super) fn icmp_error<F: Frame>(
        &mut self,
        packet: &Packet,
        frame: F,
        mtu: Option<u16>,
        to: Destination,
    ) where
        O: Output<F>,
    {
        let Segment { l3, ip, .. } = packet.segment;
        let message = frame.bytes().get(l3 + ip.header_len + icmp::HEADER_LEN..);
        let quote = match Quote::parse(message.unwrap_or_default()) {
            // The error goes to whoever sent the segment.
            Ok(quote) if quote.ip.src == ip.dst => quote,
            _ => return self.drop(None, self.no_quote(to), frame),
        };
        if !self.source_ok(ip.src) {
            return self.drop(None, DropReason::SourceNotAllowed, frame);
        }
        // An MTU that is smaller than any real path's is a forgery or a mistake.
        let announced = mtu;
        let mtu = mtu.map(|mtu| mtu.max(self.snapshot.config.pop.icmp_mtu_floor));
        let error = Error { packet, quote, mtu, announced };
        match to {
            Destination::Vip => self.error_from_clients(&error, frame),
            Destination::Pool(_) | Destination::Other => self.error_from_targets(&error, frame, to),
            Destination::Own(_) => self.drop(None, DropReason::IcmpType, frame),
        }
    }

    fn no_quote(&self, to: Destination) -> DropReason {
        if to == Destination::Other { DropReason::NotOurs } else { DropReason::IcmpQuote }
    }

    /// About a segment on its way to a target: for the client.
    fn error_from_targets<F: Frame>(&mut self, error: &Error<'_>, frame: F, to: Destination)
    where
        O: Output<F>,
    {
        let Error { quote, .. } = error;
        let (ip, port) = (quote.ip.dst, quote.dst_port);
        let of = match to {
            Destination::Pool(pool) => self.snapshot.service_from_pool(pool, ip, port),
            _ => self.snapshot.transparent_service(ip, port),
        };
        let Some(service) = of.and_then(|of| self.service(of)) else {
            return self.drop(None, self.no_quote(to), frame);
        };
        if !self.takes_targets() {
            return self.drop(of, DropReason::WrongSide, frame);
        }
        match self.mapping_for_client(error, service) {
            Ok(mapping) => {
                self.forward_error(error, frame, of, &mapping, Towards::Clients);
            }
            Err(reason) => self.drop(of, reason, frame),
        }
    }

    /// What an error becomes for the client whose segment it quotes.
    fn mapping_for_client<F: Frame>(
        &mut self,
        error: &Error<'_>,
        service: &Service,
    ) -> Result<Mapping, DropReason>
    where
        O: Output<F>,
    {
        let Error { quote, mtu, .. } = error;
        let target = Endpoint { ip: quote.ip.dst, port: quote.dst_port };
        let (client, timestamps, less) = match &service.egress {
            Egress::Transparent => {
                let client = Endpoint { ip: quote.ip.src, port: quote.src_port };
                if !self.snapshot.client_ok(client.ip) || client.port == 0 {
                    return Err(DropReason::NotOurs);
                }
                self.note(Note::Passed { client, target });
                // Clients may reach other targets by their own addresses, past the POP.
                if chosen_target(service, client) != Some(target) {
                    return Err(DropReason::NotOurs);
                }
                (client, Timestamps::Keep, 0)
            }
            Egress::Pool { pool, permutation, .. } => {
                let (Some((tag, _)), Seen::Timestamps(at)) = (quote.timestamps(), quote.seen)
                else {
                    return Err(DropReason::IcmpQuote);
                };
                let index = pool.index(quote.ip.src);
                let mapped = Mapped { tag, port: quote.src_port, index };
                let mut decoded = [Err(DecodeError::CycleLimit)];
                permutation.inverse(&[mapped], &mut decoded);
                let client = self.checked_client(decoded[0])?;
                self.note(Note::Mapped { client, mapped, egress_ip: quote.ip.src, target });
                // No POP sent the segment if it is not to the target that they all choose.
                let endpoint = Endpoint { ip: client.ip, port: client.port };
                if chosen_target(service, endpoint) != Some(target) {
                    return Err(DropReason::IcmpQuote);
                }
                let (timestamps, less) = match client.timestamps {
                    ClientTimestamps::Present => (Timestamps::SetValue(at, 0), 0),
                    ClientTimestamps::Absent => (Timestamps::Strip, INSERTED_LEN as u16),
                };
                (Endpoint { ip: client.ip, port: client.port }, timestamps, less)
            }
        };
        let endpoints = Endpoints {
            src: client.ip,
            src_port: client.port,
            dst: service.vip.ip,
            dst_port: service.vip.port,
        };
        Ok(Mapping {
            quote: Rewrite { endpoints, timestamps, syn: None },
            mtu: mtu.map(|mtu| mtu.saturating_sub(less)),
        })
    }

    /// About a segment on its way to a client: for the target.
    fn error_from_clients<F: Frame>(&mut self, error: &Error<'_>, frame: F)
    where
        O: Output<F>,
    {
        let Error { quote, .. } = error;
        let of = self.snapshot.service_at(quote.ip.src, quote.src_port);
        let Some(service) = of.and_then(|of| self.service(of)) else {
            let Some(of) = of else { return self.drop(None, DropReason::IcmpQuote, frame) };
            return match self.snapshot.service6(of) {
                Some(service) => self.error_to_prefix(error, frame, of, service),
                None => self.tunnel_error(error.packet, frame, of, Family::V4, error.mtu),
            };
        };
        if !self.takes_clients() {
            return self.drop(of, DropReason::WrongSide, frame);
        }
        if !self.snapshot.client_ok(quote.ip.dst) || quote.dst_port == 0 {
            return self.drop(of, DropReason::IcmpQuote, frame);
        }
        let candidates: &[ClientTimestamps] = match (&service.egress, quote.seen) {
            (Egress::Transparent, _) => return self.error_to_transparent(error, frame, service),
            (_, Seen::Timestamps(_)) => &[ClientTimestamps::Present],
            (_, Seen::None) => &[ClientTimestamps::Absent],
            (_, Seen::CutOff) => &[ClientTimestamps::Present, ClientTimestamps::Absent],
        };
        let limit = self.snapshot.config.limits.variant_per_second;
        if candidates.len() > 1 && !self.buckets.variants.take(self.now, limit) {
            return self.drop(of, DropReason::RateVariants, frame);
        }
        let Some((last, others)) = candidates.split_last() else { return };
        for client_timestamps in others {
            match self.copy(&frame) {
                // What drops one variant would drop the other: it is counted once.
                Some(copy) => {
                    if !self.error_to_target(error, copy, of, service, *client_timestamps) {
                        return;
                    }
                }
                None => self.count_drop::<F>(of, DropReason::NoBuffer),
            }
        }
        self.error_to_target(error, frame, of, service, *last);
    }

    fn error_to_transparent<F: Frame>(&mut self, error: &Error<'_>, frame: F, service: &Service)
    where
        O: Output<F>,
    {
        let Error { quote, mtu, .. } = *error;
        let of = self.snapshot.service_at(quote.ip.src, quote.src_port);
        let client = Endpoint { ip: quote.ip.dst, port: quote.dst_port };
        let Some(target) = chosen_target(service, client) else {
            return self.drop(of, DropReason::IcmpQuote, frame);
        };
        self.note(Note::Passed { client, target });
        let endpoints = Endpoints {
            src: target.ip,
            src_port: target.port,
            dst: client.ip,
            dst_port: client.port,
        };
        let quote = Rewrite { endpoints, timestamps: Timestamps::Keep, syn: None };
        let mapping = Mapping { quote, mtu };
        self.forward_error(error, frame, of, &mapping, Towards::Targets);
    }

    /// False when the error was dropped.
    fn error_to_target<F: Frame>(
        &mut self,
        error: &Error<'_>,
        frame: F,
        of: Of,
        service: &Service,
        client_timestamps: ClientTimestamps,
    ) -> bool
    where
        O: Output<F>,
    {
        let Error { quote, mtu, .. } = error;
        let Egress::Pool { pool, .. } = &service.egress else {
            self.drop(of, DropReason::IcmpQuote, frame);
            return false;
        };
        let client =
            Client { timestamps: client_timestamps, ip: quote.ip.dst, port: quote.dst_port };
        let mut up = [Up::NONE];
        lanes::map_up(service, &[client], &mut up);
        let target = service.targets().get(usize::from(up[0].target));
        let (Ok(mapped), Some(&target)) = (up[0].mapped, target) else {
            self.drop(of, DropReason::CycleLimit, frame);
            return false;
        };
        let egress_ip = pool.address(mapped.index);
        self.note(Note::Mapped { client, mapped, egress_ip, target });
        let (timestamps, more) = match (client_timestamps, quote.seen) {
            (ClientTimestamps::Present, Seen::Timestamps(at)) => {
                (Timestamps::SetEcho(at, mapped.tag), 0)
            }
            (ClientTimestamps::Present, _) => (Timestamps::Keep, 0),
            // The target sent the segment with the timestamps that the client did not get.
            (ClientTimestamps::Absent, Seen::None) => {
                let option = TimestampsOption { value: 0, echo: mapped.tag };
                (Timestamps::Insert(option), INSERTED_LEN as u16)
            }
            (ClientTimestamps::Absent, _) => (Timestamps::Keep, INSERTED_LEN as u16),
        };
        let endpoints = Endpoints {
            src: target.ip,
            src_port: target.port,
            dst: egress_ip,
            dst_port: mapped.port,
        };
        let mapping = Mapping {
            quote: Rewrite { endpoints, timestamps, syn: None },
            mtu: mtu.map(|mtu| mtu.saturating_add(more)),
        };
        self.forward_error(error, frame, of, &mapping, Towards::Targets)
    }

    /// False when the error was dropped.
    fn forward_error<F: Frame>(
        &mut self,
        error: &Error<'_>,
        mut frame: F,
        of: Of,
        mapping: &Mapping,
        towards: Towards,
    ) -> bool
    where
        O: Output<F>,
    {
        let Segment { l3, ip, .. } = &error.packet.segment;
        // No ICMP error is sent about an ICMP error (RFC 1122, section 3.2.2).
        if ip.ttl <= 1 {
            self.drop(of, DropReason::TtlExceeded, frame);
            return false;
        }
        let client = match towards {
            Towards::Clients => mapping.addressee(),
            Towards::Targets => error.quote.ip.dst,
        };
        let admitted = self.admit_error(of, Ipv4Addr::from_bits(client).into());
        let hop = match admitted.and_then(|()| self.hop(towards, mapping.addressee())) {
            Ok(hop) => hop,
            Err(reason) => {
                self.drop(of, reason, frame);
                return false;
            }
        };
        let l3 = match mapped_icmp::apply(&mut frame, *l3, ip, &error.quote, mapping) {
            Ok(l3) => l3,
            Err(reason) => {
                self.drop(of, reason, frame);
                return false;
            }
        };
        let len = frame.bytes().len().saturating_sub(l3);
        if !self.fits(hop.port, len) {
            self.drop(of, DropReason::TooBig, frame);
            return false;
        }
        if !self.send(frame, l3, hop, ethernet::TYPE_IPV4) {
            self.count_drop::<F>(of, DropReason::NoRoom);
            return false;
        }
        if let Some(service) = of.and_then(|of| self.service(of)) {
            self.count_forwarded(service.slot, towards, len);
        }
        self.note(Note::Verdict(Verdict::Forward(hop.port)));
        true
    }

    /// A segment at its last hop.
    pub(super) fn time_exceeded<F: Frame>(&mut self, packet: &Packet, frame: F)
    where
        O: Output<F>,
    {
        self.count_drop::<F>(packet.of, DropReason::TtlExceeded);
        self.own_error(packet, frame, IcmpError::TimeExceeded);
    }

    /// A segment that does not fit, of which `fits` bytes would: its sender is told, if it has DF set.
    /// A damaged one is not answered: damage to its options may be what makes it grow.
    pub(super) fn too_big<F: Frame>(&mut self, packet: &Packet, frame: F, fits: u16)
    where
        O: Output<F>,
    {
        if !self.tcp_checksum_holds(packet, &frame) {
            return self.drop(packet.of, DropReason::TcpChecksum, frame);
        }
        self.count_drop::<F>(packet.of, DropReason::TooBig);
        if packet.segment.ip.dont_fragment() {
            self.own_error(packet, frame, IcmpError::TooBig(fits));
        }
    }

    /// Turns `frame`, on which the verdict is given already, into an ICMP error to its sender.
    fn own_error<F: Frame>(&mut self, packet: &Packet, mut frame: F, error: IcmpError)
    where
        O: Output<F>,
    {
        let Segment { l3, ip, .. } = packet.segment;
        let kind = match error {
            IcmpError::TooBig(_) => ReplyKind::FragmentationNeeded,
            // The only other error about a segment in transit.
            _ => ReplyKind::TimeExceeded,
        };
        if !self.admit_own_error::<F>(kind, Ipv4Addr::from_bits(ip.src).into()) {
            return;
        }
        const HEAD_LEN: usize = ipv4::HEADER_LEN + icmp::HEADER_LEN;
        frame.truncate(l3 + QUOTE_LEN_MAX);
        if !frame.prepend(HEAD_LEN) {
            return;
        }
        // As a router does: from the address of the port that the datagram came in through.
        let src = self.link().map_or(0, |link| link.address);
        let src = if src == 0 { ip.dst } else { src };
        let Some(datagram) = frame.bytes_mut().get_mut(l3..) else { return };
        let total_len = datagram.len() as u16;
        let (protocol, dst) = (ipv4::PROTOCOL_ICMP, ip.src);
        ipv4::Header { total_len, protocol, src, dst, ..ipv4::ORIGINATED }.write(datagram);
        error.write_icmp(datagram.get_mut(ipv4::HEADER_LEN..).unwrap_or_default());
        self.reflect(packet, frame, l3, kind, ethernet::TYPE_IPV4);
    }
}

/// An ICMP error in hand.
pub(super) struct Error<'a> {
    pub packet: &'a Packet,
    pub quote: Quote,
    /// The MTU that it announces, raised to the floor.
    pub mtu: Option<u16>,
    /// The MTU as it is announced.
    pub announced: Option<u16>,
}
