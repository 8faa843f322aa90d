//! The two capabilities that an agent needs (capabilities(7)), and their inheritance by `nft` and
//! `ip`.

use std::io::Write;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{
    CapabilitySet, capabilities, configure_capability_in_ambient_set, set_capabilities,
};

/// The capabilities are not sufficient.
#[derive(Debug, thiserror::Error)]
pub enum CapabilityError {
    /// A capability is missing.
    #[error(
        "missing {names}: run as root, from the systemd unit, or after \
         `setcap cap_net_raw,cap_net_admin+ep anyrelay-agent`"
    )]
    Missing {
        /// Its name, or both names.
        names: String,
    },
    /// The system call failed.
    #[error("the capabilities of this process cannot be read: {0}")]
    Read(Errno),
}

/// Checks that this thread may open raw sockets and change firewall tables.
///
/// # Errors
/// Names the missing capabilities.
pub fn check() -> Result<(), CapabilityError> {
    let sets = capabilities(None).map_err(CapabilityError::Read)?;
    let names: Vec<_> = NEEDED
        .iter()
        .filter(|(capability, _)| !sets.effective.contains(*capability))
        .map(|(_, name)| *name)
        .collect();
    if names.is_empty() {
        return Ok(());
    }
    Err(CapabilityError::Missing { names: names.join(" and ") })
}

/// Runs the system's program `program` with CAP_NET_ADMIN and the standard input `input`; returns
/// its output.
///
/// It is searched in the system's folders alone: a user who may start an agent with file
/// capabilities must not choose a program that inherits them.
///
/// # Errors
/// When the program does not exist, cannot be started, or does not end within [`RUN_MAX`]: the
/// tunnel waits for it.
pub fn run(program: &str, arguments: &[&str], input: &str) -> std::io::Result<Output> {
    run_within(program, arguments, input, RUN_MAX)
}

fn run_within(
    program: &str,
    arguments: &[&str],
    input: &str,
    most: Duration,
) -> std::io::Result<Output> {
    raise_ambient();
    let child = spawn(program, arguments);
    clear_ambient();
    let mut child = child?;
    let stdin = child.stdin.take();
    let pid = Pid::from_child(&child);
    let (sender, receiver) = channel();
    let input = input.to_owned();
    thread::Builder::new().name("program".to_owned()).spawn(move || {
        if let Some(mut stdin) = stdin {
            // It may end before it has read all input; its exit code has the reason.
            let _ = stdin.write_all(input.as_bytes());
        }
        let _ = sender.send(child.wait_with_output());
    })?;
    receiver.recv_timeout(most).unwrap_or_else(|_| {
        // Not waited for yet, so its process ID cannot belong to another process.
        let _ = kill_process(pid, Signal::KILL);
        let text = format!("{program} did not end within {} s and was killed", most.as_secs());
        Err(std::io::Error::new(std::io::ErrorKind::TimedOut, text))
    })
}

fn spawn(program: &str, arguments: &[&str]) -> std::io::Result<Child> {
    Command::new(program)
        .args(arguments)
        .env("PATH", SYSTEM_FOLDERS)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
}

/// Lets child processes of this thread have CAP_NET_ADMIN. Root's have it anyway; those of a user
/// with file capabilities get it only from the ambient set.
fn raise_ambient() {
    let Ok(mut sets) = capabilities(None) else { return };
    sets.inheritable |= CapabilitySet::NET_ADMIN;
    if set_capabilities(None, sets).is_ok() {
        // A security module may forbid this; the program then reports the missing capability.
        let _ = configure_capability_in_ambient_set(CapabilitySet::NET_ADMIN, true);
    }
}

/// Empties the ambient set, so that other programs do not inherit it: commands that publish tokens
/// need no capability, also not a CAP_NET_RAW that a service manager put into the set.
fn clear_ambient() {
    for (capability, _) in NEEDED {
        let _ = configure_capability_in_ambient_set(capability, false);
    }
}

/// The time limit for `nft` and `ip`.
pub const RUN_MAX: Duration = Duration::from_secs(5);
const SYSTEM_FOLDERS: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/run/current-system/sw/bin";
const NEEDED: [(CapabilitySet, &str); 2] =
    [(CapabilitySet::NET_RAW, "CAP_NET_RAW"), (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN")];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_come_from_system_folders_and_get_input() {
        let output = run("cat", &[], "hello").unwrap();
        assert_eq!(output.stdout, b"hello");
        let output = run("sh", &["-c", "echo $PATH $LC_ALL"], "").unwrap();
        assert_eq!(output.stdout, format!("{SYSTEM_FOLDERS} C\n").into_bytes());
        let error = run("anyrelay-no-such-program", &[], "").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    }

    #[test]
    fn a_program_that_hangs_is_killed() {
        let begun = std::time::Instant::now();
        let error = run_within("sleep", &["60"], "", Duration::from_secs(1)).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
        assert!(error.to_string().contains("sleep did not end within 1 s"), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
}
