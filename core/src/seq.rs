//! TCP sequence numbers, which wrap, and so does their order (RFC 9293, section 3.4).

/// A sequence or acknowledgment number.
///
/// It has no `Ord`, as numbers that wrap have no total order: [`before`](Self::before) and
/// [`after`](Self::after) hold for two numbers less than 2^31 apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SeqNum(pub u32);

impl SeqNum {
    /// The number `count` after this one.
    #[inline]
    pub const fn plus(self, count: u32) -> SeqNum {
        SeqNum(self.0.wrapping_add(count))
    }

    /// The distance from `earlier` to this number; negative when this number is before it.
    #[inline]
    pub const fn distance_from(self, earlier: SeqNum) -> i32 {
        self.0.wrapping_sub(earlier.0) as i32
    }

    /// Whether this number is before `other`.
    #[inline]
    pub const fn before(self, other: SeqNum) -> bool {
        self.distance_from(other) < 0
    }

    /// Whether this number is after `other`.
    #[inline]
    pub const fn after(self, other: SeqNum) -> bool {
        self.distance_from(other) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn order_holds_across_the_wrap(start: u32, step in 1u32..0x8000_0000) {
            let (a, b) = (SeqNum(start), SeqNum(start).plus(step));
            prop_assert_eq!(b.after(a), step < 0x8000_0000);
            prop_assert_eq!(a.before(b), step < 0x8000_0000);
            prop_assert_eq!(b.distance_from(a), step as i32);
            prop_assert!(!a.after(a) && !a.before(a));
        }
    }
}
