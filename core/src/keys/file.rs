//! The key file: the secrets that all POPs share.
//!
//! ```toml
//! relay = "64 hex digits"
//! sequence = "64 hex digits"
//! [[token]]                              # one, or two that follow each other
//! epoch = 0
//! secret = "64 hex digits"
//! not_before = 2026-11-22T10:00:00Z      # optional for the first
//! ```
//!
//! Older files have `token = "64 hex digits"` instead, which is epoch 0.

use super::{Epoch, Epochs, EpochsError, Secret, line_of};
use crate::time::{UnixTime, format_time, from_toml};

/// The contents of a key file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFile {
    /// The secret of relays: the permutation, the prefix check and the choice among targets.
    pub relay: Secret,
    /// The secret of predicted sequence numbers.
    pub sequence: Secret,
    /// The secrets of tokens.
    pub tokens: Epochs,
}

impl KeyFile {
    /// Three secrets of `random`, which must come from the system's random number generator.
    pub fn from_random(random: [[u8; 32]; 3]) -> Self {
        let [relay, sequence, token] = random.map(Secret);
        KeyFile { relay, sequence, tokens: Epochs::single(token) }
    }

    /// Reads the text of a key file.
    ///
    /// # Errors
    /// The first mistake. It never quotes the text.
    pub fn parse(text: &str) -> Result<Self, KeyFileError> {
        // The TOML crate's own message would quote the line: only its number is kept.
        let table: toml::Table = toml::from_str(text).map_err(|error: toml::de::Error| {
            KeyFileError::Syntax { line: line_of(text, &error) }
        })?;
        only(&table, &NAMES)?;
        let keys = KeyFile {
            relay: secret(&table, "relay", "relay")?,
            sequence: secret(&table, "sequence", "sequence")?,
            tokens: tokens(&table)?,
        };
        let secrets = [&keys.relay, &keys.sequence];
        let secrets: Vec<_> =
            secrets.into_iter().chain(keys.tokens.iter().map(|epoch| &epoch.secret)).collect();
        if (1..secrets.len()).any(|index| secrets[..index].contains(&secrets[index])) {
            return Err(KeyFileError::NotIndependent);
        }
        Ok(keys)
    }

    /// The text of a key file with these secrets: only its owner may be able to read it.
    pub fn serialize(&self) -> String {
        let mut text = format!(
            "# anyrelay keys. The same file on every POP; mode 0600; keep a copy.\n\
             # Changing `relay` breaks every live connection, changing `sequence` every tunnel.\n\
             relay = \"{}\"\nsequence = \"{}\"\n",
            self.relay.to_hex(),
            self.sequence.to_hex()
        );
        for epoch in self.tokens.iter() {
            text += &format!(
                "\n[[token]]\nepoch = {}\nsecret = \"{}\"\n",
                epoch.number,
                epoch.secret.to_hex()
            );
            if epoch.not_before != UnixTime::default() {
                text += &format!("not_before = {}\n", format_time(epoch.not_before));
            }
        }
        text
    }
}

/// A mistake in a key file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// It is not TOML.
    #[error(
        "line {line} is not TOML: each line is NAME = \"64 hex digits\" (not quoted here, as it \
         may hold a secret)"
    )]
    Syntax {
        /// The line, from 1.
        line: usize,
    },
    /// It has an unknown name.
    #[error("entry {position} in alphabetical order is none of {}; remove it", names.join(", "))]
    UnknownName {
        /// The position of the entry in alphabetical order, from 1.
        position: usize,
        /// The known names.
        names: &'static [&'static str],
    },
    /// A required entry is missing.
    #[error("missing; `anyrelay keygen` writes a whole file")]
    Missing {
        /// The name of the entry.
        name: &'static str,
    },
    /// A secret is not a string.
    #[error("must be a string of 64 hex digits in quotes")]
    NotText {
        /// The name of the entry.
        name: &'static str,
    },
    /// A secret is not 32 bytes in hex.
    #[error("must be 64 hex digits (32 bytes); it has {len} characters{}", bad_digits(.len))]
    NotHex {
        /// The name of the entry.
        name: &'static str,
        /// Its length in characters.
        len: usize,
    },
    /// The file has neither one nor two epochs.
    #[error("must be one or two [[token]] tables, each an epoch; there are {count}")]
    EpochCount {
        /// The number of epochs.
        count: usize,
    },
    /// An epoch's number is out of range.
    #[error("must be a whole number, 0..=255")]
    NotEpoch {
        /// The name of the entry.
        name: &'static str,
    },
    /// A time is malformed.
    #[error("must be a time with its offset and without quotes, such as 2026-11-22T10:00:00Z")]
    NotTime {
        /// The name of the entry.
        name: &'static str,
    },
    /// The two epochs do not follow each other.
    #[error(transparent)]
    Epochs(#[from] EpochsError),
    /// Two secrets are the same.
    #[error("the secrets must differ from each other; `anyrelay keygen` makes independent ones")]
    NotIndependent,
}

impl KeyFileError {
    /// The name in the file that the error concerns, if it concerns one.
    pub fn name(&self) -> Option<&'static str> {
        match self {
            KeyFileError::Missing { name }
            | KeyFileError::NotText { name }
            | KeyFileError::NotHex { name, .. }
            | KeyFileError::NotEpoch { name }
            | KeyFileError::NotTime { name } => Some(name),
            KeyFileError::EpochCount { .. } | KeyFileError::Epochs(_) => Some("token"),
            KeyFileError::Syntax { .. }
            | KeyFileError::UnknownName { .. }
            | KeyFileError::NotIndependent => None,
        }
    }
}

fn bad_digits(len: &usize) -> &'static str {
    if *len == 64 { ", some of which are not hex digits" } else { "" }
}

/// Refuses names other than `names`. They are not quoted: one could be a misplaced secret.
fn only(table: &toml::Table, names: &'static [&'static str]) -> Result<(), KeyFileError> {
    let mut sorted: Vec<_> = table.keys().collect();
    sorted.sort_unstable();
    match sorted.iter().position(|name| !names.contains(&name.as_str())) {
        Some(index) => Err(KeyFileError::UnknownName { position: index + 1, names }),
        None => Ok(()),
    }
}

/// The secret called `key` in `table`, which an error calls `name`.
fn secret(table: &toml::Table, key: &str, name: &'static str) -> Result<Secret, KeyFileError> {
    let text = table.get(key).ok_or(KeyFileError::Missing { name })?;
    let text = text.as_str().ok_or(KeyFileError::NotText { name })?;
    Secret::from_hex(text).ok_or(KeyFileError::NotHex { name, len: text.len() })
}

fn tokens(table: &toml::Table) -> Result<Epochs, KeyFileError> {
    let Some(toml::Value::Array(entries)) = table.get("token") else {
        return Ok(Epochs::single(secret(table, "token", "token")?));
    };
    let mut epochs = entries.iter().zip(&EPOCH_NAMES).map(|(entry, names)| epoch(entry, names));
    let first = epochs.next().ok_or(KeyFileError::EpochCount { count: 0 })??;
    let next = epochs.next().transpose()?;
    if entries.len() > EPOCH_NAMES.len() {
        return Err(KeyFileError::EpochCount { count: entries.len() });
    }
    let first_time = first.not_before.unwrap_or_default();
    let with = |epoch: RawEpoch, not_before| Epoch {
        number: epoch.number,
        secret: epoch.secret,
        not_before,
    };
    let next = match next {
        Some(next) => {
            let missing = KeyFileError::Missing { name: EPOCH_NAMES[1].not_before };
            let time = next.not_before.ok_or(missing)?;
            Some(with(next, time))
        }
        None => None,
    };
    Ok(Epochs::new(with(first, first_time), next)?)
}

struct RawEpoch {
    number: u8,
    secret: Secret,
    not_before: Option<UnixTime>,
}

fn epoch(entry: &toml::Value, names: &EpochNames) -> Result<RawEpoch, KeyFileError> {
    let table = entry.as_table().ok_or(KeyFileError::NotText { name: "token" })?;
    only(table, &EPOCH_KEYS)?;
    let number = table.get("epoch").ok_or(KeyFileError::Missing { name: names.epoch })?;
    let number = number.as_integer().and_then(|number| u8::try_from(number).ok());
    let not_before = match table.get("not_before") {
        None => None,
        Some(value) => {
            let time = value.as_datetime().and_then(from_toml);
            Some(time.ok_or(KeyFileError::NotTime { name: names.not_before })?)
        }
    };
    Ok(RawEpoch {
        number: number.ok_or(KeyFileError::NotEpoch { name: names.epoch })?,
        secret: secret(table, "secret", names.secret)?,
        not_before,
    })
}

/// The names of the entries of an epoch in errors.
struct EpochNames {
    epoch: &'static str,
    secret: &'static str,
    not_before: &'static str,
}

const NAMES: [&str; 3] = ["relay", "sequence", "token"];
const EPOCH_KEYS: [&str; 3] = ["epoch", "not_before", "secret"];
const EPOCH_NAMES: [EpochNames; 2] = [
    EpochNames {
        epoch: "token[0].epoch",
        secret: "token[0].secret",
        not_before: "token[0].not_before",
    },
    EpochNames {
        epoch: "token[1].epoch",
        secret: "token[1].secret",
        not_before: "token[1].not_before",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> KeyFile {
        KeyFile::from_random([[0x11; 32], [0xa2; 32], [0x33; 32]])
    }

    fn rotated() -> KeyFile {
        let time = UnixTime::from_millis(1_795_341_988_025);
        let tokens =
            sample().tokens.rotated(Secret::new([0x44; 32]), time, UnixTime::default()).unwrap();
        KeyFile { tokens, ..sample() }
    }

    #[test]
    fn reads_what_it_writes() {
        for keys in [sample(), rotated()] {
            assert_eq!(KeyFile::parse(&keys.serialize()), Ok(keys));
        }
    }

    #[test]
    fn reads_capital_digits_and_the_form_without_epochs() {
        let old = format!(
            "relay = \"{}\"\nsequence = \"{}\"\ntoken = \"{}\"\n",
            "11".repeat(32),
            "A2".repeat(32),
            "33".repeat(32)
        );
        assert_eq!(KeyFile::parse(&old), Ok(sample()));
    }

    #[test]
    fn every_error_has_a_reason_and_shows_no_secret() {
        let good = rotated().serialize();
        let one = sample().serialize();
        let hex = "11".repeat(32);
        let third = format!("{good}[[token]]\nepoch = 2\nsecret = \"{hex}\"\n");
        let cases = [
            (good.replace("\"a2", "a2"), "", "line 4 is not TOML"),
            (good.replace("relay =", "relais ="), "", "entry 1 in alphabetical order is none of"),
            (good.replace("epoch = 1", "epoch = 1\nzzz = 1"), "", "entry 4 in alphabetical order"),
            (good.lines().take(3).collect::<Vec<_>>().join("\n"), "sequence", "missing"),
            (good.lines().take(4).collect::<Vec<_>>().join("\n"), "token", "missing"),
            (good.replace(&format!("\"{hex}\""), "17"), "relay", "must be a string"),
            (good.replace(&hex, &hex[..62]), "relay", "it has 62 characters"),
            (good.replace(&hex, &hex.replace('1', "g")), "relay", "not hex digits"),
            (one.replace(&"33".repeat(32), &hex), "", "must differ"),
            (good.replace(&"44".repeat(32), &hex), "", "must differ"),
            (good.replace("epoch = 0", "epoch = 256"), "token[0].epoch", "0..=255"),
            (good.replace("epoch = 0", ""), "token[0].epoch", "missing"),
            (good.replace("epoch = 1", "epoch = 3"), "token", "does not follow epoch 0"),
            (good.replace("\"44", "\"4"), "token[1].secret", "it has 63 characters"),
            (good.replace(".025Z", ""), "token[1].not_before", "with its offset"),
            (good.replace("not_before", "#"), "token[1].not_before", "missing"),
            (third, "token", "there are 3"),
            (good.split("[[").next().unwrap().to_owned() + "token = []", "token", "there are 0"),
            (good.split("[[").next().unwrap().to_owned() + "token = [1]", "token", "string"),
        ];
        for (text, name, reason) in cases {
            let error = KeyFile::parse(&text).unwrap_err();
            assert!(error.to_string().contains(reason), "{error} should contain {reason}");
            assert_eq!(error.name().unwrap_or_default(), name, "{error}");
            assert!(!format!("{error} {error:?}").contains("1111"), "{error:?}");
        }
    }

    #[test]
    fn debug_hides_secrets() {
        let text = format!("{:?}", rotated());
        assert!(text.starts_with("KeyFile { relay: Secret(..), sequence: Secret(..), tokens: "));
        assert_eq!(text.matches("Secret(..)").count(), 4, "{text}");
    }
}
