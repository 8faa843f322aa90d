//! The agent's binary: reads the command line and leaves with the command's exit code.
#![deny(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    anyrelay_agent::cli::main()
}
