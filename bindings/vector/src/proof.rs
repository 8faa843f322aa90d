//! Whether a set of instructions computes what every CPU computes: its kernels are written by hand,
//! and a CPU or a hypervisor may be wrong.

use crate::aes128::{BLOCKS, Blocks, RoundKeys};
use crate::bytes::Bytes;
use crate::isa::{Isa, Job, Vector};

impl Isa {
    /// Whether all kernels of this set, or of the largest below it that the CPU has, give what
    /// those of [`Isa::Baseline`] give. Takes some microseconds.
    pub fn computes_right(self) -> bool {
        let keys = &RoundKeys::new(b"a key of a proof");
        (0..ROUNDS).all(|round| self.run(Proof { keys, round }) == Proof { keys, round }.slowly())
    }
}

/// All kernels, with numbers that differ in each round.
struct Proof<'a> {
    keys: &'a RoundKeys,
    round: u64,
}

impl Proof<'_> {
    fn slowly(self) -> ([Blocks; 4], u64) {
        Isa::Baseline.run(self)
    }

    fn numbers(&self, seed: u64) -> Blocks {
        let number = |lane: usize| {
            (lane as u64 + seed + 1000 * self.round).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        };
        Blocks(std::array::from_fn(|lane| [number(2 * lane), number(2 * lane + 1)]))
    }
}

impl Job for Proof<'_> {
    type Output = ([Blocks; 4], u64);

    #[inline(always)]
    fn run<V: Vector>(self, vector: V) -> Self::Output {
        let (from, mask, to) = (self.numbers(1), self.numbers(300), self.numbers(600));
        let mut all = [const { Blocks::ZERO }; 4].map(|_| to.clone());
        let [two, four, eight, sixteen] = &mut all;
        vector.encrypt_xor::<2>(self.keys, self.round, &from, &mask, two);
        vector.encrypt_xor::<4>(self.keys, self.round, &from, &mask, four);
        vector.encrypt_xor::<8>(self.keys, self.round, &from, &mask, eight);
        vector.encrypt_xor::<16>(self.keys, self.round, &from, &mask, sixteen);
        // One of four values in each byte.
        let bytes = Bytes(std::array::from_fn(|lane| (from.0[lane % BLOCKS][0] >> 62) as u8));
        (all, vector.equal(&bytes, self.round as u8 % 4))
    }
}

const ROUNDS: u64 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_cpu_computes_right() {
        for isa in Isa::ALL {
            assert!(isa.computes_right(), "{isa}");
        }
    }

    #[test]
    fn rounds_differ_in_all_that_is_compared() {
        let keys = &RoundKeys::new(b"a key of a proof");
        let all: Vec<_> = (0..ROUNDS).map(|round| Proof { keys, round }.slowly()).collect();
        let [(first, ones), (second, others), ..] = all.as_slice() else { panic!() };
        assert!(first.iter().zip(second).all(|(one, other)| one != other) && ones != others);
        // Each group of blocks leaves those behind it as they are.
        assert!(first.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
