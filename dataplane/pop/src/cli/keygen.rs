//! `keygen`: new secrets in a file that only its owner can read.

use std::path::Path;

use anyrelay_core::keys::{KeyFile, Secret};

use super::files::New;
use super::{Failure, say};

/// Writes a new key file, created with its final mode. An existing file stays as it is.
pub(super) fn keygen(path: &Path) -> Result<(), Failure> {
    let text = KeyFile::from_random([random()?, random()?, random()?]).serialize();
    New::make(path, "new keys would break every connection")?.write(&text)?;
    let name = path.display();
    say(format_args!("{name}: new keys, mode 0600; every POP needs this same file"))
}

/// A new secret.
pub(super) fn new_secret() -> Result<Secret, Failure> {
    Ok(Secret::new(random()?))
}

fn random() -> Result<[u8; 32], Failure> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| anyhow::anyhow!("no random numbers from the system: {error}"))?;
    Ok(bytes)
}
