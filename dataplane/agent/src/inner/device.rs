//! The TUN device of an agent: creation, addresses, routes.

use std::net::IpAddr;

use linux_tun::{Tun, TunError};

use super::routes::IpPrefix;
use crate::iproute::{IpError, add_route, ip, without_link_local};

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
    /// Its addresses or routes cannot be set.
    #[error(transparent)]
    Ip(#[from] IpError),
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
        without_link_local(name);
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
        let so = "what is sent there does not go to the peer";
        add_route(name, &prefix.to_string(), prefix.first().is_ipv6(), so)?;
    }
    Ok(tun)
}
