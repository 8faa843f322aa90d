//! What can go wrong with a port.

use crate::errno::Errno;

/// Why a port did not do what it was asked: each names the port, what was tried and what to do.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// A value that no port could take.
    #[error("port {port}: {what}")]
    Config {
        /// The port.
        port: String,
        /// The value, why it is wrong, and what is right.
        what: String,
    },
    /// The port is in use in this process.
    #[error("port {port}: already open; keep the handles of the first open, or drop them all")]
    AlreadyOpen {
        /// The port.
        port: String,
    },
    /// No driver took the device.
    #[error("port {port}: no device from {device:?}: {errno}; {advice}")]
    Probe {
        /// The port.
        port: String,
        /// The device string.
        device: String,
        /// DPDK's reason.
        errno: Errno,
        /// What to do about it.
        advice: &'static str,
    },
    /// More queues than the port has.
    #[error(
        "port {port}: {asked} {direction} queues asked for, driver {driver} offers {offered}; \
         ask for fewer, or give the device more (net_af_packet: qpairs=N)"
    )]
    Queues {
        /// The port.
        port: String,
        /// The driver.
        driver: String,
        /// RX or TX.
        direction: &'static str,
        /// What the configuration asks for.
        asked: u16,
        /// What the port has at most.
        offered: u16,
    },
    /// The MTU is outside of what the driver can do.
    #[error("port {port}: MTU {mtu}, driver {driver} can do {min} to {max}")]
    Mtu {
        /// The port.
        port: String,
        /// The driver.
        driver: String,
        /// What the configuration asks for, in bytes.
        mtu: u16,
        /// The least that the driver can do.
        min: u16,
        /// The most that the driver can do.
        max: u16,
    },
    /// Frames of that MTU would be scattered over several mbufs.
    #[error(
        "port {port}: frames of MTU {mtu} take {needed} bytes, an mbuf of pool {pool} holds {data_room}; \
         give the pool a data room of {needed} bytes or more"
    )]
    DataRoom {
        /// The port.
        port: String,
        /// What the configuration asks for, in bytes.
        mtu: u16,
        /// The pool that is too small.
        pool: String,
        /// Bytes that one of its mbufs holds.
        data_room: u16,
        /// Bytes needed.
        needed: u32,
    },
    /// A call of DPDK failed.
    #[error("port {port}: {action} failed: {errno}")]
    Call {
        /// The port.
        port: String,
        /// What was tried.
        action: &'static str,
        /// DPDK's reason.
        errno: Errno,
    },
}

impl PortError {
    /// Whether the driver said that it cannot do this at all.
    pub fn is_not_supported(&self) -> bool {
        matches!(self, PortError::Call { errno, .. } if *errno == Errno::ENOTSUP)
    }
}
