//! The handshake: the SYN-ACK to a SYN, with the same sequence number from every POP of the tick.

use super::service::{TunnelSegment, TunnelService};
use crate::predict;
use crate::seq::SeqNum;
use crate::time::UnixTime;
use crate::verdict::DropReason;
use crate::wire::tcp::{HEADER_LEN, Options, kind};

/// A SYN-ACK from the VIP to the agent, with window [`WINDOW`] and these options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SynAck {
    /// Sequence number: S(n).
    pub seq: SeqNum,
    /// Acknowledgment number: one behind the SYN's, so that data on the SYN is refused.
    pub ack: SeqNum,
    /// MSS.
    pub mss: u16,
    /// Whether it has a window scale option, of [`WINDOW_SCALE`].
    pub window_scale: bool,
}

/// The answer to a SYN. It is stateless, so that each SYN of a flood costs one MAC.
///
/// # Errors
/// [`DropReason::NotOurs`] when the service has no VIP of the agent's family.
pub fn syn_ack(
    service: &TunnelService,
    now: UnixTime,
    segment: &TunnelSegment<'_>,
) -> Result<SynAck, DropReason> {
    let family = segment.family();
    let vip = service.vip(family).ok_or(DropReason::NotOurs)?;
    let start = vip.predictor.start(segment.src);
    let around = family.ip_header_len() + HEADER_LEN;
    // Option lengths were checked before; a wrong one would end the list.
    let mut options = Options::new(segment.options);
    let window_scale =
        options.any(|option| option.is_ok_and(|option| option.kind == kind::WINDOW_SCALE));
    Ok(SynAck {
        seq: predict::at(start, service.constants.stride, service.tick(now)),
        ack: segment.seq.plus(1),
        mss: service.tunnel_mtu.saturating_sub(around as u16),
        window_scale,
    })
}

/// Options of a SYN or SYN-ACK: MSS and window scale. The first [`MSS_LEN`] bytes are the MSS
/// alone.
pub const fn options(mss: u16) -> [u8; OPTIONS_LEN] {
    let [high, low] = mss.to_be_bytes();
    [kind::MSS, MSS_LEN as u8, high, low, kind::NOP, kind::WINDOW_SCALE, 3, WINDOW_SCALE]
}

/// Length in bytes of [`options`].
pub const OPTIONS_LEN: usize = 8;
/// Length in bytes of an MSS option.
pub const MSS_LEN: usize = 4;

/// The window of all segments of a POP. On a SYN-ACK it is not scaled.
pub const WINDOW: u16 = u16::MAX;
const _: () = assert!(WINDOW as u32 == predict::WINDOW);
/// The window scale of POPs and agents.
pub const WINDOW_SCALE: u8 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_mss_and_window_scale() {
        let bytes = options(1360);
        assert_eq!(bytes, [2, 4, 5, 0x50, 1, 3, 3, 8]);
        let kinds =
            |bytes| Options::new(bytes).map(|found| found.unwrap().kind).collect::<Vec<_>>();
        assert_eq!(kinds(&bytes[..]), [kind::MSS, kind::WINDOW_SCALE]);
        assert_eq!(kinds(&bytes[..MSS_LEN]), [kind::MSS]);
    }
}
