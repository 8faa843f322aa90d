//! The cryptography of anyrelay. No module of this crate outside of this folder names a crate of
//! cryptography.
//!
//! - AES-128 (FIPS 197), one block or many blocks at a time. The implementation is chosen at run
//!   time from the CPU's features: VAES, AES-NI, ARMv8, or constant-time portable code.
//! - AES-CMAC (RFC 4493) over short messages.
//! - A keyed permutation of numbers of any width up to 166 bits: a Feistel network of AES-128.
//! - HMAC-SHA256 (RFC 2104) truncated to 128 bits, compared in constant time.
//! - HKDF-SHA256 (RFC 5869) for key derivation.
//! - SHA-256 (FIPS 180-4) for digests.
//!
//! Keys are never printed: `Debug` shows the type alone.

mod aes128;
mod cmac;
mod feistel;
mod hash;

use std::fmt;

pub use aes128::{Aes128, Aes128Inverse, Cipher, CipherJob};
pub use cmac::Cmac;
pub use feistel::{Feistel, Halves, low};
pub use hash::{HkdfError, hkdf_sha256, hmac_sha256_128, hmac_sha256_128_holds, sha256};

/// A block of AES, in the byte order of FIPS 197.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_keys() {
        let key = Key128::new([7; 16]);
        assert_eq!(format!("{key:?} {:?}", Aes128::new(&key)), "Key128(..) Aes128(..)");
        assert_eq!(
            format!("{:?} {:?}", Aes128Inverse::new(&key), Cmac::new(&key)),
            "Aes128Inverse(..) Cmac(..)"
        );
    }
}
