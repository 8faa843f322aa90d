//! `check`: every mistake and warning of a config and its keys, one per line.

use std::path::Path;

use super::{Failure, say};
use crate::control::load;

/// Checks the config at `path` and the key file that it names.
pub(super) fn check(path: &Path) -> Result<(), Failure> {
    let snapshot = load(path, None)?;
    for warning in &snapshot.config.warnings {
        eprintln!("{warning} (warning)");
    }
    let services = snapshot.services.len();
    let digest = snapshot.digest();
    say(format_args!("{}: ok, {services} services, digest {digest}", path.display()))
}
