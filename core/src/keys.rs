//! The operator's three secrets, the file that holds them, and the keys derived from them.
//!
//! Every key is HKDF-SHA256(secret, salt "anyrelay v1", info = label | 0 | fields big-endian). The
//! `relay` and `sequence` secrets are never changed under a live VIP: that would break every
//! connection. Neither `Debug` nor an error ever shows a secret or a part of one.

use std::fmt::{self, Write as _};

use crate::crypto::{HkdfError, Key128, hkdf_sha256};

/// A 32-byte secret, from which keys are derived.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; 32]);

impl Secret {
    /// The secret with these bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Secret(bytes)
    }

    /// The key for `label` and `fields`, which the caller writes big-endian.
    pub fn derive(&self, label: &str, fields: &[u8]) -> Result<Key128, HkdfError> {
        let info = [label.as_bytes(), &[0], fields].concat();
        hkdf_sha256(&self.0, SALT, &info)
    }

    /// 16 bytes that tell two secrets apart without telling anything else of them.
    pub fn fingerprint(&self) -> Result<[u8; 16], HkdfError> {
        Ok(*self.derive("fingerprint", &[])?.as_bytes())
    }

    fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        if text.len() != 2 * bytes.len() {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let high = char::from(*pair.first()?).to_digit(16)?;
            let low = char::from(*pair.get(1)?).to_digit(16)?;
            *byte = u8::try_from(high << 4 | low).ok()?;
        }
        Some(Secret(bytes))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The key of the permutation of the service at the VIP `ip`:`port`.
pub fn permutation_key(relay: &Secret, ip: u32, port: u16) -> Result<Key128, HkdfError> {
    relay.derive("permutation", &vip_fields(ip, port))
}

/// The key of the choice among the targets of the service at the VIP `ip`:`port`.
pub fn rendezvous_key(relay: &Secret, ip: u32, port: u16) -> Result<Key128, HkdfError> {
    relay.derive("rendezvous", &vip_fields(ip, port))
}

fn vip_fields(ip: u32, port: u16) -> [u8; 6] {
    let ([a, b, c, d], [e, f]) = (ip.to_be_bytes(), port.to_be_bytes());
    [a, b, c, d, e, f]
}

/// What a key file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFile {
    /// For the permutation, the prefix check and the choice among targets.
    pub relay: Secret,
    /// For predicted sequence numbers.
    pub sequence: Secret,
    /// For tokens.
    pub token: Secret,
}

impl KeyFile {
    /// Three secrets made of `random`, which must come from the system's random number generator.
    pub fn from_random(random: [[u8; 32]; 3]) -> Self {
        let [relay, sequence, token] = random.map(Secret);
        KeyFile { relay, sequence, token }
    }

    /// Reads the text of a key file. An error never quotes the text.
    pub fn parse(text: &str) -> Result<Self, KeyFileError> {
        // The TOML crate's own message would quote the line: only its place is told.
        let table: toml::Table = toml::from_str(text).map_err(|error: toml::de::Error| {
            KeyFileError::Syntax { line: line_of(text, &error) }
        })?;
        if let Some(key) = table.keys().find(|key| !NAMES.contains(&key.as_str())) {
            // A name that is not one of ours could be a secret put in the wrong place.
            return Err(KeyFileError::UnknownName { position: position_of(&table, key) });
        }
        let secret = |name: &'static str| {
            let text = table.get(name).ok_or(KeyFileError::Missing { name })?;
            let text = text.as_str().ok_or(KeyFileError::NotText { name })?;
            Secret::from_hex(text).ok_or(KeyFileError::NotHex { name, len: text.len() })
        };
        let keys = KeyFile {
            relay: secret("relay")?,
            sequence: secret("sequence")?,
            token: secret("token")?,
        };
        if keys.relay == keys.sequence || keys.relay == keys.token || keys.sequence == keys.token {
            return Err(KeyFileError::NotIndependent);
        }
        Ok(keys)
    }

    /// The text of a key file with these secrets. It must be written where nobody else can read it.
    pub fn serialize(&self) -> String {
        let mut text = String::from(
            "# anyrelay keys. The same file on every POP; mode 0600; keep a copy.\n\
             # Changing `relay` breaks every live connection.\n",
        );
        let secrets = [&self.relay, &self.sequence, &self.token];
        for (name, secret) in NAMES.iter().zip(secrets) {
            let hex = secret.0.iter().fold(String::new(), |mut hex, byte| {
                // Writing into a String cannot fail.
                let _ = write!(hex, "{byte:02x}");
                hex
            });
            text.push_str(name);
            text.push_str(" = \"");
            text.push_str(&hex);
            text.push_str("\"\n");
        }
        text
    }
}

/// What is wrong with a key file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// It is not TOML.
    #[error(
        "line {line} is not TOML: each line is NAME = \"64 hex digits\" (not quoted here, as it may hold a secret)"
    )]
    Syntax {
        /// The line, from 1.
        line: usize,
    },
    /// It holds a name that is none of the three.
    #[error("entry {position} is none of relay, sequence, token; remove it")]
    UnknownName {
        /// Which entry in alphabetical order, from 1.
        position: usize,
    },
    /// One of the three is not there.
    #[error("missing; `anyrelay keygen` writes a whole file")]
    Missing {
        /// Which.
        name: &'static str,
    },
    /// One of the three is not a string.
    #[error("must be a string of 64 hex digits in quotes")]
    NotText {
        /// Which.
        name: &'static str,
    },
    /// One of the three is not 32 bytes in hex.
    #[error("must be 64 hex digits (32 bytes); it has {len} characters{}", bad_digits(.len))]
    NotHex {
        /// Which.
        name: &'static str,
        /// Characters it has.
        len: usize,
    },
    /// Two of the three are the same.
    #[error(
        "the three secrets must differ from each other; `anyrelay keygen` makes independent ones"
    )]
    NotIndependent,
}

impl KeyFileError {
    /// The name in the file that the error is about, where it is about one.
    pub fn name(&self) -> Option<&'static str> {
        match self {
            KeyFileError::Missing { name }
            | KeyFileError::NotText { name }
            | KeyFileError::NotHex { name, .. } => Some(name),
            KeyFileError::Syntax { .. }
            | KeyFileError::UnknownName { .. }
            | KeyFileError::NotIndependent => None,
        }
    }
}

fn bad_digits(len: &usize) -> &'static str {
    if *len == 64 { ", some of which are not hex digits" } else { "" }
}

fn line_of(text: &str, error: &toml::de::Error) -> usize {
    let start = error.span().map_or(0, |span| span.start);
    1 + text.bytes().take(start).filter(|&byte| byte == b'\n').count()
}

fn position_of(table: &toml::Table, key: &str) -> usize {
    1 + table.keys().take_while(|name| *name != key).count()
}

const SALT: &[u8] = b"anyrelay v1";
const NAMES: [&str; 3] = ["relay", "sequence", "token"];

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> KeyFile {
        KeyFile::from_random([[0x11; 32], [0xa2; 32], [0x33; 32]])
    }

    #[test]
    fn reads_what_it_writes() {
        let text = sample().serialize();
        assert_eq!(KeyFile::parse(&text), Ok(sample()));
        assert_eq!(
            KeyFile::parse(
                &text
                    .to_uppercase()
                    .replace("RELAY", "relay")
                    .replace("SEQUENCE", "sequence")
                    .replace("TOKEN", "token")
            ),
            Ok(sample())
        );
    }

    #[test]
    fn keys_differ_by_label_secret_and_vip() {
        let keys = sample();
        let base = permutation_key(&keys.relay, 0xcb00_710a, 443).unwrap();
        assert_ne!(base, rendezvous_key(&keys.relay, 0xcb00_710a, 443).unwrap());
        assert_ne!(base, permutation_key(&keys.token, 0xcb00_710a, 443).unwrap());
        assert_ne!(base, permutation_key(&keys.relay, 0xcb00_710b, 443).unwrap());
        assert_ne!(base, permutation_key(&keys.relay, 0xcb00_710a, 444).unwrap());
        assert_eq!(base, permutation_key(&keys.relay, 0xcb00_710a, 443).unwrap());
    }

    #[test]
    fn every_error_says_what_and_shows_no_secret() {
        let good = sample().serialize();
        let hex = "11".repeat(32);
        let cases = [
            (good.replace("\"a2", "a2"), "line 4 is not TOML"),
            (good.replace("relay =", "relais ="), "entry 1 is none of"),
            (good.lines().take(4).collect::<Vec<_>>().join("\n"), "missing"),
            (good.replace(&format!("\"{hex}\""), "17"), "must be a string"),
            (good.replace(&hex, &hex[..62]), "it has 62 characters"),
            (good.replace(&hex, &hex.replace("1", "g")), "not hex digits"),
            (good.replace(&"33".repeat(32), &hex), "must differ"),
        ];
        for (text, reason) in cases {
            let error = KeyFile::parse(&text).unwrap_err();
            assert!(error.to_string().contains(reason), "{error} should contain {reason}");
            assert!(!format!("{error} {error:?}").contains("1111"), "{error:?}");
        }
    }

    #[test]
    fn debug_hides_secrets() {
        assert_eq!(
            format!("{:?}", sample()),
            "KeyFile { relay: Secret(..), sequence: Secret(..), token: Secret(..) }"
        );
    }
}
