//! One check of one target.

mod http;

use std::io::{Error, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use super::config::Probe;
use super::process::{self, Ended};

/// The result of a check: a failure has its reason, in a few words.
pub type Outcome = Result<(), String>;

/// A check, as it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Its result.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
}

impl Probe {
    /// Checks the target `address` once, for `timeout` at most. Commands also end when `is_stopped`
    /// says so.
    pub fn check(
        &self,
        address: SocketAddr,
        timeout: Duration,
        is_stopped: &dyn Fn() -> bool,
    ) -> Checked {
        let start = Instant::now();
        let outcome = match self {
            Probe::Tcp => connect(address, timeout).map(drop),
            Probe::Http(probe) => http::ask(probe, address, start + timeout),
            Probe::Command(words) => command(words, address, timeout, is_stopped),
        };
        Checked { outcome, took: start.elapsed() }
    }
}

/// A connection to `address`.
fn connect(address: SocketAddr, timeout: Duration) -> Result<TcpStream, String> {
    // The system call knows no time limit of zero.
    let timeout = timeout.max(Duration::from_millis(1));
    TcpStream::connect_timeout(&address, timeout).map_err(|error| reason(&error))
}

/// An error of a socket, in a few words.
fn reason(error: &Error) -> String {
    match error.kind() {
        ErrorKind::TimedOut | ErrorKind::WouldBlock => "no answer in time".to_owned(),
        ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        ErrorKind::ConnectionReset => "connection reset".to_owned(),
        _ => error.to_string(),
    }
}

fn command(
    words: &[String],
    address: SocketAddr,
    timeout: Duration,
    is_stopped: &dyn Fn() -> bool,
) -> Outcome {
    let (ip, port) = (address.ip().to_string(), address.port().to_string());
    let mut words =
        words.iter().map(|word| word.replace("{address}", &ip).replace("{port}", &port));
    let program = words.next().unwrap_or_default();
    match process::run(Command::new(&program).args(words), timeout, is_stopped) {
        Ok(Ended::Exit(status)) if status.success() => Ok(()),
        // "exit status: 1", or "signal: 9 (SIGKILL)".
        Ok(Ended::Exit(status)) => Err(status.to_string()),
        Ok(Ended::TimeLimit) => Err("not done in time".to_owned()),
        Ok(Ended::Stopped) => Err("stopped".to_owned()),
        Err(error) => Err(format!("{program}: {error}")),
    }
}
