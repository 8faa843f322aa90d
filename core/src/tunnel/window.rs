//! The window sum: how far the predicted numbers may lie ahead of what a stateful firewall has seen
//! acknowledged (`docs/protocol-tunnel.md`, section 13; the rules of such firewalls: G. van Rooij,
//! "Real Stateful TCP Packet Filtering in IP Filter", 2000, and Linux conntrack).
//!
//! A firewall lets a segment through when it ends at or before the highest `ack + window` of the
//! other side, and when its own ack is at most a window behind the highest end it saw from there.
//! Both sides of a tunnel number their segments by the tick, so both rules are one sum:
//!
//! ```text
//! strides * STRIDE + offset + payload <= W
//! strides = ticks since the acknowledged segment + skew of the clocks + how far the ack lags
//! W       = 65535, as window scaling may have been stripped on the way
//! ```
//!
//! A datagram whose payload would pass OFFSET starts again at offset 0, so offset and payload
//! together are at most OFFSET. Which constants are allowed, [`Constants::check`] says; here is
//! what they leave to an agent.

pub use super::keepalive::ALIGNED;
use super::{forward, keepalive};
use crate::predict::{Constants, SKEW_TICKS, WINDOW};

/// How far below the agent's base the acknowledgments of a POP lie, beside its LAG.
pub const ACK_BELOW: u32 = ALIGNED as u32 - forward::ACK_BASE;
/// How far an agent moves its own numbers forward in one step of alignment.
pub const ALIGN_STEP_MAX: u32 = 0x8000;
/// Ticks by which the clocks of two POPs, or of a POP and an agent, may differ.
pub const SKEW_TICKS_MAX: u32 = 3;
/// Ticks that a POP may be behind the agent while its acks are still in the window.
pub const POP_BEHIND_TICKS_MAX: u32 = 5;
/// Ticks that a POP may be ahead of the agent while it acks nothing that the agent has not sent,
/// with the default constants: LAG and [`ACK_BELOW`] together.
pub const POP_AHEAD_TICKS_MAX: u32 = 6;
/// After a silence of more ticks an agent starts again with a handshake.
pub const SLEEP_TICKS_MAX: u32 = 10;

/// The window sum: what `strides` and `bytes` (offset and payload) need of the window.
pub const fn sum(stride: u32, strides: u32, bytes: u32) -> u64 {
    stride as u64 * strides as u64 + bytes as u64
}

/// The most strides that fit the window together with a datagram at any offset.
pub const fn strides_max(constants: &Constants) -> u32 {
    let room = WINDOW.saturating_sub(constants.offset as u32);
    match room.checked_div(constants.stride) {
        Some(strides) => strides,
        None => 0,
    }
}

/// How old, in ticks, the newest answered keepalive may be for an agent to send data, whose acks
/// lag behind it: firewalls, and POPs, take no older ones.
pub const fn data_age_max(constants: &Constants) -> u32 {
    let lag = constants.lag as u32;
    let firewalls = strides_max(constants).saturating_sub(lag + SKEW_TICKS_MAX);
    let pops = keepalive::ACK_TICKS.start().unsigned_abs().saturating_sub(lag + SKEW_TICKS);
    if firewalls < pops { firewalls } else { pops }
}

/// How old, in ticks, the newest answered keepalive may be for a flow to be kept; beyond that the
/// agent starts again with a handshake. A keepalive acks exactly and does not lag; one tick is left
/// for the answer.
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
    fn the_defaults_leave_what_is_promised() {
        let constants = Constants::default();
        assert_eq!(strides_max(&constants), 11);
        assert_eq!(data_age_max(&constants), 4);
        assert_eq!(sleep_max(&constants), SLEEP_TICKS_MAX);
        assert_eq!(u32::from(constants.lag) + ACK_BELOW / constants.stride, POP_AHEAD_TICKS_MAX);
        assert_eq!(strides_max(&Constants { stride: 0, ..constants }), 0);
        assert_eq!(sum(4096, 11, 16_384), u64::from(constants.window_sum()));
    }

    proptest! {
        /// Whatever constants are allowed, agents can outlive some silence, and the acks of POPs,
        /// which are not the agent's doing, fit as well.
        #[test]
        fn what_is_allowed_leaves_enough(
            stride in STRIDE_MIN..=STRIDE_MAX, lag in LAG_MIN..=LAG_MAX,
            steps in 0..=OFFSET_MAX / OFFSET_STEP,
        ) {
            let offset = steps * OFFSET_STEP;
            let constants = Constants { stride, lag, offset, ..Constants::default() };
            prop_assume!(constants.check(0).is_ok());
            // A keepalive is answered in each tick: one that is lost does not stop data.
            prop_assert!(data_age_max(&constants) >= 3, "{constants:?}");
            prop_assert!(sleep_max(&constants) >= SLEEP_TICKS_MAX, "{constants:?}");
            let behind = u32::from(lag) + POP_BEHIND_TICKS_MAX;
            let acks = sum(stride, behind, ACK_BELOW + u32::from(offset));
            prop_assert!(acks <= u64::from(WINDOW), "{constants:?}: {acks}");
        }
    }
}
