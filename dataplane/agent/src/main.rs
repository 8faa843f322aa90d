//! The agent's binary: runs the command line and exits with its code.
#![deny(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    anyrelay_agent::cli::main()
}
