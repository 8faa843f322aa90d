//! ARP for IPv4 over Ethernet (RFC 826).

use super::MacAddr;
use super::{get_u16, get_u32, put_u16, put_u32};

/// Offsets from the start of the ARP packet.
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

/// What an ARP packet wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Who has the target address?
    Request,
    /// The sender has the sender address.
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
    /// Reads the packet at the start of `bytes`; `None` when it is not whole, not IPv4 over
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

    /// Writes the packet at the start of `bytes`, which hold at least [`LEN`] bytes; nothing is
    /// written when they do not.
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

    #[test]
    fn writes_what_it_reads_and_refuses_the_rest() {
        let arp = Arp {
            operation: Operation::Reply,
            sender_mac: MacAddr::new([2, 0, 0, 0, 0, 1]),
            sender_ip: 0xc000_0201,
            target_mac: MacAddr::new([2, 0, 0, 0, 0, 2]),
            target_ip: 0xc000_0202,
        };
        let mut bytes = [0; LEN];
        arp.write(&mut bytes);
        assert_eq!(Arp::parse(&bytes), Some(arp));
        assert_eq!(Arp::parse(&bytes[..LEN - 1]), None);
        for at in 0..field::SENDER_MAC {
            let mut wrong = bytes;
            wrong[at] ^= 0x10;
            assert_eq!(Arp::parse(&wrong), None, "byte {at}");
        }
    }
}
