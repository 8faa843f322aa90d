//! Runs a command with a time limit, and ends all of its processes with it.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself.
    Exit(ExitStatus),
    /// It was killed at the time limit.
    TimeLimit,
    /// It was killed because health stops.
    Stopped,
}

/// Runs `command` for `timeout` at most, without input and output. At its end by the time limit or
/// by `is_stopped`, its process group is killed, with whatever it started.
///
/// # Errors
/// When it cannot be started or waited for.
pub fn run(
    command: &mut Command,
    timeout: Duration,
    is_stopped: &dyn Fn() -> bool,
) -> io::Result<Ended> {
    let deadline = Instant::now() + timeout;
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.process_group(0).spawn()?;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Ended::Exit(status));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return kill(&mut child).map(|()| Ended::TimeLimit);
        }
        if is_stopped() {
            return kill(&mut child).map(|()| Ended::Stopped);
        }
        thread::sleep(pause.min(left));
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Kills the group of a child that was not waited for, so that its number is still its own.
fn kill(child: &mut Child) -> io::Result<()> {
    kill_process_group(Pid::from_child(child), Signal::KILL)?;
    child.wait().map(drop)
}

const PAUSE_MAX: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, timeout: Duration, is_stopped: bool) -> Ended {
        let mut command = Command::new("/bin/sh");
        run(command.args(["-c", script]), timeout, &|| is_stopped).unwrap()
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_command_ends_by_itself_or_is_killed_with_its_children() {
        assert!(matches!(shell("exit 0", LONG, false), Ended::Exit(status) if status.success()));
        assert!(matches!(shell("exit 3", LONG, false), Ended::Exit(s) if s.code() == Some(3)));
        let start = Instant::now();
        assert_eq!(
            shell("sleep 61 & sleep 61", Duration::from_millis(50), false),
            Ended::TimeLimit
        );
        assert_eq!(shell("sleep 61", LONG, true), Ended::Stopped);
        assert!(start.elapsed() < LONG);
        let missing = run(&mut Command::new("/nonexistent/program"), LONG, &|| false);
        assert!(missing.is_err());
    }

    #[test]
    fn what_the_command_started_is_killed_too() {
        let path = std::env::temp_dir().join(format!("anyrelay-process-{}", std::process::id()));
        let script = format!("sleep 61 & echo $! >{}; wait", path.display());
        assert_eq!(shell(&script, Duration::from_millis(500), false), Ended::TimeLimit);
        let number: i32 = std::fs::read_to_string(&path).unwrap().trim().parse().unwrap();
        // It is dead, or a zombie until its new parent has waited for it.
        let deadline = Instant::now() + LONG;
        let is_alive = || {
            let stat = std::fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
            stat.rsplit(')')
                .next()
                .is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with(['Z', 'X']))
        };
        while is_alive() {
            assert!(Instant::now() < deadline, "{number} lives");
            thread::sleep(Duration::from_millis(10));
        }
        std::fs::remove_file(&path).unwrap();
    }
}
