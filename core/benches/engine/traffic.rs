//! Clients, agents and their frames.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyrelay_core::net::{Family, PortIndex};
use anyrelay_kit::frames::{Mac, Segment, Tcp, framed, ip};

/// The port towards clients.
pub const WAN: PortIndex = PortIndex(0);
/// The port towards targets.
pub const LAN: PortIndex = PortIndex(1);
/// The MAC addresses of the ports.
pub const MACS: [Mac; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];
/// The MAC addresses of the gateways.
pub const GATEWAYS: [Mac; 2] = [[2, 0, 0, 0, 1, 1], [2, 0, 0, 0, 1, 2]];
/// The clients.
pub fn clients() -> impl Iterator<Item = (u32, u16)> {
    let mix = |i: u32| i.wrapping_mul(0x9e37_79b1);
    (0..CLIENTS).map(move |i| (ip("1.0.0.0") + (mix(i) >> 9), 1024 + (mix(i) as u16 >> 1)))
}

/// The agent with a client's address and port, or with an IPv6 address derived from them.
pub fn agent(family: Family, (ip, port): (u32, u16)) -> SocketAddr {
    let ip: IpAddr = match family {
        Family::V4 => Ipv4Addr::from_bits(ip).into(),
        Family::V6 => Ipv6Addr::from_bits(0x2600 << 112 | u128::from(ip) << 64 | 1).into(),
    };
    SocketAddr::new(ip, port)
}

/// A frame from an agent.
pub fn tunnel_frame(
    src: SocketAddr,
    dst: SocketAddr,
    flags: u8,
    (seq, ack): (u32, u32),
    data: &[u8],
) -> Vec<u8> {
    let segment = Segment { seq, ack, data: data.to_vec(), ..Segment::new(src, dst, flags) };
    framed(MACS[0], GATEWAYS[0], None, &segment.datagram())
}

/// A frame as `port` receives it from its gateway.
pub fn received(port: PortIndex, segment: &Tcp) -> Vec<u8> {
    let port = usize::from(port.0);
    framed(MACS[port], GATEWAYS[port], None, &segment.datagram())
}

/// Clients, each with one frame, which exceed a first-level cache.
const CLIENTS: u32 = 8192;
