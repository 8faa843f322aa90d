//! The endings of a frame, apart from how it is rewritten: each is counted and explained.

use std::net::IpAddr;

use super::super::arrival::Arrival;
use super::super::limits::Limits;
use super::super::output::{Note, Output};
use super::ethernet::{add_ethernet, ethertype};
use super::queries::send_query;
use crate::counters::Counters;
use crate::frame::Frame;
use crate::link::{Hop, NoHop};
use crate::net::{Family, PortIndex, ServiceIndex, ServiceSlot, Towards};
use crate::verdict::{AbsorbKind, DropReason, ReplyKind, Verdict};

/// What ending a frame needs.
pub(in crate::pop) struct Egress<'a, O> {
    pub arrival: Arrival<'a>,
    pub counters: &'a Counters,
    pub out: &'a mut O,
}

impl<O> Egress<'_, O> {
    /// Explains a step, where that is wanted.
    #[inline(always)]
    pub fn note<F: Frame>(&mut self, note: Note<'_>)
    where
        O: Output<F>,
    {
        if O::EXPLAINS {
            self.out.explain(note);
        }
    }

    /// Drops a frame, counted at its service where that is known.
    pub fn drop<F: Frame>(&mut self, of: Option<ServiceIndex>, reason: DropReason, frame: F)
    where
        O: Output<F>,
    {
        self.count_drop::<F>(of, reason);
        drop(frame);
    }

    /// Counts the drop of a frame that may yet be turned into an answer.
    pub fn count_drop<F: Frame>(&mut self, of: Option<ServiceIndex>, reason: DropReason)
    where
        O: Output<F>,
    {
        self.counters.count_drop(self.arrival.port, self.slot(of), reason);
        self.note(Note::Verdict(Verdict::Drop(reason)));
    }

    fn slot(&self, of: Option<ServiceIndex>) -> Option<ServiceSlot> {
        of.and_then(|index| self.arrival.snapshot.service(index)).map(|service| service.slot())
    }

    /// Takes a frame in: its contents are remembered as soft state.
    pub fn absorb<F: Frame>(&mut self, kind: AbsorbKind, frame: F)
    where
        O: Output<F>,
    {
        self.counters.count_absorbed(kind);
        self.note(Note::Verdict(Verdict::Absorb(kind)));
        drop(frame);
    }

    /// Counts an answer of the POP's own that a rate limit holds back.
    #[cold]
    pub fn withhold<F: Frame>(&mut self, kind: ReplyKind)
    where
        O: Output<F>,
    {
        self.counters.count_withheld(kind);
        self.note(Note::Withheld(kind));
    }

    /// A copy of `frame`; `None` when there is no buffer for it.
    pub fn copy<F: Frame>(&mut self, frame: &F) -> Option<F>
    where
        O: Output<F>,
    {
        let mut copy = self.out.allocate()?;
        let bytes = frame.bytes();
        if !copy.append(bytes.len()) {
            return None;
        }
        copy.bytes_mut().copy_from_slice(bytes);
        Some(copy)
    }

    /// The next hop to `dst`. Sends a query for its hardware address where one is due.
    ///
    /// # Errors
    /// [`DropReason::NoRoute`], [`DropReason::NeighbourUnresolved`], or
    /// [`DropReason::RateNeighbour`] where no query may be sent.
    #[inline(always)]
    pub fn next_hop<F: Frame>(
        &mut self,
        limits: &mut Limits<'_>,
        towards: Towards,
        dst: IpAddr,
    ) -> Result<Hop, DropReason>
    where
        O: Output<F>,
    {
        let links = &self.arrival.soft.links;
        // Targets are of the config; clients can be anybody on a link.
        let admit = |host| towards == Towards::Targets || limits.admit_query(host);
        let (hop, query) = links.resolve(self.arrival.now, towards, dst, admit);
        if let Some(query) = query {
            send_query(links, self.counters, query, self.out);
        }
        hop.map_err(|none| match none {
            NoHop::NoRoute => DropReason::NoRoute,
            NoHop::Unresolved => DropReason::NeighbourUnresolved,
            NoHop::NotAdmitted => DropReason::RateNeighbour,
        })
    }

    /// Bytes of the largest IP datagram, of either family, that `port` sends.
    #[inline(always)]
    pub(super) fn mtu(&self, port: PortIndex) -> usize {
        self.arrival.soft.links.link(port).map_or(0, |link| usize::from(link.mtu))
    }

    /// Sends the datagram of `family` that begins at `l3` of `frame` to `hop`. False when the frame
    /// has no room for the Ethernet header.
    #[inline(always)]
    pub(super) fn send<F: Frame>(
        &mut self,
        mut frame: F,
        l3: usize,
        hop: Hop,
        family: Family,
    ) -> bool
    where
        O: Output<F>,
    {
        let Some(link) = self.arrival.soft.links.link(hop.port) else { return false };
        let fits = add_ethernet(&mut frame, l3, hop.mac, link, ethertype(family));
        if fits {
            self.out.transmit(hop.port, frame);
        }
        fits
    }
}
