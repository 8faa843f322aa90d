//! The signals that stop an agent.

use std::io;
use std::os::unix::net::UnixStream;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// A socket that becomes readable at SIGTERM, SIGINT and SIGHUP.
pub(super) fn signals() -> io::Result<UnixStream> {
    let (receiver, sender) = UnixStream::pair()?;
    for signal in [SIGTERM, SIGINT, SIGHUP] {
        // nohup(1) makes the process ignore SIGHUP; that stays so.
        if signal != SIGHUP || !is_ignored(SIGHUP) {
            signal_hook::low_level::pipe::register(signal, sender.try_clone()?)?;
        }
    }
    Ok(receiver)
}

/// Whether this process was started with `signal` ignored (proc_pid_status(5)).
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal - 1) & 1 == 1
}
