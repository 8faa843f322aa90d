//! Publication of the agent's own token, at start and at each change.
//!
//! The target is a file, written atomically, or a command, which gets the token as its argument and
//! on its standard input, for instance to update DNS. Both get the form that `--peer` takes.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::local::PublicToken;
use crate::state::write_atomically;

/// A target of publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublishTarget {
    /// This file.
    File(PathBuf),
    /// This command, run by `sh -c`; `$1` is the token.
    Command(String),
}

/// The text names no target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("give a path, file:PATH or command:COMMAND")]
pub struct PublishTargetError;

impl FromStr for PublishTarget {
    type Err = PublishTargetError;

    fn from_str(text: &str) -> Result<Self, PublishTargetError> {
        match text.split_once(':') {
            Some(("command", command)) if !command.trim().is_empty() => {
                Ok(PublishTarget::Command(command.to_owned()))
            }
            Some(("file", path)) if !path.is_empty() => Ok(PublishTarget::File(path.into())),
            Some(("command" | "file", _)) => Err(PublishTargetError),
            _ if text.is_empty() => Err(PublishTargetError),
            _ => Ok(PublishTarget::File(text.into())),
        }
    }
}

/// Publishes tokens. Each target has a thread, so that neither the tunnel nor another target waits
/// for a disk or a command.
#[derive(Debug)]
pub struct Publisher {
    targets: Vec<Sender<PublicToken>>,
}

impl Publisher {
    /// Starts the threads.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(targets: Vec<PublishTarget>) -> io::Result<Self> {
        let start = |target: PublishTarget| {
            let (sender, tokens) = channel();
            thread::Builder::new()
                .name("publish".to_owned())
                .spawn(move || run(&target, &tokens))?;
            Ok(sender)
        };
        Ok(Publisher { targets: targets.into_iter().map(start).collect::<io::Result<_>>()? })
    }

    /// Publishes `token`. A failure is retried until it succeeds or there is a newer token.
    pub fn publish(&self, token: PublicToken) {
        for target in &self.targets {
            let _ = target.send(token);
        }
    }
}

fn run(target: &PublishTarget, tokens: &Receiver<PublicToken>) {
    let Ok(mut token) = tokens.recv() else { return };
    loop {
        // Older tokens are obsolete.
        token = tokens.try_iter().last().unwrap_or(token);
        let wait = match target.publish(&token) {
            Ok(()) => Duration::MAX,
            Err(error) => {
                let seconds = RETRY.as_secs();
                tracing::warn!("the token was not published, once more in {seconds} s: {error}");
                RETRY
            }
        };
        match tokens.recv_timeout(wait) {
            Ok(newer) => token = newer,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

impl PublishTarget {
    fn publish(&self, token: &PublicToken) -> Result<(), String> {
        let text = format!("token:{token}");
        match self {
            PublishTarget::File(path) => write_atomically(path, &format!("{text}\n"), 0o644)
                .map_err(|error| format!("{}: {error}", path.display())),
            PublishTarget::Command(command) => {
                run_command(command, &text).map_err(|error| format!("{command}: {error}"))
            }
        }
    }
}

fn run_command(command: &str, text: &str) -> Result<(), String> {
    let mut child = Command::new("/bin/sh")
        .args(["-c", command, "anyrelay-agent", text])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        // Its own process group, so that processes started by the shell are killed with it.
        .process_group(0)
        .spawn()
        .map_err(|error| error.to_string())?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that uses its argument alone need not read.
        let _ = stdin.write_all(format!("{text}\n").as_bytes());
    }
    let until = Instant::now() + COMMAND_MAX;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(format!("ended with {status}")),
            Ok(None) if Instant::now() < until => thread::sleep(COMMAND_POLL),
            Ok(None) => {
                // Not waited for yet, so its process ID cannot belong to another process.
                let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
                let _ = child.wait();
                return Err(format!("killed after {} s", COMMAND_MAX.as_secs()));
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// At most one log line a minute.
const RETRY: Duration = Duration::from_secs(60);
const COMMAND_MAX: Duration = Duration::from_secs(60);
const COMMAND_POLL: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_paths_without_a_prefix() {
        assert_eq!("/run/token".parse(), Ok(PublishTarget::File("/run/token".into())));
        assert_eq!("file:token".parse(), Ok(PublishTarget::File("token".into())));
        assert_eq!("command:cat >x".parse(), Ok(PublishTarget::Command("cat >x".into())));
        for text in ["", "command: ", "file:"] {
            assert_eq!(text.parse::<PublishTarget>(), Err(PublishTargetError), "{text}");
        }
    }

    #[test]
    fn files_and_commands_get_the_newest_token() {
        let folder = std::env::temp_dir().join(format!("anyrelay-publish-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (file, told) = (folder.join("file"), folder.join("told"));
        let command =
            format!("read line; echo \"$1 $line\" >{0}.new; mv {0}.new {0}", told.display());
        // The first target hangs longer than the test, which does not wait for it.
        let hung =
            format!("for n in $(seq 1500); do [ -e {} ] && sleep 0.05; done", folder.display());
        let hung = PublishTarget::Command(hung);
        let targets =
            vec![hung, PublishTarget::File(file.clone()), PublishTarget::Command(command)];
        let publisher = Publisher::start(targets).unwrap();
        for token in [crate::testing::token(1), crate::testing::token(2)] {
            publisher.publish(token);
            let wanted = format!("token:{token} token:{token}\n");
            let until = Instant::now() + Duration::from_secs(30);
            let read = |path| std::fs::read_to_string(path).unwrap_or_default();
            while read(&told) != wanted || read(&file) != format!("token:{token}\n") {
                assert!(Instant::now() < until, "not told {wanted}");
                thread::sleep(Duration::from_millis(10));
            }
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn the_failure_of_a_command_is_reported() {
        let error =
            PublishTarget::Command("exit 3".into()).publish(&crate::testing::token(1)).unwrap_err();
        assert!(error.contains("exit 3: ended with exit status: 3"), "{error}");
    }
}
