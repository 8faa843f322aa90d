//! The TUN device of an agent: made, given its addresses and routes, brought up.
//!
//! Addresses and routes are set by the program `ip` (iproute2), as an operator would; they go with
//! the device when the agent ends.

use std::net::IpAddr;
use std::process::Command;

use linux_tun::{Tun, TunError};

use super::routes::Prefix;

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
        let family = if prefix.first().is_ipv4() { "-4" } else { "-6" };
        ip(&[family, "route", "replace", &prefix.to_string(), "dev", name])?;
    }
    Ok(tun)
}

fn ip(arguments: &[&str]) -> Result<(), DeviceError> {
    let output = Command::new("ip").args(arguments).output().map_err(DeviceError::NoProgram)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    let output = if said.is_empty() { output.status.to_string() } else { said };
    Err(DeviceError::Program { arguments: arguments.join(" "), output })
}
