//! Choices in lanes of 64 bits, without a branch: what the compiler vectorises.

/// `one` where `mask` is all ones, `other` where it is 0.
#[inline(always)]
pub const fn pick(mask: u64, one: u64, other: u64) -> u64 {
    one & mask | other & !mask
}

/// All ones for true, 0 for false.
#[inline(always)]
pub const fn all(condition: bool) -> u64 {
    (condition as u64).wrapping_neg()
}

/// All ones where the bit of `lane` is set in `bits`, else 0.
#[inline(always)]
pub const fn lane_mask(bits: u64, lane: usize) -> u64 {
    (bits >> lane & 1).wrapping_neg()
}

/// A bit for each lane whose lowest bit is set.
#[inline(always)]
pub fn bits(lanes: &[u64; 64]) -> u64 {
    let mut bits = 0;
    for (lane, value) in lanes.iter().enumerate() {
        bits |= (value & 1) << lane;
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_choose() {
        assert_eq!((pick(all(true), 1, 2), pick(all(false), 1, 2)), (1, 2));
        let lanes = std::array::from_fn(|lane| all(lane % 3 == 0));
        let set = bits(&lanes);
        assert!((0..64).all(|lane| lane_mask(set, lane) == lanes[lane]));
    }
}
