//! Addresses and routes of the agent's devices, by the program `ip` (iproute2). The kernel removes
//! them with the device when the agent ends.

use std::io;

use crate::outer::capability;

/// Why `ip` did not do it.
#[derive(Debug, thiserror::Error)]
pub enum IpError {
    /// It cannot be started.
    #[error("`ip` cannot be run: {0}; install iproute2")]
    NoProgram(io::Error),
    /// It failed.
    #[error("`ip {arguments}` failed: {output}")]
    Program {
        /// Its arguments.
        arguments: String,
        /// Its error output.
        output: String,
    },
}

/// Runs `ip` with these arguments. Returns its output.
///
/// # Errors
/// See [`IpError`].
pub fn ip(arguments: &[&str]) -> Result<String, IpError> {
    let output = capability::run("ip", arguments, "").map_err(IpError::NoProgram)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    let output = if said.is_empty() { output.status.to_string() } else { said };
    Err(IpError::Program { arguments: arguments.join(" "), output })
}

/// Turns off what the kernel sends by itself from a link-local address of the device, such as
/// router solicitations, which nothing would answer. A kernel without IPv6 rejects it, and sends
/// nothing.
pub fn without_link_local(device: &str) {
    let _ = ip(&["link", "set", "dev", device, "addrgenmode", "none"]);
}

/// Routes `prefix`, of IPv4 or `is_v6`, to the device. A route through another device belongs to
/// the host, such as that of its own network, and would be lost if it were replaced: it stays, and
/// the log says so, with `so` as what follows from it.
///
/// # Errors
/// See [`IpError`].
pub fn add_route(device: &str, prefix: &str, is_v6: bool, so: &str) -> Result<(), IpError> {
    let family = if is_v6 { "-6" } else { "-4" };
    let Err(error) = ip(&[family, "route", "add", prefix, "dev", device]) else { return Ok(()) };
    let there = ip(&[family, "route", "show", "exact", prefix])?;
    let own = |line: &str| line.split_whitespace().any(|word| word == device);
    match there.lines().find(|line| !line.trim().is_empty()) {
        // The route of the device's own link.
        Some(_) if there.lines().any(own) => Ok(()),
        Some(line) => {
            tracing::warn!(
                "{device}: no route to {prefix}, as there is one already ({}): {so}",
                line.trim()
            );
            Ok(())
        }
        None => Err(error),
    }
}
