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
//! Up to 64 numbers go through all rounds side by side, each in its own direction, compiled for the
//! CPU's widest registers. A half stays in bytes 12..16 of a block from the first round to the
//! last, big-endian, as the cipher wants it: a round is then the cipher, one AND and two XORs on
//! whole blocks, without byte swaps and without narrow stores that a wide load would wait for. The
//! round's number lives in byte 0 of the half that is enciphered; going from one round to the next
//! but one is an XOR with the same constant in both directions, so the inverse is the forward
//! network with its halves swapped and its count begun at 7: a lane's direction is in what it
//! begins with, and no round asks for it.

use cpu_vector::{Blocks, RoundKeys, Vector, lane_mask, pick};

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

    /// Replaces the first `count` of `numbers` by their images, of the inverse for the lanes that
    /// have a bit in `inverse`. Those behind may change too, and mean nothing. A number with more
    /// bits than the permutation has is taken without the bits above.
    #[inline(always)]
    pub fn permute<V: Vector>(&self, vector: V, inverse: u64, numbers: &mut Numbers, count: usize) {
        // Four lanes to a group of blocks, and no more groups than are needed.
        match count {
            0 => {}
            1..=8 => self.network::<V, 2>(vector, inverse, numbers),
            9..=16 => self.network::<V, 4>(vector, inverse, numbers),
            17..=32 => self.network::<V, 8>(vector, inverse, numbers),
            _ => self.network::<V, 16>(vector, inverse, numbers),
        }
    }

    /// Sends the first `4 * N` of `numbers` through the network.
    #[inline(always)]
    fn network<V: Vector, const N: usize>(&self, vector: V, inverse: u64, numbers: &mut Numbers) {
        let Feistel { keys, a_mask, b_mask, b_bits } = self;
        let (a_mask, b_mask) = (u64::from(*a_mask), u64::from(*b_mask));
        let nothing = || Blocks([[0; 2]; BURST]);
        let (mut x, mut y, mut x_mask, mut y_mask) = (nothing(), nothing(), nothing(), nothing());
        let out = &mut nothing();
        for lane in 0..4 * N {
            let (number, back) = (numbers.0[lane], lane_mask(inverse, lane));
            let (a, b) = (number >> b_bits & a_mask, number & b_mask);
            let first = u64::from(LAST_ROUND).to_le() & back;
            x.0[lane] = [first, pick(back, b, a).to_be()];
            y.0[lane] = [first, pick(back, a, b).to_be()];
            x_mask.0[lane][1] = pick(back, b_mask, a_mask).to_be();
            y_mask.0[lane][1] = pick(back, a_mask, b_mask).to_be();
        }
        // The number of round s is s forwards and 7 ^ s backwards. What takes a half from its
        // number in step s - 1 to that in step s + 1 is (s - 1) ^ (s + 1) in both cases; step 0 has
        // no step before it, and the half came in with the number of round 0 instead.
        round::<V, N, 1>(vector, keys, &y, &mut x, &x_mask, out);
        round::<V, N, 2>(vector, keys, &x, &mut y, &y_mask, out);
        round::<V, N, { 1 ^ 3 }>(vector, keys, &y, &mut x, &x_mask, out);
        round::<V, N, { 2 ^ 4 }>(vector, keys, &x, &mut y, &y_mask, out);
        round::<V, N, { 3 ^ 5 }>(vector, keys, &y, &mut x, &x_mask, out);
        round::<V, N, { 4 ^ 6 }>(vector, keys, &x, &mut y, &y_mask, out);
        round::<V, N, { 5 ^ 7 }>(vector, keys, &y, &mut x, &x_mask, out);
        round::<V, N, 0>(vector, keys, &x, &mut y, &y_mask, out);
        for lane in 0..4 * N {
            let back = lane_mask(inverse, lane);
            let (even, odd) = (u64::from_be(x.0[lane][1]), u64::from_be(y.0[lane][1]));
            numbers.0[lane] = pick(back, odd, even) << b_bits | pick(back, even, odd);
        }
    }
}

/// `to` ^= low bits of the encryption of `from`, and its round number moves on by `NEXT`.
#[inline(always)]
fn round<V: Vector, const N: usize, const NEXT: u64>(
    vector: V,
    keys: &RoundKeys,
    from: &Blocks,
    to: &mut Blocks,
    mask: &Blocks,
    encrypted: &mut Blocks,
) {
    vector.encrypt::<N>(keys, from, encrypted);
    let next = const { &every_second(NEXT) };
    let (words, masks) = (encrypted.0.as_flattened(), mask.0.as_flattened());
    let words = words.iter().zip(masks).zip(next.0.as_flattened());
    for (to, ((word, mask), next)) in to.0.as_flattened_mut().iter_mut().zip(words).take(8 * N) {
        *to ^= word & mask ^ next;
    }
}

/// `value` in byte 0 of every block.
const fn every_second(value: u64) -> Blocks {
    Blocks([[value.to_le(), 0]; BURST])
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
    use cpu_vector::{Isa, Job};

    const KEY: Key128 = Key128::new(*b"a key for tests.");

    struct Permute<'a> {
        feistel: &'a Feistel,
        inverse: u64,
        numbers: &'a mut Numbers,
        count: usize,
    }

    impl Job for Permute<'_> {
        type Output = ();

        #[inline(always)]
        fn run<V: Vector>(self, vector: V) {
            self.feistel.permute(vector, self.inverse, self.numbers, self.count);
        }
    }

    fn permute(isa: Isa, feistel: &Feistel, inverse: u64, numbers: &mut [u64]) {
        let (mut padded, count) = (Numbers([0; BURST]), numbers.len());
        padded.0[..count].copy_from_slice(numbers);
        isa.run(Permute { feistel, inverse, numbers: &mut padded, count });
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
}
