//! POPs that are wrong about packets from and to open addresses.

use anyrelay_kit::frames::{put_word, word};
use anyrelay_kit::tunnel::open::OpenSegment;

use crate::Sabotage;
use crate::open::is_from_agent;
use crate::wire::ETHERNET_LEN;

/// Changes a frame that leaves a POP towards agents and hosts.
pub fn leave(sabotage: Sabotage, frame: &mut [u8]) {
    let datagram = frame.get_mut(ETHERNET_LEN..).unwrap_or_default();
    match sabotage {
        Sabotage::FreeHop if is_from_agent(datagram) => datagram[7] += 1,
        Sabotage::OtherAck if OpenSegment::read(datagram).is_some_and(|one| one.is_down) => {
            // One more is acknowledged; the checksum stays right (RFC 1624).
            let (ack, sum) = (word(datagram, 30), word(datagram, 36));
            let less = u32::from(sum) + u32::from(!1_u16);
            put_word(datagram, 30, ack ^ 1);
            let more = u32::from(sum) + 1;
            let sum = if ack & 1 == 0 { less } else { more };
            put_word(datagram, 36, ((sum & 0xffff) + (sum >> 16)) as u16);
        }
        _ => {}
    }
}
