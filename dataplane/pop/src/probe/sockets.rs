//! Raw sockets beside the kernel's TCP (raw(7), ipv6(7)).
//!
//! The kernel answers a segment that no socket of its own takes with a RST. So a listening socket
//! holds the probe's port, with a filter that takes nothing (socket(7), SO_ATTACH_FILTER): the
//! kernel's TCP finds a socket for each segment, and drops it there without a word. Raw sockets get
//! a copy before that. No firewall rule is needed, and the port is nobody else's.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyrelay_core::net::Family;
use anyrelay_core::wire::{gue, icmp_error, ipv4};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};
use rustix::net::{RecvFlags, recv};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

/// A port of this host, whose segments the kernel drops.
#[derive(Debug)]
pub(super) struct HeldPort {
    address: SocketAddr,
    _socket: Socket,
}

impl HeldPort {
    /// Holds a free port of `own`.
    pub fn hold(own: IpAddr) -> io::Result<Self> {
        let address = SocketAddr::new(own, 0);
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.bind(&address.into())?;
        socket.attach_filter(&[SockFilter::new(RETURN, 0, 0, 0)])?;
        socket.listen(1)?;
        let bound = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::InvalidData)?;
        Ok(HeldPort { address: bound, _socket: socket })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Sends whole datagrams.
#[derive(Debug)]
pub(super) struct Sender(Socket);

impl Sender {
    /// Sends datagrams of `family`.
    pub fn open(family: Family) -> io::Result<Self> {
        // With this protocol the header comes from here, in both families.
        raw(family, HEADER_INCLUDED).map(Sender)
    }

    /// Sends `datagram` to `to`. One that is longer than the link's MTU is an error.
    pub fn send(&self, datagram: &[u8], to: IpAddr) -> io::Result<()> {
        self.0.send_to(datagram, &SocketAddr::new(to, 0).into()).map(drop)
    }
}

/// What a socket of an [`Inbox`] receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// TCP segments.
    Segment,
    /// ICMP messages.
    Icmp,
    /// Datagrams out of a tunnel.
    Inner,
}

/// Several sockets, read together.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    sockets: Vec<Receiver>,
}

#[derive(Debug)]
struct Receiver {
    kind: Kind,
    socket: Socket,
    /// Whether the header of IPv4 comes too.
    has_header: bool,
    /// Bytes in front of what counts.
    skipped: usize,
}

impl Inbox {
    /// Also receives TCP segments from `peer` to `own`.
    pub fn segments(&mut self, own: IpAddr, peer: IpAddr) -> io::Result<()> {
        self.raw(Kind::Segment, ipv4::PROTOCOL_TCP, own, Some(peer))
    }

    /// Also receives ICMP messages to `own`.
    pub fn icmp(&mut self, own: IpAddr) -> io::Result<()> {
        self.raw(Kind::Icmp, icmp_error::protocol(Family::of(own)), own, None)
    }

    /// Also receives datagrams of this protocol number inside IP from `peer` to `own`.
    pub fn ip_in_ip(&mut self, protocol: u8, own: IpAddr, peer: IpAddr) -> io::Result<()> {
        self.raw(Kind::Inner, protocol, own, Some(peer))
    }

    /// Also receives datagrams inside GUE to `own`.
    pub fn gue(&mut self, own: IpAddr) -> io::Result<()> {
        let address = SocketAddr::new(own, gue::PORT);
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
        socket.bind(&address.into())?;
        let skipped = gue::HEADERS_LEN - UDP_HEADER_LEN;
        self.sockets.push(Receiver { kind: Kind::Inner, socket, has_header: false, skipped });
        Ok(())
    }

    fn raw(&mut self, kind: Kind, number: u8, own: IpAddr, peer: Option<IpAddr>) -> io::Result<()> {
        let socket = raw(Family::of(own), number.into())?;
        socket.bind(&SocketAddr::new(own, 0).into())?;
        if let Some(peer) = peer {
            socket.connect(&SocketAddr::new(peer, 0).into())?;
        }
        self.sockets.push(Receiver { kind, socket, has_header: own.is_ipv4(), skipped: 0 });
        Ok(())
    }

    /// Forgets what has arrived so far.
    pub fn drain(&mut self) {
        for _ in 0..DRAINED_MAX {
            if !self.read(&mut |_, _| None::<()>).0 {
                return;
            }
        }
    }

    /// Calls `each` with all that arrives, without IP headers, until it finds something or the
    /// time is over.
    pub fn wait<T>(
        &mut self,
        time: Duration,
        mut each: impl FnMut(Kind, &[u8]) -> Option<T>,
    ) -> io::Result<Option<T>> {
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let mut polled: Vec<_> = self
                .sockets
                .iter()
                .map(|receiver| PollFd::new(&receiver.socket, PollFlags::IN))
                .collect();
            let timeout = Timespec::try_from(left).map_err(|_| io::ErrorKind::InvalidInput)?;
            match poll(&mut polled, Some(&timeout)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            if let (_, Some(found)) = self.read(&mut each) {
                return Ok(Some(found));
            }
        }
    }

    /// Reads one datagram of each socket: whether there was any, and what `each` finds.
    fn read<T>(&self, each: &mut impl FnMut(Kind, &[u8]) -> Option<T>) -> (bool, Option<T>) {
        let mut buffer = [0; BUFFER];
        let mut any = false;
        for Receiver { kind, socket, has_header, skipped } in &self.sockets {
            // An error is one of an earlier datagram of this socket, which its ICMP message tells.
            let Ok((len, _)) = recv(socket, &mut buffer[..], RecvFlags::DONTWAIT) else { continue };
            any = true;
            let mut bytes = buffer.get(*skipped..len).unwrap_or_default();
            if *has_header {
                let Ok(header) = ipv4::Ipv4::parse(bytes) else { continue };
                bytes = bytes.get(header.header_len..header.total_len).unwrap_or_default();
            }
            if let Some(found) = each(*kind, bytes) {
                return (true, Some(found));
            }
        }
        (any, None)
    }
}

/// A raw socket that uses the MTU of the link alone, whatever the kernel has learned of the path.
/// Over IPv4 it also keeps the kernel from learning of the path by an ICMP error that only names
/// the right two addresses.
fn raw(family: Family, protocol: i32) -> io::Result<Socket> {
    let domain = match family {
        Family::V4 => Domain::IPV4,
        Family::V6 => Domain::IPV6,
    };
    let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(protocol)))?;
    match family {
        Family::V4 => sockopt::set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::INTERFACE)?,
        Family::V6 => sockopt::set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::INTERFACE)?,
    }
    Ok(socket)
}

/// IPPROTO_RAW.
const HEADER_INCLUDED: i32 = 255;
/// BPF_RET | BPF_K (linux/bpf_common.h): with the value 0, nothing is taken.
const RETURN: u16 = 0x06;
const UDP_HEADER_LEN: usize = 8;
const BUFFER: usize = 65_536;
const DRAINED_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;
    use std::net::TcpStream;

    #[test]
    fn a_held_port_neither_accepts_nor_refuses() {
        let port = HeldPort::hold([127, 0, 0, 1].into()).unwrap();
        let refused = TcpStream::connect_timeout(&port.address(), Duration::from_millis(200));
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::TimedOut);
    }
}
