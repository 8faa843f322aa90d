//! The cryptography that anyrelay uses, and the only file that names a crate for it.
//!
//! - AES-128 (FIPS 197), one block or many blocks at a time, on whatever the CPU offers (VAES,
//!   AES-NI, ARMv8, or constant-time portable code), chosen when the program runs.
//! - HKDF-SHA256 (RFC 5869) for keys.
//! - SHA-256 (FIPS 180-4) for digests.
//!
//! Keys are never printed: their `Debug` shows the type alone.

use std::fmt;

use aes::Aes128Enc;
use aes::cipher::array::Array;
use aes::cipher::consts::U16;
use aes::cipher::typenum::Unsigned;
use aes::cipher::{
    BlockCipherEncBackend, BlockCipherEncClosure, BlockCipherEncrypt, BlockSizeUser, KeyInit,
};
use hkdf::Hkdf;
use sha2::{Digest, Sha256};

/// A block of AES, in the order of FIPS 197.
pub type Block = [u8; 16];

/// A 128-bit key.
#[derive(Clone, PartialEq, Eq)]
pub struct Key128([u8; 16]);

impl Key128 {
    /// The key with these bytes.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Key128(bytes)
    }

    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for Key128 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key128(..)")
    }
}

/// AES-128 under one key, encryption only.
#[derive(Clone)]
pub struct Aes128(Aes128Enc);

impl Aes128 {
    /// AES-128 under `key`; the key schedule is computed here.
    pub fn new(key: &Key128) -> Self {
        Aes128(Aes128Enc::new(Array::cast_from_core(key.as_bytes())))
    }

    /// The encryption of one block.
    pub fn encrypt_block(&self, block: &Block) -> Block {
        let mut out = Array::from(*block);
        self.0.encrypt_block(&mut out);
        out.into()
    }

    /// Runs `job` with the cipher that suits this CPU.
    ///
    /// The CPU is looked at once per call, and the job is compiled for each kind of CPU, so a job
    /// should hold as much of the work as it can.
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

/// AES-128 under one key, as a [`CipherJob`] sees it.
pub trait Cipher {
    /// Blocks that are encrypted side by side in one step.
    const WIDTH: usize;

    /// Encrypts each block of `from` into the same place of `to`. Fastest when `N` is a multiple
    /// of [`Self::WIDTH`].
    fn encrypt<const N: usize>(&self, from: &[Block; N], to: &mut [Block; N]);
}

/// Work to be done with a cipher: see [`Aes128::run`]. Mark `run` as `#[inline(always)]`, or it is
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
            // Side by side as well: the compiler sees that the lanes behind are not used, and drops
            // what would be done for them.
            let (mut wide_from, mut wide_to) = (Wide::<B>::default(), Wide::<B>::default());
            wide_from.iter_mut().zip(from_rest).for_each(|(wide, from)| *wide = *from);
            self.0.encrypt_par_blocks((&wide_from, &mut wide_to).into());
            to_rest.iter_mut().zip(&wide_to).for_each(|(to, wide)| *to = *wide);
        }
    }
}

/// HKDF-SHA256 with `salt` of the key material `secret`, expanded with `info` to 16 bytes.
///
/// The one 32-byte step of the expansion that this needs cannot fail; should the crate ever say
/// otherwise, so does this function.
pub fn hkdf_sha256(secret: &[u8; 32], salt: &[u8], info: &[u8]) -> Result<Key128, HkdfError> {
    let mut key = [0; 16];
    Hkdf::<Sha256>::new(Some(salt), secret).expand(info, &mut key).map_err(|_| HkdfError)?;
    Ok(Key128(key))
}

/// The key derivation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key derivation failed")]
pub struct HkdfError;

/// The SHA-256 digest of `bytes`.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
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

    fn many_blocks_equal_single_ones<const N: usize>() {
        let aes = Aes128::new(&KEY);
        let from: [Block; N] = std::array::from_fn(|i| [i as u8 * 3 + 1; 16]);
        let mut to = [[0; 16]; N];
        aes.run(Many(&from, &mut to));
        for (from, to) in from.iter().zip(&to) {
            assert_eq!(*to, aes.encrypt_block(from));
        }
    }

    #[test]
    fn blocks_side_by_side_equal_blocks_alone() {
        many_blocks_equal_single_ones::<1>();
        many_blocks_equal_single_ones::<7>();
        many_blocks_equal_single_ones::<32>();
        many_blocks_equal_single_ones::<64>();
        many_blocks_equal_single_ones::<71>();
    }

    #[test]
    fn hkdf_and_digest_are_sha256() {
        // Computed with Python's hmac and hashlib.
        let key = hkdf_sha256(&[0x0b; 32], b"anyrelay v1", b"info").unwrap();
        assert_eq!(u128::from_be_bytes(*key.as_bytes()), 0x84a0_fe6f_f6d8_29fd_c537_23a4_0f64_ff86);
        // FIPS 180-4 example "abc".
        assert_eq!(sha256(b"abc")[..4], [0xba, 0x78, 0x16, 0xbf]);
    }

    #[test]
    fn debug_hides_keys() {
        assert_eq!(format!("{KEY:?} {:?}", Aes128::new(&KEY)), "Key128(..) Aes128(..)");
    }
}
