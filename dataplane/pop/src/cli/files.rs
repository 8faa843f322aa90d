//! Files that commands create and change: those with secrets so that other users can never read
//! them, others so that who could read them still can.
//!
//! A change replaces the whole file: the new text is written to a second file and renamed, so that
//! a POP reads the old text or the new one. The file keeps its owner, and its mode; one with
//! secrets only if that is at most 0600. Two commands that change files of one folder wait for each
//! other.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, anyhow};
use rustix::fs::{FlockOperation, flock};

use crate::control;

/// The lock on a folder, held until dropped.
#[derive(Debug)]
pub(super) struct FolderLock {
    folder: File,
}

impl FolderLock {
    /// Locks the folder of `path`, and waits for other commands.
    pub(super) fn take(path: &Path) -> Result<Self, Error> {
        let name = folder_of(path);
        let folder = File::open(&name)
            .with_context(|| format!("the folder {} cannot be opened", name.display()))?;
        let deadline = Instant::now() + WAIT_MAX;
        loop {
            // The lock is on the folder: a file is replaced, and a lock on it would be too.
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

    /// Makes changes in the folder durable.
    fn sync(&self) -> io::Result<()> {
        self.folder.sync_all()
    }
}

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Secrets, which only its owner may read.
    Secret,
    /// What others may read, too.
    Public,
}

impl Content {
    /// The mode of a file that is made.
    const fn new_mode(self) -> u32 {
        match self {
            Content::Secret => PRIVATE,
            Content::Public => 0o644,
        }
    }

    /// The mode of a file that takes the place of one with `mode`.
    const fn kept_mode(self, mode: u32) -> u32 {
        match self {
            Content::Secret => mode & PRIVATE,
            Content::Public => mode & 0o777,
        }
    }
}

/// A file to change or create, under the lock.
#[derive(Debug)]
pub(super) enum Locked {
    /// The file exists.
    Present(Existing),
    /// The file does not exist.
    Missing(Missing),
}

impl Locked {
    /// Locks the folder of `path`, and reads the file if it exists.
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
        Ok(Locked::Present(Existing { path, lock, text, mode, owner }))
    }

    /// The file, which must exist; `advice` says how to create one.
    pub(super) fn existing(path: &Path, advice: &str) -> Result<Existing, Error> {
        match Locked::open(path)? {
            Locked::Present(existing) => Ok(existing),
            Locked::Missing(_) => {
                Err(anyhow!("{}: there is no such file; {advice}", path.display()))
            }
        }
    }
}

/// The path of a file to create under the lock.
#[derive(Debug)]
pub(super) struct Missing {
    path: PathBuf,
    lock: FolderLock,
}

impl Missing {
    /// Creates the file with the contents `text`.
    pub(super) fn create(self, content: Content, text: &str) -> Result<(), Error> {
        let mode = content.new_mode();
        let else_why = "something else has made it just now; try again";
        New::make_with(&self.path, mode, else_why)?.write(text)?;
        self.lock
            .sync()
            .map_err(|error| anyhow!("{}: cannot be kept: {error}", self.path.display()))
    }
}

/// An existing file, to be replaced under the lock.
#[derive(Debug)]
pub(super) struct Existing {
    /// The path without symbolic links, which a rename would replace.
    path: PathBuf,
    lock: FolderLock,
    text: String,
    mode: u32,
    owner: (u32, u32),
}

impl Existing {
    /// Its contents.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Replaces the contents by `text`.
    pub(super) fn replace(self, content: Content, text: &str) -> Result<(), Error> {
        refuse_long(&self.path, text)?;
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        // No other command writes it under the lock; an existing one is left over from a killed
        // command.
        let beside = self.path.with_file_name(format!(".{name}.new"));
        let _ = fs::remove_file(&beside);
        let mode = content.kept_mode(self.mode);
        let done = self.write(&beside, mode, text).and_then(|()| fs::rename(&beside, &self.path));
        if let Err(error) = done.and_then(|()| self.lock.sync()) {
            let _ = fs::remove_file(&beside);
            return Err(anyhow!("{}: cannot be written: {error}", self.path.display()));
        }
        Ok(())
    }

    fn write(&self, path: &Path, mode: u32, text: &str) -> io::Result<()> {
        let mut file = new_file(path, PRIVATE)?;
        file.write_all(text.as_bytes())?;
        let made = file.metadata()?;
        if (made.uid(), made.gid()) != self.owner {
            // Otherwise a POP of that user could no longer read it.
            fchown(&file, Some(self.owner.0), Some(self.owner.1))?;
        }
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()
    }
}

/// Refuses a text that is too long for a POP.
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

/// The contents of the file at `path`.
pub(super) fn read(path: &Path) -> Result<String, Error> {
    control::read(path).map_err(|reason| anyhow!("{}: {reason}", path.display()))
}

/// A new, empty file.
#[derive(Debug)]
pub(super) struct New {
    path: PathBuf,
    file: File,
}

impl New {
    /// Creates the file `path`, for secrets. An existing one stays as it is, and the error contains
    /// `else_why`.
    pub(super) fn make(path: &Path, else_why: &str) -> Result<Self, Error> {
        New::make_with(path, PRIVATE, else_why)
    }

    fn make_with(path: &Path, mode: u32, else_why: &str) -> Result<Self, Error> {
        let name = path.display();
        let file = new_file(path, mode).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => anyhow!("{name}: exists and is left as it is: {else_why}"),
            _ => anyhow!("{name}: cannot be created: {error}"),
        })?;
        Ok(New { path: path.to_owned(), file })
    }

    /// Writes `text`. Removes the file on a failure.
    pub(super) fn write(mut self, text: &str) -> Result<(), Error> {
        let written = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_all());
        written.map_err(|error| {
            let name = self.path.display().to_string();
            self.remove();
            anyhow!("{name}: cannot be written: {error}")
        })
    }

    /// Removes the file.
    pub(super) fn remove(self) {
        // It has no contents of value, and a failure has no remedy here.
        let _ = fs::remove_file(&self.path);
    }
}

/// A new file, created with its final mode.
fn new_file(path: &Path, mode: u32) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path)
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

const PRIVATE: u32 = 0o600;
/// The time limit for other commands.
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
