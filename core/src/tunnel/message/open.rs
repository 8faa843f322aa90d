//! The header of packets from and to open addresses.

use super::{Malformed, OPEN_DOWN, OPEN_UP};
use crate::net::Family;
use crate::predict::OFFSET_STEP;
use crate::wire::tcp;

/// Length of the header of an open packet, in bytes; the inner IPv6 packet follows it.
pub const OPEN_HEADER_LEN: usize = 4;

/// The longest IPv6 packet, in bytes, in an IP datagram of at most `mtu` bytes between agents and
/// POPs; 0 when none fits.
pub const fn open_packet_max(mtu: u16) -> u16 {
    mtu.saturating_sub((Family::V4.ip_header_len() + tcp::HEADER_LEN + OPEN_HEADER_LEN) as u16)
}

/// The header of an open packet, up or down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenHeader {
    /// The offset of its sequence number beyond the tick's, in steps of 64 bytes.
    pub offset_steps: u8,
}

impl OpenHeader {
    /// Reads the header of a packet up.
    ///
    /// # Errors
    /// When it is none: another type, flags or reserved bytes that are not zero.
    #[inline]
    pub fn parse_up(payload: &[u8]) -> Result<Self, Malformed> {
        Self::parse(payload, OPEN_UP)
    }

    /// Reads the header of a packet down.
    ///
    /// # Errors
    /// When it is none.
    #[inline]
    pub fn parse_down(payload: &[u8]) -> Result<Self, Malformed> {
        Self::parse(payload, OPEN_DOWN)
    }

    #[inline]
    fn parse(payload: &[u8], kind: u8) -> Result<Self, Malformed> {
        match payload.first_chunk::<OPEN_HEADER_LEN>() {
            Some([first, offset_steps, 0, 0]) if *first == kind << 4 => {
                Ok(OpenHeader { offset_steps: *offset_steps })
            }
            _ => Err(Malformed),
        }
    }

    /// The header of the packet up.
    #[inline]
    pub const fn write_up(self) -> [u8; OPEN_HEADER_LEN] {
        [OPEN_UP << 4, self.offset_steps, 0, 0]
    }

    /// The header of the packet down.
    #[inline]
    pub const fn write_down(self) -> [u8; OPEN_HEADER_LEN] {
        [OPEN_DOWN << 4, self.offset_steps, 0, 0]
    }

    /// The offset of its sequence number beyond the tick's, in bytes.
    #[inline]
    pub const fn offset(self) -> u32 {
        self.offset_steps as u32 * OFFSET_STEP as u32
    }
}
