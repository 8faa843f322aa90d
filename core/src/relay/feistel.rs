//! A keyed permutation of the numbers below any size up to 2^64, for a burst of numbers at a time.
//!
//! A Feistel network over `a + b` bits, A the high `a` bits and B the low `b`, 1 to 32 bits each.
//! For i = 0..7: i even A ^= F(i, B), i odd B ^= F(i, A), where
//!
//! ```text
//! F(i, v) = low bits of AES-128_K(i, one byte | seven zero bytes | v, eight bytes big-endian)
//! ```
//!
//! with the cipher's output read as one 128-bit big-endian number, and as many low bits taken as
//! the half has that they go into. Numbers that the network throws out of `0..size` go through it
//! again until they fall inside (cycle walking, Black and Rogaway 2002): what is left is a
//! permutation of `0..size`. The inverse walks the same cycles backwards.
//!
//! # How it is made fast
//!
//! A half lives in bytes 12..16 of a 16-byte block from the first round to the last, big-endian, as
//! the cipher wants it: a round is then the cipher, one AND and two XORs on whole blocks, without
//! byte swaps, without narrow stores that a wide load would wait for, and the compiler uses the
//! CPU's vectors for it. The round's number lives in byte 0 of the half that is enciphered; going
//! from one round to the next but one is an XOR with the same constant in both directions, so the
//! inverse is the forward network with its halves swapped and its count begun at 7.

use crate::crypto::{Aes128, Block, Cipher, CipherJob, Key128};

/// Numbers that are permuted in one call.
pub const BURST: usize = 64;

/// How often a number goes through the network before the walk is given up. With a size of at
/// least half of all numbers this happens to one number in 2^64.
pub const WALK_STEPS: usize = 64;

/// Which way to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The permutation.
    Forward,
    /// Its inverse.
    Inverse,
}

/// A keyed permutation of `0..size`.
#[derive(Clone, Debug)]
pub struct Feistel {
    aes: Aes128,
    size: u64,
    a_mask: u32,
    b_mask: u32,
    b_bits: u32,
}

impl Feistel {
    /// The permutation of `0..size` under `key`, by a network of `bits` bits.
    ///
    /// `bits` is taken as 2..=64, the nearest of these. `size` should be more than half of
    /// 2^`bits`, or walks take long, and at most 2^`bits`.
    pub fn new(key: &Key128, bits: u32, size: u64) -> Self {
        let bits = bits.clamp(2, 64);
        let (a_bits, b_bits) = (bits / 2, bits - bits / 2);
        Feistel {
            aes: Aes128::new(key),
            size,
            a_mask: u32::MAX >> (32 - a_bits),
            b_mask: u32::MAX >> (32 - b_bits),
            b_bits,
        }
    }

    /// Replaces each of up to [`BURST`] `numbers`, all below the size, by its image in
    /// `direction`. Numbers past these are left alone.
    ///
    /// Returns the lanes whose walk was given up, as bits; their numbers mean nothing.
    pub fn permute(&self, direction: Direction, numbers: &mut [u64]) -> u64 {
        let count = numbers.len().min(BURST);
        let Some(numbers) = numbers.get_mut(..count) else { return 0 };
        let mut outside = self.pass(direction, numbers);
        let mut step = 1;
        while outside != 0 && step < WALK_STEPS {
            outside = self.pass_again(direction, numbers, outside);
            step += 1;
        }
        outside
    }

    /// Sends the lanes of `numbers` that `outside` names through the network once more. Returns
    /// the lanes that are still outside.
    fn pass_again(&self, direction: Direction, numbers: &mut [u64], outside: u64) -> u64 {
        let mut again = [0; BURST];
        let mut count = 0;
        for lane in lanes(outside) {
            if let (Some(slot), Some(number)) = (again.get_mut(count), numbers.get(lane)) {
                *slot = *number;
                count += 1;
            }
        }
        let Some(again) = again.get_mut(..count) else { return outside };
        let still_outside = self.pass(direction, again);
        let mut left = 0;
        for (index, (lane, number)) in lanes(outside).zip(again).enumerate() {
            if let Some(slot) = numbers.get_mut(lane) {
                *slot = *number;
            }
            left |= (still_outside >> index & 1) << lane;
        }
        left
    }

    /// Sends all of `numbers` through the network once. Returns the lanes that are outside of the
    /// size then.
    fn pass(&self, direction: Direction, numbers: &mut [u64]) -> u64 {
        let mut outside = 0;
        self.aes.run(Pass { feistel: self, direction, numbers, outside: &mut outside });
        outside
    }
}

/// One way through the network for some numbers.
struct Pass<'a> {
    feistel: &'a Feistel,
    direction: Direction,
    numbers: &'a mut [u64],
    outside: &'a mut u64,
}

impl CipherJob for Pass<'_> {
    #[inline(always)]
    fn run<C: Cipher>(self, cipher: &C) {
        let mut rest = self.numbers;
        let mut shift = 0;
        while !rest.is_empty() {
            // A very wide cipher pays only when most of its lanes are in use.
            let width = if C::WIDTH > 32 && rest.len() > WIDE_FROM { 64 } else { 8 };
            let (chunk, later) = rest.split_at_mut(rest.len().min(width));
            let outside = if width == 64 {
                network::<C, 64>(cipher, self.feistel, self.direction, chunk)
            } else {
                network::<C, 8>(cipher, self.feistel, self.direction, chunk)
            };
            *self.outside |= outside << shift;
            shift += width;
            rest = later;
        }
    }
}

/// Sends up to `W` numbers through the network. Returns the lanes that are outside of the size
/// then.
#[inline(always)]
fn network<C: Cipher, const W: usize>(
    cipher: &C,
    feistel: &Feistel,
    direction: Direction,
    numbers: &mut [u64],
) -> u64 {
    let Feistel { size, a_mask, b_mask, b_bits, .. } = *feistel;
    let forward = direction == Direction::Forward;
    let first = if forward { 0 } else { LAST_ROUND };
    let (mut x, mut y) = ([[0; 16]; W], [[0; 16]; W]);
    for ((x, y), number) in x.iter_mut().zip(&mut y).zip(numbers.iter()) {
        let (a, b) = ((*number >> b_bits) as u32, *number as u32 & b_mask);
        let (even, odd) = if forward { (a, b) } else { (b, a) };
        *x = to_block(first, even);
        *y = to_block(first, odd);
    }
    let (x_mask, y_mask) = if forward { (a_mask, b_mask) } else { (b_mask, a_mask) };
    rounds(cipher, &mut x, &mut y, &to_block(0, x_mask), &to_block(0, y_mask));
    let mut outside = 0;
    for (lane, ((x, y), number)) in x.iter().zip(&y).zip(numbers).enumerate() {
        let (even, odd) = (from_block(x), from_block(y));
        let (a, b) = if forward { (even, odd) } else { (odd, even) };
        *number = u64::from(a) << b_bits | u64::from(b);
        outside |= u64::from(*number >= size) << lane;
    }
    outside
}

/// All rounds of the network: `x` changes in the even steps, `y` in the odd ones.
#[inline(always)]
fn rounds<C: Cipher, const W: usize>(
    cipher: &C,
    x: &mut [Block; W],
    y: &mut [Block; W],
    x_mask: &Block,
    y_mask: &Block,
) {
    // The number of round s is s forwards and 7 ^ s backwards. What takes a half from its number
    // in step s - 1 to that in step s + 1 is (s - 1) ^ (s + 1) in both cases; step 0 has no step
    // before it, and the half came in with the number of round 0 instead.
    round(cipher, y, x, x_mask, 1);
    round(cipher, x, y, y_mask, 2);
    round(cipher, y, x, x_mask, 1 ^ 3);
    round(cipher, x, y, y_mask, 2 ^ 4);
    round(cipher, y, x, x_mask, 3 ^ 5);
    round(cipher, x, y, y_mask, 4 ^ 6);
    round(cipher, y, x, x_mask, 5 ^ 7);
    round(cipher, x, y, y_mask, 0);
}

/// `to` ^= low bits of the encryption of `from`, and its round number moves on by `next`.
#[inline(always)]
fn round<C: Cipher, const W: usize>(
    cipher: &C,
    from: &[Block; W],
    to: &mut [Block; W],
    mask: &Block,
    next: u8,
) {
    let mut encrypted = [[0; 16]; W];
    cipher.encrypt(from, &mut encrypted);
    let next = to_block(next, 0);
    for (to, encrypted) in to.iter_mut().zip(&encrypted) {
        for byte in 0..16 {
            to[byte] ^= (encrypted[byte] & mask[byte]) ^ next[byte];
        }
    }
}

/// The block that F enciphers: the round's number and a half.
#[inline(always)]
fn to_block(round: u8, half: u32) -> Block {
    (u128::from(round) << 120 | u128::from(half)).to_be_bytes()
}

/// The half in a block.
#[inline(always)]
fn from_block(block: &Block) -> u32 {
    u128::from_be_bytes(*block) as u32
}

/// The numbers of the bits that are set.
fn lanes(mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lane = bits.trailing_zeros() as usize;
        bits &= bits.wrapping_sub(1);
        (lane < BURST).then_some(lane)
    })
}

const LAST_ROUND: u8 = 7;

/// From how many numbers on a 64 blocks wide cipher is used as one.
const WIDE_FROM: usize = 32;

/// The slow twin: the same permutation, one number at a time, written as the definition reads.
pub mod reference {
    use super::{Direction, Feistel, LAST_ROUND, WALK_STEPS};
    use crate::crypto::Aes128;

    /// The image of `number` in `direction`, or nothing when its walk is given up.
    pub fn permute(feistel: &Feistel, direction: Direction, number: u64) -> Option<u64> {
        let mut number = number;
        for _ in 0..WALK_STEPS {
            number = network(feistel, direction, number);
            if number < feistel.size {
                return Some(number);
            }
        }
        None
    }

    fn network(feistel: &Feistel, direction: Direction, number: u64) -> u64 {
        let mut a = (number >> feistel.b_bits) as u32;
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
            assert_eq!(feistel.permute(direction, burst), 0);
        }
    }

    #[test]
    fn every_small_domain_is_permuted_and_undone_exactly() {
        // Even and odd networks, sizes as close to 2^bits as the product's and much smaller.
        for (bits, size) in
            [(2, 3), (3, 8), (5, 31), (8, 200), (12, 4031), (13, 8063), (13, 4097), (17, 129_024)]
        {
            let feistel = Feistel::new(&KEY, bits, size);
            let mut numbers: Vec<u64> = (0..size).collect();
            permute_all(&feistel, Direction::Forward, &mut numbers);
            let mut seen = vec![false; size as usize];
            for number in &numbers {
                assert!(!std::mem::replace(&mut seen[*number as usize], true), "{number} twice");
            }
            permute_all(&feistel, Direction::Inverse, &mut numbers);
            assert!(numbers.iter().copied().eq(0..size));
        }
    }

    #[test]
    fn bursts_of_every_length_agree_with_the_slow_twin() {
        for (bits, size) in [(50, (1 << 50) - (1 << 44)), (57, 1 << 56), (64, u64::MAX), (9, 300)] {
            let feistel = Feistel::new(&KEY, bits, size);
            for direction in [Direction::Forward, Direction::Inverse] {
                for len in 0..=BURST + 3 {
                    let start: Vec<u64> = (1..=len as u64)
                        .map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15) % size)
                        .collect();
                    let mut numbers = start.clone();
                    assert_eq!(feistel.permute(direction, &mut numbers), 0);
                    for (lane, (number, start)) in numbers.iter().zip(&start).enumerate() {
                        let expected = reference::permute(&feistel, direction, *start);
                        let expected = if lane < BURST { expected } else { Some(*start) };
                        assert_eq!(Some(*number), expected, "{bits} {direction:?} {len} {lane}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_walk_that_does_not_end_is_given_up() {
        // Nothing is below 0: every lane walks until the bound.
        let feistel = Feistel::new(&KEY, 20, 0);
        assert_eq!(feistel.permute(Direction::Forward, &mut [1, 2, 3]), 0b111);
        // Of a size of one, only what starts on its cycle comes back; that may take too long.
        let feistel = Feistel::new(&KEY, 60, 1);
        assert_eq!(feistel.permute(Direction::Forward, &mut [0; BURST]), u64::MAX);
        assert_eq!(reference::permute(&feistel, Direction::Forward, 0), None);
    }
}
