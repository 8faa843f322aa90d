//! A keyed permutation of numbers that are wider or narrower than a block: a Feistel network of
//! eight rounds over n bits, n <= 166, with AES-128 as the round function.
//!
//! ```text
//! A = the high floor(n/2) bits, B = the rest
//! for i = 0..7:  i even  A ^= F(i, B);  i odd  B ^= F(i, A)
//! F(i, v) = low bits of AES-128(i, 3 bits | tweak, 42 bits | v, 83 bits)
//! ```
//!
//! The tweak tells permutations under one key apart.

use super::Cipher;

/// The network, without its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feistel {
    tweak: u64,
    bits: u32,
}

/// A number of n bits: A, its high half, and B, its low half.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Halves {
    /// A.
    pub high: u128,
    /// B.
    pub low: u128,
}

impl Feistel {
    /// The most bits of a number.
    pub const BITS_MAX: u32 = 2 * HALF_BITS;
    /// Bits of the tweak.
    pub const TWEAK_BITS: u32 = 42;

    /// The network over numbers of `bits`, at most [`Self::BITS_MAX`], and the low
    /// [`Self::TWEAK_BITS`] of `tweak`.
    pub const fn new(bits: u32, tweak: u64) -> Self {
        let bits = if bits > Self::BITS_MAX { Self::BITS_MAX } else { bits };
        Feistel { tweak: tweak & low(Self::TWEAK_BITS) as u64, bits }
    }

    /// The tweak.
    pub const fn tweak(&self) -> u64 {
        self.tweak
    }

    /// Bits of the low half, which is not the smaller one.
    #[inline(always)]
    pub const fn low_bits(&self) -> u32 {
        self.bits.div_ceil(2)
    }

    /// Bits of the high half.
    #[inline(always)]
    pub const fn high_bits(&self) -> u32 {
        self.bits / 2
    }

    /// The halves of the low n bits of `number`, where n is at most 128.
    #[inline(always)]
    pub const fn split(&self, number: u128) -> Halves {
        let high = number >> self.low_bits() & low(self.high_bits());
        Halves { high, low: number & low(self.low_bits()) }
    }

    /// The number with these halves, where n is at most 128.
    #[inline(always)]
    pub const fn join(&self, halves: Halves) -> u128 {
        halves.high << self.low_bits() | halves.low
    }

    /// Sends numbers through the network side by side, or back, under the key of `cipher`.
    #[inline(always)]
    pub fn permute<C: Cipher, const N: usize>(
        &self,
        cipher: &C,
        is_inverse: bool,
        numbers: &mut [Halves; N],
    ) {
        let (high_mask, low_mask) = (low(self.high_bits()), low(self.low_bits()));
        let tweak = u128::from(self.tweak) << HALF_BITS;
        let mut blocks = [[0; 16]; N];
        let mut encrypted = [[0; 16]; N];
        for step in 0..=LAST_ROUND {
            let round = if is_inverse { LAST_ROUND - step } else { step };
            let fixed = u128::from(round) << (Self::TWEAK_BITS + HALF_BITS) | tweak;
            let changes_high = round % 2 == 0;
            for (block, number) in blocks.iter_mut().zip(&*numbers) {
                let half = if changes_high { number.low } else { number.high };
                *block = (fixed | half).to_be_bytes();
            }
            cipher.encrypt(&blocks, &mut encrypted);
            for (number, block) in numbers.iter_mut().zip(&encrypted) {
                let output = u128::from_be_bytes(*block);
                match changes_high {
                    true => number.high ^= output & high_mask,
                    false => number.low ^= output & low_mask,
                }
            }
        }
    }
}

/// The lowest `bits` bits, fewer than 128.
#[inline(always)]
pub const fn low(bits: u32) -> u128 {
    (1 << bits) - 1
}

/// Bits of the larger half of the widest number.
const HALF_BITS: u32 = 83;
const LAST_ROUND: u8 = 7;

const _: () = assert!(3 + Feistel::TWEAK_BITS + HALF_BITS == u128::BITS);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Aes128, CipherJob, Key128};
    use proptest::prelude::*;

    struct Job<'a, const N: usize>(Feistel, bool, &'a mut [Halves; N]);

    impl<const N: usize> CipherJob for Job<'_, N> {
        fn run<C: Cipher>(self, cipher: &C) {
            let Job(feistel, is_inverse, numbers) = self;
            feistel.permute(cipher, is_inverse, numbers);
        }
    }

    /// The slow twin: one number, in strings of bits, as the definition reads.
    fn slow(aes: &Aes128, bits: u32, tweak: u64, number: Halves) -> Halves {
        let string = |number: u128, count: u32| -> Vec<bool> {
            (0..count).rev().map(|bit| number >> bit & 1 == 1).collect()
        };
        let value = |bits: &[bool]| bits.iter().fold(0, |n, bit| n << 1 | u128::from(*bit));
        let mut a = string(number.high, bits / 2);
        let mut b = string(number.low, bits - bits / 2);
        for i in 0..8u32 {
            let (changed, other) = if i % 2 == 0 { (&mut a, &b) } else { (&mut b, &a) };
            let other = string(value(other), 83);
            let block = [string(i.into(), 3), string(tweak.into(), 42), other].concat();
            let output = aes.encrypt_block(&value(&block).to_be_bytes());
            let output = string(u128::from_be_bytes(output), changed.len() as u32);
            changed.iter_mut().zip(output).for_each(|(bit, other)| *bit ^= other);
        }
        Halves { high: value(&a), low: value(&b) }
    }

    proptest! {
        #[test]
        fn it_is_the_definition_and_its_inverse_undoes_it(
            key: [u8; 16], bits in 2..=Feistel::BITS_MAX, tweak in 0..1u64 << 42, halves: [u128; 6],
        ) {
            let aes = Aes128::new(&Key128::new(key));
            let feistel = Feistel::new(bits, tweak);
            let (high, low_half) = (low(feistel.high_bits()), low(feistel.low_bits()));
            prop_assert_eq!(feistel.high_bits() + feistel.low_bits(), bits);
            let numbers = [0, 1, 2]
                .map(|i| Halves { high: halves[i] & high, low: halves[i + 3] & low_half });
            let mut permuted = numbers;
            aes.run(Job(feistel, false, &mut permuted));
            prop_assert_eq!(permuted, numbers.map(|number| slow(&aes, bits, tweak, number)));
            aes.run(Job(feistel, true, &mut permuted));
            prop_assert_eq!(permuted, numbers);
        }

        #[test]
        fn halves_are_the_number(bits in 2..=127u32, number: u128) {
            let feistel = Feistel::new(bits, 0);
            let joined = feistel.join(feistel.split(number));
            prop_assert_eq!(joined, number & low(bits));
        }
    }
}
