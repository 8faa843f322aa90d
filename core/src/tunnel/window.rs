//! The window sum: the greatest distance of a predicted sequence number from the last ack that a
//! stateful firewall has seen (`docs/protocol-tunnel.md`, section 13; the rules of such firewalls:
//! G. van Rooij, "Real Stateful TCP Packet Filtering in IP Filter", 2000, and Linux conntrack).
//!
//! A firewall passes a segment that ends at or before the highest `ack + window` of the other side,
//! and whose own ack is at most a window below the highest end seen from there. Both sides of a
//! tunnel number their segments by the tick, so that both rules are one sum:
//!
//! ```text
//! strides * STRIDE + offset + payload <= W
//! strides = ticks since the acknowledged segment + skew of the clocks + lag of the ack
//! W       = 65535, because a firewall may strip window scaling
//! ```
//!
//! A datagram whose payload would end beyond OFFSET has offset 0, so that offset and payload
//! together are at most OFFSET. [`Constants::check`] checks the constants; this module computes the
//! limits that they leave to an agent.

pub use super::keepalive::ALIGNED;
use super::{forward, keepalive};
use crate::predict::{Constants, SKEW_TICKS, WINDOW};

/// The distance of a POP's acks below the agent's base, besides LAG.
pub const ACK_BELOW: u32 = ALIGNED as u32 - forward::ACK_BASE;
/// The greatest distance that an agent moves its numbers in one step of alignment.
pub const ALIGN_STEP_MAX: u32 = 0x8000;
/// Ticks by which the clocks of two POPs, or of a POP and an agent, may differ.
pub const SKEW_TICKS_MAX: u32 = 3;
/// Ticks that a POP may be behind the agent with its acks still in the window.
pub const POP_BEHIND_TICKS_MAX: u32 = 5;
/// Ticks that a POP may be ahead of the agent without an ack of numbers that the agent has not
/// sent, with the default constants: LAG and [`ACK_BELOW`] together.
pub const POP_AHEAD_TICKS_MAX: u32 = 6;
/// After more ticks of silence an agent repeats the handshake.
pub const SLEEP_TICKS_MAX: u32 = 10;

/// The window sum of `strides` and `bytes` (offset and payload).
pub const fn sum(stride: u32, strides: u32, bytes: u32) -> u64 {
    stride as u64 * strides as u64 + bytes as u64
}

/// The most strides that fit into the window together with a datagram at any offset.
pub const fn strides_max(constants: &Constants) -> u32 {
    let room = WINDOW.saturating_sub(constants.offset as u32);
    match room.checked_div(constants.stride) {
        Some(strides) => strides,
        None => 0,
    }
}

/// The greatest age, in ticks, of the newest answered keepalive at which an agent may send data.
/// The acks of data lag behind it, and firewalls and POPs refuse older ones.
pub const fn data_age_max(constants: &Constants) -> u32 {
    let lag = constants.lag as u32;
    let firewalls = strides_max(constants).saturating_sub(lag + SKEW_TICKS_MAX);
    let pops = keepalive::ACK_TICKS.start().unsigned_abs().saturating_sub(lag + SKEW_TICKS);
    if firewalls < pops { firewalls } else { pops }
}

/// The greatest age, in ticks, of the newest answered keepalive at which a flow is kept; beyond it
/// the agent repeats the handshake. A keepalive's ack does not lag; one tick is left for the
/// answer.
pub const fn sleep_max(constants: &Constants) -> u32 {
    let fits = strides_max(constants).saturating_sub(1);
    if fits < SLEEP_TICKS_MAX { fits } else { SLEEP_TICKS_MAX }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predict::{LAG_MAX, LAG_MIN, OFFSET_MAX, OFFSET_STEP, STRIDE_MAX, STRIDE_MIN};
    use proptest::prelude::*;

    #[test]
    fn the_defaults_leave_the_documented_limits() {
        let constants = Constants::default();
        assert_eq!(strides_max(&constants), 11);
        assert_eq!(data_age_max(&constants), 4);
        assert_eq!(sleep_max(&constants), SLEEP_TICKS_MAX);
        assert_eq!(u32::from(constants.lag) + ACK_BELOW / constants.stride, POP_AHEAD_TICKS_MAX);
        assert_eq!(strides_max(&Constants { stride: 0, ..constants }), 0);
        assert_eq!(sum(4096, 11, 16_384), u64::from(constants.window_sum()));
    }

    proptest! {
        /// With all valid constants, agents survive some silence, and the acks of POPs fit too.
        #[test]
        fn valid_constants_leave_enough(
            stride in STRIDE_MIN..=STRIDE_MAX, lag in LAG_MIN..=LAG_MAX,
            steps in 0..=OFFSET_MAX / OFFSET_STEP,
        ) {
            let offset = steps * OFFSET_STEP;
            let constants = Constants { stride, lag, offset, ..Constants::default() };
            prop_assume!(constants.check(0).is_ok());
            // Each tick has a keepalive, so that a lost one does not stop data.
            prop_assert!(data_age_max(&constants) >= 3, "{constants:?}");
            prop_assert!(sleep_max(&constants) >= SLEEP_TICKS_MAX, "{constants:?}");
            let behind = u32::from(lag) + POP_BEHIND_TICKS_MAX;
            let acks = sum(stride, behind, ACK_BELOW + u32::from(offset));
            prop_assert!(acks <= u64::from(WINDOW), "{constants:?}: {acks}");
        }
    }
}
