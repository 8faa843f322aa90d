//! Which key a block is encrypted under.

use std::fmt;

use aes::cipher::BlockCipherEncrypt;
use aes::cipher::array::Array;

use super::{BLOCK_LEN, BLOCKS, Block, ROUNDS, RoundKeys};

/// The keys of [`BLOCKS`] blocks.
pub trait Keys: sealed::Sealed {}

pub(crate) mod sealed {
    use super::Block;

    /// # Safety
    /// What [`Sealed::at`] returns can be read as it says.
    pub unsafe trait Sealed {
        /// The keys of a round of the blocks from `lane` on, as many as there are up to the next
        /// lane that is a multiple of four.
        fn at(&self, round: usize, lane: usize) -> *const Block;

        /// Encrypts each block, from the first lane on.
        fn encrypt_plainly(&self, blocks: &mut [Block]);
    }
}

/// One key for all.
impl Keys for RoundKeys {}

// SAFETY: each round has four keys.
unsafe impl sealed::Sealed for RoundKeys {
    #[inline(always)]
    fn at(&self, round: usize, _: usize) -> *const Block {
        self.wide.0[round % (ROUNDS + 1)].as_ptr()
    }

    #[inline(always)]
    fn encrypt_plainly(&self, blocks: &mut [Block]) {
        self.other.encrypt_blocks(Array::cast_slice_from_core_mut(blocks));
    }
}

/// Room for the round keys of blocks that have keys of their own.
#[derive(Clone)]
#[repr(C, align(64))]
pub struct Rows([[Block; BLOCKS]; ROUNDS + 1]);

impl Default for Rows {
    fn default() -> Self {
        Rows([[[0; BLOCK_LEN]; BLOCKS]; ROUNDS + 1])
    }
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rows(..)")
    }
}

/// A key for each block.
pub struct EachKey<'a> {
    of: &'a [&'a RoundKeys; BLOCKS],
    rows: &'a Rows,
}

impl<'a> EachKey<'a> {
    /// These keys, of which the first `count` are used.
    #[inline]
    pub fn new(of: &'a [&'a RoundKeys; BLOCKS], count: usize, rows: &'a mut Rows) -> Self {
        for (lane, keys) in of.iter().enumerate().take(count) {
            for (row, key) in rows.0.iter_mut().zip(&keys.narrow) {
                row[lane] = *key;
            }
        }
        EachKey { of, rows }
    }
}

impl fmt::Debug for EachKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EachKey(..)")
    }
}

impl Keys for EachKey<'_> {}

// SAFETY: each round has a key for each lane, and their number is a multiple of four.
unsafe impl sealed::Sealed for EachKey<'_> {
    #[inline(always)]
    fn at(&self, round: usize, lane: usize) -> *const Block {
        self.rows.0[round % (ROUNDS + 1)].split_at(lane % BLOCKS).1.as_ptr()
    }

    #[inline(always)]
    fn encrypt_plainly(&self, blocks: &mut [Block]) {
        for (keys, block) in self.of.iter().zip(blocks) {
            *block = keys.encrypt_block(block);
        }
    }
}
