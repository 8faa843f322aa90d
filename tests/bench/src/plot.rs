//! Draws a result, by `plot.py`.

use std::path::Path;
use std::process::Command;

use anyrelay_lab::command;
use serde_json::Value;

/// Draws the result of `bench relay` or `bench lab` as a PNG file.
///
/// # Errors
/// With the script's words.
pub fn draw(result: &Value, path: &Path) -> anyhow::Result<()> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("plot.py");
    command::run_with_input(Command::new(script).arg(path), &result.to_string())?;
    Ok(())
}
