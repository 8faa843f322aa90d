//! A session by SSH for the whole run, as somebody at a terminal has it: one line after another,
//! each of which must come back.

use std::io::{BufRead, BufReader, Write};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyrelay_lab::ssh::SshServer;
use anyrelay_lab::{LabError, Namespace, Result};

use crate::record::Record;

const PAUSE: Duration = Duration::from_millis(100);

/// What a session has shown.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Lines that came back.
    pub lines: u64,
    /// Whether it ended otherwise than by its client, or a line did not come back.
    pub broken: u64,
    /// The longest time until a line came back.
    pub longest_wait: Duration,
}

/// Has a session with the server at `address` until the run is over.
pub fn talk(
    server: &SshServer,
    from: &Namespace,
    address: &str,
    record: &Record,
) -> Result<Outcome> {
    let mut session = server.session(from, address, "cat")?;
    let no_pipe = || LabError::Unexpected("ssh has no pipe".into());
    let mut input = session.stdin().ok_or_else(no_pipe)?;
    let output = BufReader::new(session.stdout().ok_or_else(no_pipe)?);
    let (heard, hear) = mpsc::channel();
    let listener = std::thread::spawn(move || {
        output.lines().map_while(Result::ok).try_for_each(|line| heard.send(line))
    });
    let mut outcome = Outcome::default();
    while !record.is_over() {
        let (line, start) = (format!("line {}", outcome.lines), Instant::now());
        // If it has ended, nothing is heard either.
        let _ = writeln!(input, "{line}").and_then(|()| input.flush());
        let back = hear.recv_timeout(record.time_left());
        if back.as_ref() != Ok(&line) {
            outcome.broken = 1;
            record.note(format!("ssh: `{line}` came back as {back:?}: {}", session.log_tail(3)));
            break;
        }
        outcome.lines += 1;
        outcome.longest_wait = outcome.longest_wait.max(start.elapsed());
        std::thread::sleep(PAUSE);
    }
    drop(input);
    if outcome.broken == 0 {
        let status = session.wait(record.time_left() + Duration::from_secs(5))?;
        if !status.success() {
            outcome.broken = 1;
            record.note(format!("ssh: {status}: {}", session.log_tail(3)));
        }
    }
    // With it, its output ends.
    drop(session);
    let _ = listener.join();
    Ok(outcome)
}
