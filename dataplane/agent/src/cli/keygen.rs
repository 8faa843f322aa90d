//! `keygen` and `pubkey`: keys of the TUN side.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, bail};

use super::say;
use crate::inner::keys::{PresharedKey, PrivateKey};

/// Generates a key. With a file, writes it there, created with mode 0600, and prints the public
/// key; an existing file stays as it is. Without a file, prints the key.
pub(super) fn keygen(file: Option<&Path>, preshared: bool) -> anyhow::Result<()> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).context("no random numbers from the system")?;
    let private = (!preshared).then(|| PrivateKey::new(bytes));
    let text = private
        .as_ref()
        .map_or_else(|| PresharedKey::new(bytes).serialize(), PrivateKey::serialize);
    let Some(path) = file else {
        return say(text.trim_end());
    };
    let name = path.display();
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(
        |error| match error.kind() {
            ErrorKind::AlreadyExists => anyhow::anyhow!(
                "{name} exists and is left as it is: with a new key, no peer would know this agent"
            ),
            _ => anyhow::anyhow!("{name} cannot be created: {error}"),
        },
    )?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    written.with_context(|| format!("{name} cannot be written"))?;
    match private.and_then(|private| private.public()) {
        Some(public) => say(public),
        None => say(format_args!("{name}: a new pre-shared key, mode 0600; the peer needs it too")),
    }
}

/// Prints the public key of the private key in `file`, or on standard input.
pub(super) fn pubkey(file: Option<&Path>) -> anyhow::Result<()> {
    let (name, text) = match file {
        Some(path) => (path.display().to_string(), std::fs::read_to_string(path)),
        None => {
            let mut text = String::new();
            let read = std::io::stdin().take(TEXT_MAX).read_to_string(&mut text);
            ("standard input".to_owned(), read.map(|_| text))
        }
    };
    let text = text.with_context(|| format!("{name} cannot be read"))?;
    let private = PrivateKey::parse_file(&text).with_context(|| name.clone())?;
    match private.public() {
        Some(public) => say(public),
        None => bail!("{name}: no public key can be computed"),
    }
}

const TEXT_MAX: u64 = 1 << 16;
