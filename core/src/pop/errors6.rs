//! ICMPv6 errors (RFC 4443): those of others go to the endpoint they concern, and our own are sent.

use std::net::Ipv6Addr;

use super::Output;
use super::ingress::Packet;
use super::relay6::Error6;
use super::run::Run;
use crate::frame::Frame;
use crate::net::Family;
use crate::net::ServiceIndex;
use crate::relay::icmp::Quote6;
use crate::snapshot::Destination;
use crate::verdict::{DropReason, ReplyKind};
use crate::wire::icmp_error::IcmpError;
use crate::wire::icmpv6;
use crate::wire::tcp::{self, field};
use crate::wire::{ethernet, get_u16, ipv6};

impl<O> Run<'_, O> {
    /// An ICMPv6 error, which announces `mtu` if it is a packet-too-big. `to` is what its destination
    /// means.
    #[cold]
    #[inline(never)]
    pub(super) fn icmp_error6<F: Frame>(
        &mut self,
        packet: &Packet,
        frame: F,
        mtu: Option<u32>,
        to: Destination,
    ) where
        O: Output<F>,
    {
        let ip = packet.ipv6.ip;
        let message = packet.ipv6.message(packet, &frame);
        let quote = message.get(icmpv6::HEADER_LEN..).unwrap_or_default();
        if let Some(of) = self.quoted_tunnel(quote, ip.dst).filter(|_| to == Destination::Vip) {
            if !self.source_ok6(ip.src) {
                return self.drop(None, DropReason::SourceNotAllowed, frame);
            }
            // An MTU that is smaller than any path's is a forgery or a mistake.
            let mtu = mtu.map(|mtu| mtu.clamp(ipv6::MTU_MIN as u32, u16::MAX.into()) as u16);
            return self.tunnel_error(packet, frame, of, Family::V6, mtu);
        }
        let quote = match Quote6::parse(quote) {
            // The error goes to whoever sent the segment.
            Ok(quote) if quote.ip.src == ip.dst => quote,
            _ => {
                let other = to == Destination::Other;
                let reason = if other { DropReason::NotOurs } else { DropReason::IcmpQuote };
                return self.drop(None, reason, frame);
            }
        };
        if !self.source_ok6(ip.src) {
            return self.drop(None, DropReason::SourceNotAllowed, frame);
        }
        self.relay_error6(&Error6 { packet, quote, mtu }, frame, to)
    }

    /// The tunnel that a segment from `vip`, quoted in `quote`, is of. Its segments have no extension
    /// headers: what has some may be a relay's at the same address.
    fn quoted_tunnel(&self, quote: &[u8], vip: u128) -> Option<ServiceIndex> {
        let shown = quote.len() >= ipv6::HEADER_LEN + field::DST_PORT;
        if !shown || ipv6::get_address(quote, ipv6::field::SRC) != vip {
            return None;
        }
        let behind = Quote6::parse(quote).ok();
        let relay = behind.and_then(|quote| self.snapshot.service_at6(vip, quote.src_port));
        if relay.is_some_and(|of| self.snapshot.service6(of).is_some()) {
            return None;
        }
        let of = self.snapshot.service_at6(vip, get_u16(quote, ipv6::HEADER_LEN))?;
        self.snapshot.tunnel(of).map(|_| of)
    }

    /// A segment at its last hop.
    pub(super) fn time_exceeded6<F: Frame>(&mut self, packet: &Packet, frame: F)
    where
        O: Output<F>,
    {
        self.count_drop::<F>(packet.of, DropReason::TtlExceeded);
        self.own_error6(packet, frame, IcmpError::TimeExceeded);
    }

    /// A segment that does not fit, of which `fits` bytes would. A damaged one is not answered.
    pub(super) fn too_big6<F: Frame>(&mut self, packet: &Packet, frame: F, fits: u32)
    where
        O: Output<F>,
    {
        let ip = packet.ipv6.ip;
        if !tcp::checksum_holds(ip.src, ip.dst, packet.ipv6.message(packet, &frame)) {
            return self.drop(packet.of, DropReason::TcpChecksum, frame);
        }
        self.count_drop::<F>(packet.of, DropReason::TooBig);
        let fits = fits.clamp(ipv6::MTU_MIN as u32, u16::MAX.into()) as u16;
        self.own_error6(packet, frame, IcmpError::TooBig(fits));
    }

    /// Turns `frame`, on which the verdict is given already, into an ICMPv6 error to its sender.
    #[cold]
    #[inline(never)]
    fn own_error6<F: Frame>(&mut self, packet: &Packet, mut frame: F, error: IcmpError)
    where
        O: Output<F>,
    {
        let kind = match error {
            IcmpError::TooBig(_) => ReplyKind::PacketTooBig,
            // The only other error about a segment in transit.
            _ => ReplyKind::TimeExceeded,
        };
        if !self.admit_own_error::<F>(kind, Ipv6Addr::from_bits(packet.ipv6.ip.src).into()) {
            return;
        }
        const HEAD_LEN: usize = ipv6::HEADER_LEN + icmpv6::HEADER_LEN;
        let l3 = packet.segment.l3;
        // As much of the datagram as fits the smallest MTU there is.
        frame.truncate(l3 + ipv6::MTU_MIN - HEAD_LEN);
        if !frame.prepend(HEAD_LEN) {
            return;
        }
        let ip = packet.ipv6.ip;
        let own = self.link().map_or(0, |link| link.address6);
        let (src, dst) = (if own == 0 { ip.dst } else { own }, ip.src);
        let datagram = frame.bytes_mut().get_mut(l3..).unwrap_or_default();
        let Some((head, message)) = datagram.split_at_mut_checked(ipv6::HEADER_LEN) else { return };
        error.write_icmpv6(src, dst, message);
        let header = ipv6::Header {
            payload_len: message.len() as u16,
            next_header: ipv6::PROTOCOL_ICMPV6,
            src,
            dst,
            ..ipv6::ORIGINATED
        };
        header.write(head);
        self.reflect(packet, frame, l3, kind, ethernet::TYPE_IPV6);
    }
}
