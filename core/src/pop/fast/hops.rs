//! The next hops of a burst, each looked for once.

use std::net::Ipv4Addr;

use super::super::egress::Egress;
use super::super::egress::ethertype;
use super::super::limits::Limits;
use super::super::output::Output;
use crate::frame::Frame;
use crate::link::RouteKey;
use crate::net::{Family, PortIndex, Towards};
use crate::verdict::DropReason;
use crate::wire::ethernet::{Ethernet, HEADER_LEN, TAGGED_HEADER_LEN};

/// A next hop, and the Ethernet header of frames to it.
#[derive(Clone, Copy, Debug)]
pub(in crate::pop) struct Ready {
    pub port: PortIndex,
    header: [u8; TAGGED_HEADER_LEN],
    pub header_len: usize,
}

impl Ready {
    /// Writes the header into `ethernet`, which has its length.
    #[inline(always)]
    pub fn put(&self, ethernet: &mut [u8]) {
        let (untagged, _) = self.header.split_at(HEADER_LEN);
        if let Ok(place) = <&mut [u8; HEADER_LEN]>::try_from(&mut *ethernet) {
            place.copy_from_slice(untagged);
        } else if let Ok(place) = <&mut [u8; TAGGED_HEADER_LEN]>::try_from(ethernet) {
            *place = self.header;
        }
    }
}

/// Those that were found.
#[derive(Debug)]
pub(in crate::pop) struct Hops {
    found: [(RouteKey, Ready); REMEMBERED],
}

/// Hops that are remembered.
const REMEMBERED: usize = 8;

impl Hops {
    /// None yet.
    pub fn new() -> Self {
        let none = Ready { port: PortIndex(0), header: [0; TAGGED_HEADER_LEN], header_len: 0 };
        Hops { found: [(RouteKey::NONE, none); REMEMBERED] }
    }

    /// Whether the next hop of that route was found.
    #[inline(always)]
    pub fn has(&self, route: RouteKey) -> bool {
        self.found[route.spread() % REMEMBERED].0 == route
    }

    /// The next hop of that route, if [it was found](Hops::has).
    #[inline(always)]
    pub fn of(&self, route: RouteKey) -> &Ready {
        &self.found[route.spread() % REMEMBERED].1
    }

    /// Finds the next hop to the IPv4 address `ip`, whose route is `route`. It holds until a frame
    /// goes the general way, from which the POP may learn of neighbours: within a burst no time
    /// passes.
    ///
    /// # Errors
    /// When there is none: see [`Egress::next_hop`].
    #[cold]
    #[inline(never)]
    pub fn find<F: Frame, O: Output<F>>(
        &mut self,
        egress: &mut Egress<'_, O>,
        limits: &mut Limits<'_>,
        (route, towards, ip): (RouteKey, Towards, u32),
    ) -> Result<(), DropReason> {
        let hop = egress.next_hop::<F>(limits, towards, Ipv4Addr::from_bits(ip).into())?;
        let link = egress.arrival.soft.links.link(hop.port).ok_or(DropReason::NoRoom)?;
        let ethertype = ethertype(Family::V4);
        let ethernet = Ethernet { dst: hop.mac, src: link.mac, vlan: link.vlan, ethertype };
        let mut header = [0; TAGGED_HEADER_LEN];
        ethernet.write(&mut header);
        let hop = Ready { port: hop.port, header, header_len: ethernet.header_len() };
        self.found[route.spread() % REMEMBERED] = (route, hop);
        Ok(())
    }
}
