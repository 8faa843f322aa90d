//! AES-128 (FIPS 197) on many blocks under one key.

use std::fmt;

use aes::Aes128Enc;
use aes::cipher::array::Array;
use aes::cipher::{BlockCipherEncrypt, KeyInit};

/// Bytes of a block.
pub const BLOCK_LEN: usize = 16;

/// A block.
pub type Block = [u8; BLOCK_LEN];

/// Blocks that are encrypted together, at most.
pub const BLOCKS: usize = 64;

/// Blocks that are encrypted together, each as two words in the order of its bytes.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Blocks(pub [[u64; 2]; BLOCKS]);

/// An AES-128 key, expanded.
#[derive(Clone)]
pub struct RoundKeys {
    /// Each round key four times, for four blocks at a time.
    wide: Wide,
    other: Aes128Enc,
}

#[derive(Clone)]
#[repr(C, align(64))]
struct Wide([[Block; 4]; ROUNDS + 1]);

const ROUNDS: usize = 10;

impl RoundKeys {
    /// The expansion of `key`.
    pub fn new(key: &Block) -> Self {
        let mut wide = Wide([[[0; BLOCK_LEN]; 4]; ROUNDS + 1]);
        for (wide, key) in wide.0.iter_mut().zip(expand(key)) {
            *wide = [key; 4];
        }
        RoundKeys { wide, other: Aes128Enc::new(Array::cast_from_core(key)) }
    }

    /// The encryption of one block, by the `aes` crate.
    pub fn encrypt_block(&self, block: &Block) -> Block {
        let mut out = Array::from(*block);
        self.other.encrypt_block(&mut out);
        out.into()
    }
}

impl fmt::Debug for RoundKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RoundKeys(..)")
    }
}

/// The round keys of `key` (FIPS 197, section 5.2).
fn expand(key: &Block) -> [Block; ROUNDS + 1] {
    let mut keys = [*key; ROUNDS + 1];
    let mut constant = 1u8;
    for round in 1..=ROUNDS {
        let before = keys[round - 1];
        let mut word = [13, 14, 15, 12].map(|at| S_BOX[usize::from(before[at])]);
        word[0] ^= constant;
        constant = double(constant);
        for at in 0..BLOCK_LEN {
            // Each word is that of the round before, and the word before it.
            word[at % 4] ^= before[at];
            keys[round][at] = word[at % 4];
        }
    }
    keys
}

/// Twice `x` in the field of AES.
const fn double(x: u8) -> u8 {
    x << 1 ^ if x & 0x80 == 0 { 0 } else { 0x1b }
}

/// The substitution of bytes (FIPS 197, section 5.1.1).
const S_BOX: [u8; 256] = {
    let mut table = [0; 256];
    // p runs through all numbers but 0 as the powers of 3, and q through their inverses.
    let (mut p, mut q) = (1u8, 1u8);
    loop {
        p ^= double(p);
        q ^= q << 1;
        q ^= q << 2;
        q ^= q << 4;
        if q & 0x80 != 0 {
            q ^= 9;
        }
        let mixed =
            q ^ q.rotate_left(1) ^ q.rotate_left(2) ^ q.rotate_left(3) ^ q.rotate_left(4) ^ 0x63;
        table[p as usize] = mixed;
        if p == 1 {
            break;
        }
    }
    table[0] = 0x63;
    table
};

/// By what the `aes` crate finds.
#[inline(always)]
pub(crate) fn baseline<const N: usize>(keys: &RoundKeys, from: &Blocks, to: &mut Blocks) {
    let mut bytes = [[0; BLOCK_LEN]; BLOCKS];
    for (bytes, [first, second]) in bytes.iter_mut().zip(&from.0).take(4 * N) {
        bytes[..8].copy_from_slice(&first.to_ne_bytes());
        bytes[8..].copy_from_slice(&second.to_ne_bytes());
    }
    let (some, _) = bytes.split_at_mut((4 * N).min(BLOCKS));
    keys.other.encrypt_blocks(Array::cast_slice_from_core_mut(some));
    for (block, bytes) in to.0.iter_mut().zip(&bytes).take(4 * N) {
        let (words, _) = bytes.as_chunks();
        *block = [words[0], words[1]].map(u64::from_ne_bytes);
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) mod x86_64 {
    use core::arch::x86_64::{
        _mm_aesenc_si128, _mm_aesenclast_si128, _mm_load_si128, _mm_store_si128, _mm_xor_si128,
        _mm512_aesenc_epi128, _mm512_aesenclast_epi128, _mm512_load_si512, _mm512_store_si512,
        _mm512_xor_si512,
    };

    use super::{Blocks, ROUNDS, RoundKeys};

    /// By AES-NI, a block at a time.
    #[inline]
    #[target_feature(enable = "avx2,aes")]
    pub(crate) fn aes_ni<const N: usize>(keys: &RoundKeys, from: &Blocks, to: &mut Blocks) {
        const { assert!(N.is_multiple_of(2) && N <= 16) };
        for first in (0..4 * N).step_by(8) {
            aes_ni_some::<8>(keys, from, to, first);
        }
    }

    /// The `G` blocks from `first` on, which is at most 64 - `G`.
    #[inline]
    #[target_feature(enable = "avx2,aes")]
    fn aes_ni_some<const G: usize>(keys: &RoundKeys, from: &Blocks, to: &mut Blocks, first: usize) {
        let key = |round: usize| {
            // SAFETY: a round key has 16 bytes, aligned to 64.
            unsafe { _mm_load_si128(keys.wide.0[round].as_ptr().cast()) }
        };
        let mut state = [key(0); G];
        for (state, block) in state.iter_mut().zip(from.0.iter().skip(first)) {
            // SAFETY: a block has 16 bytes, aligned to 16 within an array that is aligned to 64.
            let block = unsafe { _mm_load_si128(block.as_ptr().cast()) };
            *state = _mm_xor_si128(*state, block);
        }
        for round in 1..ROUNDS {
            let key = key(round);
            for state in &mut state {
                *state = _mm_aesenc_si128(*state, key);
            }
        }
        let last = key(ROUNDS);
        for (state, block) in state.iter().zip(to.0.iter_mut().skip(first)) {
            let after = _mm_aesenclast_si128(*state, last);
            // SAFETY: as above.
            unsafe { _mm_store_si128(block.as_mut_ptr().cast(), after) };
        }
    }

    /// By VAES, four blocks at a time.
    #[inline]
    #[target_feature(enable = "avx512f,vaes")]
    pub(crate) fn vaes_512<const N: usize>(keys: &RoundKeys, from: &Blocks, to: &mut Blocks) {
        match N {
            16 => {
                vaes_512_some::<8>(keys, from, to, 0);
                vaes_512_some::<8>(keys, from, to, 32);
            }
            8 => vaes_512_some::<8>(keys, from, to, 0),
            4 => vaes_512_some::<4>(keys, from, to, 0),
            2 => vaes_512_some::<2>(keys, from, to, 0),
            _ => (0..4 * N).step_by(4).for_each(|first| {
                vaes_512_some::<1>(keys, from, to, first);
            }),
        }
    }

    /// The `4 * G` blocks from `first` on, a multiple of 4 that is at most 64 - 4 * `G`.
    #[inline]
    #[target_feature(enable = "avx512f,vaes")]
    fn vaes_512_some<const G: usize>(
        keys: &RoundKeys,
        from: &Blocks,
        to: &mut Blocks,
        first: usize,
    ) {
        let key = |round: usize| {
            // SAFETY: four times a round key are 64 bytes, aligned to 64.
            unsafe { _mm512_load_si512(keys.wide.0[round].as_ptr().cast()) }
        };
        let (groups, _) = from.0.as_chunks::<4>();
        let mut state = [key(0); G];
        for (state, group) in state.iter_mut().zip(groups.iter().skip(first / 4)) {
            // SAFETY: four blocks are 64 bytes, aligned to 64 as the array that begins with them.
            let group = unsafe { _mm512_load_si512(group.as_ptr().cast()) };
            *state = _mm512_xor_si512(*state, group);
        }
        for round in 1..ROUNDS {
            let key = key(round);
            for state in &mut state {
                *state = _mm512_aesenc_epi128(*state, key);
            }
        }
        let last = key(ROUNDS);
        let (groups, _) = to.0.as_chunks_mut::<4>();
        for (state, group) in state.iter().zip(groups.iter_mut().skip(first / 4)) {
            let after = _mm512_aesenclast_epi128(*state, last);
            // SAFETY: as above.
            unsafe { _mm512_store_si512(group.as_mut_ptr().cast(), after) };
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{Isa, Job, Vector};

    struct Encrypt<'a, const N: usize>(&'a RoundKeys, &'a Blocks, &'a mut Blocks);

    impl<const N: usize> Job for Encrypt<'_, N> {
        type Output = ();

        #[inline(always)]
        fn run<V: Vector>(self, vector: V) {
            vector.encrypt::<N>(self.0, self.1, self.2);
        }
    }

    #[test]
    fn keys_are_expanded_as_the_standard_shows() {
        // FIPS 197, appendix A.1.
        let key = 0x2b7e_1516_28ae_d2a6_abf7_1588_09cf_4f3c_u128.to_be_bytes();
        let last = 0xd014_f9a8_c9ee_2589_e13f_0cc8_b663_0ca6_u128;
        assert_eq!(u128::from_be_bytes(expand(&key)[ROUNDS]), last);
    }

    fn agree<const N: usize>() {
        let key = *b"a key for tests.";
        let (keys, one) = (RoundKeys::new(&key), Aes128Enc::new(&Array::from(key)));
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            let number = |i: usize| (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let before = Blocks(std::array::from_fn(|i| [number(i), number(i + 99)]));
            let mut blocks = before.clone();
            isa.run(Encrypt::<N>(&keys, &before, &mut blocks));
            for (block, before) in blocks.0.iter().zip(before.0).take(4 * N) {
                let bytes = |words: [u64; 2]| [words[0].to_ne_bytes(), words[1].to_ne_bytes()];
                let mut expected = Array::try_from(bytes(before).as_flattened()).unwrap();
                one.encrypt_block(&mut expected);
                assert_eq!(bytes(*block).as_flattened(), expected.as_slice(), "{isa} {N}");
            }
        }
    }

    #[test]
    fn all_sets_encrypt_alike() {
        // FIPS 197, appendix B, by way of the crate that tests it.
        agree::<2>();
        agree::<4>();
        agree::<8>();
        agree::<16>();
    }
}
