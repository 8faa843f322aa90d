//! The state file: a small TOML file that outlives the process, so that published tokens stay
//! valid.
//!
//! It is written atomically, and only after a change. Its readers could forge segments of the flow,
//! so it is readable by its owner alone. Two agents with the same port and sequence numbers would
//! reset each other's flow in turns; a lock (flock(2)) on a second file prevents that. The lock
//! ends with the process; its file stays.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyrelay_core::tunnel::agent::Saved;

/// The state file; without a path it keeps nothing.
#[derive(Debug)]
pub struct StateFile {
    path: Option<PathBuf>,
    last: Option<Saved>,
    /// No attempt before this time, after a failure.
    retry_at: Option<Instant>,
    _lock: Option<File>,
}

/// Another agent holds the lock.
#[derive(Debug, thiserror::Error)]
#[error(
    "{path}: another agent runs with this state file; give each a file of its own",
    path = .path.display()
)]
pub struct StateInUse {
    /// The state file.
    pub path: PathBuf,
}

impl StateFile {
    /// Reads the file at `path`. A missing or damaged file is not an error: the agent gets a new
    /// port and base, and the log says so.
    ///
    /// # Errors
    /// When another agent holds the lock.
    pub fn open(path: Option<PathBuf>) -> Result<Self, StateInUse> {
        let _lock = match &path {
            Some(path) => lock(path)?,
            None => None,
        };
        let mut file = StateFile { path, last: None, retry_at: None, _lock };
        let Some(path) = &file.path else { return Ok(file) };
        match std::fs::read_to_string(path) {
            Ok(text) => match Saved::parse(&text) {
                Ok(saved) => file.last = Some(saved),
                Err(error) => tracing::warn!("{}: {error}", path.display()),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!("{}: cannot be read: {error}", path.display()),
        }
        Ok(file)
    }

    /// The last saved state.
    pub fn saved(&self) -> Option<Saved> {
        self.last
    }

    /// Saves `now` before the process ends, also shortly after a failure.
    pub fn save_last(&mut self, now: Saved) {
        self.retry_at = None;
        self.save(now);
    }

    /// Saves `now` if it differs from the last saved state. May be called often. A failure is
    /// logged, and retried after a minute: the tunnel works without the file.
    pub fn save(&mut self, now: Saved) {
        if self.last == Some(now) || self.retry_at.is_some_and(|at| Instant::now() < at) {
            return;
        }
        let Some(path) = &self.path else { return };
        match write_atomically(path, &now.serialize(), 0o600) {
            Ok(()) => (self.last, self.retry_at) = (Some(now), None),
            Err(error) => {
                self.retry_at = Some(Instant::now() + RETRY);
                let (path, seconds) = (path.display(), RETRY.as_secs());
                tracing::warn!(
                    "{path}: cannot be written, once more in {seconds} s: {error}; until then a \
                     restart costs the token, and peers need a new one"
                );
            }
        }
    }
}

/// Locks the file beside `path`. A failure to create it does not stop the agent: the state file
/// cannot be written then either, and the log says so.
fn lock(path: &Path) -> Result<Option<File>, StateInUse> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".lock");
    let beside = PathBuf::from(beside);
    let mut options = File::options();
    let file = match options.write(true).create(true).truncate(false).mode(0o600).open(&beside) {
        Ok(file) => file,
        Err(error) => {
            tracing::warn!("{}: cannot be locked: {error}", beside.display());
            return Ok(None);
        }
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(StateInUse { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => {
            tracing::warn!("{}: cannot be locked: {error}", beside.display());
            Ok(None)
        }
    }
}

const RETRY: Duration = Duration::from_secs(60);

/// Writes `text` to a file beside `path` and renames it, so that readers see the old text or the
/// new one. Sets the mode to `mode` whatever the umask is.
///
/// # Errors
/// The error of the system call.
pub fn write_atomically(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.new", std::process::id()));
    let beside = PathBuf::from(beside);
    let mut options = std::fs::OpenOptions::new();
    // Always a new file: an existing one may be another user's link to a third file.
    options.write(true).create_new(true).mode(mode);
    let mut file = match options.open(&beside) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            std::fs::remove_file(&beside)?;
            options.open(&beside)?
        }
        other => other?,
    };
    let written = file
        .set_permissions(std::fs::Permissions::from_mode(mode))
        .and_then(|()| file.write_all(text.as_bytes()))
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

    /// Opens an unlocked file. A process that another test starts holds all descriptors until its
    /// exec.
    fn open_again(path: &Path) -> StateFile {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            match StateFile::open(Some(path.to_owned())) {
                Err(_) if Instant::now() < end => std::thread::sleep(Duration::from_millis(1)),
                other => return other.unwrap(),
            }
        }
    }

    #[test]
    fn saved_state_is_read_again() {
        let folder = std::env::temp_dir().join(format!("anyrelay-state-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("agent.state");
        let mut file = StateFile::open(Some(path.clone())).unwrap();
        assert_eq!(file.saved(), None);
        let error = StateFile::open(Some(path.clone())).unwrap_err().to_string();
        assert!(error.contains("another agent runs with this state file"), "{error}");
        let saved = Saved {
            vip: "203.0.113.20:443".parse().unwrap(),
            port: 61_000,
            base: 0x1234_8000,
            shift: 0,
            tick_ms: 8000,
            stride: 4096,
        };
        file.save(saved);
        // Dropping the agent's handle releases the lock.
        drop(file);
        assert_eq!(open_again(&path).saved(), Some(saved));
        std::fs::write(&path, "port = 70000\n").unwrap();
        assert_eq!(open_again(&path).saved(), None);
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 2, "it and the lock");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_link_in_place_of_the_new_file_is_not_followed() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = std::env::temp_dir().join(format!("anyrelay-beside-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (path, other) = (folder.join("token"), folder.join("other"));
        std::fs::write(&other, "somebody else's").unwrap();
        symlink(&other, folder.join(format!("token.{}.new", std::process::id()))).unwrap();
        write_atomically(&path, "new", 0o666).unwrap();
        assert_eq!(std::fs::read_to_string(&other).unwrap(), "somebody else's");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
        // The umask does not apply.
        let meta = std::fs::symlink_metadata(&path).unwrap();
        assert!(meta.is_file() && meta.permissions().mode() & 0o777 == 0o666, "{meta:?}");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_failed_save_is_retried() {
        let folder = std::env::temp_dir().join(format!("anyrelay-later-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        let mut file = StateFile::open(Some(folder.join("agent.state"))).unwrap();
        let saved = Saved {
            vip: "203.0.113.20:443".parse().unwrap(),
            port: 61_000,
            base: 0x1234_8000,
            shift: 0,
            tick_ms: 8000,
            stride: 4096,
        };
        file.save(saved);
        std::fs::create_dir_all(&folder).unwrap();
        file.save(saved);
        assert!(!folder.join("agent.state").exists(), "not at once");
        file.retry_at = Some(Instant::now());
        file.save(saved);
        assert!(folder.join("agent.state").exists());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
