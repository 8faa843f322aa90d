//! What is at hand while a burst is handled, and the ways a frame can end.

use std::net::IpAddr;

use super::{Buckets, Note, Of, Output, SoftState, neighbours};
use crate::config::PortConfig;
use crate::counters::Counters;
use crate::frame::Frame;
use crate::link::{Hop, Link, NoHop, Resolved};
use crate::net::PortIndex;
use crate::net::Towards;
use crate::net::{Address, ServiceIndex, ServiceSlot};
use crate::snapshot::{Service, Snapshot};
use crate::time::{Instant, UnixTime};
use crate::verdict::{AbsorbKind, DropReason, ReplyKind, Verdict};
use crate::wire::{MacAddr, ethernet};

/// One call of `handle_burst`.
pub(super) struct Run<'a, O> {
    pub now: Instant,
    /// The wall clock: for ticks and the lifetimes of keys.
    pub unix: UnixTime,
    pub snapshot: &'a Snapshot,
    pub soft: &'a SoftState,
    pub counters: &'a Counters,
    pub buckets: &'a mut Buckets,
    /// The port that the burst came in through.
    pub port: PortIndex,
    pub out: &'a mut O,
}

impl<'a, O> Run<'a, O> {
    /// Tells the observer, if there is one.
    #[inline]
    pub fn note<F: Frame>(&mut self, note: Note<'_>)
    where
        O: Output<F>,
    {
        if O::EXPLAINS {
            self.out.explain(note);
        }
    }

    /// The link that the burst came in through.
    pub fn link(&self) -> Option<&'a Link> {
        self.soft.links.link(self.port)
    }

    /// The config of the port that the burst came in through.
    pub fn port_config(&self) -> Option<&'a PortConfig> {
        self.snapshot.config.ports.get(usize::from(self.port.0))
    }

    pub fn service(&self, index: ServiceIndex) -> Option<&'a Service> {
        self.snapshot.service(index)
    }

    pub fn slot(&self, of: Of) -> Option<ServiceSlot> {
        of.and_then(|index| self.snapshot.name_and_slot(index)).map(|(_, slot)| slot)
    }

    /// The frame ends here, counted.
    pub fn drop<F: Frame>(&mut self, of: Of, reason: DropReason, frame: F)
    where
        O: Output<F>,
    {
        self.count_drop::<F>(of, reason);
        drop(frame);
    }

    /// Counts a drop of a frame that may yet be turned into an answer.
    pub fn count_drop<F: Frame>(&mut self, of: Of, reason: DropReason)
    where
        O: Output<F>,
    {
        self.counters.count_drop(self.port, self.slot(of), reason);
        self.note(Note::Verdict(Verdict::Drop(reason)));
    }

    /// The frame ends here, remembered.
    pub fn absorb<F: Frame>(&mut self, kind: AbsorbKind, frame: F)
    where
        O: Output<F>,
    {
        self.counters.count_absorbed(kind);
        self.note(Note::Verdict(Verdict::Absorb(kind)));
        drop(frame);
    }

    /// Counts an answer of our own to the frame in hand.
    pub fn count_reply<F: Frame>(&mut self, kind: ReplyKind)
    where
        O: Output<F>,
    {
        self.counters.count_reply(kind);
        self.note(Note::Sent(kind));
    }

    /// Counts an answer of our own to the frame in hand that a rate limit holds back.
    #[cold]
    pub fn count_withheld<F: Frame>(&mut self, kind: ReplyKind)
    where
        O: Output<F>,
    {
        self.counters.count_withheld(kind);
        self.note(Note::Withheld(kind));
    }

    /// Counts a datagram of `len` bytes that was sent on.
    #[inline(always)]
    pub fn count_forwarded(&self, slot: ServiceSlot, towards: Towards, len: usize) {
        let counters = self.counters.service(slot);
        let traffic = match towards {
            Towards::Targets => &counters.up,
            Towards::Clients => &counters.down,
        };
        traffic.add(1, len as u64);
    }

    /// The next hop to `dst`; asks for its hardware address where that is due.
    #[inline(always)]
    pub fn hop<F: Frame>(&mut self, towards: Towards, dst: u32) -> Result<Hop, DropReason>
    where
        O: Output<F>,
    {
        self.resolved(self.soft.links.resolve(self.now, towards, dst))
    }

    /// [`Run::hop`] for IPv6.
    #[inline]
    pub fn hop6<F: Frame>(&mut self, towards: Towards, dst: u128) -> Result<Hop, DropReason>
    where
        O: Output<F>,
    {
        self.resolved(self.soft.links.resolve6(self.now, towards, dst))
    }

    /// [`Run::hop`] for either family.
    #[inline]
    pub fn hop_either<F: Frame>(&mut self, towards: Towards, dst: IpAddr) -> Result<Hop, DropReason>
    where
        O: Output<F>,
    {
        match dst {
            IpAddr::V4(ip) => self.hop(towards, ip.to_bits()),
            IpAddr::V6(ip) => self.hop6(towards, ip.to_bits()),
        }
    }

    #[inline(always)]
    fn resolved<F: Frame, A: Address>(
        &mut self,
        (hop, query): Resolved<A>,
    ) -> Result<Hop, DropReason>
    where
        O: Output<F>,
    {
        if let Some(query) = query {
            neighbours::send_query(&self.soft.links, self.counters, query.of_either(), self.out);
        }
        hop.map_err(|none| match none {
            NoHop::NoRoute => DropReason::NoRoute,
            NoHop::Unresolved => DropReason::NeighbourUnresolved,
        })
    }

    /// Bytes of the largest IP datagram, of either family, that `port` sends.
    #[inline(always)]
    pub fn mtu(&self, port: PortIndex) -> usize {
        self.soft.links.link(port).map_or(0, |link| usize::from(link.mtu))
    }

    /// Whether an IP datagram of `len` bytes fits through `port`.
    #[inline(always)]
    pub fn fits(&self, port: PortIndex, len: usize) -> bool {
        len <= self.mtu(port)
    }

    /// Sends the datagram of that `ethertype` which begins at `l3` of `frame` to `hop`. False when the frame has no room
    /// for its header.
    #[inline(always)]
    pub fn send<F: Frame>(&mut self, frame: F, l3: usize, hop: Hop, ethertype: u16) -> bool
    where
        O: Output<F>,
    {
        let Some(link) = self.soft.links.link(hop.port) else { return false };
        match encapsulate(frame, l3, hop.mac, link, ethertype) {
            Some(frame) => {
                self.out.transmit(hop.port, frame);
                true
            }
            None => false,
        }
    }
}

/// Puts an Ethernet header in front of the payload that begins at `l3`; `None` when there is no
/// room for it.
#[inline(always)]
pub(super) fn encapsulate<F: Frame>(
    mut frame: F,
    l3: usize,
    dst: MacAddr,
    link: &Link,
    ethertype: u16,
) -> Option<F> {
    let header_len = ethernet::header_len(link.vlan);
    if l3 > header_len {
        frame.trim_front(l3 - header_len);
    } else if l3 < header_len && !frame.prepend(header_len - l3) {
        return None;
    }
    ethernet::write(frame.bytes_mut(), dst, link.mac, link.vlan, ethertype);
    Some(frame)
}
