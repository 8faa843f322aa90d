//! The agent's port, reserved against the host's own connections.
//!
//! A TCP socket that is bound to the port and never listens reserves it: the kernel gives the port
//! to no other socket, and a second agent with the same port fails. It also shows whether the agent
//! that created a port's firewall table still runs.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

/// A port that this process reserves.
#[derive(Debug)]
pub struct ReservedPort {
    number: u16,
    _socket: Socket,
}

/// The port cannot be reserved.
#[derive(Debug, thiserror::Error)]
#[error("port {number} cannot be kept for the agent: {source}")]
pub struct ReservePortError {
    /// The port; 0 for any.
    pub number: u16,
    /// The error of the system call.
    pub source: io::Error,
}

impl ReservePortError {
    /// Whether another process uses it.
    pub fn in_use(&self) -> bool {
        self.source.kind() == io::ErrorKind::AddrInUse
    }
}

impl ReservedPort {
    /// Reserves port `number` of the family of `vip`, or any free port if it is 0.
    ///
    /// # Errors
    /// Mostly because another process uses it.
    pub fn reserve(vip: SocketAddr, number: u16) -> Result<Self, ReservePortError> {
        Self::bind(vip, number).map_err(|source| ReservePortError { number, source })
    }

    /// Like [`ReservedPort::reserve`], but waits up to `patience` for another process to release
    /// the port: a starting agent reserves the ports of crashed ones for a moment to remove their
    /// tables.
    ///
    /// # Errors
    /// As [`ReservedPort::reserve`].
    pub fn reserve_within(
        vip: SocketAddr,
        number: u16,
        patience: Duration,
    ) -> Result<Self, ReservePortError> {
        let until = Instant::now() + patience;
        loop {
            match Self::reserve(vip, number) {
                Err(error) if error.in_use() && Instant::now() < until => thread::sleep(RETRY),
                other => return other,
            }
        }
    }

    /// The port.
    pub fn number(&self) -> u16 {
        self.number
    }

    fn bind(vip: SocketAddr, number: u16) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(vip), Type::STREAM, None)?;
        let any = match vip {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, number)),
            SocketAddr::V6(_) => {
                // Another process may use the same port of IPv4.
                socket.set_only_v6(true)?;
                SocketAddr::from((Ipv6Addr::UNSPECIFIED, number))
            }
        };
        socket.bind(&any.into())?;
        let bound = socket.local_addr()?.as_socket().map_or(0, |address| address.port());
        Ok(ReservedPort { number: bound, _socket: socket })
    }
}

const RETRY: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_has_one_owner_until_dropped() {
        for vip in ["127.0.0.1:443", "[::1]:443"] {
            let vip = vip.parse().unwrap();
            let port = ReservedPort::reserve(vip, 0).unwrap();
            assert_ne!(port.number(), 0);
            assert!(ReservedPort::reserve(vip, port.number()).unwrap_err().in_use());
            let number = port.number();
            drop(port);
            assert_eq!(ReservedPort::reserve(vip, number).unwrap().number(), number);
        }
    }

    #[test]
    fn reserving_waits_for_a_port_to_become_free() {
        let vip = "127.0.0.1:443".parse().unwrap();
        let port = ReservedPort::reserve(vip, 0).unwrap();
        let number = port.number();
        let reserve = |ms| ReservedPort::reserve_within(vip, number, Duration::from_millis(ms));
        assert!(reserve(50).unwrap_err().in_use());
        let other = thread::spawn(move || {
            thread::sleep(Duration::from_millis(200));
            drop(port);
        });
        assert_eq!(reserve(20_000).unwrap().number(), number);
        other.join().unwrap();
    }
}
