//! What is built on SHA-256 (FIPS 180-4): HMAC (RFC 2104), HKDF (RFC 5869), digests.

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac as _};
use sha2::{Digest, Sha256};

use super::Key128;

/// The first 16 bytes of HMAC-SHA256 under `key` of the concatenation of `parts`.
pub fn hmac_sha256_128(key: &Key128, parts: &[&[u8]]) -> [u8; 16] {
    let whole: [u8; 32] = hmac_of(key, parts).finalize().into_bytes().into();
    let mut mac = [0; 16];
    mac.iter_mut().zip(whole).for_each(|(to, from)| *to = from);
    mac
}

/// Whether `mac` is [`hmac_sha256_128`] under `key` of the concatenation of `parts`. The comparison
/// takes constant time.
pub fn hmac_sha256_128_holds(key: &Key128, parts: &[&[u8]], mac: &[u8; 16]) -> bool {
    hmac_of(key, parts).verify_truncated_left(mac).is_ok()
}

fn hmac_of(key: &Key128, parts: &[&[u8]]) -> Hmac<Sha256> {
    // HMAC pads a key with zeros to the hash's block size (RFC 2104, section 2). A key of that size
    // goes through the crate's constructor that cannot fail.
    let mut block = [0; 64];
    block.iter_mut().zip(key.as_bytes()).for_each(|(to, from)| *to = *from);
    let start = Hmac::<Sha256>::new(&block.into());
    parts.iter().fold(start, |hmac, part| hmac.chain_update(part))
}

/// HKDF-SHA256 of the key material `secret` with `salt`, expanded with `info` to 16 bytes.
///
/// # Errors
///
/// [`HkdfError`] if the crate refuses the length, which it documents not to do for 16 bytes.
pub fn hkdf_sha256(secret: &[u8; 32], salt: &[u8], info: &[u8]) -> Result<Key128, HkdfError> {
    let mut key = [0; 16];
    Hkdf::<Sha256>::new(Some(salt), secret).expand(info, &mut key).map_err(|_| HkdfError)?;
    Ok(Key128::new(key))
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

    #[test]
    fn hmac_is_that_of_rfc_4231_truncated() {
        // RFC 4231, test case 2. Its key is shorter than 16 bytes, and padded with zeros.
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
        assert!(!hmac_sha256_128_holds(&Key128::new([1; 16]), &parts, &mac));
    }

    #[test]
    fn hkdf_and_digest_are_sha256() {
        // Computed with Python's hmac and hashlib.
        let key = hkdf_sha256(&[0x0b; 32], b"anyrelay v2", b"info").unwrap();
        assert_eq!(u128::from_be_bytes(*key.as_bytes()), 0x372f_1049_4e75_9200_868c_9cd6_6a38_b212);
        // FIPS 180-4 example "abc".
        assert_eq!(sha256(b"abc")[..4], [0xba, 0x78, 0x16, 0xbf]);
    }
}
