//! Static keys, pre-shared keys, and the files that hold them.
//!
//! A key is written as 64 hex digits. A file holds one key under the name of its kind, so that
//! kinds cannot be confused. Neither `Debug` nor an error shows a secret or a part of one.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use super::noise;

/// A static X25519 key, which identifies this agent to its peers.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateKey([u8; 32]);

/// A secret of two peers, which their handshakes use too.
#[derive(Clone, PartialEq, Eq)]
pub struct PresharedKey([u8; 32]);

/// The public half of a [`PrivateKey`], which identifies a peer. When both sides start a handshake
/// at once, the one of the smaller public key wins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PrivateKey {
    /// The key with these bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        PrivateKey(bytes)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Its public half; `None` only if the curve is not compiled in.
    pub fn public(&self) -> Option<PublicKey> {
        noise::public_key(self)
    }

    /// Parses the text of a private key file.
    ///
    /// # Errors
    /// When the text is not such a file.
    pub fn parse_file(text: &str) -> Result<Self, KeyFileError> {
        parse_file(text, PRIVATE).map(PrivateKey)
    }

    /// The text of a private key file.
    pub fn serialize(&self) -> String {
        format!(
            "# The private key of an anyrelay agent; mode 0600. Its public key:\n# {}\n{PRIVATE} = \
             \"{}\"\n",
            self.public().map(|key| key.to_string()).unwrap_or_default(),
            hex(&self.0)
        )
    }
}

impl PresharedKey {
    /// The key with these bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        PresharedKey(bytes)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Parses the text of a pre-shared key file.
    ///
    /// # Errors
    /// When the text is not such a file.
    pub fn parse_file(text: &str) -> Result<Self, KeyFileError> {
        parse_file(text, PRESHARED).map(PresharedKey)
    }

    /// The text of a pre-shared key file.
    pub fn serialize(&self) -> String {
        format!(
            "# The pre-shared key of two anyrelay agents; mode 0600. The same file at both.\n\
             {PRESHARED} = \"{}\"\n",
            hex(&self.0)
        )
    }
}

impl PublicKey {
    /// The key with these bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        PublicKey(bytes)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The text is not a key. The error does not quote it, as it may be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not 64 hex digits, as `anyrelay-agent pubkey` prints them")]
pub struct ParseKeyError;

impl FromStr for PublicKey {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        from_hex(text).map(PublicKey).ok_or(ParseKeyError)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

impl fmt::Debug for PresharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresharedKey(..)")
    }
}

/// Why a key file is not valid. Never quotes the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// The syntax is wrong.
    #[error(
        "not a file of this kind: its one line but for comments must be {name} = \"64 hex digits\""
    )]
    Form {
        /// The name that the key must have.
        name: &'static str,
    },
    /// The file holds a key of the other kind.
    #[error("this file holds a {found} key, but a {name} one is needed here")]
    OtherKind {
        /// The required kind.
        name: &'static str,
        /// The kind in the file.
        found: &'static str,
    },
    /// The key is all zeros, which no generator produces.
    #[error("the key is all zeros, which is not a secret; make one with `anyrelay-agent keygen`")]
    Zero,
}

fn parse_file(text: &str, name: &'static str) -> Result<[u8; 32], KeyFileError> {
    // The error of the TOML crate would quote the line.
    let table: toml::Table = toml::from_str(text).map_err(|_| KeyFileError::Form { name })?;
    let other = [PRIVATE, PRESHARED].into_iter().find(|other| *other != name);
    if let Some(found) = other.filter(|other| table.contains_key(*other)) {
        return Err(KeyFileError::OtherKind { name, found });
    }
    let value = table.get(name).filter(|_| table.len() == 1).and_then(|value| value.as_str());
    let key = value.and_then(from_hex).ok_or(KeyFileError::Form { name })?;
    if key == [0; 32] { Err(KeyFileError::Zero) } else { Ok(key) }
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 2 * bytes.len() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |at: usize| char::from(*pair.get(at)?).to_digit(16);
        *byte = u8::try_from(digit(0)? << 4 | digit(1)?).ok()?;
    }
    Some(bytes)
}

fn hex(bytes: &[u8; 32]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing into a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

const PRIVATE: &str = "private";
const PRESHARED: &str = "preshared";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_files_round_trip() {
        let key = PrivateKey::new([0xa7; 32]);
        assert_eq!(PrivateKey::parse_file(&key.serialize()), Ok(key.clone()));
        assert!(key.serialize().contains(&key.public().unwrap().to_string()));
        let shared = PresharedKey::new([0x5c; 32]);
        assert_eq!(PresharedKey::parse_file(&shared.serialize()), Ok(shared.clone()));
        let swapped = PrivateKey::parse_file(&shared.serialize());
        assert_eq!(swapped, Err(KeyFileError::OtherKind { name: "private", found: "preshared" }));
    }

    #[test]
    fn errors_and_debug_output_show_no_secret() {
        let secret = "a7".repeat(32);
        let bad = [
            format!("private = \"{secret}00\""),
            format!("private = {secret}"),
            format!("private = \"{secret}\"\nmore = 1"),
            secret.clone(),
            format!("private = \"{}\"", "0".repeat(64)),
        ];
        for text in bad {
            let error = PrivateKey::parse_file(&text).unwrap_err();
            assert!(!error.to_string().contains("a7a7"), "{error}");
        }
        assert_eq!(format!("{:?}", PrivateKey::new([0xa7; 32])), "PrivateKey(..)");
        assert_eq!(format!("{:?}", PresharedKey::new([0xa7; 32])), "PresharedKey(..)");
    }

    #[test]
    fn public_keys_round_trip_as_text() {
        let key = PrivateKey::new([1; 32]).public().unwrap();
        assert_eq!(key.to_string().parse(), Ok(key));
        assert_eq!("xy".repeat(32).parse::<PublicKey>(), Err(ParseKeyError));
        assert_eq!("a".repeat(63).parse::<PublicKey>(), Err(ParseKeyError));
    }
}
