//! Publication of the agent's own token and of its open address, at start and at each change.
//!
//! The target is a file, written atomically, or a program, for instance one that updates DNS. A
//! shell's command gets the text as its argument and on its standard input, a program that is run
//! without a shell in its environment.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::state::write_atomically;

/// A target of publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublishTarget {
    /// This file.
    File(PathBuf),
    /// This command, run by `sh -c`; `$1` is the text.
    Command(String),
    /// This program with its arguments, run without a shell, and the name of the variable of its
    /// environment that has the text.
    Program {
        /// The program, and its arguments.
        words: Vec<String>,
        /// The variable.
        variable: &'static str,
    },
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

/// Publishes texts of one kind, of which the newest counts. Each target has a thread, so that
/// neither the tunnel nor another target waits for a disk or a command.
#[derive(Debug)]
pub struct Publisher {
    targets: Vec<Sender<String>>,
}

impl Publisher {
    /// Starts the threads. `what` is published, for the log.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(what: &'static str, targets: Vec<PublishTarget>) -> io::Result<Self> {
        let start = |target: PublishTarget| {
            let (sender, texts) = channel();
            thread::Builder::new()
                .name("publish".to_owned())
                .spawn(move || run(what, &target, &texts))?;
            Ok(sender)
        };
        Ok(Publisher { targets: targets.into_iter().map(start).collect::<io::Result<_>>()? })
    }

    /// Publishes `text`. A failure is retried until it succeeds or there is a newer text.
    pub fn publish(&self, text: &str) {
        for target in &self.targets {
            let _ = target.send(text.to_owned());
        }
    }
}

fn run(what: &str, target: &PublishTarget, texts: &Receiver<String>) {
    let Ok(mut text) = texts.recv() else { return };
    loop {
        // Older ones are obsolete.
        text = texts.try_iter().last().unwrap_or(text);
        let wait = match target.publish(&text) {
            Ok(()) => Duration::MAX,
            Err(error) => {
                let seconds = RETRY.as_secs();
                tracing::warn!("the {what} was not published, once more in {seconds} s: {error}");
                RETRY
            }
        };
        match texts.recv_timeout(wait) {
            Ok(newer) => text = newer,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

impl PublishTarget {
    fn publish(&self, text: &str) -> Result<(), String> {
        match self {
            PublishTarget::File(path) => write_atomically(path, &format!("{text}\n"), 0o644)
                .map_err(|error| format!("{}: {error}", path.display())),
            PublishTarget::Command(command) => {
                let words = ["/bin/sh", "-c", command, "anyrelay-agent", text].map(str::to_owned);
                run_program(&words, None, text).map_err(|error| format!("{command}: {error}"))
            }
            PublishTarget::Program { words, variable } => run_program(words, Some(variable), text)
                .map_err(|error| format!("{}: {error}", words.join(" "))),
        }
    }
}

/// Runs the program, with `text` on its standard input, and in this variable of its environment.
fn run_program(words: &[String], variable: Option<&str>, text: &str) -> Result<(), String> {
    let (program, arguments) = words.split_first().ok_or("no program")?;
    let mut command = Command::new(program);
    command.args(arguments).envs(variable.map(|name| (name, text)));
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        // Its own process group, so that processes started by it are killed with it.
        .process_group(0)
        .spawn()
        .map_err(|error| error.to_string())?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that uses its argument or environment need not read.
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
    fn files_commands_and_programs_get_the_newest_text() {
        let folder = std::env::temp_dir().join(format!("anyrelay-publish-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let [file, told, variable] = ["file", "told", "variable"].map(|name| folder.join(name));
        let command =
            format!("read line; echo \"$1 $line\" >{0}.new; mv {0}.new {0}", told.display());
        // The first target hangs longer than the test, which does not wait for it.
        let hung =
            format!("for n in $(seq 1500); do [ -e {} ] && sleep 0.05; done", folder.display());
        let hung = PublishTarget::Command(hung);
        let script = format!("printenv PUBLISHED >{0}.new; mv {0}.new {0}", variable.display());
        let program = PublishTarget::Program {
            words: ["sh", "-c", &script].map(str::to_owned).to_vec(),
            variable: "PUBLISHED",
        };
        let command = PublishTarget::Command(command);
        let targets = vec![hung, PublishTarget::File(file.clone()), command, program];
        let publisher = Publisher::start("text", targets).unwrap();
        for text in ["token:1", "token:2; $(false) '"] {
            publisher.publish(text);
            let line = format!("{text}\n");
            let wanted = [format!("{text} {line}"), line.clone(), line];
            let until = Instant::now() + Duration::from_secs(30);
            let read = |path| std::fs::read_to_string(path).unwrap_or_default();
            while [read(&told), read(&file), read(&variable)] != wanted {
                assert!(Instant::now() < until, "not told {wanted:?}");
                thread::sleep(Duration::from_millis(10));
            }
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn the_failure_of_a_program_is_reported() {
        let error = PublishTarget::Command("exit 3".into()).publish("text").unwrap_err();
        assert!(error.contains("exit 3: ended with exit status: 3"), "{error}");
        for (program, wanted) in [
            ("false", "false: ended with exit status: 1"),
            ("/no/such/program", "/no/such/program: No such file"),
        ] {
            let words = vec![program.to_owned()];
            let program = PublishTarget::Program { words, variable: "TEXT" };
            let error = program.publish("text").unwrap_err();
            assert!(error.starts_with(wanted), "{error}");
        }
    }
}
