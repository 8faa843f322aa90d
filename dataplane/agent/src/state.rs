//! What outlives the process, so that the tokens given out stay valid: a small TOML file.
//!
//! It is written atomically, and only when something in it changed. Whoever reads it can aim
//! at the flow, so only its owner may.

use std::io;
use std::path::{Path, PathBuf};

use anyrelay_core::tunnel::agent::Saved;

/// The state file; without a path nothing is kept.
#[derive(Debug)]
pub struct StateFile {
    path: Option<PathBuf>,
    last: Option<Saved>,
}

impl StateFile {
    /// Reads the file at `path`. One that is not there, or damaged, is no error: the agent gets a
    /// new port and base, and the log says so.
    pub fn open(path: Option<PathBuf>) -> Self {
        let mut file = StateFile { path, last: None };
        let Some(path) = &file.path else { return file };
        match std::fs::read_to_string(path) {
            Ok(text) => match Saved::parse(&text) {
                Ok(saved) => file.last = Some(saved),
                Err(error) => tracing::warn!("{}: {error}", path.display()),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!("{}: cannot be read: {error}", path.display()),
        }
        file
    }

    /// What was saved last.
    pub fn saved(&self) -> Option<Saved> {
        self.last
    }

    /// Saves `now` if it differs from what was saved last. A failure is logged: the tunnel works
    /// without.
    pub fn save(&mut self, now: Saved) {
        if self.last == Some(now) {
            return;
        }
        self.last = Some(now);
        let Some(path) = &self.path else { return };
        if let Err(error) = write_atomically(path, &now.serialize(), 0o600) {
            let path = path.display();
            tracing::warn!(
                "{path}: cannot be written: {error}; after a restart peers need a new token"
            );
        }
    }
}

/// Writes `text` beside `path` and renames it there, so that a reader sees the old or the new
/// whole.
///
/// # Errors
/// The system's.
pub fn write_atomically(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;

    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.new", std::process::id()));
    let beside = PathBuf::from(beside);
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(mode);
    let mut file = options.open(&beside)?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::rename(&beside, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_was_saved() {
        let folder = std::env::temp_dir().join(format!("anyrelay-state-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("agent.state");
        let mut file = StateFile::open(Some(path.clone()));
        assert_eq!(file.saved(), None);
        let saved = Saved {
            vip: "203.0.113.20:443".parse().unwrap(),
            port: 61_000,
            base: 0x1234_8000,
            shift: 0,
            tick_ms: 8000,
            stride: 4096,
        };
        file.save(saved);
        assert_eq!(StateFile::open(Some(path.clone())).saved(), Some(saved));
        std::fs::write(&path, "port = 70000\n").unwrap();
        assert_eq!(StateFile::open(Some(path)).saved(), None);
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "nothing is left beside it");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
