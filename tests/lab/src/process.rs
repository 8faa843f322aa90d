//! A process that the lab started, ended by its id when dropped.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::{LabError, Result, registry};

/// A running or ended child process.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: Option<PathBuf>,
}

impl Process {
    /// Starts a command. With `log`, its standard error (and output, unless the command already
    /// sends it elsewhere) is appended to that file.
    ///
    /// # Errors
    /// If the log cannot be opened or the program cannot be started.
    pub fn spawn(name: &str, command: &mut Command, log: Option<&Path>) -> Result<Self> {
        if let Some(path) = log {
            let open = || File::options().create(true).append(true).open(path);
            let error = || LabError::io(format!("open {}", path.display()));
            command.stdout(open().map_err(error())?).stderr(open().map_err(error())?);
        }
        let child = registry::spawn(command)?;
        Ok(Self { name: name.to_owned(), child, log: log.map(Path::to_owned) })
    }

    /// Starts a command to talk with: its input and output are pipes, its standard error is
    /// appended to the log.
    ///
    /// # Errors
    /// As [`Self::spawn`].
    pub fn spawn_piped(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(log);
        let file = file.map_err(LabError::io(format!("open {}", log.display())))?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(file);
        let child = registry::spawn(command)?;
        Ok(Self { name: name.to_owned(), child, log: Some(log.to_owned()) })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its standard input, if it was piped and not taken yet.
    pub fn stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Its standard output, if it was piped and not taken yet.
    pub fn stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// The last `lines` lines of its log.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        let Some(path) = &self.log else { return String::new() };
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// Sends a signal; nothing happens if the process has ended.
    pub fn signal(&mut self, signal: Signal) {
        if self.status().ok().flatten().is_none()
            && let Some(pid) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw)
        {
            let _ = kill_process(pid, signal);
        }
    }

    /// Ends it by SIGKILL and waits until it is gone.
    pub fn kill9(&mut self) {
        registry::end(&mut self.child);
    }

    /// How it ended, or `None` while it runs.
    ///
    /// # Errors
    /// If the system does not know the process.
    pub fn status(&mut self) -> Result<Option<ExitStatus>> {
        registry::try_reap(&mut self.child).map_err(LabError::io(format!("ask for {}", self.name)))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// [`LabError::NotReady`] if it still runs after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.status()? {
                return Ok(status);
            }
            if start.elapsed() > limit {
                return Err(LabError::NotReady {
                    what: format!("the end of {}", self.name),
                    waited: limit,
                    detail: self.log_tail(20),
                });
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        registry::end(&mut self.child);
    }
}
