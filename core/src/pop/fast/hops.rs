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
    /// Writes the header at the start of `frame`.
    #[inline(always)]
    pub fn put(&self, frame: &mut [u8]) {
        match (self.header_len, frame.first_chunk_mut::<TAGGED_HEADER_LEN>()) {
            (TAGGED_HEADER_LEN, Some(place)) => *place = self.header,
            (_, Some(place)) => {
                let (place, _) = place.split_at_mut(HEADER_LEN);
                place.copy_from_slice(self.header.split_at(HEADER_LEN).0);
            }
            (_, None) => {}
        }
    }
}

/// Those that were found.
#[derive(Debug, Default)]
pub(in crate::pop) struct Hops {
    found: [Option<(Towards, RouteKey, Ready)>; REMEMBERED],
}

/// Hops that are remembered.
const REMEMBERED: usize = 8;

impl Hops {
    /// The next hop to the IPv4 address `ip`. Within a burst no time passes, so that looking again
    /// would find the same.
    ///
    /// # Errors
    /// When there is none: see [`Egress::next_hop`].
    #[inline(always)]
    pub fn find<F: Frame, O: Output<F>>(
        &mut self,
        egress: &mut Egress<'_, O>,
        limits: &mut Limits<'_>,
        towards: Towards,
        ip: u32,
    ) -> Result<&Ready, DropReason> {
        let key = egress.arrival.soft.links.route_key(towards, ip);
        // Those of both sides beside each other: a burst has segments of both.
        let place = (key.spread().wrapping_mul(2).wrapping_add(towards as usize)) % REMEMBERED;
        let is_known =
            self.found[place].as_ref().is_some_and(|(side, of, _)| (*side, *of) == (towards, key));
        if !is_known {
            let ready = resolve::<F, O>(egress, limits, towards, ip)?;
            self.found[place] = Some((towards, key, ready));
        }
        self.found[place].as_ref().map(|(_, _, ready)| ready).ok_or(DropReason::NoRoute)
    }
}

#[inline(never)]
fn resolve<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    limits: &mut Limits<'_>,
    towards: Towards,
    ip: u32,
) -> Result<Ready, DropReason> {
    let hop = egress.next_hop::<F>(limits, towards, Ipv4Addr::from_bits(ip).into())?;
    let link = egress.arrival.soft.links.link(hop.port).ok_or(DropReason::NoRoom)?;
    let ethertype = ethertype(Family::V4);
    let ethernet = Ethernet { dst: hop.mac, src: link.mac, vlan: link.vlan, ethertype };
    let mut header = [0; TAGGED_HEADER_LEN];
    ethernet.write(&mut header);
    Ok(Ready { port: hop.port, header, header_len: ethernet.header_len() })
}
