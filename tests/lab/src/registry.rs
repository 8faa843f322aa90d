//! Everything the labs of this process have made outside of it, so that it can be taken away again.
//!
//! Guards ([`crate::Namespace`], [`crate::Process`], [`WorkDir`]) register what they make and
//! remove it when dropped, which also covers panics. SIGINT and SIGTERM remove whatever is
//! registered and end the process. A run that was ended by SIGKILL cannot clean: its namespaces and
//! directories carry its process id in their names, and [`sweep`] removes those whose process is
//! gone.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use crate::{LabError, Result, command};

const PREFIX: &str = "arlab-";

#[derive(Debug, PartialEq, Eq)]
enum Resource {
    Process(u32),
    Namespace(String),
    Directory(PathBuf),
}

struct Registry {
    /// Set by a signal: nothing may be made any more.
    closing: bool,
    resources: Vec<Resource>,
}

static REGISTRY: Mutex<Registry> = Mutex::new(Registry { closing: false, resources: Vec::new() });
static SIGNALS: Once = Once::new();
static NEXT_LAB: AtomicU32 = AtomicU32::new(0);

/// A name that no other lab on this machine has: of this process's id and a counter.
#[must_use]
pub fn new_lab_id() -> String {
    format!("{PREFIX}{}-{}", std::process::id(), NEXT_LAB.fetch_add(1, Ordering::Relaxed))
}

/// Checks for root, starts to watch for SIGINT and SIGTERM, and removes what dead runs left.
///
/// # Errors
/// [`LabError::NotRoot`], or if the signals cannot be watched.
pub fn prepare() -> Result<()> {
    let uid = rustix::process::geteuid();
    if !uid.is_root() {
        return Err(LabError::NotRoot { uid: uid.as_raw() });
    }
    let mut outcome = Ok(());
    SIGNALS.call_once(|| outcome = watch_signals());
    outcome?;
    sweep();
    Ok(())
}

fn watch_signals() -> Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])
        .map_err(LabError::io("watch SIGINT and SIGTERM"))?;
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            // Held until the end: guards dropped by other threads wait here instead of racing.
            let mut registry = REGISTRY.lock();
            clean_everything(&mut registry);
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}

/// Removes everything registered, processes first, and refuses anything new.
fn clean_everything(registry: &mut Registry) {
    registry.closing = true;
    let resources = std::mem::take(&mut registry.resources);
    for resource in &resources {
        if let Resource::Process(pid) = resource {
            kill(*pid);
            // Reaped here, as its guard waits for the lock that we hold until the end.
            let _ = pid_of(*pid).map(|pid| waitpid(Some(pid), WaitOptions::empty()));
        }
    }
    for resource in &resources {
        match resource {
            Resource::Process(_) => {}
            Resource::Namespace(name) => delete_namespace(name),
            Resource::Directory(path) => drop(std::fs::remove_dir_all(path)),
        }
    }
}

/// Starts a process and registers it in one step, so that no signal can fall between the two.
pub(crate) fn spawn(command: &mut Command) -> Result<Child> {
    let mut registry = open_registry()?;
    let program = command.get_program().to_string_lossy().into_owned();
    let child = command.spawn().map_err(|source| LabError::Spawn { program, source })?;
    registry.resources.push(Resource::Process(child.id()));
    Ok(child)
}

/// Ends a process by SIGKILL if it still runs, reaps it, and forgets it: all under the lock, so
/// that its id cannot be another's by the time a signal handler uses it.
pub(crate) fn end(child: &mut Child) {
    let mut registry = REGISTRY.lock();
    let _ = child.kill();
    let _ = child.wait();
    forget(&mut registry, &Resource::Process(child.id()));
}

/// Reaps a process if it has ended, and forgets it then.
pub(crate) fn try_reap(child: &mut Child) -> std::io::Result<Option<std::process::ExitStatus>> {
    let mut registry = REGISTRY.lock();
    let status = child.try_wait()?;
    if status.is_some() {
        forget(&mut registry, &Resource::Process(child.id()));
    }
    Ok(status)
}

/// Makes and registers a network namespace.
pub(crate) fn add_namespace(name: &str) -> Result<()> {
    let mut registry = open_registry()?;
    command::run(Command::new("ip").args(["netns", "add", name]))?;
    registry.resources.push(Resource::Namespace(name.to_owned()));
    Ok(())
}

/// Deletes a network namespace and ends what still runs in it.
pub(crate) fn remove_namespace(name: &str) {
    let mut registry = REGISTRY.lock();
    let before = registry.resources.len();
    forget(&mut registry, &Resource::Namespace(name.to_owned()));
    if registry.resources.len() < before {
        delete_namespace(name);
    }
}

/// A directory for keys, configuration, logs and uploads of one lab; gone when dropped.
#[derive(Debug)]
pub struct WorkDir(PathBuf);

impl WorkDir {
    /// Makes the directory of the lab `lab_id` below the system's temporary directory.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn create(lab_id: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(lab_id);
        let mut registry = open_registry()?;
        std::fs::create_dir(&path).map_err(LabError::io(format!("make {}", path.display())))?;
        registry.resources.push(Resource::Directory(path.clone()));
        Ok(Self(path))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        let mut registry = REGISTRY.lock();
        forget(&mut registry, &Resource::Directory(self.0.clone()));
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Removes namespaces, their processes, and directories of labs whose process no longer exists.
pub fn sweep() {
    for directory in ["/run/netns".into(), std::env::temp_dir()] as [PathBuf; 2] {
        let Ok(entries) = std::fs::read_dir(&directory) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(owner) = owner_of(&name) else { continue };
            if Path::new(&format!("/proc/{owner}")).exists() {
                continue;
            }
            if directory.starts_with("/run/netns") {
                delete_namespace(&name);
            } else {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    }
}

/// The process id in a name that [`new_lab_id`] began.
fn owner_of(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()
}

fn open_registry() -> Result<parking_lot::MutexGuard<'static, Registry>> {
    let registry = REGISTRY.lock();
    if registry.closing { Err(LabError::Interrupted) } else { Ok(registry) }
}

fn forget(registry: &mut Registry, resource: &Resource) {
    registry.resources.retain(|other| other != resource);
}

/// Whatever runs in one of our namespaces was started by us.
fn delete_namespace(name: &str) {
    if let Ok(pids) = command::run(Command::new("ip").args(["netns", "pids", name])) {
        let own = std::process::id();
        pids.split_whitespace().filter_map(|p| p.parse().ok()).filter(|p| *p != own).for_each(kill);
    }
    let _ = command::run(Command::new("ip").args(["netns", "del", name]));
}

fn kill(pid: u32) {
    if let Some(pid) = pid_of(pid) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

fn pid_of(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owner_is_read_only_from_our_names() {
        assert_eq!(owner_of("arlab-123-0-client"), Some(123));
        assert_eq!(owner_of(&new_lab_id()), Some(std::process::id()));
        assert_eq!(owner_of("lab-123-0-client"), None);
        assert_eq!(owner_of("arlab-x-0"), None);
    }
}
