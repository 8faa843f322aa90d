//! Rules for the queries of a POP for hardware addresses.

use std::net::IpAddr;

use anyrelay_kit::frames::{BROADCAST, arp};

use super::{Checked, require};
use crate::setup::{self, Port};
use crate::wire::{self, Datagram, ETHERNET_LEN};

pub(super) fn check_arp(pop: usize, port: Port, frame: &[u8]) -> Checked {
    let (own, _) = setup::own_addresses(pop, port);
    let (gateway, _) = setup::gateways(port);
    let sender = (setup::mac(pop, port), own.to_bits());
    let wanted = arp(1, sender, ([0; 6], gateway.to_bits()));
    let sent = &frame[ETHERNET_LEN..];
    let padded = sent.len() >= 28 && sent[28..].iter().all(|byte| *byte == 0);
    let known: [u8; 6] = setup::router_mac(port);
    let unicast = frame[..6] == known;
    require(padded && sent[..28] == wanted[..], "a wrong ARP request")?;
    require(frame[..6] == BROADCAST || unicast, "an ARP request to another host")
}

pub(super) fn check_solicitation(pop: usize, port: Port, ip: &Datagram<'_>) -> Checked {
    let (_, own) = setup::own_addresses(pop, port);
    let (_, gateway) = setup::gateways(port);
    let message = ip.payload();
    require(wire::icmp_holds(ip) && ip.ttl == 255, "a wrong solicitation")?;
    require(message.len() >= 24 && message[0] == 135, "ICMPv6 that nobody asked for")?;
    require(ip.src == IpAddr::from(own), "a solicitation from another address")?;
    require(message[8..24] == gateway.octets(), "a solicitation for another host")
}
