//! What the POP answers for itself: ARP and neighbour discovery for the addresses of its ports,
//! echo requests, and SYNs that no service takes.
//!
//! VIPs and egress addresses are routed to the POP, not on its links: it does not answer ARP or
//! neighbour solicitations for them.

pub(super) mod arp;
pub(super) mod echo;
pub(super) mod nd;
pub(super) mod reset;
