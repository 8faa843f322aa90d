//! The Ethernet header in front of what leaves.

use crate::frame::Frame;
use crate::link::Link;
use crate::net::Family;
use crate::wire::MacAddr;
use crate::wire::ethernet::{self, Ethernet};

/// The EtherType of a family.
#[inline(always)]
pub(in crate::pop) const fn ethertype(family: Family) -> u16 {
    match family {
        Family::V4 => ethernet::TYPE_IPV4,
        Family::V6 => ethernet::TYPE_IPV6,
    }
}

/// Puts an Ethernet header in front of the payload that begins at `l3`; false when there is no room
/// for it.
#[inline(always)]
pub(super) fn add_ethernet<F: Frame>(
    frame: &mut F,
    l3: usize,
    dst: MacAddr,
    link: &Link,
    ethertype: u16,
) -> bool {
    let header = Ethernet { dst, src: link.mac, vlan: link.vlan, ethertype };
    let header_len = header.header_len();
    if l3 > header_len {
        frame.trim_front(l3 - header_len);
    } else if l3 < header_len && !frame.prepend(header_len - l3) {
        return false;
    }
    header.write(frame.bytes_mut());
    true
}

/// Shortest Ethernet frame without its check sequence (IEEE 802.3, 3.2.8). Some ports do not pad
/// shorter ones, so the POP pads its own.
const FRAME_LEN_MIN: usize = 60;

/// Pads a frame of the POP's own to the shortest that Ethernet has.
pub(super) fn pad<F: Frame>(frame: &mut F) {
    let len = frame.bytes().len();
    if let Some(missing) = FRAME_LEN_MIN.checked_sub(len)
        && frame.append(missing)
    {
        frame.bytes_mut().get_mut(len..).unwrap_or_default().fill(0);
    }
}
