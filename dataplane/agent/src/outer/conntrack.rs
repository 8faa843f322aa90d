//! Whether this host itself translates the agent's flow, as its connection tracking says
//! (ctnetlink, linux/netfilter/nfnetlink_conntrack.h).
//!
//! The agent receives before the kernel would translate back, at its own address and port, so
//! nothing would arrive.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::io::Errno;
use rustix::net::{AddressFamily, netlink as protocols};

use super::FlowEndpoints;
use anyrelay_netlink::{self as netlink, Request};

/// What this host does to the agent's source address and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostNat {
    /// It keeps both, or does not track the flow.
    None,
    /// It translates them to these.
    Translated(SocketAddr),
    /// The kernel does not tell, for this reason.
    Unknown(String),
}

impl HostNat {
    /// Asks for the flow of `endpoints`.
    pub fn of(endpoints: &FlowEndpoints) -> HostNat {
        match query(endpoints) {
            Ok(seen) if seen == endpoints.local => HostNat::None,
            Ok(seen) => HostNat::Translated(seen),
            Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => {
                HostNat::None
            }
            Err(error) => HostNat::Unknown(format!("connection tracking does not tell: {error}")),
        }
    }
}

/// Where answers to the flow must arrive from outside.
fn query(endpoints: &FlowEndpoints) -> io::Result<SocketAddr> {
    let FlowEndpoints { local, vip } = *endpoints;
    let family = if vip.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    // struct nfgenmsg: family, version, resource.
    let header = [family.as_raw() as u8, 0, 0, 0];
    let request = Request::new(GET, &header).attribute(ORIGINAL | NESTED, &tuple(local, vip));
    let body = request.ask(Some(protocols::NETFILTER), NEW)?;
    let attributes = body.get(header.len()..).unwrap_or_default();
    let reply = netlink::find(attributes, REPLY).and_then(destination);
    reply.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn tuple(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let address = |kinds: [u16; 2], ip: IpAddr| match ip {
        IpAddr::V4(ip) => netlink::attribute(kinds[0], &ip.octets()),
        IpAddr::V6(ip) => netlink::attribute(kinds[1], &ip.octets()),
    };
    let addresses = [address(SOURCES, from.ip()), address(DESTINATIONS, to.ip())].concat();
    let ports = [
        netlink::attribute(PROTOCOL, &[TCP]),
        netlink::attribute(SOURCE_PORT, &from.port().to_be_bytes()),
        netlink::attribute(DESTINATION_PORT, &to.port().to_be_bytes()),
    ];
    [
        netlink::attribute(TUPLE_IP | NESTED, &addresses),
        netlink::attribute(TUPLE_PROTOCOL | NESTED, &ports.concat()),
    ]
    .concat()
}

/// The destination in a tuple.
fn destination(tuple: &[u8]) -> Option<SocketAddr> {
    let addresses = netlink::find(tuple, TUPLE_IP)?;
    let [v4, v6] = DESTINATIONS;
    let ip: IpAddr = match netlink::find(addresses, v4) {
        Some(bytes) => Ipv4Addr::from(*bytes.first_chunk::<4>()?).into(),
        None => Ipv6Addr::from(*netlink::find(addresses, v6)?.first_chunk::<16>()?).into(),
    };
    let port = netlink::find(netlink::find(tuple, TUPLE_PROTOCOL)?, DESTINATION_PORT)?;
    Some(SocketAddr::new(ip, u16::from_be_bytes(*port.first_chunk()?)))
}

/// NFNL_SUBSYS_CTNETLINK << 8, and the message.
const NEW: u16 = 0x100;
const GET: u16 = 0x101;
const NESTED: u16 = 0x8000;
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
/// Of IPv4 and IPv6.
const SOURCES: [u16; 2] = [1, 3];
const DESTINATIONS: [u16; 2] = [2, 4];
const PROTOCOL: u16 = 1;
const SOURCE_PORT: u16 = 2;
const DESTINATION_PORT: u16 = 3;
const TCP: u8 = 6;

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::process::Command;

    use super::*;

    #[test]
    fn the_destination_of_a_tuple_is_read_back() {
        for (from, to) in [
            ("203.0.113.20:443", "192.0.2.7:61000"),
            ("[2001:db8::20]:443", "[2001:db8:1::7]:61000"),
        ] {
            let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
            let bytes = tuple(from, to);
            assert_eq!(destination(&bytes), Some(to));
            for len in 0..bytes.len() - 2 {
                assert_eq!(destination(&bytes[..len]), None, "{to}: {len} bytes");
            }
        }
    }

    /// With a real kernel, in the test's own network namespace. Needs root.
    #[test]
    fn masquerading_that_changes_the_port_is_seen_and_other_is_not() {
        std::thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            let run = |command: &str| {
                let status = Command::new("sh").args(["-c", command]).status().unwrap();
                assert!(status.success(), "{command}");
            };
            run("ip link set lo up; ip address add 192.0.2.1/32 dev lo");
            run("ip -6 address add 2001:db8::1/128 dev lo nodad");
            for (vip, local) in [("192.0.2.1:443", "127.0.0.1:0"), ("[2001:db8::1]:443", "[::1]:0")]
            {
                run("nft flush ruleset");
                let vip: SocketAddr = vip.parse().unwrap();
                let listener = TcpListener::bind(vip).unwrap();
                let connect = || {
                    let domain = socket2::Domain::for_address(vip);
                    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None).unwrap();
                    socket.bind(&local.parse::<SocketAddr>().unwrap().into()).unwrap();
                    socket.connect(&vip.into()).unwrap();
                    let local = socket.local_addr().unwrap().as_socket().unwrap();
                    (socket, FlowEndpoints { local, vip })
                };
                let (_open, untracked) = connect();
                assert_eq!(HostNat::of(&untracked), HostNat::None);
                // Connection tracking begins with the first rule of NAT.
                let rules = |masquerade: &str| {
                    run(&format!(
                        "nft 'flush ruleset; table inet n {{ chain c {{ type nat hook postrouting \
                         priority srcnat; {masquerade}; }}; }}'"
                    ));
                };
                rules("tcp dport 444 masquerade");
                let (_open, kept) = connect();
                assert_eq!(HostNat::of(&kept), HostNat::None);
                rules("tcp dport 443 masquerade fully-random");
                let (_open, changed) = connect();
                let HostNat::Translated(seen) = HostNat::of(&changed) else {
                    panic!("{:?}", HostNat::of(&changed));
                };
                let (_, from) = std::iter::from_fn(|| listener.accept().ok())
                    .find(|(_, from)| *from == seen)
                    .unwrap();
                assert_ne!(from.port(), changed.local.port());
            }
        })
        .join()
        .unwrap();
    }
}
