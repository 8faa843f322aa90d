//! AES-128 (FIPS 197): single blocks, slices of blocks, and jobs compiled for each kind of CPU.

use std::fmt;

use aes::cipher::array::Array;
use aes::cipher::consts::U16;
use aes::cipher::typenum::Unsigned;
use aes::cipher::{
    BlockCipherDecrypt, BlockCipherEncBackend, BlockCipherEncClosure, BlockCipherEncrypt,
    BlockSizeUser, KeyInit,
};
use aes::{Aes128Dec, Aes128Enc};

use super::{Block, Key128};

/// AES-128 under one key, encryption only.
#[derive(Clone)]
pub struct Aes128(Aes128Enc);

impl Aes128 {
    /// AES-128 under `key`. Computes the key schedule.
    pub fn new(key: &Key128) -> Self {
        Aes128(Aes128Enc::new(Array::cast_from_core(key.as_bytes())))
    }

    /// The encryption of one block.
    pub fn encrypt_block(&self, block: &Block) -> Block {
        let mut out = Array::from(*block);
        self.0.encrypt_block(&mut out);
        out.into()
    }

    /// Encrypts each of `blocks` in place. The CPU's features are queried once for all of them.
    #[inline]
    pub fn encrypt_blocks(&self, blocks: &mut [Block]) {
        self.0.encrypt_blocks(Array::cast_slice_from_core_mut(blocks));
    }

    /// Runs `job` with the implementation for this CPU.
    ///
    /// The CPU's features are queried once per call, and the job is compiled for each
    /// implementation, so a job should contain as much of the work as possible.
    #[inline]
    pub fn run<J: CipherJob>(&self, job: J) {
        self.0.encrypt_with_backend(Closure(job));
    }
}

impl fmt::Debug for Aes128 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Aes128(..)")
    }
}

/// AES-128 under one key, decryption only.
#[derive(Clone)]
pub struct Aes128Inverse(Aes128Dec);

impl Aes128Inverse {
    /// The inverse of AES-128 under `key`. Computes the key schedule.
    pub fn new(key: &Key128) -> Self {
        Aes128Inverse(Aes128Dec::new(Array::cast_from_core(key.as_bytes())))
    }

    /// The decryption of one block.
    pub fn decrypt_block(&self, block: &Block) -> Block {
        let mut out = Array::from(*block);
        self.0.decrypt_block(&mut out);
        out.into()
    }

    /// Decrypts each of `blocks` in place. The CPU's features are queried once for all of them.
    #[inline]
    pub fn decrypt_blocks(&self, blocks: &mut [Block]) {
        self.0.decrypt_blocks(Array::cast_slice_from_core_mut(blocks));
    }
}

impl fmt::Debug for Aes128Inverse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Aes128Inverse(..)")
    }
}

/// AES-128 under one key, as a [`CipherJob`] sees it.
pub trait Cipher {
    /// Blocks that one step encrypts in parallel.
    const WIDTH: usize;

    /// Encrypts each block of `from` into the same place of `to`. Fastest when `N` is a multiple
    /// of [`Self::WIDTH`].
    fn encrypt<const N: usize>(&self, from: &[Block; N], to: &mut [Block; N]);

    /// The encryption of one block: for chains in which each block depends on the one before, and
    /// for so few blocks that the setup of a parallel step costs more than it saves.
    fn encrypt_one(&self, block: &Block) -> Block;
}

/// Work done with a cipher: see [`Aes128::run`]. Mark `run` as `#[inline(always)]`: otherwise it is
/// not compiled for the CPU's own instructions.
pub trait CipherJob {
    /// Does the work.
    fn run<C: Cipher>(self, cipher: &C);
}

/// A job in the form that the `cipher` crate calls.
struct Closure<J>(J);

impl<J> BlockSizeUser for Closure<J> {
    type BlockSize = U16;
}

impl<J: CipherJob> BlockCipherEncClosure for Closure<J> {
    #[inline(always)]
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(self, backend: &B) {
        self.0.run(&Backend(backend));
    }
}

/// The `cipher` crate's backend for one kind of CPU.
struct Backend<'a, B>(&'a B);

impl<B: BlockCipherEncBackend<BlockSize = U16>> Cipher for Backend<'_, B> {
    const WIDTH: usize = B::ParBlocksSize::USIZE;

    #[inline(always)]
    fn encrypt<const N: usize>(&self, from: &[Block; N], to: &mut [Block; N]) {
        type Wide<B> = aes::cipher::ParBlocks<B>;
        let (from, from_rest) = Wide::<B>::slice_as_chunks(Array::cast_slice_from_core(from));
        let (to, to_rest) = Wide::<B>::slice_as_chunks_mut(Array::cast_slice_from_core_mut(to));
        for (from, to) in from.iter().zip(to) {
            self.0.encrypt_par_blocks((from, to).into());
        }
        if !from_rest.is_empty() {
            // The rest is padded to a whole parallel step. The compiler sees that the outputs of
            // the padding are unused, and removes the instructions that compute them.
            let (mut wide_from, mut wide_to) = (Wide::<B>::default(), Wide::<B>::default());
            wide_from.iter_mut().zip(from_rest).for_each(|(wide, from)| *wide = *from);
            self.0.encrypt_par_blocks((&wide_from, &mut wide_to).into());
            to_rest.iter_mut().zip(&wide_to).for_each(|(to, wide)| *to = *wide);
        }
    }

    #[inline(always)]
    fn encrypt_one(&self, block: &Block) -> Block {
        let mut out = Array::from(*block);
        self.0.encrypt_block((&mut out).into());
        out.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key128 = Key128::new([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);

    struct Many<'a, const N: usize>(&'a [Block; N], &'a mut [Block; N]);

    impl<const N: usize> CipherJob for Many<'_, N> {
        #[inline(always)]
        fn run<C: Cipher>(self, cipher: &C) {
            cipher.encrypt(self.0, self.1);
        }
    }

    #[test]
    fn aes_matches_fips_197() {
        // FIPS 197, appendix C.1.
        let plain = 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff_u128.to_be_bytes();
        let cipher = Aes128::new(&KEY).encrypt_block(&plain);
        assert_eq!(u128::from_be_bytes(cipher), 0x69c4_e0d8_6a7b_0430_d8cd_b780_70b4_c55a);
    }

    fn a_job_equals_single_blocks_for<const N: usize>() {
        let aes = Aes128::new(&KEY);
        let from: [Block; N] = std::array::from_fn(|i| [i as u8 * 3 + 1; 16]);
        let mut to = [[0; 16]; N];
        aes.run(Many(&from, &mut to));
        for (from, to) in from.iter().zip(&to) {
            assert_eq!(*to, aes.encrypt_block(from));
        }
    }

    #[test]
    fn a_job_equals_single_blocks() {
        a_job_equals_single_blocks_for::<1>();
        a_job_equals_single_blocks_for::<7>();
        a_job_equals_single_blocks_for::<32>();
        a_job_equals_single_blocks_for::<64>();
        a_job_equals_single_blocks_for::<71>();
    }

    #[test]
    fn decryption_undoes_encryption() {
        let (forward, inverse) = (Aes128::new(&KEY), Aes128Inverse::new(&KEY));
        for block in [[0; 16], [0xff; 16], *KEY.as_bytes()] {
            assert_eq!(inverse.decrypt_block(&forward.encrypt_block(&block)), block);
            assert_ne!(inverse.decrypt_block(&block), forward.encrypt_block(&block));
        }
    }

    #[test]
    fn blocks_in_place_equal_single_blocks() {
        let (forward, inverse) = (Aes128::new(&KEY), Aes128Inverse::new(&KEY));
        for count in [0, 1, 2, 7, 8, 63, 64, 65, 130] {
            let plain: Vec<Block> = (0..count).map(|i: u8| [i.wrapping_mul(3); 16]).collect();
            let mut blocks = plain.clone();
            forward.encrypt_blocks(&mut blocks);
            for (block, plain) in blocks.iter().zip(&plain) {
                assert_eq!(*block, forward.encrypt_block(plain), "of {count}");
            }
            inverse.decrypt_blocks(&mut blocks);
            assert_eq!(blocks, plain);
        }
    }
}
