//! Numbers of a connection that are near each other.

use crate::seq::SeqNum;

/// How near two acknowledgment numbers of one connection are.
#[derive(Clone, Copy, Debug)]
pub struct Near(u32);

/// Less than 2^24 apart: no more than a window, and few of another connection's numbers.
pub const NEAR: Near = Near(1 << 24);

impl Near {
    /// Whether the numbers are near each other.
    #[inline]
    pub fn holds(self, one: SeqNum, other: SeqNum) -> bool {
        one.distance_from(other).unsigned_abs() < self.0
    }
}

/// How far a connection has got in both directions, in units of 2^20 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    down: u16,
    up: u16,
}

impl Progress {
    /// Where the target has sent up to `down` and the client up to `up`.
    #[inline]
    pub fn new(down: SeqNum, up: SeqNum) -> Self {
        let units = |number: SeqNum| (number.0 >> UNIT_BITS) as u16;
        Progress { down: units(down), up: units(up) }
    }

    /// Whether both directions are at most 2^24 bytes, in whole units, from those of `other`.
    #[inline]
    pub fn is_near(self, other: Progress) -> bool {
        let are_near = |one: u16, other: u16| {
            let ahead = one.wrapping_sub(other) & MASK;
            ahead.min(ahead.wrapping_neg() & MASK) <= NEAR_UNITS
        };
        are_near(self.down, other.down) && are_near(self.up, other.up)
    }

    /// Both, as 24 bits.
    pub(super) fn to_bits(self) -> u32 {
        u32::from(self.up) << (32 - UNIT_BITS) | u32::from(self.down)
    }

    /// Of what [`Progress::to_bits`] made.
    pub(super) fn from_bits(bits: u32) -> Self {
        let unit = |bits: u32| bits as u16 & MASK;
        Progress { down: unit(bits), up: unit(bits >> (32 - UNIT_BITS)) }
    }
}

const UNIT_BITS: u32 = 20;
const MASK: u16 = (1 << (32 - UNIT_BITS)) - 1;
const NEAR_UNITS: u16 = 1 << (24 - UNIT_BITS);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const UNIT: u32 = 1 << UNIT_BITS;

    proptest! {
        #[test]
        fn near_is_both_ways_and_across_the_wrap(start: u32, step in 0u32..1 << 26) {
            let (one, other) = (SeqNum(start), SeqNum(start).plus(step));
            prop_assert_eq!(NEAR.holds(one, other), step < 1 << 24);
            prop_assert_eq!(NEAR.holds(other, one), step < 1 << 24);
        }

        #[test]
        fn progress_is_near_in_both_directions_or_not(
            down: u32, up: u32, steps in prop::array::uniform2(0u32..1 << 26),
        ) {
            let [one, other] = [[0; 2], steps].map(|[a, b]| {
                Progress::new(SeqNum(down).plus(a), SeqNum(up).plus(b))
            });
            prop_assert_eq!(one.is_near(other), other.is_near(one));
            let far = *steps.iter().max().unwrap();
            if far <= 1 << 24 {
                prop_assert!(one.is_near(other));
            }
            if far >= (1 << 24) + UNIT {
                prop_assert!(!one.is_near(other));
            }
            prop_assert_eq!(Progress::from_bits(other.to_bits()), other);
            prop_assert!(other.to_bits() < 1 << 24);
        }
    }
}
