//! How open packets go into the tunnel, and come out of it.

use super::super::super::egress::ship::Transform;
use super::super::super::egress::wrap::wrap;
use super::super::super::packet::Packet;
use crate::frame::Frame;
use crate::net::Towards;
use crate::tunnel::open::{OpenDown, down};
use crate::verdict::DropReason;
use crate::wire::ipv6;

/// A packet becomes the payload of a segment to its agent.
pub(in crate::pop) struct IntoTunnel<'a> {
    pub down: &'a OpenDown,
    /// The largest datagram to agents.
    pub mtu: u16,
}

impl Transform for IntoTunnel<'_> {
    type Plan = ();

    const IS_ICMP_ERROR: bool = false;

    fn mtu_max(&self) -> usize {
        self.mtu.into()
    }

    fn plan<F: Frame>(&self, _: &Packet, _: &F) -> Result<(), DropReason> {
        Ok(())
    }

    fn total_len(&self, packet: &Packet, (): &()) -> usize {
        packet.segment.ip.total_len() + down::OVERHEAD
    }

    fn apply<F: Frame>(
        &self,
        packet: &Packet,
        frame: &mut F,
        (): &(),
    ) -> Result<usize, DropReason> {
        lessen_hops(frame, packet.segment.l3);
        wrap(frame, packet.segment.l3, self.down)
    }
}

/// A packet leaves the tunnel as it is.
pub(in crate::pop) struct OutOfTunnel;

impl Transform for OutOfTunnel {
    type Plan = ();

    const IS_ICMP_ERROR: bool = false;

    /// Towards clients are all hosts outside; for the tunnel it is a packet up.
    fn counted(&self, _: Towards) -> Towards {
        Towards::Targets
    }

    fn plan<F: Frame>(&self, _: &Packet, _: &F) -> Result<(), DropReason> {
        Ok(())
    }

    fn total_len(&self, packet: &Packet, (): &()) -> usize {
        packet.segment.ip.total_len()
    }

    fn apply<F: Frame>(
        &self,
        packet: &Packet,
        frame: &mut F,
        (): &(),
    ) -> Result<usize, DropReason> {
        lessen_hops(frame, packet.segment.l3);
        Ok(packet.segment.l3)
    }
}

/// Makes the hop limit of the IPv6 packet at `l3` one less.
fn lessen_hops<F: Frame>(frame: &mut F, l3: usize) {
    if let Some(hops) = frame.bytes_mut().get_mut(l3 + ipv6::field::HOP_LIMIT) {
        *hops = hops.wrapping_sub(1);
    }
}
