//! The cipher by each set of instructions: many blocks at a time, so that none waits for the one
//! before it.

use aes::cipher::BlockCipherEncrypt;
use aes::cipher::array::Array;

use super::{BLOCK_LEN, BLOCKS, Blocks, RoundKeys};

/// By what the `aes` crate finds.
#[inline(always)]
pub(crate) fn baseline<const N: usize>(
    keys: &RoundKeys,
    tweak: u64,
    from: &Blocks,
    mask: &Blocks,
    to: &mut Blocks,
) {
    let mut bytes = [[0; BLOCK_LEN]; BLOCKS];
    for (bytes, [first, second]) in bytes.iter_mut().zip(&from.0).take(4 * N) {
        bytes[..8].copy_from_slice(&(first ^ tweak).to_ne_bytes());
        bytes[8..].copy_from_slice(&second.to_ne_bytes());
    }
    let (some, _) = bytes.split_at_mut((4 * N).min(BLOCKS));
    keys.other.encrypt_blocks(Array::cast_slice_from_core_mut(some));
    for ((block, bytes), mask) in to.0.iter_mut().zip(&bytes).zip(&mask.0).take(4 * N) {
        let (words, _) = bytes.as_chunks();
        block[0] ^= u64::from_ne_bytes(words[0]) & mask[0];
        block[1] ^= u64::from_ne_bytes(words[1]) & mask[1];
    }
}

/// A kernel: its name, the features that it needs, and the registers and operations of its width.
macro_rules! kernel {
    (
        $name:ident, $features:literal, $register:ident of $blocks:literal,
        $load:ident $store:ident $xor:ident $and:ident $enc:ident $last:ident $tweak:expr
    ) => {
        #[inline]
        #[target_feature(enable = $features)]
        pub(crate) fn $name<const N: usize>(
            keys: &RoundKeys,
            tweak: u64,
            from: &Blocks,
            mask: &Blocks,
            to: &mut Blocks,
        ) {
            /// As many registers as they are given.
            #[inline]
            #[target_feature(enable = $features)]
            fn some<const G: usize>(
                keys: &RoundKeys,
                tweak: $register,
                from: &[[[u64; 2]; $blocks]; G],
                mask: &[[[u64; 2]; $blocks]; G],
                to: &mut [[[u64; 2]; $blocks]; G],
            ) {
                let key = |round: usize| {
                    // SAFETY: each round has four keys, and a register four blocks at most.
                    unsafe { $load(keys.wide.0[round].as_ptr().cast()) }
                };
                let load = |blocks: &[[u64; 2]; $blocks]| {
                    // SAFETY: these are as many blocks as the register has.
                    unsafe { $load(blocks.as_ptr().cast()) }
                };
                let mut state = [tweak; G];
                for (state, block) in state.iter_mut().zip(from) {
                    *state = $xor($xor(key(0), *state), load(block));
                }
                for round in 1..ROUNDS {
                    for state in &mut state {
                        *state = $enc(*state, key(round));
                    }
                }
                let places = to.iter_mut().zip(mask);
                for (state, (place, mask)) in state.iter().zip(places) {
                    let after = $and($last(*state, key(ROUNDS)), load(mask));
                    let after = $xor(load(place), after);
                    // SAFETY: these are as many blocks as the register has.
                    unsafe { $store(place.as_mut_ptr().cast(), after) };
                }
            }
            const { assert!(N.is_power_of_two() && 2 <= N && N <= 16 && $blocks <= 4) };
            let tweak = $tweak(tweak.cast_signed());
            let (from, _) = from.0.as_chunks::<$blocks>();
            let (mask, _) = mask.0.as_chunks::<$blocks>();
            let (to, _) = to.0.as_chunks_mut::<$blocks>();
            // Eight at a time keep the unit busy.
            let registers = 4 * N / $blocks;
            if registers < 4 {
                if let (Some(from), Some(mask), Some(to)) =
                    (from.first_chunk(), mask.first_chunk(), to.first_chunk_mut())
                {
                    some::<2>(keys, tweak, from, mask, to);
                }
            } else if registers < 8 {
                if let (Some(from), Some(mask), Some(to)) =
                    (from.first_chunk(), mask.first_chunk(), to.first_chunk_mut())
                {
                    some::<4>(keys, tweak, from, mask, to);
                }
            } else {
                let (from, mask) = (from.as_chunks::<8>().0, mask.as_chunks::<8>().0);
                let parts = from.iter().zip(mask).zip(to.as_chunks_mut::<8>().0);
                for ((from, mask), to) in parts.take(registers / 8) {
                    some::<8>(keys, tweak, from, mask, to);
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
pub(crate) mod x86_64 {
    use core::arch::x86_64::*;

    use super::super::ROUNDS;
    use super::{Blocks, RoundKeys};

    kernel!(
        aes_ni, "avx2,aes", __m128i of 1,
        _mm_loadu_si128 _mm_storeu_si128 _mm_xor_si128 _mm_and_si128
        _mm_aesenc_si128 _mm_aesenclast_si128 |tweak| _mm_set_epi64x(0, tweak)
    );

    kernel!(
        vaes_256, "avx2,aes,vaes", __m256i of 2,
        _mm256_loadu_si256 _mm256_storeu_si256 _mm256_xor_si256 _mm256_and_si256
        _mm256_aesenc_epi128 _mm256_aesenclast_epi128
        |tweak| _mm256_set_epi64x(0, tweak, 0, tweak)
    );

    kernel!(
        vaes_512, "avx512f,vaes", __m512i of 4,
        _mm512_loadu_si512 _mm512_storeu_si512 _mm512_xor_si512 _mm512_and_si512
        _mm512_aesenc_epi128 _mm512_aesenclast_epi128
        |tweak| _mm512_set4_epi64(0, tweak, 0, tweak)
    );
}
