//! Writes docs/config.md, or compares it with the structs.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::path::Path;
use std::process::ExitCode;
use std::{env, fs};

use anyrelay_reference::{DOCUMENT, difference, reference};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let only_check = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => false,
        ["--check"] => true,
        _ => {
            eprintln!("usage: reference [--check]");
            return ExitCode::from(2);
        }
    };
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    match run(&top, only_check) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}

fn run(top: &Path, only_check: bool) -> Result<String, String> {
    let wanted = reference(top).map_err(|error| error.to_string())?;
    let path = top.join(DOCUMENT);
    if only_check {
        let found = fs::read_to_string(&path).map_err(|error| format!("{DOCUMENT}: {error}"))?;
        return match difference(&wanted, &found) {
            None => Ok(format!("{DOCUMENT} is what the structs say")),
            Some(difference) => Err(difference),
        };
    }
    fs::write(&path, wanted).map_err(|error| format!("{DOCUMENT}: {error}"))?;
    Ok(format!("{DOCUMENT} is written"))
}
