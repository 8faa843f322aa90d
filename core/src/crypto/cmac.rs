//! AES-CMAC (RFC 4493): of one message, or of many short messages in parallel.

use std::fmt;

use super::{Aes128, Block, Cipher, CipherJob, Key128};

/// AES-CMAC under one key.
#[derive(Clone)]
pub struct Cmac {
    aes: Aes128,
    /// Subkey K1, XORed into a last block that is complete.
    complete: Block,
    /// Subkey K2, XORed into a last block that is padded.
    padded: Block,
}

impl Cmac {
    /// AES-CMAC under `key`. Computes the key schedule and both subkeys.
    pub fn new(key: &Key128) -> Self {
        let aes = Aes128::new(key);
        let zero = u128::from_be_bytes(aes.encrypt_block(&[0; 16]));
        let double = |value: u128| (value << 1) ^ ((value >> 127) * 0x87);
        let (complete, padded) = (double(zero), double(double(zero)));
        Cmac { aes, complete: complete.to_be_bytes(), padded: padded.to_be_bytes() }
    }

    /// What is XORed into a last block that is padded: the MAC of a message of less than 16 bytes
    /// is the encryption of the message, padded, XOR this.
    #[inline]
    pub fn padded(&self) -> &Block {
        &self.padded
    }

    /// The MAC of `message`.
    #[inline]
    pub fn mac(&self, message: &[u8]) -> Block {
        let mut mac = [0; 16];
        self.aes.run(CmacJob { cmac: self, message, mac: &mut mac });
        mac
    }

    /// Writes the MAC of each of `messages` into the same place of `macs`, all computed in
    /// parallel; the shorter of the two slices sets their number.
    ///
    /// Each message ends within its last block, and the caller has padded it: blocks are big-endian
    /// numbers, and the message is followed by one bit that is set and then zeros.
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

/// RFC 4493, section 2.4. The CPU's features are queried once for all blocks.
struct CmacJob<'a> {
    cmac: &'a Cmac,
    message: &'a [u8],
    mac: &'a mut Block,
}

impl CipherJob for CmacJob<'_> {
    #[inline(always)]
    fn run<C: Cipher>(self, cipher: &C) {
        let CmacJob { cmac, message, mac } = self;
        // The last block is complete or not; it is empty only if the message is.
        let before = message.len().saturating_sub(1) / 16 * 16;
        let (before, last) = message.split_at_checked(before).unwrap_or((message, &[]));
        let mut state = [0; 16];
        for block in before.as_chunks().0 {
            state = cipher.encrypt_one(&xor(&state, block));
        }
        let last = match last.first_chunk() {
            Some(block) => xor(block, &cmac.complete),
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

#[cfg(test)]
mod tests {
    use super::*;

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

    /// The slow twin: one message at a time, as bytes.
    fn parallel_macs_equal_single_ones_for<const BLOCKS: usize>(len: usize) {
        let cmac = Cmac::new(&Key128::new([0xa5; 16]));
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
    fn parallel_macs_equal_single_ones() {
        parallel_macs_equal_single_ones_for::<1>(0);
        parallel_macs_equal_single_ones_for::<1>(6);
        parallel_macs_equal_single_ones_for::<1>(15);
        parallel_macs_equal_single_ones_for::<2>(18);
        parallel_macs_equal_single_ones_for::<2>(24);
        parallel_macs_equal_single_ones_for::<3>(47);
    }
}
