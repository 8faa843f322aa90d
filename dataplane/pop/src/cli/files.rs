//! Files that hold secrets: made and changed so that nobody else can read them, at no moment.
//!
//! A file is changed as a whole: the new text is written beside it and takes its place at once, so
//! that a POP that reads it sees the old or the new one. It keeps its owner, and its mode where
//! that is no wider than 0600. Two commands that change files of one folder wait for each other.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, anyhow};
use rustix::fs::{FlockOperation, flock};

use crate::control;

/// The right to change files of one folder, until it is dropped.
#[derive(Debug)]
pub(super) struct FolderLock {
    folder: File,
}

impl FolderLock {
    /// Waits for the right to change `path` and the files beside it.
    pub(super) fn take(path: &Path) -> Result<Self, Error> {
        let name = folder_of(path);
        let folder = File::open(&name)
            .with_context(|| format!("the folder {} cannot be opened", name.display()))?;
        let deadline = Instant::now() + WAIT_MAX;
        loop {
            // The lock is on the folder, not on the file: that one is replaced, and its lock with it.
            match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(FolderLock { folder }),
                Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(10));
                }
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    return Err(anyhow!(
                        "{}: another command has been changing files there for {} s; try again \
                         when it is done",
                        name.display(),
                        WAIT_MAX.as_secs()
                    ));
                }
                Err(error) => {
                    return Err(anyhow!("the folder {} cannot be locked: {error}", name.display()));
                }
            }
        }
    }

    /// Makes what was done in the folder outlive a crash.
    fn sync(&self) -> io::Result<()> {
        self.folder.sync_all()
    }
}

/// A file that is to be changed or made, and the lock to do it under.
#[derive(Debug)]
pub(super) enum Locked {
    /// It is there.
    There(Existing),
    /// It is not.
    Missing(Missing),
}

impl Locked {
    /// Locks the folder of `path`, and reads the file if it is there.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let lock = FolderLock::take(&path)?;
        let about = match fs::metadata(&path) {
            Ok(about) => about,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(Locked::Missing(Missing { path, lock }));
            }
            Err(error) => return Err(anyhow!("{}: cannot be read: {error}", path.display())),
        };
        let text = read(&path)?;
        let (mode, owner) = (about.permissions().mode(), (about.uid(), about.gid()));
        Ok(Locked::There(Existing { path, lock, text, mode, owner }))
    }

    /// The file, which must be there; `advice` says how to make one.
    pub(super) fn existing(path: &Path, advice: &str) -> Result<Existing, Error> {
        match Locked::open(path)? {
            Locked::There(existing) => Ok(existing),
            Locked::Missing(_) => {
                Err(anyhow!("{}: there is no such file; {advice}", path.display()))
            }
        }
    }
}

/// The place of a file that is to be made under a lock.
#[derive(Debug)]
pub(super) struct Missing {
    path: PathBuf,
    lock: FolderLock,
}

impl Missing {
    /// Makes the file, with `text` in it.
    pub(super) fn create(self, text: &str) -> Result<(), Error> {
        New::make(&self.path, "something else has made it just now; try again")?.write(text)?;
        self.lock
            .sync()
            .map_err(|error| anyhow!("{}: cannot be kept: {error}", self.path.display()))
    }
}

/// A file as it is, to be replaced under a lock.
#[derive(Debug)]
pub(super) struct Existing {
    /// Where it is; no symbolic link, or the link would be replaced.
    path: PathBuf,
    lock: FolderLock,
    text: String,
    mode: u32,
    owner: (u32, u32),
}

impl Existing {
    /// What is in it.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Puts `text` in the place of what is in it.
    pub(super) fn replace(self, text: &str) -> Result<(), Error> {
        refuse_long(&self.path, text)?;
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        // Under the lock nobody else writes it; one that is left over is of a command that was killed.
        let beside = self.path.with_file_name(format!(".{name}.new"));
        let _ = fs::remove_file(&beside);
        let done = self.write(&beside, text).and_then(|()| fs::rename(&beside, &self.path));
        if let Err(error) = done.and_then(|()| self.lock.sync()) {
            let _ = fs::remove_file(&beside);
            return Err(anyhow!("{}: cannot be written: {error}", self.path.display()));
        }
        Ok(())
    }

    fn write(&self, path: &Path, text: &str) -> io::Result<()> {
        let mut file = new_file(path)?;
        file.write_all(text.as_bytes())?;
        let made = file.metadata()?;
        if (made.uid(), made.gid()) != self.owner {
            // Else a POP that runs as that user could not read it any more.
            fchown(&file, Some(self.owner.0), Some(self.owner.1))?;
        }
        file.set_permissions(fs::Permissions::from_mode(self.mode & PRIVATE))?;
        file.sync_all()
    }
}

/// Refuses a text that no POP would read.
fn refuse_long(path: &Path, text: &str) -> Result<(), Error> {
    if text.len() as u64 <= control::FILE_MAX {
        return Ok(());
    }
    Err(anyhow!(
        "{}: is full and left as it is: POPs read files of at most {} bytes",
        path.display(),
        control::FILE_MAX
    ))
}

/// The text of the file at `path`.
pub(super) fn read(path: &Path) -> Result<String, Error> {
    control::read(path).map_err(|reason| anyhow!("{}: {reason}", path.display()))
}

/// A file that was made, with nothing in it yet.
#[derive(Debug)]
pub(super) struct New {
    path: PathBuf,
    file: File,
}

impl New {
    /// Makes the file `path`. One that is there already stays as it is: `else_why` is told then.
    pub(super) fn make(path: &Path, else_why: &str) -> Result<Self, Error> {
        let name = path.display();
        let file = new_file(path).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => anyhow!("{name}: exists and is left as it is: {else_why}"),
            _ => anyhow!("{name}: cannot be created: {error}"),
        })?;
        Ok(New { path: path.to_owned(), file })
    }

    /// Puts `text` into it. A file that cannot be written is removed.
    pub(super) fn write(mut self, text: &str) -> Result<(), Error> {
        let written = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_all());
        written.map_err(|error| {
            let name = self.path.display().to_string();
            self.remove();
            anyhow!("{name}: cannot be written: {error}")
        })
    }

    /// Undoes it.
    pub(super) fn remove(self) {
        // It holds nothing that would be missed, and no more can be done.
        let _ = fs::remove_file(&self.path);
    }
}

/// A new file that has its mode from the first moment on.
fn new_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(path)
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

const PRIVATE: u32 = 0o600;
/// How long one command waits for another.
const WAIT_MAX: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_is_written_that_pops_do_not_read() {
        let mut text = " ".repeat(control::FILE_MAX as usize);
        assert!(refuse_long(Path::new("tenants.toml"), &text).is_ok());
        text.push(' ');
        let error =
            refuse_long(Path::new("tenants.toml"), &text).map_err(|error| error.to_string());
        assert!(error.is_err_and(|error| error.starts_with("tenants.toml: is full")));
    }
}
