//! AES-128 (FIPS 197) on many blocks.

mod kernels;

use std::fmt;

use aes::Aes128Enc;
use aes::cipher::array::Array;
use aes::cipher::{BlockCipherEncrypt, KeyInit};

/// Bytes of a block.
pub const BLOCK_LEN: usize = 16;

pub(crate) use kernels::*;

use crate::isa::{Isa, Job, Vector};

/// A block.
pub type Block = [u8; BLOCK_LEN];

/// Blocks that are encrypted together, at most.
pub const BLOCKS: usize = 64;

/// Blocks that are encrypted together, each as two words in the order of its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Blocks(pub [[u64; 2]; BLOCKS]);

impl Blocks {
    /// Zeros.
    pub const ZERO: Blocks = Blocks([[0; 2]; BLOCKS]);
    /// Ones.
    pub const ONES: Blocks = Blocks([[u64::MAX; 2]; BLOCKS]);
}

/// Evaluates an expression in which a name is the least `N` of
/// [`Vector::encrypt_xor`](crate::Vector::encrypt_xor) that has room for some number of blocks.
#[macro_export]
macro_rules! with_groups {
    ($blocks:expr, $groups:ident => $run:expr) => {
        match $blocks {
            0..=8 => {
                const $groups: usize = 2;
                $run
            }
            9..=16 => {
                const $groups: usize = 4;
                $run
            }
            17..=32 => {
                const $groups: usize = 8;
                $run
            }
            _ => {
                const $groups: usize = 16;
                $run
            }
        }
    };
}

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

    /// The encryption of each of the first `count` of `blocks`, all at once. What is behind them
    /// means nothing.
    #[inline]
    pub fn encrypt_blocks(&self, isa: Isa, blocks: &Blocks, count: usize) -> Blocks {
        let mut out = Blocks::ZERO;
        isa.run(Encrypt { keys: self, blocks, count, out: &mut out });
        out
    }
}

struct Encrypt<'a> {
    keys: &'a RoundKeys,
    blocks: &'a Blocks,
    count: usize,
    out: &'a mut Blocks,
}

impl Job for Encrypt<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, vector: V) {
        let Encrypt { keys, blocks, count, out } = self;
        with_groups!(count, N => vector.encrypt_xor::<N>(keys, 0, blocks, &Blocks::ONES, out))
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    struct EncryptXor<'a, const N: usize> {
        keys: &'a RoundKeys,
        tweak: u64,
        from: &'a Blocks,
        mask: &'a Blocks,
        to: &'a mut Blocks,
    }

    impl<const N: usize> Job for EncryptXor<'_, N> {
        type Output = ();

        #[inline(always)]
        fn run<V: Vector>(self, vector: V) {
            let EncryptXor { keys, tweak, from, mask, to } = self;
            vector.encrypt_xor::<N>(keys, tweak, from, mask, to);
        }
    }

    #[test]
    fn keys_are_expanded_as_the_standard_shows() {
        // FIPS 197, appendix A.1.
        let key = 0x2b7e_1516_28ae_d2a6_abf7_1588_09cf_4f3c_u128.to_be_bytes();
        let last = 0xd014_f9a8_c9ee_2589_e13f_0cc8_b663_0ca6_u128;
        assert_eq!(u128::from_be_bytes(expand(&key)[ROUNDS]), last);
    }

    fn blocks(seed: u64) -> Blocks {
        let number = |i: usize| (i as u64 + seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Blocks(std::array::from_fn(|i| [number(2 * i + 1), number(2 * i + 2)]))
    }

    /// By the `aes` crate, which tests itself against FIPS 197: a block at a time.
    fn expected(key: &RoundKeys, [first, second]: [u64; 2], tweak: u64) -> [u64; 2] {
        let block = [first ^ tweak, second].map(u64::to_ne_bytes);
        let block = key.encrypt_block(block.as_flattened().try_into().unwrap());
        let (words, _) = block.as_chunks();
        [words[0], words[1]].map(u64::from_ne_bytes)
    }

    fn agree<const N: usize>() {
        let keys = &RoundKeys::new(b"a key for tests.");
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            let (from, mask, before, tweak) = (&blocks(7), &blocks(1000), blocks(9_999_999), 5);
            let mut to = before.clone();
            isa.run(EncryptXor::<N> { keys, tweak, from, mask, to: &mut to });
            for lane in 0..BLOCKS {
                let mut wanted = before.0[lane];
                if lane < 4 * N {
                    let encrypted = expected(keys, from.0[lane], tweak);
                    wanted[0] ^= encrypted[0] & mask.0[lane][0];
                    wanted[1] ^= encrypted[1] & mask.0[lane][1];
                }
                assert_eq!(to.0[lane], wanted, "{isa} {N} {lane}");
            }
        }
    }

    #[test]
    fn as_few_groups_as_have_room_are_taken() {
        for blocks in 0..=BLOCKS {
            let groups = with_groups!(blocks, N => N);
            assert!(blocks <= 4 * groups && (groups == 2 || blocks > 2 * groups), "{blocks}");
        }
    }

    #[test]
    fn as_many_blocks_as_are_asked_for_are_encrypted() {
        let keys = &RoundKeys::new(b"a key for tests.");
        for (isa, count) in Isa::ALL.into_iter().flat_map(|isa| [1, 8, 9, 64].map(|n| (isa, n))) {
            let some = keys.encrypt_blocks(isa, &blocks(3), count);
            for (one, block) in some.0.iter().zip(blocks(3).0).take(count) {
                assert_eq!(*one, expected(keys, block, 0), "{isa} {count}");
            }
        }
    }

    #[test]
    fn all_sets_encrypt_alike() {
        agree::<2>();
        agree::<4>();
        agree::<8>();
        agree::<16>();
    }
}
