//! The TUN device of an agent: made, given its addresses and routes, brought up.
//!
//! Addresses and routes are set by the program `ip` (iproute2), as an operator would; they go with
//! the device when the agent ends.

use std::net::IpAddr;

use linux_tun::{Tun, TunError};

use super::routes::Prefix;
use crate::outer::capability;

/// What the device is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceConfig {
    /// Its name.
    pub name: String,
    /// The inner addresses of this host, each with the length of the prefix that is on the link.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Its MTU; without one it follows what the tunnel carries.
    pub mtu: Option<u16>,
    /// What is routed to it beside the links of its addresses.
    pub routes: Vec<Prefix>,
}

/// Why there is no device.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// It cannot be made.
    #[error("TUN device: {0}")]
    Tun(#[from] TunError),
    /// Its MTU cannot be set.
    #[error("TUN device {name}: MTU {mtu}: {error}")]
    Mtu {
        /// The device.
        name: String,
        /// The MTU.
        mtu: u16,
        /// The system's reason.
        error: std::io::Error,
    },
    /// `ip` cannot be run.
    #[error("`ip` cannot be run: {0}; install iproute2")]
    NoProgram(std::io::Error),
    /// `ip` failed.
    #[error("`ip {arguments}` failed: {output}")]
    Program {
        /// With what it was run.
        arguments: String,
        /// What it said.
        output: String,
    },
}

/// Makes the device with `mtu` and brings it up.
///
/// # Errors
/// Why there is none. What was made of it is gone then.
pub fn open(config: &DeviceConfig, mtu: u16) -> Result<Tun, DeviceError> {
    let tun = Tun::open(&config.name)?;
    let name = tun.name();
    tun.set_mtu(mtu).map_err(|error| DeviceError::Mtu { name: name.to_owned(), mtu, error })?;
    if config.addresses.iter().all(|(address, _)| address.is_ipv4()) {
        // Without this the kernel sends router solicitations to nobody. A kernel without IPv6
        // refuses it, and sends none.
        let _ = ip(&["link", "set", "dev", name, "addrgenmode", "none"]);
    }
    for (address, bits) in &config.addresses {
        let address = format!("{address}/{bits}");
        let mut arguments = vec!["address", "add", &address, "dev", name];
        if address.contains(':') {
            // There is nobody on this link who could have the same one.
            arguments.push("nodad");
        }
        ip(&arguments)?;
    }
    ip(&["link", "set", "dev", name, "up"])?;
    for prefix in &config.routes {
        route(name, &prefix.to_string(), if prefix.first().is_ipv4() { "-4" } else { "-6" })?;
    }
    Ok(tun)
}

/// Routes `prefix` to the device. A route that another device has already is the host's, such as
/// that of the network it is on: replaced, it would be lost for good.
fn route(name: &str, prefix: &str, family: &str) -> Result<(), DeviceError> {
    let Err(error) = ip(&[family, "route", "add", prefix, "dev", name]) else { return Ok(()) };
    let there = run(&[family, "route", "show", "exact", prefix])?;
    let own = |line: &str| line.split_whitespace().any(|word| word == name);
    match there.lines().find(|line| !line.trim().is_empty()) {
        // That of the device's own link.
        Some(_) if there.lines().any(own) => Ok(()),
        Some(line) => {
            tracing::warn!(
                "{name}: no route to {prefix}, as there is one already ({}): what is sent there \
                 does not go to the peer",
                line.trim()
            );
            Ok(())
        }
        None => Err(error),
    }
}

fn ip(arguments: &[&str]) -> Result<(), DeviceError> {
    run(arguments).map(drop)
}

/// What `ip` printed.
fn run(arguments: &[&str]) -> Result<String, DeviceError> {
    let output = capability::run("ip", arguments, "").map_err(DeviceError::NoProgram)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    let output = if said.is_empty() { output.status.to_string() } else { said };
    Err(DeviceError::Program { arguments: arguments.join(" "), output })
}
