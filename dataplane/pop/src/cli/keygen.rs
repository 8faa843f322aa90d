//! `keygen`: three new secrets in a file that only its owner can read.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyrelay_core::keys::KeyFile;

use super::{Failure, say};

/// Writes a new key file. It has its mode from the first moment on, and a file that is there
/// already stays as it is.
pub(super) fn keygen(path: &Path) -> Result<(), Failure> {
    let mut secrets = [[0; 32]; 3];
    for secret in &mut secrets {
        getrandom::fill(secret)
            .map_err(|error| anyhow::anyhow!("no random numbers from the system: {error}"))?;
    }
    let text = KeyFile::from_random(secrets).serialize();
    let name = path.display();
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(
        |error| match error.kind() {
            ErrorKind::AlreadyExists => anyhow::anyhow!(
                "{name} exists and is left as it is: new keys would break every connection"
            ),
            _ => anyhow::anyhow!("{name} cannot be created: {error}"),
        },
    )?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    written.map_err(|error| anyhow::anyhow!("{name} cannot be written: {error}"))?;
    say(format_args!("{name}: new keys, mode 0600; every POP needs this same file"))
}
