//! Which key a block is encrypted under.

use aes::cipher::BlockCipherEncrypt;
use aes::cipher::array::Array;

use super::{BLOCK_LEN, BLOCKS, Block, ROUNDS, RoundKeys};

/// The keys of [`BLOCKS`] blocks.
pub trait Keys: sealed::Sealed {}

pub(crate) mod sealed {
    use super::Block;

    pub trait Sealed {
        /// The keys of a round of the blocks from `lane` on, as many as there are up to the next
        /// lane that is a multiple of four.
        fn at(&self, round: usize, lane: usize) -> *const Block;

        /// Encrypts each block, from the first lane on.
        fn encrypt_plainly(&self, blocks: &mut [Block]);
    }
}

/// One key for all.
impl Keys for RoundKeys {}

impl sealed::Sealed for RoundKeys {
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
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Rows([[Block; BLOCKS]; ROUNDS + 1]);

impl Default for Rows {
    fn default() -> Self {
        Rows([[[0; BLOCK_LEN]; BLOCKS]; ROUNDS + 1])
    }
}

/// A key for each block.
#[derive(Debug)]
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

impl Keys for EachKey<'_> {}

impl sealed::Sealed for EachKey<'_> {
    #[inline(always)]
    fn at(&self, round: usize, lane: usize) -> *const Block {
        &raw const self.rows.0[round % (ROUNDS + 1)][lane % BLOCKS]
    }

    #[inline(always)]
    fn encrypt_plainly(&self, blocks: &mut [Block]) {
        for (keys, block) in self.of.iter().zip(blocks) {
            *block = keys.encrypt_block(block);
        }
    }
}
