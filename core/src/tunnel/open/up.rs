//! Open packets up: an agent sends an IPv6 packet from its open address, to a host that knows
//! nothing of the tunnel or to another agent's open address.

use std::net::{IpAddr, SocketAddr};

use super::address::{OpenAddressError, OpenAgent};
use super::down::agent_of;
use crate::seq::SeqNum;
use crate::time::UnixTime;
use crate::tunnel::forward::is_in_sequence;
use crate::tunnel::message::{OPEN_HEADER_LEN, OpenHeader};
use crate::tunnel::service::{TunnelSegment, TunnelService};
use crate::verdict::DropReason;
use crate::wire::ipv6::{ExtensionError, Ipv6};

/// An open packet up, of correct form.
#[derive(Clone, Copy, Debug)]
pub struct OpenUp {
    src: SocketAddr,
    seq: SeqNum,
    ack: SeqNum,
    header: OpenHeader,
    /// The header of the inner packet, which is all that follows the open header.
    pub inner: Ipv6,
}

/// Where an address outside of the service's prefix is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outside {
    /// At a host that agents may send to.
    Allowed,
    /// In the prefix of another service's open addresses.
    OtherService,
    /// Where agents may not send to.
    Refused,
}

/// Where an open packet up goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Onward {
    /// The agent that sent it.
    pub sender: OpenAgent,
    /// The agent that it is for; a host outside of the tunnel if `None`.
    pub to: Option<OpenAgent>,
}

impl OpenUp {
    /// Reads the open packet in `segment`.
    ///
    /// # Errors
    /// [`DropReason::TunnelMalformed`] of a wrong form or without an open side,
    /// [`DropReason::BodyTooBig`] beyond the MTU of the tunnel, [`DropReason::SourceRoute`] with a
    /// routing header, which would lead it past where the agent may send to, and
    /// [`DropReason::Ipv6Options`] where extension headers may hide one.
    pub fn read(service: &TunnelService, segment: &TunnelSegment<'_>) -> Result<Self, DropReason> {
        let payload = segment.payload;
        let header = OpenHeader::parse_up(payload).map_err(|_| DropReason::TunnelMalformed)?;
        if service.open.is_none() {
            return Err(DropReason::TunnelMalformed);
        }
        if segment.datagram_len > usize::from(service.tunnel_mtu) {
            return Err(DropReason::BodyTooBig);
        }
        let bytes = payload.get(OPEN_HEADER_LEN..).unwrap_or_default();
        let inner = Ipv6::parse(bytes).filter(|inner| inner.total_len() == bytes.len());
        let inner = inner.ok_or(DropReason::TunnelMalformed)?;
        if header.offset() as usize + payload.len() > usize::from(service.constants.offset) {
            return Err(DropReason::TunnelMalformed);
        }
        inner.is_not_routed(bytes).map_err(|error| match error {
            ExtensionError::Routing => DropReason::SourceRoute,
            _ => DropReason::Ipv6Options,
        })?;
        Ok(OpenUp { src: segment.src, seq: segment.seq, ack: segment.ack, header, inner })
    }
}

/// Checks an open packet up. `outside` is where an address that is not in the service's own prefix
/// is, `client_ok` whether an address can be an agent's.
///
/// # Errors
/// The first of these: of the sender [`DropReason::OpenEpoch`], [`DropReason::OpenSource`] and
/// [`DropReason::NotInSequence`]; and of the destination [`DropReason::OpenOtherService`],
/// [`DropReason::OpenDestination`], and where it is an agent those of [`agent_of`].
pub fn decide(
    service: &TunnelService,
    now: UnixTime,
    packet: &OpenUp,
    outside: impl FnOnce(u128) -> Outside,
    client_ok: impl FnOnce(IpAddr) -> bool,
) -> Result<Onward, DropReason> {
    let (open, vip) = service.open_side().ok_or(DropReason::NotOurs)?;
    // The sender is checked first: without an address of its own it learns nothing of others.
    let sender = open.addresses.decode(now, packet.inner.src).map_err(|error| match error {
        OpenAddressError::Epoch => DropReason::OpenEpoch,
        OpenAddressError::Forged => DropReason::OpenSource,
    })?;
    if SocketAddr::V4(sender.at) != packet.src {
        return Err(DropReason::OpenSource);
    }
    let (start, numbers) = (vip.predictor.start(packet.src), (packet.seq, packet.ack));
    let (tick, offset) = (service.tick(now), packet.header.offset());
    if !is_in_sequence(service, tick, start, sender.base_high, offset, numbers) {
        return Err(DropReason::NotInSequence);
    }
    let dst = packet.inner.dst;
    if open.addresses.holds(dst) {
        let to = Some(agent_of(service, now, dst, client_ok)?);
        return Ok(Onward { sender, to });
    }
    match outside(dst) {
        Outside::Allowed => Ok(Onward { sender, to: None }),
        Outside::OtherService => Err(DropReason::OpenOtherService),
        Outside::Refused => Err(DropReason::OpenDestination),
    }
}
