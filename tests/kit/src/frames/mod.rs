//! Frames and datagrams, written field by field, so that any field can lie.
//!
//! [`Tcp`] is a segment over IPv4 with all fields of both headers; [`Segment`] is one of either
//! family. [`Ipv4Header`] and [`Ipv6Header`] carry any payload. Checksums are right unless a test
//! spoils them; [`checksum`] has the plain sums, and repairs what was changed.

pub mod checksum;
mod echo;
mod fragment;
mod icmp;
mod ip;
mod link;
mod nd;
mod read;
mod tcp;
mod udp;

pub use checksum::{
    internet_checksum, repair, repair_at, repair_header, repair_payload, set_length, tcp_checksum,
    transport_checksum,
};
pub use echo::{check_mirrored, is_fragment};
pub use fragment::{fragment6, fragments};
pub use icmp::{echo6, frag_needed, icmp, icmp6};
pub use ip::{Ipv4Header, Ipv6Header, datagram, ip, ip6};
pub use link::{
    BROADCAST, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Mac, arp, ethernet, framed,
};
pub use nd::{advertisement, group_mac, nd, solicitation, solicited_node};
pub use read::{addresses, long, put_word, upper, word};
pub use tcp::{
    ACK, FIN, PSH, RST, SYN, Segment, Tcp, linux_syn_options, over6, plain_syn_options, segment6,
    timestamps,
};
pub use udp::{Udp, udp_checksum};

/// Protocol number of ICMP.
pub const ICMP: u8 = 1;
/// Protocol number of TCP.
pub const TCP: u8 = 6;
/// Protocol number of UDP.
pub const UDP: u8 = 17;
/// Protocol number of ICMPv6.
pub const ICMPV6: u8 = 58;
/// Next header of hop-by-hop options (RFC 8200, section 4.3).
pub const HOP_BY_HOP: u8 = 0;
/// Next header of a routing header (RFC 8200, section 4.4).
pub const ROUTING: u8 = 43;
/// Next header of a fragment header (RFC 8200, section 4.5).
pub const FRAGMENT: u8 = 44;
/// Next header of destination options (RFC 8200, section 4.6).
pub const DESTINATION_OPTIONS: u8 = 60;
