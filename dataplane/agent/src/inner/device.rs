//! The TUN device of an agent: creation, addresses, routes.
//!
//! The program `ip` (iproute2) sets addresses and routes, which the kernel removes with the device
//! when the agent ends.

use std::net::IpAddr;

use linux_tun::{Tun, TunError};

use super::routes::IpPrefix;
use crate::outer::capability;

/// Settings of the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunDeviceConfig {
    /// Its name.
    pub name: String,
    /// The inner addresses of this host, each with the prefix length of its link.
    pub addresses: Vec<(IpAddr, u8)>,
    /// The MTU; without one it follows the tunnel's.
    pub mtu: Option<u16>,
    /// Prefixes routed to the device, beside the links of its addresses.
    pub routes: Vec<IpPrefix>,
}

/// Why the device was not created.
#[derive(Debug, thiserror::Error)]
pub enum TunDeviceError {
    /// It cannot be created.
    #[error("TUN device: {0}")]
    Tun(#[from] TunError),
    /// Its MTU cannot be set.
    #[error("TUN device {name}: MTU {mtu}: {error}")]
    Mtu {
        /// The device.
        name: String,
        /// The MTU.
        mtu: u16,
        /// The error of the system call.
        error: std::io::Error,
    },
    /// `ip` cannot be started.
    #[error("`ip` cannot be run: {0}; install iproute2")]
    NoProgram(std::io::Error),
    /// `ip` failed.
    #[error("`ip {arguments}` failed: {output}")]
    Program {
        /// Its arguments.
        arguments: String,
        /// Its error output.
        output: String,
    },
}

/// Creates the device with `mtu` and brings it up.
///
/// # Errors
/// When a step fails; the device is removed then.
pub fn open(config: &TunDeviceConfig, mtu: u16) -> Result<Tun, TunDeviceError> {
    let tun = Tun::open(&config.name)?;
    let name = tun.name();
    tun.set_mtu(mtu).map_err(|error| TunDeviceError::Mtu { name: name.to_owned(), mtu, error })?;
    if config.addresses.iter().all(|(address, _)| address.is_ipv4()) {
        // Without this the kernel sends router solicitations, which nothing would answer. A kernel
        // without IPv6 rejects the command, and sends none.
        let _ = ip(&["link", "set", "dev", name, "addrgenmode", "none"]);
    }
    for (address, bits) in &config.addresses {
        let address = format!("{address}/{bits}");
        let mut arguments = vec!["address", "add", &address, "dev", name];
        if address.contains(':') {
            // No other host is on this link, so the address needs no duplicate address detection.
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

/// Routes `prefix` to the device. A route through another device belongs to the host, such as that
/// of its own network, and would be lost if it were replaced.
fn route(name: &str, prefix: &str, family: &str) -> Result<(), TunDeviceError> {
    let Err(error) = ip(&[family, "route", "add", prefix, "dev", name]) else { return Ok(()) };
    let there = run(&[family, "route", "show", "exact", prefix])?;
    let own = |line: &str| line.split_whitespace().any(|word| word == name);
    match there.lines().find(|line| !line.trim().is_empty()) {
        // The route of the device's own link.
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

fn ip(arguments: &[&str]) -> Result<(), TunDeviceError> {
    run(arguments).map(drop)
}

/// The output of `ip`.
fn run(arguments: &[&str]) -> Result<String, TunDeviceError> {
    let output = capability::run("ip", arguments, "").map_err(TunDeviceError::NoProgram)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    let output = if said.is_empty() { output.status.to_string() } else { said };
    Err(TunDeviceError::Program { arguments: arguments.join(" "), output })
}
