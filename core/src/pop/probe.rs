//! Probes: segments that the data plane gives a POP to see whether it forwards those of clients.
//!
//! A probe takes the way of a client's segment, from classification to transmission, where the
//! caller keeps it: it leaves through no port. To a relay it is an ACK without data, or a datagram
//! without data where that has UDP alone, and is forwarded; to a tunnel a SYN, which is answered.
//! It starts no connection and is not remembered. What it may cause is a query for a neighbour,
//! which was due ([`is_query`]).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::egress::headers::Headers;
use super::soft::SoftState;
use crate::frame::Frame;
use crate::net::{Family, IpEndpoint, PortIndex, Protocol};
use crate::seq::SeqNum;
use crate::snapshot::{Service, Snapshot};
use crate::wire::ethernet::{self, Ethernet};
use crate::wire::ipv4::{ORIGINATED_TTL, PROTOCOL_UDP};
use crate::wire::tcp::{ACK, SYN};
use crate::wire::{MacAddr, icmpv6, ip, ipv6, put_u16, udp};

/// The service that the probe of this number is to: they take turns.
pub fn probed(snapshot: &Snapshot, number: u64) -> Option<&Service> {
    let services = snapshot.services();
    let index = number.checked_rem(services.len() as u64)?;
    services.get(usize::try_from(index).ok()?)
}

/// Writes the probe of this number into `frame`, which is empty. Returns the port that it comes in
/// through; `None` when there is no service, or the config admits none of the probes' addresses as
/// a client's.
pub(super) fn write<F: Frame>(
    snapshot: &Snapshot,
    soft: &SoftState,
    number: u64,
    frame: &mut F,
) -> Option<PortIndex> {
    let mut protocol = Protocol::Tcp;
    let (vip, flags) = match probed(snapshot, number)? {
        Service::Relay(relay) => {
            if !relay.protocols.has(Protocol::Tcp) {
                protocol = Protocol::Udp;
            }
            (relay.vip(), ACK)
        }
        Service::Tunnel(tunnel) => {
            let service = &tunnel.service;
            (service.vip4.as_ref().or(service.vip6.as_ref())?.addr, SYN)
        }
    };
    let is_client =
        |ip: &IpAddr| snapshot.is_client(&IpEndpoint::from(SocketAddr::new(*ip, CLIENT_PORT)));
    let client = match vip {
        SocketAddr::V4(_) => CLIENTS4.iter().map(|ip| IpAddr::V4(*ip)).find(is_client),
        SocketAddr::V6(_) => CLIENTS6.iter().map(|ip| IpAddr::V6(*ip)).find(is_client),
    };
    let src = SocketAddr::new(client?, CLIENT_PORT);
    let takes_clients = snapshot.config.ports.iter().position(|port| port.side.takes_clients());
    let port = PortIndex(u8::try_from(takes_clients?).ok()?);
    let link = soft.links.link(port)?;
    let (seq, ack) = (SeqNum(number as u32), SeqNum(if flags == ACK { 1 } else { 0 }));
    let headers = Headers { src, dst: vip, seq, ack, flags, ttl: ORIGINATED_TTL, tos: 0 };
    let ethertype = match Family::of(vip.ip()) {
        Family::V4 => ethernet::TYPE_IPV4,
        Family::V6 => ethernet::TYPE_IPV6,
    };
    let ethernet = Ethernet { dst: link.mac, src: ROUTER, vlan: link.vlan, ethertype };
    let l3 = ethernet.header_len();
    let len = match protocol {
        Protocol::Tcp => headers.len(),
        Protocol::Udp => Family::of(vip.ip()).ip_header_len() + udp::HEADER_LEN,
    };
    if !frame.append(l3 + len) {
        return None;
    }
    ethernet.write(frame.bytes_mut());
    let datagram = frame.bytes_mut().get_mut(l3..)?;
    match protocol {
        Protocol::Tcp => headers.write(datagram, &[], 0),
        Protocol::Udp => write_udp(src, vip, datagram),
    }
    Some(port)
}

/// Writes a UDP datagram without data that fills `datagram`.
fn write_udp(src: SocketAddr, dst: SocketAddr, datagram: &mut [u8]) {
    let payload_len = udp::HEADER_LEN as u16;
    let (hops, protocol, ends) = (ORIGINATED_TTL, PROTOCOL_UDP, (src.ip(), dst.ip()));
    let header = ip::Header { class: 0, hops, protocol, payload_len, src: ends.0, dst: ends.1 };
    header.write(datagram);
    let at = datagram.len().saturating_sub(udp::HEADER_LEN);
    let Some(bytes) = datagram.get_mut(at..) else { return };
    put_u16(bytes, udp::field::SRC_PORT, src.port());
    put_u16(bytes, udp::field::DST_PORT, dst.port());
    put_u16(bytes, udp::field::LEN, payload_len);
    match ends {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            udp::write_checksum(src.to_bits(), dst.to_bits(), bytes);
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            udp::write_checksum(src.to_bits(), dst.to_bits(), bytes);
        }
        // Both are of the family of the VIP.
        _ => {}
    }
}

/// Whether `frame` asks for a neighbour: an ARP request or a neighbour solicitation.
pub fn is_query(frame: &[u8]) -> bool {
    let (ethertype, l3) = ethernet::payload(frame);
    match ethertype {
        ethernet::TYPE_ARP => true,
        ethernet::TYPE_IPV6 => {
            let datagram = frame.get(l3..).unwrap_or_default();
            let header = ipv6::Ipv6::parse(datagram);
            let message = datagram.get(ipv6::HEADER_LEN..).unwrap_or_default();
            header.is_some_and(|ip| {
                ip.next_header == ipv6::PROTOCOL_ICMPV6
                    && matches!(
                        icmpv6::parse(ip.src, ip.dst, message),
                        Ok(icmpv6::Kind::Solicitation)
                    )
            })
        }
        _ => false,
    }
}

/// Addresses of clients that no host has, and others, for configs that refuse those as clients.
const CLIENTS4: [Ipv4Addr; 8] = [
    Ipv4Addr::new(192, 0, 2, 253),
    Ipv4Addr::new(198, 51, 100, 253),
    Ipv4Addr::new(203, 0, 113, 253),
    Ipv4Addr::new(198, 18, 255, 253),
    Ipv4Addr::new(1, 0, 0, 253),
    Ipv4Addr::new(62, 0, 0, 253),
    Ipv4Addr::new(129, 0, 0, 253),
    Ipv4Addr::new(201, 0, 0, 253),
];
const CLIENTS6: [Ipv6Addr; 4] = [
    Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0xfffd),
    Ipv6Addr::new(0x2400, 0, 0, 0, 0, 0, 0, 0xfffd),
    Ipv6Addr::new(0x2600, 0, 0, 0, 0, 0, 0, 0xfffd),
    Ipv6Addr::new(0x2a00, 0, 0, 0, 0, 0, 0, 0xfffd),
];
const CLIENT_PORT: u16 = 49_151;
/// The sender of the frame: locally administered, and nobody's.
const ROUTER: MacAddr = MacAddr::new([0x02, 0, 0, 0, 0, 0xfd]);
