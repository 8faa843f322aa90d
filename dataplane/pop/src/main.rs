//! The POP daemon's binary: runs the command line and exits with its code.
#![deny(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    anyrelay::cli::main()
}
