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
//! All rounds run inside one call of the cipher, compiled for the CPU's widest registers, for 8, 16
//! or 32 numbers side by side. A half stays in bytes 12..16 of a block from the first round to the
//! last, big-endian, as the cipher wants it: a round is then the cipher, one AND and two XORs on
//! whole blocks, without byte swaps and without narrow stores that a wide load would wait for. The
//! round's number lives in byte 0 of the half that is enciphered; going from one round to the next
//! but one is an XOR with the same constant in both directions, so the inverse is the forward
//! network with its halves swapped and its count begun at 7.

use crate::crypto::{Aes128, Cipher, CipherJob, Key128};

/// Numbers that are permuted in one call.
pub const BURST: usize = 64;

/// Which way to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The permutation.
    Forward,
    /// Its inverse.
    Inverse,
}

/// A keyed permutation of the numbers of some bits.
#[derive(Clone, Debug)]
pub struct Feistel {
    aes: Aes128,
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
        Feistel { aes: Aes128::new(key), a_mask, b_mask, b_bits }
    }

    /// Replaces the first `count` of `numbers` by their images in `direction`. Those behind may
    /// change too, and mean nothing. A number with more bits than the permutation has is taken
    /// without the bits above.
    #[inline]
    pub fn permute(&self, direction: Direction, numbers: &mut [u64; BURST], count: usize) {
        self.aes.run(Pass { feistel: self, direction, numbers, count });
    }
}

/// One way through the network for some numbers.
struct Pass<'a> {
    feistel: &'a Feistel,
    direction: Direction,
    numbers: &'a mut [u64; BURST],
    count: usize,
}

impl CipherJob for Pass<'_> {
    #[inline(always)]
    fn run<C: Cipher>(self, cipher: &C) {
        let Pass { feistel, direction, numbers, count } = self;
        let mut done = 0;
        while done < count.min(BURST) {
            let (_, rest) = numbers.split_at_mut(done);
            // As many as the CPU's registers hold, or as few as there are.
            done += match (C::WIDTH, count - done) {
                (..=8, _) => network::<C, 8, 16>(cipher, feistel, direction, rest),
                (64.., 17..) => network::<C, 32, 64>(cipher, feistel, direction, rest),
                _ => network::<C, 16, 32>(cipher, feistel, direction, rest),
            };
        }
    }
}

/// Sends the first `W` of `numbers` through the network; `N` is twice `W`. Returns `W`.
#[inline(always)]
fn network<C: Cipher, const W: usize, const N: usize>(
    cipher: &C,
    feistel: &Feistel,
    direction: Direction,
    numbers: &mut [u64],
) -> usize {
    const { assert!(N == 2 * W) };
    let Some(numbers) = numbers.first_chunk_mut::<W>() else { return W };
    let Feistel { a_mask, b_mask, b_bits, .. } = *feistel;
    let forward = direction == Direction::Forward;
    let first = if forward { 0 } else { u64::from(LAST_ROUND).to_le() };
    // A copy, so that the compiler knows it to be apart from the halves.
    let before = *numbers;
    let (mut x, mut y) = ([0; N], [0; N]);
    for (lane, number) in before.iter().enumerate() {
        let (a, b) = (number >> b_bits & u64::from(a_mask), number & u64::from(b_mask));
        let (even, odd) = if forward { (a, b) } else { (b, a) };
        (x[2 * lane], x[2 * lane + 1]) = (first, even.to_be());
        (y[2 * lane], y[2 * lane + 1]) = (first, odd.to_be());
    }
    let (even_mask, odd_mask) = if forward { (a_mask, b_mask) } else { (b_mask, a_mask) };
    let (mut x_mask, mut y_mask) = ([0; N], [0; N]);
    for lane in 0..W {
        x_mask[2 * lane + 1] = u64::from(even_mask).to_be();
        y_mask[2 * lane + 1] = u64::from(odd_mask).to_be();
    }
    rounds::<C, W, N>(cipher, &mut x, &mut y, &x_mask, &y_mask);
    let mut after = [0; W];
    for (lane, number) in after.iter_mut().enumerate() {
        let (even, odd) = (u64::from_be(x[2 * lane + 1]), u64::from_be(y[2 * lane + 1]));
        let (a, b) = if forward { (even, odd) } else { (odd, even) };
        *number = a << b_bits | b;
    }
    *numbers = after;
    W
}

/// All rounds of the network: `x` changes in the even steps, `y` in the odd ones.
#[inline(always)]
fn rounds<C: Cipher, const W: usize, const N: usize>(
    cipher: &C,
    x: &mut [u64; N],
    y: &mut [u64; N],
    x_mask: &[u64; N],
    y_mask: &[u64; N],
) {
    // The number of round s is s forwards and 7 ^ s backwards. What takes a half from its number
    // in step s - 1 to that in step s + 1 is (s - 1) ^ (s + 1) in both cases; step 0 has no step
    // before it, and the half came in with the number of round 0 instead.
    round::<C, W, N, 1>(cipher, y, x, x_mask);
    round::<C, W, N, 2>(cipher, x, y, y_mask);
    round::<C, W, N, { 1 ^ 3 }>(cipher, y, x, x_mask);
    round::<C, W, N, { 2 ^ 4 }>(cipher, x, y, y_mask);
    round::<C, W, N, { 3 ^ 5 }>(cipher, y, x, x_mask);
    round::<C, W, N, { 4 ^ 6 }>(cipher, x, y, y_mask);
    round::<C, W, N, { 5 ^ 7 }>(cipher, y, x, x_mask);
    round::<C, W, N, 0>(cipher, x, y, y_mask);
}

/// `to` ^= low bits of the encryption of `from`, and its round number moves on by `NEXT`.
#[inline(always)]
fn round<C: Cipher, const W: usize, const N: usize, const NEXT: u64>(
    cipher: &C,
    from: &[u64; N],
    to: &mut [u64; N],
    mask: &[u64; N],
) {
    let (mut blocks, mut encrypted) = ([[0; 16]; W], [[0; 16]; W]);
    for (bytes, word) in blocks.as_flattened_mut().chunks_exact_mut(8).zip(from) {
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    cipher.encrypt(&blocks, &mut encrypted);
    let mut words = [0; N];
    for (word, bytes) in words.iter_mut().zip(encrypted.as_flattened().as_chunks::<8>().0) {
        *word = u64::from_ne_bytes(*bytes);
    }
    let next = const { every_second::<N>(NEXT) };
    for i in 0..N {
        to[i] ^= (words[i] & mask[i]) ^ next[i];
    }
    // Keeps the compiler from taking a few lanes through all rounds before it begins with the next
    // few: each lane waits for its cipher, so only many side by side keep the CPU busy.
    std::hint::black_box(to);
}

/// `value` in byte 0 of every block.
const fn every_second<const N: usize>(value: u64) -> [u64; N] {
    let mut words = [0; N];
    let mut i = 0;
    while i < N {
        words[i] = value.to_le();
        i += 2;
    }
    words
}

const LAST_ROUND: u8 = 7;

/// The slow twin: the same permutation, one number at a time, written as the definition reads.
pub mod reference {
    use super::{Direction, Feistel, LAST_ROUND};
    use crate::crypto::Aes128;

    /// The image of `number` in `direction`.
    pub fn permute(feistel: &Feistel, direction: Direction, number: u64) -> u64 {
        let mut a = (number >> feistel.b_bits) as u32 & feistel.a_mask;
        let mut b = number as u32 & feistel.b_mask;
        for step in 0..=LAST_ROUND {
            let i = if direction == Direction::Forward { step } else { LAST_ROUND - step };
            if i % 2 == 0 {
                a ^= f(&feistel.aes, i, b) & feistel.a_mask;
            } else {
                b ^= f(&feistel.aes, i, a) & feistel.b_mask;
            }
        }
        u64::from(a) << feistel.b_bits | u64::from(b)
    }

    fn f(aes: &Aes128, i: u8, v: u32) -> u32 {
        let mut block = [0; 16];
        block[0] = i;
        block[8..].copy_from_slice(&u64::from(v).to_be_bytes());
        u128::from_be_bytes(aes.encrypt_block(&block)) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key128 = Key128::new(*b"a key for tests.");

    /// Permutes all of `numbers`, [`BURST`] at a time.
    fn permute_all(feistel: &Feistel, direction: Direction, numbers: &mut [u64]) {
        for burst in numbers.chunks_mut(BURST) {
            let mut padded = [0; BURST];
            padded[..burst.len()].copy_from_slice(burst);
            feistel.permute(direction, &mut padded, burst.len());
            burst.copy_from_slice(&padded[..burst.len()]);
        }
    }

    #[test]
    fn every_small_domain_is_permuted_and_undone_exactly() {
        // Even and odd numbers of bits.
        for bits in [2, 3, 4, 5, 8, 12, 13, 17] {
            let feistel = Feistel::new(&KEY, bits);
            let mut numbers: Vec<u64> = (0..1 << bits).collect();
            permute_all(&feistel, Direction::Forward, &mut numbers);
            let mut seen = vec![false; 1 << bits];
            for number in &numbers {
                assert!(!std::mem::replace(&mut seen[*number as usize], true), "{number} twice");
            }
            permute_all(&feistel, Direction::Inverse, &mut numbers);
            assert!(numbers.iter().copied().eq(0..1 << bits));
        }
    }

    #[test]
    fn bursts_of_every_length_agree_with_the_slow_twin() {
        for bits in [48, 49, 57, 62, 64, 9] {
            let feistel = Feistel::new(&KEY, bits);
            for direction in [Direction::Forward, Direction::Inverse] {
                for len in 0..=BURST + 3 {
                    // Of all 64 bits: those above the permutation's do not count.
                    let number = |i: usize| (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                    let start: [u64; BURST] = std::array::from_fn(number);
                    let mut numbers = start;
                    feistel.permute(direction, &mut numbers, len);
                    for (lane, number) in numbers.iter().enumerate().take(len) {
                        let expected = reference::permute(&feistel, direction, start[lane]);
                        assert_eq!(*number, expected, "{bits} {direction:?} {len} {lane}");
                    }
                }
            }
        }
    }
}
