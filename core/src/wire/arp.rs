//! ARP for IPv4 over Ethernet (RFC 826).

use super::MacAddr;
use super::{get_u16, get_u32, put_u16, put_u32};

/// Offsets in bytes from the start of the ARP packet.
mod field {
    pub const HARDWARE: usize = 0;
    pub const PROTOCOL: usize = 2;
    pub const LENGTHS: usize = 4;
    pub const OPERATION: usize = 6;
    pub const SENDER_MAC: usize = 8;
    pub const SENDER_IP: usize = 14;
    pub const TARGET_MAC: usize = 18;
    pub const TARGET_IP: usize = 24;
}

/// Length in bytes.
pub const LEN: usize = 28;

/// The operation of an ARP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Asks for the hardware address of the target's protocol address.
    Request,
    /// States the sender's hardware and protocol address.
    Reply,
}

/// An ARP packet for IPv4 over Ethernet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// Request or reply.
    pub operation: Operation,
    /// Hardware address of the sender.
    pub sender_mac: MacAddr,
    /// Protocol address of the sender.
    pub sender_ip: u32,
    /// Hardware address of the target; all zeros in a request.
    pub target_mac: MacAddr,
    /// Protocol address of the target.
    pub target_ip: u32,
}

impl Arp {
    /// Reads the packet at the start of `bytes`; `None` when it is cut off, not for IPv4 over
    /// Ethernet, or of another operation.
    pub fn parse(bytes: &[u8]) -> Option<Arp> {
        let packet: &[u8; LEN] = bytes.first_chunk()?;
        let expected = get_u16(packet, field::HARDWARE) == HARDWARE_ETHERNET
            && get_u16(packet, field::PROTOCOL) == super::ethernet::TYPE_IPV4
            && get_u16(packet, field::LENGTHS) == LENGTHS_MAC_IPV4;
        if !expected {
            return None;
        }
        let operation = match get_u16(packet, field::OPERATION) {
            REQUEST => Operation::Request,
            REPLY => Operation::Reply,
            _ => return None,
        };
        let mac = |at: usize| {
            let mut octets = [0; 6];
            octets.copy_from_slice(&packet[at..at + 6]);
            MacAddr::new(octets)
        };
        Some(Arp {
            operation,
            sender_mac: mac(field::SENDER_MAC),
            sender_ip: get_u32(packet, field::SENDER_IP),
            target_mac: mac(field::TARGET_MAC),
            target_ip: get_u32(packet, field::TARGET_IP),
        })
    }

    /// Writes the packet at the start of `bytes`; nothing when they are shorter than [`LEN`].
    pub fn write(&self, bytes: &mut [u8]) {
        let Some(packet) = bytes.first_chunk_mut::<LEN>() else { return };
        put_u16(packet, field::HARDWARE, HARDWARE_ETHERNET);
        put_u16(packet, field::PROTOCOL, super::ethernet::TYPE_IPV4);
        put_u16(packet, field::LENGTHS, LENGTHS_MAC_IPV4);
        let operation = match self.operation {
            Operation::Request => REQUEST,
            Operation::Reply => REPLY,
        };
        put_u16(packet, field::OPERATION, operation);
        packet[field::SENDER_MAC..field::SENDER_IP].copy_from_slice(&self.sender_mac.octets());
        put_u32(packet, field::SENDER_IP, self.sender_ip);
        packet[field::TARGET_MAC..field::TARGET_IP].copy_from_slice(&self.target_mac.octets());
        put_u32(packet, field::TARGET_IP, self.target_ip);
    }
}

const HARDWARE_ETHERNET: u16 = 1;
const LENGTHS_MAC_IPV4: u16 = 0x0604;
const REQUEST: u16 = 1;
const REPLY: u16 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parse_is_the_inverse_of_write(
            reply: bool, macs: [[u8; 6]; 2], ips: [u32; 2], wrong_at in 0..field::SENDER_MAC,
        ) {
            let arp = Arp {
                operation: if reply { Operation::Reply } else { Operation::Request },
                sender_mac: MacAddr::new(macs[0]),
                sender_ip: ips[0],
                target_mac: MacAddr::new(macs[1]),
                target_ip: ips[1],
            };
            let mut bytes = [0xee; LEN];
            arp.write(&mut bytes);
            prop_assert_eq!(Arp::parse(&bytes), Some(arp));
            prop_assert_eq!(Arp::parse(&bytes[..LEN - 1]), None);
            bytes[wrong_at] ^= 0x10;
            prop_assert_eq!(Arp::parse(&bytes), None, "byte {}", wrong_at);
        }
    }
}
