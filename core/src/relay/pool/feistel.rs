//! A keyed permutation of the numbers of some bits, for a burst of numbers at a time.
//!
//! A Feistel network over `a + b` bits, A the high `a` bits and B the low `b`, 1 to 32 bits each.
//! For i = 0..7: i even A ^= F(i, B), i odd B ^= F(i, A), where
//!
//! ```text
//! F(i, v) = low bits of AES-128_K(i, one byte | seven zero bytes | v, eight bytes big-endian)
//! ```
//!
//! with the cipher's output read as one 128-bit big-endian number, and as many low bits taken as
//! the half has that they go into. The inverse does the same with i from 7 down to 0.
//!
//! # How it is made fast
//!
//! Up to 64 numbers go through all rounds side by side, each in its own direction and under its own
//! key, compiled for the CPU's widest registers. A half stays in bytes 12..16 of a block from the
//! first round to the last, big-endian, as the cipher wants it: a round is then the cipher, one AND
//! and two XORs on whole blocks, without byte swaps and without narrow stores that a wide load
//! would wait for. In step s the number of the round is s forwards and 7 - s, which is 7 ^ s,
//! backwards: byte 0 of a block holds 0 or 7, and the cipher XORs s into it. So the inverse is the
//! forward network with its halves swapped: a lane's direction is in what it begins with, and no
//! round asks for it.

use cpu_vector::{Blocks, EachKey, Keys, RoundKeys, Vector, lane_mask, pick};

use crate::crypto::Key128;

/// Numbers that are permuted in one call.
pub const BURST: usize = 64;

/// A number for each lane.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub struct Numbers(pub [u64; BURST]);

/// A keyed permutation of the numbers of some bits.
#[derive(Clone, Debug)]
pub struct Feistel {
    keys: RoundKeys,
    a_mask: u32,
    b_mask: u32,
    b_bits: u32,
}

impl Feistel {
    /// The permutation of the numbers of `bits` bits under `key`. `bits` is taken as 2..=64, the
    /// nearest of these.
    pub fn new(key: &Key128, bits: u32) -> Self {
        let bits = bits.clamp(2, 64);
        let (a_bits, b_bits) = (bits / 2, bits - bits / 2);
        let (a_mask, b_mask) = (u32::MAX >> (32 - a_bits), u32::MAX >> (32 - b_bits));
        Feistel { keys: RoundKeys::new(key.as_bytes()), a_mask, b_mask, b_bits }
    }

    /// Its key.
    #[inline]
    pub fn keys(&self) -> &RoundKeys {
        &self.keys
    }

    /// Bits of the numbers.
    #[inline]
    pub fn bits(&self) -> u32 {
        self.b_bits + self.a_mask.count_ones()
    }
}

/// The permutation of each lane.
pub trait Network {
    /// Their keys.
    type Keys: Keys;

    /// Their keys.
    fn keys(&self) -> &Self::Keys;

    /// Bits of the numbers in `lane`.
    fn bits(&self, lane: usize) -> u64;
}

/// The same in all lanes.
impl Network for Feistel {
    type Keys = RoundKeys;

    #[inline(always)]
    fn keys(&self) -> &RoundKeys {
        &self.keys
    }

    #[inline(always)]
    fn bits(&self, _: usize) -> u64 {
        self.bits().into()
    }
}

/// One for each lane.
#[derive(Debug)]
pub struct Each<'a> {
    keys: EachKey<'a>,
    bits: [u64; BURST],
}

impl<'a> Each<'a> {
    /// Those with these keys, of numbers of so many bits, each 2..=64.
    #[inline]
    pub fn new(keys: EachKey<'a>, bits: [u64; BURST]) -> Self {
        Each { keys, bits }
    }
}

impl<'a> Network for Each<'a> {
    type Keys = EachKey<'a>;

    #[inline(always)]
    fn keys(&self) -> &EachKey<'a> {
        &self.keys
    }

    #[inline(always)]
    fn bits(&self, lane: usize) -> u64 {
        self.bits[lane % BURST]
    }
}

/// Replaces the first `count` of `numbers` by their images, of the inverse for the lanes that have
/// a bit in `inverse`. Those behind may change too, and mean nothing. A number with more bits than
/// the permutation has is taken without the bits above.
#[inline(always)]
pub fn permute<V: Vector, W: Network>(
    vector: V,
    network: &W,
    inverse: u64,
    numbers: &mut Numbers,
    count: usize,
) {
    // Four lanes to a group of blocks, and no more groups than are needed.
    match count {
        0 => {}
        1..=8 => rounds::<V, W, 2>(vector, network, inverse, numbers),
        9..=16 => rounds::<V, W, 4>(vector, network, inverse, numbers),
        17..=32 => rounds::<V, W, 8>(vector, network, inverse, numbers),
        _ => rounds::<V, W, 16>(vector, network, inverse, numbers),
    }
}

/// Sends the first `4 * N` of `numbers` through the network.
#[inline(always)]
fn rounds<V: Vector, W: Network, const N: usize>(
    vector: V,
    network: &W,
    inverse: u64,
    numbers: &mut Numbers,
) {
    let [mut x, mut y, mut x_mask, mut y_mask] = [const { Blocks::ZERO }; 4];
    let halves = |lane| {
        let (bits, back) = (network.bits(lane), lane_mask(inverse, lane));
        let (a_bits, b_bits) = (bits / 2, bits - bits / 2);
        (back, b_bits, (1 << a_bits) - 1, (1 << b_bits) - 1)
    };
    for lane in 0..4 * N {
        let (back, b_bits, a_mask, b_mask) = halves(lane);
        let number = numbers.0[lane];
        let (a, b) = (number >> b_bits & a_mask, number & b_mask);
        let first = u64::from(LAST_ROUND).to_le() & back;
        x.0[lane] = [first, pick(back, b, a).to_be()];
        y.0[lane] = [first, pick(back, a, b).to_be()];
        x_mask.0[lane][1] = pick(back, b_mask, a_mask).to_be();
        y_mask.0[lane][1] = pick(back, a_mask, b_mask).to_be();
    }
    let keys = network.keys();
    for step in [0_u64, 2, 4, 6] {
        vector.encrypt_xor::<_, N>(keys, step.to_le(), &y, &x_mask, &mut x);
        vector.encrypt_xor::<_, N>(keys, (step + 1).to_le(), &x, &y_mask, &mut y);
    }
    for lane in 0..4 * N {
        let (back, b_bits, ..) = halves(lane);
        let (even, odd) = (u64::from_be(x.0[lane][1]), u64::from_be(y.0[lane][1]));
        numbers.0[lane] = pick(back, odd, even) << b_bits | pick(back, even, odd);
    }
}

const LAST_ROUND: u8 = 7;

/// The slow twin: the same permutation, one number at a time, written as the definition reads.
pub mod reference {
    use super::{Feistel, LAST_ROUND};

    /// The image of `number`, or its image under the inverse.
    pub fn permute(feistel: &Feistel, is_inverse: bool, number: u64) -> u64 {
        let mut a = (number >> feistel.b_bits) as u32 & feistel.a_mask;
        let mut b = number as u32 & feistel.b_mask;
        for step in 0..=LAST_ROUND {
            let i = if is_inverse { LAST_ROUND - step } else { step };
            if i % 2 == 0 {
                a ^= f(feistel, i, b) & feistel.a_mask;
            } else {
                b ^= f(feistel, i, a) & feistel.b_mask;
            }
        }
        u64::from(a) << feistel.b_bits | u64::from(b)
    }

    fn f(feistel: &Feistel, i: u8, v: u32) -> u32 {
        let mut block = [0; 16];
        block[0] = i;
        block[8..].copy_from_slice(&u64::from(v).to_be_bytes());
        u128::from_be_bytes(feistel.keys.encrypt_block(&block)) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cpu_vector::{Isa, Job, Rows};

    const KEY: Key128 = Key128::new(*b"a key for tests.");

    struct Permute<'a, W> {
        network: &'a W,
        inverse: u64,
        numbers: &'a mut Numbers,
        count: usize,
    }

    impl<W: Network> Job for Permute<'_, W> {
        type Output = ();

        #[inline(always)]
        fn run<V: Vector>(self, vector: V) {
            super::permute(vector, self.network, self.inverse, self.numbers, self.count);
        }
    }

    fn permute(isa: Isa, network: &impl Network, inverse: u64, numbers: &mut [u64]) {
        let (mut padded, count) = (Numbers([0; BURST]), numbers.len());
        padded.0[..count].copy_from_slice(numbers);
        isa.run(Permute { network, inverse, numbers: &mut padded, count });
        numbers.copy_from_slice(&padded.0[..count]);
    }

    #[test]
    fn every_small_domain_is_permuted_and_undone_exactly() {
        // Even and odd numbers of bits.
        for bits in [2, 3, 4, 5, 8, 12, 13, 17] {
            let feistel = Feistel::new(&KEY, bits);
            let mut numbers: Vec<u64> = (0..1 << bits).collect();
            let all = |inverse, numbers: &mut Vec<u64>| {
                let bursts = numbers.chunks_mut(BURST);
                bursts.for_each(|burst| permute(Isa::best(), &feistel, inverse, burst));
            };
            all(0, &mut numbers);
            let mut seen = vec![false; 1 << bits];
            for number in &numbers {
                assert!(!std::mem::replace(&mut seen[*number as usize], true), "{number} twice");
            }
            all(u64::MAX, &mut numbers);
            assert!(numbers.iter().copied().eq(0..1 << bits));
        }
    }

    #[test]
    fn bursts_of_every_length_and_direction_agree_with_the_slow_twin() {
        for isa in Isa::ALL {
            for bits in [48, 49, 57, 62, 64, 9] {
                let feistel = Feistel::new(&KEY, bits);
                for inverse in [0, u64::MAX, 0x5a5a_00ff_1234_8001] {
                    for len in 0..=BURST {
                        // Of all 64 bits: those above the permutation's do not count.
                        let number = |i: usize| (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                        let start: [u64; BURST] = std::array::from_fn(number);
                        let mut numbers = start;
                        permute(isa, &feistel, inverse, &mut numbers[..len]);
                        for (lane, number) in numbers.iter().enumerate().take(len) {
                            let back = inverse >> lane & 1 == 1;
                            let expected = reference::permute(&feistel, back, start[lane]);
                            assert_eq!(*number, expected, "{isa} {bits} {back} {len} {lane}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn each_lane_has_a_permutation_of_its_own() {
        let all: Vec<_> = [48, 62, 49, 9, 57]
            .into_iter()
            .enumerate()
            .map(|(number, bits)| Feistel::new(&Key128::new([number as u8; 16]), bits))
            .collect();
        let of: [&Feistel; BURST] = std::array::from_fn(|lane| &all[lane * 3 % all.len()]);
        let (keys, mut rows) = (of.map(|feistel| &feistel.keys), Rows::default());
        let inverse = 0x5a5a_00ff_1234_8001_u64;
        for isa in Isa::ALL {
            for len in [1, 8, 9, 31, 64] {
                let number = |i: usize| (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let start: [u64; BURST] = std::array::from_fn(number);
                let mut numbers = start;
                let bits = of.map(|feistel| feistel.bits().into());
                let each = Each::new(EachKey::new(&keys, len, &mut rows), bits);
                permute(isa, &each, inverse, &mut numbers[..len]);
                for lane in 0..len {
                    let back = inverse >> lane & 1 == 1;
                    let expected = reference::permute(of[lane], back, start[lane]);
                    assert_eq!(numbers[lane], expected, "{isa} {len} {lane}");
                }
            }
        }
    }
}
