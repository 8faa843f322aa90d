//! Neighbour discovery (RFC 4861).

use super::{Ipv6Header, Mac, icmp6, ip6};

/// The solicited-node multicast address of `ip` (RFC 4291, section 2.7.1).
pub fn solicited_node(ip: u128) -> u128 {
    ip6("ff02::1:ff00:0") | ip & 0xff_ffff
}

/// The hardware address of an IPv6 multicast group (RFC 2464, section 7).
pub fn group_mac(group: u128) -> Mac {
    let [.., a, b, c, d] = group.to_be_bytes();
    [0x33, 0x33, a, b, c, d]
}

/// A message about `target` without its checksum; `option` is a link-layer address behind its kind
/// (1 source, 2 target).
pub fn nd(kind: u8, flags: u8, target: u128, option: Option<(u8, Mac)>) -> Vec<u8> {
    let mut message = icmp6(kind, 0, [flags, 0, 0, 0], &target.to_be_bytes());
    if let Some((kind, mac)) = option {
        message.extend([kind, 1]);
        message.extend(mac);
    }
    message
}

/// The datagram of a neighbour solicitation that `src` sends to the target's group.
pub fn solicitation(src: u128, target: u128, mac: Option<Mac>) -> Vec<u8> {
    let message = nd(135, 0, target, mac.map(|mac| (1, mac)));
    Ipv6Header::icmp(src, solicited_node(target)).with(&message)
}

/// The datagram of a neighbour advertisement in which `src` gives its address to `dst`; flags 0x60
/// are solicited and override.
pub fn advertisement(src: u128, dst: u128, flags: u8, mac: Mac) -> Vec<u8> {
    Ipv6Header::icmp(src, dst).with(&nd(136, flags, src, Some((2, mac))))
}
