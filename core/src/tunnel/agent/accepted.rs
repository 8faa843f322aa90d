//! The numbers with which an agent accepts data.

use crate::predict;
use crate::seq::SeqNum;
use crate::time::Tick;
use crate::tunnel::window::{ACK_BELOW, POP_AHEAD_TICKS_MAX, POP_BEHIND_TICKS_MAX};

/// The numbers that data must have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Accepted {
    /// The server's sequence number at tick 0.
    pub(super) start: SeqNum,
    /// The agent's sequence number at tick 0.
    pub(super) base: SeqNum,
    pub(super) stride: u32,
    pub(super) lag: u16,
}

impl Accepted {
    /// The tick whose number of the server `seq` is, among those that a POP can be in.
    #[inline]
    pub(super) fn tick_of(&self, seq: SeqNum, last: Tick) -> Option<Tick> {
        let expected = predict::at(self.start, self.stride, last);
        let ticks = predict::ticks_between(seq, expected, self.stride)?;
        let possible = -(POP_BEHIND_TICKS_MAX as i32)..=POP_AHEAD_TICKS_MAX as i32;
        possible.contains(&ticks).then(|| Tick(last.0.wrapping_add_signed(ticks.into())))
    }

    /// The ack number of a POP in `tick`.
    #[inline]
    pub(super) fn ack_at(&self, tick: Tick) -> SeqNum {
        let at = predict::at(self.base, self.stride, Tick(tick.0.wrapping_sub(self.lag.into())));
        at.plus(1u32.wrapping_sub(ACK_BELOW))
    }
}
