//! Running a short command to its end, with its output in the error.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::{LabError, Result};

/// Runs a command to its end and returns what it printed.
///
/// # Errors
/// If it cannot be started or does not exit with 0; the error holds both its output streams.
pub fn run(command: &mut Command) -> Result<String> {
    run_with_input(command, "")
}

/// As [`run`], with text for its standard input.
///
/// # Errors
/// As [`run`].
pub fn run_with_input(command: &mut Command, input: &str) -> Result<String> {
    let text = render(command);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .map_err(|source| LabError::Spawn { program: program_of(command), source })?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that stops reading says why in its exit status, which is the better error.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(LabError::io(format!("wait for `{text}`")))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(LabError::Command {
        command: text,
        status: output.status.to_string(),
        output: format!("{}{}", stdout, stderr.trim_end()),
    })
}

/// The command line, for messages.
#[must_use]
pub fn render(command: &Command) -> String {
    let mut text = program_of(command);
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}

fn program_of(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}
