//! A keyed permutation of the numbers of some bits, for a burst of numbers at a time.
//!
//! A Feistel network over `a + b` bits, A the high `a` bits and B the low `b`, 1 to 32 bits each.
//! For i = 0..7: i even A ^= F(i, B), i odd B ^= F(i, A), where
//!
//! ```text
//! F(i, v) = low bits of AES-128_K(i, one byte | a zero byte | tweak, six bytes | v, eight bytes)
//! ```
//!
//! big-endian, with the cipher's output read as one 128-bit number, and as many low bits taken as
//! the half has that they go into. The inverse does the same with i from 7 down to 0. Under one key
//! each tweak gives a permutation of its own, so that a burst of many services takes one key.
//!
//! # How it is made fast
//!
//! Up to 64 numbers go through all rounds side by side, each in its own direction and through its
//! own permutation, compiled for the CPU's widest registers. A half stays in bytes 12..16 of a
//! block from the first round to the last, big-endian, as the cipher wants it: a round is then the
//! cipher, one AND and two XORs on whole blocks, without byte swaps and without narrow stores that
//! a wide load would wait for. In step s the number of the round is s forwards and 7 - s, which is
//! 7 ^ s, backwards: byte 0 of a block holds 0 or 7, and the cipher XORs s into it. So the inverse
//! is the forward network with its halves swapped: a lane's direction is in what it begins with,
//! and no round asks for it.

use cpu_vector::{Blocks, RoundKeys, Vector, lane_mask, pick, with_groups};

/// Numbers that are permuted in one call.
pub const BURST: usize = 64;

/// A number for each lane.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub struct Numbers(pub [u64; BURST]);

/// One of the networks under a key.
#[derive(Clone, Copy, Debug)]
pub struct Network {
    /// Bits of the numbers that it permutes, 2..=64.
    pub bits: u64,
    /// 48 bits.
    pub tweak: u64,
}

/// The network of each lane.
pub trait LaneNetworks {
    /// Bits of the numbers in `lane`, 2..=64.
    fn bits(&self, lane: usize) -> u64;

    /// The tweak in `lane`, 48 bits.
    fn tweak(&self, lane: usize) -> u64;
}

/// The same network in all lanes.
impl LaneNetworks for Network {
    #[inline(always)]
    fn bits(&self, _: usize) -> u64 {
        self.bits
    }

    #[inline(always)]
    fn tweak(&self, _: usize) -> u64 {
        self.tweak
    }
}

/// A network of its own in each lane.
#[derive(Clone, Debug)]
pub struct OwnNetworks {
    bits: [u64; BURST],
    tweaks: [u64; BURST],
}

impl OwnNetworks {
    /// The same network in all lanes, at first.
    #[inline]
    pub fn new(Network { bits, tweak }: Network) -> Self {
        OwnNetworks { bits: [bits; BURST], tweaks: [tweak; BURST] }
    }

    /// Sets that of `lane`.
    #[inline(always)]
    pub fn set(&mut self, lane: usize, Network { bits, tweak }: Network) {
        (self.bits[lane % BURST], self.tweaks[lane % BURST]) = (bits, tweak);
    }
}

impl LaneNetworks for OwnNetworks {
    #[inline(always)]
    fn bits(&self, lane: usize) -> u64 {
        self.bits[lane % BURST]
    }

    #[inline(always)]
    fn tweak(&self, lane: usize) -> u64 {
        self.tweaks[lane % BURST]
    }
}

/// Replaces the first `count` of `numbers` by their images, of the inverse for the lanes that have
/// a bit in `inverse`. Those behind may change too, and mean nothing. A number with more bits than
/// its network has is taken without the bits above.
#[inline(always)]
pub fn permute<V: Vector, W: LaneNetworks>(
    vector: V,
    keys: &RoundKeys,
    networks: &W,
    inverse: u64,
    numbers: &mut Numbers,
    count: usize,
) {
    with_groups!(count, N => rounds::<V, W, N>(vector, keys, networks, inverse, numbers))
}

/// Sends the first `4 * N` of `numbers` through the networks.
#[inline(always)]
fn rounds<V: Vector, W: LaneNetworks, const N: usize>(
    vector: V,
    keys: &RoundKeys,
    networks: &W,
    inverse: u64,
    numbers: &mut Numbers,
) {
    let [mut x, mut y, mut x_mask, mut y_mask] = [const { Blocks::ZERO }; 4];
    let halves = |lane| {
        let (bits, back) = (networks.bits(lane), lane_mask(inverse, lane));
        let (a_bits, b_bits) = (bits / 2, bits - bits / 2);
        (back, b_bits, (1 << a_bits) - 1, (1 << b_bits) - 1)
    };
    for lane in 0..4 * N {
        let (back, b_bits, a_mask, b_mask) = halves(lane);
        let number = numbers.0[lane];
        let (a, b) = (number >> b_bits & a_mask, number & b_mask);
        let first = u64::from(LAST_ROUND).to_le() & back ^ networks.tweak(lane).to_be();
        x.0[lane] = [first, pick(back, b, a).to_be()];
        y.0[lane] = [first, pick(back, a, b).to_be()];
        x_mask.0[lane][1] = pick(back, b_mask, a_mask).to_be();
        y_mask.0[lane][1] = pick(back, a_mask, b_mask).to_be();
    }
    for step in [0_u64, 2, 4, 6] {
        vector.encrypt_xor::<N>(keys, step.to_le(), &y, &x_mask, &mut x);
        vector.encrypt_xor::<N>(keys, (step + 1).to_le(), &x, &y_mask, &mut y);
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
    use cpu_vector::RoundKeys;

    use super::{LAST_ROUND, Network};

    /// The image of `number`, or its image under the inverse.
    pub fn permute(keys: &RoundKeys, network: Network, is_inverse: bool, number: u64) -> u64 {
        let (a_bits, b_bits) = (network.bits / 2, network.bits - network.bits / 2);
        let (a_mask, b_mask) = (u32::MAX >> (32 - a_bits), u32::MAX >> (32 - b_bits));
        let (mut a, mut b) = ((number >> b_bits) as u32 & a_mask, number as u32 & b_mask);
        for step in 0..=LAST_ROUND {
            let i = if is_inverse { LAST_ROUND - step } else { step };
            if i % 2 == 0 {
                a ^= f(keys, i, network.tweak, b) & a_mask;
            } else {
                b ^= f(keys, i, network.tweak, a) & b_mask;
            }
        }
        u64::from(a) << b_bits | u64::from(b)
    }

    fn f(keys: &RoundKeys, i: u8, tweak: u64, v: u32) -> u32 {
        let mut block = [0; 16];
        block[..8].copy_from_slice(&tweak.to_be_bytes());
        block[0] = i;
        block[8..].copy_from_slice(&u64::from(v).to_be_bytes());
        u128::from_be_bytes(keys.encrypt_block(&block)) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cpu_vector::{Isa, Job};

    const TWEAK: u64 = 0xcb00_710a_01bb;

    fn keys() -> RoundKeys {
        RoundKeys::new(b"a key for tests.")
    }

    struct Permute<'a, W> {
        networks: &'a W,
        inverse: u64,
        numbers: &'a mut Numbers,
        count: usize,
    }

    impl<W: LaneNetworks> Job for Permute<'_, W> {
        type Output = ();

        #[inline(always)]
        fn run<V: Vector>(self, vector: V) {
            let Permute { networks, inverse, numbers, count } = self;
            super::permute(vector, &keys(), networks, inverse, numbers, count);
        }
    }

    fn permute(isa: Isa, networks: &impl LaneNetworks, inverse: u64, numbers: &mut [u64]) {
        let (mut padded, count) = (Numbers([0; BURST]), numbers.len());
        padded.0[..count].copy_from_slice(numbers);
        isa.run(Permute { networks, inverse, numbers: &mut padded, count });
        numbers.copy_from_slice(&padded.0[..count]);
    }

    #[test]
    fn every_small_domain_is_permuted_and_undone_exactly() {
        // Even and odd numbers of bits.
        for bits in [2, 3, 4, 5, 8, 12, 13, 17] {
            let network = Network { bits, tweak: TWEAK };
            let mut numbers: Vec<u64> = (0..1 << bits).collect();
            let all = |inverse, numbers: &mut Vec<u64>| {
                let bursts = numbers.chunks_mut(BURST);
                bursts.for_each(|burst| permute(Isa::best(), &network, inverse, burst));
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
    fn each_tweak_has_a_permutation_of_its_own() {
        let image = |tweak| reference::permute(&keys(), Network { bits: 54, tweak }, false, 12345);
        let images: Vec<_> = (0..48).map(|bit| image(TWEAK ^ 1 << bit)).collect();
        for (bit, found) in images.iter().enumerate() {
            assert!(*found != image(TWEAK) && !images[..bit].contains(found), "{bit}");
        }
    }

    /// Whether bursts of every length and direction agree with the slow twin.
    fn agree(networks: &impl LaneNetworks, of: impl Fn(usize) -> Network) {
        for isa in Isa::ALL {
            for inverse in [0, u64::MAX, 0x5a5a_00ff_1234_8001] {
                for len in 0..=BURST {
                    // Of all 64 bits: those above the permutation's do not count.
                    let number = |i: usize| (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                    let start: [u64; BURST] = std::array::from_fn(number);
                    let mut numbers = start;
                    permute(isa, networks, inverse, &mut numbers[..len]);
                    for (lane, number) in numbers.iter().enumerate().take(len) {
                        let (network, back) = (of(lane), inverse >> lane & 1 == 1);
                        let expected = reference::permute(&keys(), network, back, start[lane]);
                        assert_eq!(*number, expected, "{isa} {network:?} {back} {len} {lane}");
                    }
                }
            }
        }
    }

    #[test]
    fn all_lanes_of_one_permutation_agree_with_the_slow_twin() {
        for bits in [48, 49, 57, 62, 64, 9] {
            let network = Network { bits, tweak: TWEAK };
            agree(&network, |_| network);
        }
    }

    #[test]
    fn lanes_of_a_permutation_each_agree_with_the_slow_twin() {
        let of = |lane: usize| Network {
            bits: [48, 62, 49, 9, 57][lane * 3 % 5],
            tweak: TWEAK ^ ((lane as u64 * 11 % 7) << 40) ^ (lane as u64 % 3),
        };
        let mut networks = OwnNetworks::new(of(0));
        (0..BURST).for_each(|lane| networks.set(lane, of(lane)));
        agree(&networks, of);
    }
}
