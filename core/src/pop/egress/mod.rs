//! How a frame ends: sent on, answered, kept, or dropped, and counted in each case.
//!
//! [`ship`] is the one way out for everything that is sent on; [`reply`] is the way back for what the
//! POP answers.

pub(super) mod answer;
mod errors;
mod fragment;
pub(super) mod headers;
mod queries;
pub(super) mod reply;
pub(super) mod ship;

pub(super) use queries::send_query;

use super::arrival::Arrival;
use super::output::{Note, Output};
use crate::counters::Counters;
use crate::frame::Frame;
use crate::link::{Hop, Link, NoHop};
use crate::net::{Family, PortIndex, ServiceIndex, ServiceSlot, Towards};
use crate::verdict::{AbsorbKind, DropReason, ReplyKind, Verdict};
use crate::wire::MacAddr;
use crate::wire::ethernet::{self, Ethernet};

use std::net::IpAddr;

/// What ending a frame needs.
pub(super) struct Egress<'a, O> {
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

    /// A second frame with the same contents; `None` when there is no free buffer.
    pub fn copy<F: Frame>(&mut self, frame: &F) -> Option<F>
    where
        O: Output<F>,
    {
        let mut copy = self.out.allocate()?;
        if !copy.append(frame.bytes().len()) {
            return None;
        }
        copy.bytes_mut().copy_from_slice(frame.bytes());
        Some(copy)
    }

    /// The next hop to `dst`. Sends a query for its hardware address where one is due.
    #[inline(always)]
    fn next_hop<F: Frame>(&mut self, towards: Towards, dst: IpAddr) -> Result<Hop, DropReason>
    where
        O: Output<F>,
    {
        let links = &self.arrival.soft.links;
        let (hop, query) = links.resolve(self.arrival.now, towards, dst);
        if let Some(query) = query {
            send_query(links, self.counters, query, self.out);
        }
        hop.map_err(|none| match none {
            NoHop::NoRoute => DropReason::NoRoute,
            NoHop::Unresolved => DropReason::NeighbourUnresolved,
        })
    }

    /// Bytes of the largest IP datagram, of either family, that `port` sends.
    #[inline(always)]
    fn mtu(&self, port: PortIndex) -> usize {
        self.arrival.soft.links.link(port).map_or(0, |link| usize::from(link.mtu))
    }

    /// Sends the datagram of `family` that begins at `l3` of `frame` to `hop`. False when the frame
    /// has no room for the Ethernet header.
    #[inline(always)]
    fn send<F: Frame>(&mut self, frame: F, l3: usize, hop: Hop, family: Family) -> bool
    where
        O: Output<F>,
    {
        let Some(link) = self.arrival.soft.links.link(hop.port) else { return false };
        match add_ethernet(frame, l3, hop.mac, link, ethertype(family)) {
            Some(frame) => {
                self.out.transmit(hop.port, frame);
                true
            }
            None => false,
        }
    }
}

/// The EtherType of a family.
#[inline(always)]
pub(super) const fn ethertype(family: Family) -> u16 {
    match family {
        Family::V4 => ethernet::TYPE_IPV4,
        Family::V6 => ethernet::TYPE_IPV6,
    }
}

/// Puts an Ethernet header in front of the payload that begins at `l3`; `None` when there is no
/// room for it.
#[inline(always)]
fn add_ethernet<F: Frame>(
    mut frame: F,
    l3: usize,
    dst: MacAddr,
    link: &Link,
    ethertype: u16,
) -> Option<F> {
    let header = Ethernet { dst, src: link.mac, vlan: link.vlan, ethertype };
    let header_len = header.header_len();
    if l3 > header_len {
        frame.trim_front(l3 - header_len);
    } else if l3 < header_len && !frame.prepend(header_len - l3) {
        return None;
    }
    header.write(frame.bytes_mut());
    Some(frame)
}
