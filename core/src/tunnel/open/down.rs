//! Open packets down: an IPv6 packet to an open address becomes a segment to its agent.

use std::net::{IpAddr, SocketAddr};

use super::OpenService;
use super::address::OpenAgent;
use crate::crypto::Cmac;
use crate::net::Family;
use crate::predict::{self, OFFSET_STEP};
use crate::seq::SeqNum;
use crate::time::UnixTime;
use crate::tunnel::forward::ack_down;
use crate::tunnel::message::{OPEN_HEADER_LEN, OpenHeader};
use crate::tunnel::service::{TunnelService, TunnelVip};
use crate::verdict::DropReason;
use crate::wire::{ipv6, tcp};

/// The segment that carries an open packet down: PSH|ACK, with the [`header`](OpenDown::header) and
/// the packet as its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenDown {
    /// The VIP.
    pub src: SocketAddr,
    /// The agent.
    pub dst: SocketAddr,
    /// Sequence number.
    pub seq: SeqNum,
    /// Acknowledgment number: below all that the agent has sent.
    pub ack: SeqNum,
    /// The header in front of the packet.
    pub header: [u8; OPEN_HEADER_LEN],
}

/// The agent whose open address `ip`, in the service's prefix, is.
///
/// # Errors
/// [`DropReason::OpenEpoch`] of an epoch that is not accepted, [`DropReason::OpenAddress`] of an
/// address that no POP made, and [`DropReason::DestinationNotAllowed`] of one that can be no
/// agent's.
#[inline]
pub fn agent_of(
    service: &TunnelService,
    now: UnixTime,
    ip: u128,
    client_ok: impl FnOnce(IpAddr) -> bool,
) -> Result<OpenAgent, DropReason> {
    let (open, _) = service.open_side().ok_or(DropReason::NotOurs)?;
    let agent = open.addresses.decode(now, ip)?;
    if agent.at.port() == 0 || !client_ok((*agent.at.ip()).into()) {
        return Err(DropReason::DestinationNotAllowed);
    }
    Ok(agent)
}

/// The segment that carries `packet`, a whole IPv6 packet, to `agent`. `None` without an open side.
#[inline]
pub fn segment(
    service: &TunnelService,
    now: UnixTime,
    agent: &OpenAgent,
    packet: &[u8],
) -> Option<OpenDown> {
    let (open, vip) = service.open_side()?;
    let constants = &service.constants;
    // A packet without room is beyond the tunnel's MTU, too.
    let room = usize::from(constants.offset).saturating_sub(OPEN_HEADER_LEN + packet.len());
    let places = room as u32 / u32::from(OFFSET_STEP) + 1;
    let header = OpenHeader { offset_steps: (open.spread(packet) % places) as u8 };
    let (dst, tick) = (SocketAddr::V4(agent.at), service.tick(now));
    let start = vip.predictor.start(dst);
    Some(OpenDown {
        src: vip.addr,
        dst,
        seq: predict::at(start, constants.stride, tick).plus(1 + header.offset()),
        ack: ack_down(constants, agent.base_high, tick),
        header: header.write_down(),
    })
}

/// The bytes by which the segment down is longer than the packet in it.
pub const OVERHEAD: usize = Family::V4.ip_header_len() + tcp::HEADER_LEN + OPEN_HEADER_LEN;

impl OpenService {
    /// A number that is spread evenly over packets, and the same at every POP: of both inner
    /// addresses, and of the first bytes behind the header, which hold ports and numbers.
    #[inline]
    fn spread(&self, packet: &[u8]) -> u32 {
        let mut message = [0; SPREAD_LEN];
        let from = packet.get(ipv6::field::SRC..).unwrap_or_default();
        message.iter_mut().zip(from).for_each(|(to, byte)| *to = *byte);
        let [a, b, c, d, ..] = Cmac::mac(&self.offsets, &message);
        u32::from_be_bytes([a, b, c, d])
    }
}

impl TunnelService {
    /// Its open side and the VIP of that.
    #[inline]
    pub fn open_side(&self) -> Option<(&OpenService, &TunnelVip)> {
        self.open.as_ref().zip(self.vip4.as_ref())
    }
}

/// Both addresses, and as much behind them: three blocks of the MAC.
const SPREAD_LEN: usize = 48;
const _: () = assert!(ipv6::field::SRC + 32 == ipv6::HEADER_LEN);

// The steps of an offset fit into their byte, as no packet is shorter than its header.
const _: () = assert!(
    (predict::OFFSET_MAX as usize - OPEN_HEADER_LEN - ipv6::HEADER_LEN) / (OFFSET_STEP as usize)
        <= u8::MAX as usize
);
