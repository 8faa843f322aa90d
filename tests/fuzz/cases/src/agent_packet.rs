//! What an agent reads from its packet socket and its TUN device: any packet is read or refused,
//! and all that is read lies within it.
//!
//! Input: an IP packet, or the body of a datagram.

use std::net::IpAddr;

use anyrelay_agent::inner::{message, packet};
use anyrelay_agent::outer::{FlowEndpoints, segment};

/// Runs one input.
pub fn run(input: &[u8]) {
    if let Some(found) = segment::of_packet(input) {
        let start = found.as_ptr() as usize - input.as_ptr() as usize;
        assert!(start >= 20 && start + found.len() <= input.len());
        for (local, vip) in
            [("192.0.2.7:7", "203.0.113.20:443"), ("[2600::7]:7", "[2001:db8::20]:443")]
        {
            let endpoints =
                FlowEndpoints { local: local.parse().unwrap(), vip: vip.parse().unwrap() };
            let pseudo = segment::PseudoHeader::new(&endpoints);
            let _ = pseudo.holds(found);
            let mut filled = found.to_vec();
            pseudo.fill(&mut filled);
            assert!(filled.len() < 18 || pseudo.holds(&filled));
        }
    }
    if let Some(addresses) = packet::Addresses::parse(input) {
        assert_eq!(addresses.src.is_ipv4(), addresses.dst.is_ipv4());
        let slice = etherparse::IpSlice::from_slice(input);
        if let Ok(slice) = slice {
            assert_eq!(slice.source_addr(), addresses.src);
            assert_eq!(slice.destination_addr(), addresses.dst);
        }
        assert!(matches!(addresses.src, IpAddr::V4(_)) == (input[0] >> 4 == 4));
    }
    if let Some(message::Message::Transport { sealed, .. }) = message::Message::parse(input) {
        assert!(sealed.len() >= 16 && sealed.len() < input.len());
    }
}
