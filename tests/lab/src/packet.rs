//! Raw packets: frames in and out of one interface (packet(7)), and datagrams with any source.
//!
//! A packet socket is bound to its interface by the address that `getifaddrs` gives for it, which
//! needs no unsafe code.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, bind, socket};
use rustix::net::{RecvFlags, SendFlags, ipproto, recv, send};

use crate::{LabError, Namespace, Result};

/// The largest frame of a lab: an MTU of 1500 and headers, with room for tags.
pub const MAX_FRAME_BYTES: usize = 2048;

/// All frames of one interface. Those that this socket sends do not come back to it; those that
/// the namespace itself sends are seen too.
#[derive(Debug)]
pub struct PacketSocket(OwnedFd);

impl PacketSocket {
    /// Opens an interface of a namespace; nothing is ever waited for on it.
    ///
    /// # Errors
    /// If there is no such interface.
    pub fn open(namespace: &Namespace, interface: &str) -> Result<Self> {
        let name = interface.to_owned();
        namespace
            .run(move || open(&name).map(Self))?
            .map_err(LabError::io(format!("open {interface} of {}", namespace.name())))
    }

    /// The next frame that waits, or `None`.
    pub fn receive<'b>(&self, buffer: &'b mut [u8; MAX_FRAME_BYTES]) -> Option<&'b mut [u8]> {
        let (size, _) = recv(&self.0, buffer.as_mut_slice(), RecvFlags::DONTWAIT).ok()?;
        buffer.get_mut(..size)
    }

    /// Sends a frame; `false` if the interface did not take it.
    pub fn send(&self, frame: &[u8]) -> bool {
        send(&self.0, frame, SendFlags::DONTWAIT).is_ok()
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn open(name: &str) -> std::io::Result<OwnedFd> {
    let of_interface = |entry: nix::ifaddrs::InterfaceAddress| {
        let link = entry.address.as_ref()?.as_link_addr().copied();
        link.filter(|_| entry.interface_name == name)
    };
    let address = nix::ifaddrs::getifaddrs()?
        .find_map(of_interface)
        .ok_or_else(|| std::io::Error::other(format!("there is no interface {name}")))?;
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)?;
    rustix::net::sockopt::set_socket_recv_buffer_size_force(&fd, RECEIVE_BUFFER_BYTES).or_else(
        |_| rustix::net::sockopt::set_socket_recv_buffer_size(&fd, RECEIVE_BUFFER_BYTES),
    )?;
    bind(fd.as_raw_fd(), &address)?;
    Ok(fd)
}

/// Sends whole IP datagrams with any source address from a namespace.
#[derive(Debug)]
pub struct Injector {
    v4: OwnedFd,
    v6: Option<OwnedFd>,
}

impl Injector {
    /// Opens it in a namespace. Its routes decide where datagrams go.
    ///
    /// # Errors
    /// If raw sockets are refused.
    pub fn open(namespace: &Namespace) -> Result<Self> {
        let make = |family| {
            namespace.run(move || {
                use rustix::net::{SocketType, socket};
                socket(family, SocketType::RAW, Some(ipproto::RAW))
            })
        };
        let v4 = make(rustix::net::AddressFamily::INET)?
            .map_err(|errno| LabError::io("open a raw socket")(errno.into()))?;
        Ok(Self { v4, v6: make(rustix::net::AddressFamily::INET6)?.ok() })
    }

    /// Sends a datagram to the destination in its header.
    ///
    /// # Errors
    /// If the kernel does not take it, such as for want of a route.
    pub fn send(&self, datagram: &[u8]) -> std::io::Result<()> {
        let (socket, to) = match datagram.first().map(|byte| byte >> 4) {
            Some(4) => (Some(&self.v4), datagram.get(16..20).map(|ip| octets::<4>(ip).into())),
            Some(6) => (self.v6.as_ref(), datagram.get(24..40).map(|ip| octets::<16>(ip).into())),
            _ => (None, None),
        };
        let (Some(socket), Some(ip)) = (socket, to) else {
            return Err(std::io::Error::other("not an IP datagram that can be sent"));
        };
        let ip: IpAddr = ip;
        rustix::net::sendto(socket, datagram, SendFlags::empty(), &SocketAddr::new(ip, 0))?;
        Ok(())
    }
}

fn octets<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(bytes);
    array
}

/// A burst of a tenth of a second at 20,000 packets a second.
const RECEIVE_BUFFER_BYTES: usize = 8 << 20;
