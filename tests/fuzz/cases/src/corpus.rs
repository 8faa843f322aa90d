//! The seeds: inputs of the corpus that are made from the fixtures and from what the protocol is
//! today, so that fuzzing begins behind every check of keys and formats.

use std::path::{Path, PathBuf};

use crate::{hints, pop_handle};

/// The folder of the corpus of a target.
pub fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(target)
}

/// Writes all seeds, in place of those of before. Other inputs of the corpus stay.
///
/// # Errors
/// When a file cannot be written, read or removed.
pub fn write() -> std::io::Result<()> {
    for (target, seeds) in [("hints", hints::seeds()), ("pop_handle", pop_handle::seeds::all())] {
        let folder = folder(target);
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX)) {
                std::fs::remove_file(path)?;
            }
        }
        for (name, input) in seeds {
            std::fs::write(folder.join(format!("{PREFIX}{name}")), input)?;
        }
    }
    Ok(())
}

/// The names of seeds begin with it.
const PREFIX: &str = "seed-";
