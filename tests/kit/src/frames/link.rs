//! Ethernet frames and ARP.

/// A hardware address.
pub type Mac = [u8; 6];

/// The broadcast address of a link.
pub const BROADCAST: Mac = [0xff; 6];
/// Ethertype of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// Ethertype of ARP.
pub const ETHERTYPE_ARP: u16 = 0x0806;
/// Ethertype of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;

/// An Ethernet frame, with an IEEE 802.1Q tag if `vlan` has an ID; not padded.
pub fn ethernet(dst: Mac, src: Mac, vlan: Option<u16>, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(18 + payload.len().max(46));
    bytes.extend(dst);
    bytes.extend(src);
    if let Some(vlan) = vlan {
        bytes.extend([0x81, 0]);
        bytes.extend(vlan.to_be_bytes());
    }
    bytes.extend(ethertype.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// The frame of a datagram of either family.
pub fn framed(dst: Mac, src: Mac, vlan: Option<u16>, datagram: &[u8]) -> Vec<u8> {
    let v6 = datagram.first().is_some_and(|first| first >> 4 == 6);
    ethernet(dst, src, vlan, if v6 { ETHERTYPE_IPV6 } else { ETHERTYPE_IPV4 }, datagram)
}

/// An ARP packet for IPv4 over Ethernet (RFC 826): operation 1 is a request, 2 a reply.
pub fn arp(operation: u16, sender: (Mac, u32), target: (Mac, u32)) -> Vec<u8> {
    let mut bytes = vec![0, 1, 8, 0, 6, 4];
    bytes.extend(operation.to_be_bytes());
    bytes.extend(sender.0);
    bytes.extend(sender.1.to_be_bytes());
    bytes.extend(target.0);
    bytes.extend(target.1.to_be_bytes());
    bytes
}
