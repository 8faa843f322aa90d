//! The errors of ports.

use crate::errno::Errno;

/// Why an operation on a port failed. Each names the port, the operation and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// A value that no port accepts.
    #[error("port {port}: {what}")]
    Config {
        /// The port.
        port: String,
        /// The value, why it is wrong, and its valid range.
        what: String,
    },
    /// The port is already open in this process.
    #[error("port {port}: already open; keep the handles of the first open, or drop them all")]
    AlreadyOpen {
        /// The port.
        port: String,
    },
    /// No driver accepted the device.
    #[error("port {port}: no device from {device:?}: {errno}; {advice}")]
    Probe {
        /// The port.
        port: String,
        /// The device string.
        device: String,
        /// DPDK's reason.
        errno: Errno,
        /// The remedy.
        advice: String,
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
        /// The number requested.
        asked: u16,
        /// The port's maximum.
        offered: u16,
    },
    /// The MTU is outside the driver's range.
    #[error("port {port}: MTU {mtu}, driver {driver} can do {min} to {max}")]
    Mtu {
        /// The port.
        port: String,
        /// The driver.
        driver: String,
        /// The MTU requested, in bytes.
        mtu: u16,
        /// The driver's least MTU.
        min: u16,
        /// The driver's largest MTU.
        max: u16,
    },
    /// Frames of that MTU would be scattered over several mbufs.
    #[error(
        "port {port}: frames of MTU {mtu} take {needed} bytes, an mbuf of pool {pool} holds \
         {data_room}; \
         give the pool a data room of {needed} bytes or more"
    )]
    DataRoom {
        /// The port.
        port: String,
        /// The MTU requested, in bytes.
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
        /// The operation.
        action: &'static str,
        /// DPDK's reason.
        errno: Errno,
    },
}

impl PortError {
    /// Whether the driver does not support the operation at all.
    pub fn is_not_supported(&self) -> bool {
        matches!(self, PortError::Call { errno, .. } if *errno == Errno::ENOTSUP)
    }
}
