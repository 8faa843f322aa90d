//! Runs the command after writes of a targets file, which distributes it.

use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::board::Board;
use super::config::{After, CheckConfig};
use super::process::{self, Ended};

/// The thread of a command. Neither checks nor writes wait for it.
#[derive(Debug)]
pub(super) struct Runner {
    wanted: Sender<()>,
    thread: JoinHandle<()>,
}

impl Runner {
    /// Starts the thread for a check that has such a command.
    pub(super) fn start(config: &CheckConfig, board: &Arc<Board>) -> io::Result<Option<Self>> {
        let Some(after) = config.after.clone() else { return Ok(None) };
        // One request is enough: the command distributes the file as it is then.
        let (wanted, requests) = bounded(1);
        let job = Job {
            after,
            file: config.file.clone(),
            path: config.path.clone(),
            lead: Duration::from_millis(config.lead_ms),
            board: Arc::clone(board),
        };
        let thread =
            thread::Builder::new().name("after".to_owned()).spawn(move || job.run(&requests))?;
        Ok(Some(Runner { wanted, thread }))
    }

    /// Lets the command run, and once more if it runs now.
    pub(super) fn request(&self) {
        // A full channel has this request.
        let _ = self.wanted.try_send(());
    }

    /// Waits until all that was requested has been tried.
    pub(super) fn stop(self) {
        drop(self.wanted);
        let _ = self.thread.join();
    }
}

struct Job {
    after: After,
    file: String,
    path: PathBuf,
    lead: Duration,
    board: Arc<Board>,
}

impl Job {
    /// Runs the command for each request; after a failure again, until it succeeds.
    fn run(&self, requests: &Receiver<()>) {
        let mut is_wanted = requests.recv().is_ok();
        while is_wanted {
            is_wanted = if self.try_once() {
                requests.recv().is_ok()
            } else {
                requests.recv_timeout(RETRY) != Err(RecvTimeoutError::Disconnected)
            };
        }
    }

    fn try_once(&self) -> bool {
        let start = Instant::now();
        let mut command = Command::new("/bin/sh");
        let command =
            command.args(["-c", &self.after.command]).env("ANYRELAY_TARGETS_FILE", &self.path);
        let reason = match process::run(command, self.after.timeout, &|| false) {
            Ok(Ended::Exit(status)) if status.success() => {
                self.succeeded(start.elapsed());
                return true;
            }
            Ok(Ended::Exit(status)) => status.to_string(),
            Ok(Ended::TimeLimit | Ended::Stopped) => "killed at its time limit".to_owned(),
            Err(error) => error.to_string(),
        };
        self.board.lock().counts.after_failed += 1;
        let (file, seconds) = (&self.file, RETRY.as_secs());
        tracing::error!(
            file,
            reason,
            "the command after a write failed: POPs may not have the file; once more in {seconds} s"
        );
        false
    }

    fn succeeded(&self, took: Duration) {
        let is_late = took > self.lead;
        let mut status = self.board.lock();
        let counts = &mut status.counts;
        let counter = if is_late { &mut counts.after_late } else { &mut counts.after_done };
        *counter += 1;
        drop(status);
        if is_late {
            let (file, seconds) = (&self.file, took.as_secs_f64());
            tracing::warn!(
                file,
                seconds,
                "the command after a write took longer than the lead: raise check.lead"
            );
        }
    }
}

/// From a failure to the next attempt.
const RETRY: Duration = Duration::from_secs(5);
