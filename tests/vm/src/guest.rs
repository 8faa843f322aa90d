//! Commands in the guest, over virtio-serial.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyrelay_lab::{LabError, Result};

/// The guest's end of the channel for commands.
#[derive(Debug)]
pub struct Guest {
    stream: BufReader<UnixStream>,
}

/// The end of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its exit status; 0 is success.
    pub status: i32,
    /// Its output, both streams in one.
    pub text: String,
}

impl Guest {
    pub(crate) fn new(stream: UnixStream) -> Guest {
        Guest { stream: BufReader::new(stream) }
    }

    /// Runs a script of the shell to its end, and returns its output.
    ///
    /// # Errors
    /// If it fails, takes longer than [`COMMAND_MAX`], or the guest is gone.
    pub fn run(&mut self, script: &str) -> Result<String> {
        let output = self.output(script, COMMAND_MAX)?;
        if output.status == 0 {
            return Ok(output.text);
        }
        let (command, status) = (script.to_owned(), format!("exit status {}", output.status));
        Err(LabError::Command { command, status, output: output.text })
    }

    /// Runs a script of the shell to its end, whatever its exit status. A process that it leaves
    /// behind must have its output elsewhere.
    ///
    /// # Errors
    /// If it takes longer than `limit`, or the guest is gone.
    pub fn output(&mut self, script: &str, limit: Duration) -> Result<Output> {
        self.exchange(script, limit).map_err(LabError::io(format!("run `{script}` in the guest")))
    }

    /// Writes a file, which only the guest's root can read.
    ///
    /// # Errors
    /// As [`Guest::run`].
    pub fn write(&mut self, path: &str, text: &str) -> Result<()> {
        let end = "END-OF-FILE";
        let folder = path.rsplit_once('/').map_or("/", |(folder, _)| folder);
        let script = format!("umask 077; mkdir -p {folder}; cat >{path} <<'{end}'\n{text}\n{end}");
        self.run(&script).map(drop)
    }

    fn exchange(&mut self, script: &str, limit: Duration) -> std::io::Result<Output> {
        let gone = || std::io::Error::other("the guest has closed the channel");
        self.stream.get_ref().set_read_timeout(Some(limit))?;
        let request = format!("{}\n{script}", script.len());
        self.stream.get_mut().write_all(request.as_bytes())?;
        let mut head = String::new();
        self.stream.read_line(&mut head)?;
        let mut numbers = head.split_whitespace();
        let (status, length) = numbers.next().zip(numbers.next()).ok_or_else(gone)?;
        let status = status.parse().map_err(std::io::Error::other)?;
        let length: usize = length.parse().map_err(std::io::Error::other)?;
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes)?;
        Ok(Output { status, text: String::from_utf8_lossy(&bytes).into_owned() })
    }
}

/// The time limit of a command that is expected to end.
pub const COMMAND_MAX: Duration = Duration::from_secs(30);
