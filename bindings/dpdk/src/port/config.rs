//! Names of devices, and the settings of a port.

use std::fmt;
use std::str::FromStr;

use crate::mempool::Mempool;

/// A device to open: a virtual one by its device string, or a PCI one by its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Device {
    /// Driver and number, then arguments: `net_af_packet0,iface=eth1,qdisc_bypass=1`.
    Virtual {
        /// The name, up to the first comma.
        name: String,
        /// The rest, without that comma; may be empty.
        arguments: String,
    },
    /// Domain, bus, device, function: `0000:01:00.0`, then a driver's arguments.
    Pci {
        /// The address with its domain, in lower case.
        address: String,
        /// The text after the first comma; may be empty.
        arguments: String,
    },
}

/// Why a string names no device.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "device {device:?}: {what}; write a virtual device (net_af_packet0,iface=eth1) or a PCI \
     address (0000:01:00.0)"
)]
pub struct DeviceError {
    /// The string.
    pub device: String,
    /// The reason.
    pub what: &'static str,
}

/// The settings of a port.
#[derive(Clone, Debug)]
pub struct PortSettings {
    /// The number of RX queues, at least 1.
    pub rx_queues: u16,
    /// The number of TX queues, at least 1.
    pub tx_queues: u16,
    /// Descriptors per RX queue; adjusted to the driver's range.
    pub rx_descriptors: u16,
    /// Descriptors per TX queue; adjusted to the driver's range.
    pub tx_descriptors: u16,
    /// The largest payload of an Ethernet frame, in bytes.
    pub mtu: u16,
    /// Whether to spread frames over the RX queues by a hash of addresses and TCP ports, where the
    /// driver can. [`crate::Capabilities::rss_set`] has the result.
    pub rss: bool,
    /// Whether the port is to check TCP checksums, where the driver can, and hands over only frames
    /// with a checksum. [`crate::Capabilities::rx_offloads_set`] has the result.
    pub rx_checksum: bool,
    /// Whether to receive frames for other Ethernet addresses too, where the driver can.
    pub promiscuous: bool,
    /// The Ethernet groups to receive, such as those of IPv6 neighbour discovery, where the driver
    /// filters groups. [`crate::Capabilities::multicast`] has the result.
    pub groups: Vec<[u8; 6]>,
    /// The pools of received frames: one for all RX queues, or one for each.
    pub pools: Vec<Mempool>,
}

impl PortSettings {
    /// One queue each way, 1024 descriptors, MTU 1500, all checks and hashes that the driver
    /// offers, no groups, and one pool for all RX queues.
    pub fn new(pool: Mempool) -> PortSettings {
        PortSettings {
            rx_queues: 1,
            tx_queues: 1,
            rx_descriptors: 1024,
            tx_descriptors: 1024,
            mtu: 1500,
            rss: true,
            rx_checksum: true,
            promiscuous: false,
            groups: Vec::new(),
            pools: vec![pool],
        }
    }

    /// The pool of an RX queue.
    pub(super) fn pool(&self, queue: u16) -> Option<&Mempool> {
        if self.pools.len() == 1 { self.pools.first() } else { self.pools.get(usize::from(queue)) }
    }
}

impl Device {
    /// The name that DPDK gives the port.
    pub fn name(&self) -> &str {
        match self {
            Device::Virtual { name, .. } => name,
            Device::Pci { address, .. } => address,
        }
    }
}

impl FromStr for Device {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Device, DeviceError> {
        let fault = |what| DeviceError { device: text.to_owned(), what };
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(fault("spaces and control characters are not allowed"));
        }
        let (name, arguments) = text.split_once(',').unwrap_or((text, ""));
        let arguments = arguments.to_owned();
        if let Some(address) = pci_address(name) {
            return Ok(Device::Pci { address, arguments });
        }
        if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return Err(fault("the part before the first comma is neither"));
        }
        if !name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c)) {
            return Err(fault("the name has characters other than letters, digits, _ - ."));
        }
        Ok(Device::Virtual { name: name.to_owned(), arguments })
    }
}

/// The device string, as EAL takes it.
impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Device::Virtual { arguments, .. } | Device::Pci { arguments, .. }) = self;
        f.write_str(self.name())?;
        if !arguments.is_empty() {
            write!(f, ",{arguments}")?;
        }
        Ok(())
    }
}

/// `text` as a PCI address with its domain, if it is one: `[DDDD:]BB:DD.F`, hexadecimal.
fn pci_address(text: &str) -> Option<String> {
    let hex = |part: &str, len: usize| {
        part.len() == len && part.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let (rest, function) = text.rsplit_once('.')?;
    let parts: Vec<&str> = rest.split(':').collect();
    let (domain, bus, device) = match *parts.as_slice() {
        [domain, bus, device] => (domain, bus, device),
        [bus, device] => ("0000", bus, device),
        _ => return None,
    };
    let fits = hex(domain, 4)
        && hex(bus, 2)
        && hex(device, 2)
        && matches!(function, "0" | "1" | "2" | "3" | "4" | "5" | "6" | "7");
    fits.then(|| format!("{domain}:{bus}:{device}.{function}").to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_told_apart_and_printed_as_eal_takes_them() {
        for (text, printed) in [
            ("net_ring0", "net_ring0"),
            ("net_af_packet0,iface=p1c,qdisc_bypass=1", "net_af_packet0,iface=p1c,qdisc_bypass=1"),
            ("0000:01:00.0", "0000:01:00.0"),
            ("3B:00.1", "0000:3b:00.1"),
            ("0000:01:00.0,mprq_en=1", "0000:01:00.0,mprq_en=1"),
        ] {
            let device: Device = text.parse().unwrap();
            assert_eq!(device.to_string(), printed);
            assert_eq!(matches!(device, Device::Pci { .. }), printed.starts_with('0'), "{text}");
        }
    }

    #[test]
    fn strings_that_name_no_device_are_refused() {
        for text in ["", "0000:01:00.8", "0000:01:00", "net ring", "net/ring0", ",iface=x", "1"] {
            let error = text.parse::<Device>().unwrap_err();
            assert_eq!(error.device, text);
        }
    }
}
