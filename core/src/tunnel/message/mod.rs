//! Messages of tunnels, the TCP payload of their segments: parsed and written for both sides.
//!
//! The high half of byte 0 is the type, the low half holds flags. Numbers are big-endian. Diagrams
//! of all messages are in docs/protocol-tunnel.md.

mod data;
mod keepalive;
mod open;

pub use data::{DATA_HEADER_LEN, DataHeader, body_max};
pub use keepalive::{
    KEEPALIVE_LEN_MAX, KeepaliveReply, KeepaliveRequest, VERSION, keepalive_len, unknown_endpoint,
};
pub use open::{OPEN_HEADER_LEN, OpenHeader, open_packet_max};

/// The types of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageType {
    /// From an agent that identifies itself.
    KeepaliveRequest,
    /// From a POP, with the tick, the constants and the agent's token.
    KeepaliveReply,
    /// A datagram from an agent to a POP.
    DataUp,
    /// A datagram from a POP to an agent.
    DataDown,
    /// An IPv6 packet from an agent's open address to a POP.
    OpenUp,
    /// An IPv6 packet from a POP to the agent whose open address it is for.
    OpenDown,
}

impl MessageType {
    /// The type of a payload; `None` when it has none of these, or is empty.
    #[inline]
    pub fn of(payload: &[u8]) -> Option<Self> {
        Some(match payload.first()? >> 4 {
            REQUEST => MessageType::KeepaliveRequest,
            REPLY => MessageType::KeepaliveReply,
            DATA_UP => MessageType::DataUp,
            DATA_DOWN => MessageType::DataDown,
            OPEN_UP => MessageType::OpenUp,
            OPEN_DOWN => MessageType::OpenDown,
            _ => return None,
        })
    }
}

/// A payload that is not of the form of its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a message of this type: its length, version, flags or padding are wrong")]
pub struct Malformed;

/// The `N` bytes at `at`, if `bytes` has so many.
#[inline]
pub(super) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// Writes `value` at `at`, unless it would pass the end. Returns the offset of its end.
#[inline]
pub(super) fn put(bytes: &mut [u8], at: usize, value: &[u8]) -> usize {
    let end = at + value.len();
    if let Some(place) = bytes.get_mut(at..end) {
        place.copy_from_slice(value);
    }
    end
}

const REQUEST: u8 = 1;
const REPLY: u8 = 2;
const DATA_UP: u8 = 3;
const DATA_DOWN: u8 = 4;
const OPEN_UP: u8 = 5;
const OPEN_DOWN: u8 = 6;
