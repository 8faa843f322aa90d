//! The cryptography that anyrelay uses, and the only file that names a crate for it.
//!
//! - AES-128 (FIPS 197), one block or many blocks at a time, on whatever the CPU offers (VAES,
//!   AES-NI, ARMv8, or constant-time portable code), chosen when the program runs.
//! - AES-CMAC (RFC 4493) over short messages.
//! - HMAC-SHA256 (RFC 2104) cut to 128 bits, compared in constant time.
//! - HKDF-SHA256 (RFC 5869) for keys.
//! - SHA-256 (FIPS 180-4) for digests.
//!
//! Keys are never printed: their `Debug` shows the type alone.

use std::fmt;

use aes::cipher::array::Array;
use aes::cipher::consts::U16;
use aes::cipher::typenum::Unsigned;
use aes::cipher::{
    BlockCipherDecrypt, BlockCipherEncBackend, BlockCipherEncClosure, BlockCipherEncrypt,
    BlockSizeUser, KeyInit,
};
use aes::{Aes128Dec, Aes128Enc};
use hkdf::Hkdf;
use hmac::{Hmac, Mac as _};
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

    /// Encrypts each of `blocks`, with one look at the CPU for all of them.
    #[inline]
    pub fn encrypt_blocks(&self, blocks: &mut [Block]) {
        self.0.encrypt_blocks(Array::cast_slice_from_core_mut(blocks));
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

/// AES-128 under one key, decryption only.
#[derive(Clone)]
pub struct Aes128Inverse(Aes128Dec);

impl Aes128Inverse {
    /// The inverse of AES-128 under `key`; the key schedule is computed here.
    pub fn new(key: &Key128) -> Self {
        Aes128Inverse(Aes128Dec::new(Array::cast_from_core(key.as_bytes())))
    }

    /// The decryption of one block.
    pub fn decrypt_block(&self, block: &Block) -> Block {
        let mut out = Array::from(*block);
        self.0.decrypt_block(&mut out);
        out.into()
    }

    /// Decrypts each of `blocks`, with one look at the CPU for all of them.
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

/// AES-CMAC (RFC 4493) under one key.
#[derive(Clone)]
pub struct Cmac {
    aes: Aes128,
    // What the last block is XORed with when it is whole, and when it is padded.
    whole: Block,
    padded: Block,
}

impl Cmac {
    /// AES-CMAC under `key`; the key schedule and both subkeys are computed here.
    pub fn new(key: &Key128) -> Self {
        let aes = Aes128::new(key);
        let zero = u128::from_be_bytes(aes.encrypt_block(&[0; 16]));
        let double = |value: u128| (value << 1) ^ ((value >> 127) * 0x87);
        let (whole, padded) = (double(zero), double(double(zero)));
        Cmac { aes, whole: whole.to_be_bytes(), padded: padded.to_be_bytes() }
    }

    /// The MAC of `message`.
    #[inline]
    pub fn mac(&self, message: &[u8]) -> Block {
        let mut mac = [0; 16];
        self.aes.run(CmacJob { cmac: self, message, mac: &mut mac });
        mac
    }

    /// The MAC of each of `messages` into the same place of `macs`, computed side by side. The
    /// shorter of the two says how many.
    ///
    /// The messages end within their last block and come padded: blocks are big-endian numbers, and
    /// what follows a message is one bit that is set, and then zeros.
    #[inline]
    pub fn macs_of_padded<const BLOCKS: usize>(
        &self,
        messages: &[[u128; BLOCKS]],
        macs: &mut [Block],
    ) {
        let count = messages.len().min(macs.len());
        let macs = macs.get_mut(..count).unwrap_or_default();
        for at in 0..BLOCKS {
            let end = if at + 1 == BLOCKS { u128::from_be_bytes(self.padded) } else { 0 };
            for (mac, message) in macs.iter_mut().zip(messages) {
                let before = if at == 0 { 0 } else { u128::from_be_bytes(*mac) };
                *mac = (before ^ message[at] ^ end).to_be_bytes();
            }
            self.aes.encrypt_blocks(macs);
        }
    }
}

impl fmt::Debug for Cmac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cmac(..)")
    }
}

/// RFC 4493, section 2.4, with one look at the CPU for all blocks.
struct CmacJob<'a> {
    cmac: &'a Cmac,
    message: &'a [u8],
    mac: &'a mut Block,
}

impl CipherJob for CmacJob<'_> {
    #[inline(always)]
    fn run<C: Cipher>(self, cipher: &C) {
        let CmacJob { cmac, message, mac } = self;
        // All but the last block, which is whole or not, and never empty but for an empty message.
        let before = message.len().saturating_sub(1) / 16 * 16;
        let (before, last) = message.split_at_checked(before).unwrap_or((message, &[]));
        let mut state = [0; 16];
        for block in before.as_chunks().0 {
            state = cipher.encrypt_one(&xor(&state, block));
        }
        let last = match last.first_chunk() {
            Some(block) => xor(block, &cmac.whole),
            None => {
                let mut block = [0; 16];
                let end = last.iter().chain(&[0x80]);
                block.iter_mut().zip(end).for_each(|(to, from)| *to = *from);
                xor(&block, &cmac.padded)
            }
        };
        *mac = cipher.encrypt_one(&xor(&state, &last));
    }
}

#[inline(always)]
fn xor(a: &Block, b: &Block) -> Block {
    (u128::from_ne_bytes(*a) ^ u128::from_ne_bytes(*b)).to_ne_bytes()
}

/// AES-128 under one key, as a [`CipherJob`] sees it.
pub trait Cipher {
    /// Blocks that are encrypted side by side in one step.
    const WIDTH: usize;

    /// Encrypts each block of `from` into the same place of `to`. Fastest when `N` is a multiple
    /// of [`Self::WIDTH`].
    fn encrypt<const N: usize>(&self, from: &[Block; N], to: &mut [Block; N]);

    /// The encryption of one block: for chains in which each waits for the one before, and for so
    /// few blocks that making ready for many side by side costs more than it brings.
    fn encrypt_one(&self, block: &Block) -> Block;
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

    #[inline(always)]
    fn encrypt_one(&self, block: &Block) -> Block {
        let mut out = Array::from(*block);
        self.0.encrypt_block((&mut out).into());
        out.into()
    }
}

/// The first 16 bytes of HMAC-SHA256 under `key` of all `parts` joined.
pub fn hmac_sha256_128(key: &Key128, parts: &[&[u8]]) -> [u8; 16] {
    let whole: [u8; 32] = hmac_of(key, parts).finalize().into_bytes().into();
    let mut mac = [0; 16];
    mac.iter_mut().zip(whole).for_each(|(to, from)| *to = from);
    mac
}

/// Whether `mac` is [`hmac_sha256_128`] under `key` of all `parts` joined; how long that takes does
/// not tell which bytes differ.
pub fn hmac_sha256_128_holds(key: &Key128, parts: &[&[u8]], mac: &[u8; 16]) -> bool {
    hmac_of(key, parts).verify_truncated_left(mac).is_ok()
}

fn hmac_of(key: &Key128, parts: &[&[u8]]) -> Hmac<Sha256> {
    // HMAC fills a key up to the hash's block size with zeros (RFC 2104, section 2): given whole,
    // it has the crate's fixed size, which cannot be wrong.
    let mut block = [0; 64];
    block.iter_mut().zip(key.0).for_each(|(to, from)| *to = from);
    let start = Hmac::<Sha256>::new(&block.into());
    parts.iter().fold(start, |hmac, part| hmac.chain_update(part))
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
    fn decryption_undoes_encryption() {
        let (there, back) = (Aes128::new(&KEY), Aes128Inverse::new(&KEY));
        for block in [[0; 16], [0xff; 16], *KEY.as_bytes()] {
            assert_eq!(back.decrypt_block(&there.encrypt_block(&block)), block);
            assert_ne!(back.decrypt_block(&block), there.encrypt_block(&block));
        }
    }

    #[test]
    fn cmac_matches_rfc_4493() {
        // RFC 4493, section 4.
        let key = 0x2b7e_1516_28ae_d2a6_abf7_1588_09cf_4f3c_u128.to_be_bytes();
        let message = [
            0x6bc1_bee2_2e40_9f96_e93d_7e11_7393_172a_u128,
            0xae2d_8a57_1e03_ac9c_9eb7_6fac_45af_8e51,
            0x30c8_1c46_a35c_e411_e5fb_c119_1a0a_52ef,
            0xf69f_2445_df4f_9b17_ad2b_417b_e66c_3710,
        ]
        .map(u128::to_be_bytes);
        let message = message.as_flattened();
        let cmac = Cmac::new(&Key128::new(key));
        for (len, expected) in [
            (0, 0xbb1d_6929_e959_3728_7fa3_7d12_9b75_6746_u128),
            (16, 0x070a_16b4_6b4d_4144_f79b_dd9d_d04a_287c),
            (40, 0xdfa6_6747_de9a_e630_30ca_3261_1497_c827),
            (64, 0x51f0_bebf_7e3b_9d92_fc49_7417_7936_3cfe),
        ] {
            assert_eq!(u128::from_be_bytes(cmac.mac(&message[..len])), expected, "{len}");
        }
    }

    #[test]
    fn blocks_in_place_equal_blocks_alone() {
        let (there, back) = (Aes128::new(&KEY), Aes128Inverse::new(&KEY));
        for count in [0, 1, 2, 7, 8, 63, 64, 65, 130] {
            let plain: Vec<Block> = (0..count).map(|i: u8| [i.wrapping_mul(3); 16]).collect();
            let mut blocks = plain.clone();
            there.encrypt_blocks(&mut blocks);
            for (block, plain) in blocks.iter().zip(&plain) {
                assert_eq!(*block, there.encrypt_block(plain), "of {count}");
            }
            back.decrypt_blocks(&mut blocks);
            assert_eq!(blocks, plain);
        }
    }

    /// The slow twin: one message, as bytes.
    fn padded_macs_equal_single_ones<const BLOCKS: usize>(len: usize) {
        let cmac = Cmac::new(&KEY);
        let messages: Vec<Vec<u8>> = (0..67).map(|i| vec![i * 3 + 1; len]).collect();
        let padded = messages.iter().map(|message| {
            let mut blocks = [0; BLOCKS];
            for (at, byte) in message.iter().chain(&[0x80]).enumerate() {
                blocks[at / 16] |= u128::from(*byte) << (120 - 8 * (at % 16));
            }
            blocks
        });
        let mut macs = vec![[0xee; 16]; 70];
        cmac.macs_of_padded(&padded.collect::<Vec<_>>(), &mut macs);
        for (message, mac) in messages.iter().zip(&macs) {
            assert_eq!(*mac, cmac.mac(message));
        }
        assert_eq!(macs[67..], [[0xee; 16]; 3]);
    }

    #[test]
    fn macs_side_by_side_equal_macs_alone() {
        padded_macs_equal_single_ones::<1>(0);
        padded_macs_equal_single_ones::<1>(6);
        padded_macs_equal_single_ones::<1>(15);
        padded_macs_equal_single_ones::<2>(18);
        padded_macs_equal_single_ones::<2>(24);
        padded_macs_equal_single_ones::<3>(47);
    }

    #[test]
    fn hmac_is_that_of_rfc_4231_cut_short() {
        // RFC 4231, test case 2; the key is shorter than ours, and filled up with zeros.
        let mut key = [0; 16];
        key[..4].copy_from_slice(b"Jefe");
        let key = Key128::new(key);
        let parts: [&[u8]; 3] = [b"what do ya ", b"", b"want for nothing?"];
        let mac = hmac_sha256_128(&key, &parts);
        assert_eq!(u128::from_be_bytes(mac), 0x5bdc_c146_bf60_754e_6a04_2426_0895_75c7);
        assert!(hmac_sha256_128_holds(&key, &parts, &mac));
        for bit in 0..128 {
            let wrong = (u128::from_be_bytes(mac) ^ 1 << bit).to_be_bytes();
            assert!(!hmac_sha256_128_holds(&key, &parts, &wrong));
        }
        assert!(!hmac_sha256_128_holds(&KEY, &parts, &mac));
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
        assert_eq!(
            format!("{:?} {:?}", Aes128Inverse::new(&KEY), Cmac::new(&KEY)),
            "Aes128Inverse(..) Cmac(..)"
        );
    }
}
