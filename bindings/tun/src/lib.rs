//! A TUN device of Linux: reads and writes IP packets, one per call.
//!
//! The device lives as long as its [`Tun`]. Reads and writes are plain, safe system calls; only the
//! two ioctls on a `struct ifreq` need `unsafe`.
//!
//! Source: Linux `Documentation/networking/tuntap.rst`, `linux/if_tun.h`, netdevice(7).
#![deny(unsafe_code)]

mod ifreq;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use ifreq::Ifreq;

/// The longest name of a network device, in bytes.
pub const NAME_MAX: usize = ifreq::NAME_LEN - 1;

/// A TUN device without packet information: each packet begins with its IP header.
#[derive(Debug)]
pub struct Tun {
    device: OwnedFd,
    /// Any socket, for the ioctls that name a device (netdevice(7)).
    socket: OwnedFd,
    name: String,
}

/// Why a device was not opened.
#[derive(Debug, thiserror::Error)]
pub enum TunError {
    /// The name is not valid for a device.
    #[error(
        "{name:?} cannot be the name of a network device: use 1 to {NAME_MAX} of A-Z a-z 0-9 _ . -"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// `/dev/net/tun` does not exist.
    #[error("{PATH}: {errno}; load the kernel's module `tun`, or give the container the device")]
    NoDriver {
        /// The error of the system call.
        errno: Errno,
    },
    /// The capability is missing.
    #[error("{name}: not permitted; a TUN device needs CAP_NET_ADMIN, and to open {PATH}")]
    NotPermitted {
        /// The name.
        name: String,
    },
    /// Another process has it open.
    #[error("{name}: in use by another process, or no TUN device; choose another name")]
    InUse {
        /// The name.
        name: String,
    },
    /// Another error.
    #[error("{name}: {errno}")]
    Other {
        /// The name.
        name: String,
        /// The error of the system call.
        errno: Errno,
    },
}

/// Checks a name of a device.
///
/// # Errors
/// When no device can have this name.
pub fn check_name(name: &str) -> Result<(), TunError> {
    match Ifreq::new(name) {
        Some(_) => Ok(()),
        None => Err(TunError::Name { name: name.to_owned() }),
    }
}

impl Tun {
    /// Creates the device, or opens a persistent one that no process has open.
    ///
    /// # Errors
    /// See [`TunError`].
    pub fn open(name: &str) -> Result<Tun, TunError> {
        let mut request =
            Ifreq::new(name).ok_or_else(|| TunError::Name { name: name.to_owned() })?;
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let device = rustix::fs::open(PATH, flags, Mode::empty())
            .map_err(|errno| not_opened(name, errno))?;
        let failed = |errno| {
            let name = name.to_owned();
            match errno {
                Errno::PERM | Errno::ACCESS => TunError::NotPermitted { name },
                Errno::BUSY | Errno::INVAL => TunError::InUse { name },
                errno => TunError::Other { name, errno },
            }
        };
        request.set_flags(IFF_TUN | IFF_NO_PI);
        ifreq::tunsetiff(&device, &mut request).map_err(failed)?;
        let (family, kind) = (AddressFamily::INET, SocketType::DGRAM);
        let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None);
        Ok(Tun { device, socket: socket.map_err(failed)?, name: name.to_owned() })
    }

    /// The device's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sets its MTU, in bytes of IP. Below 1280 the kernel removes its IPv6 addresses.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn set_mtu(&self, mtu: u16) -> io::Result<()> {
        let mut request = Ifreq::new(&self.name).ok_or(Errno::INVAL)?;
        request.set_int(mtu.into());
        Ok(ifreq::siocsifmtu(&self.socket, &mut request)?)
    }

    /// Reads one packet; `None` when no packet waits.
    ///
    /// # Errors
    /// The error of the system call, most often because the device is down.
    pub fn read(&self, packet: &mut [u8]) -> io::Result<Option<usize>> {
        match rustix::io::read(&self.device, packet) {
            Ok(len) => Ok(Some(len)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Writes one packet.
    ///
    /// # Errors
    /// The error of the system call: the device is down, the packet is malformed, or memory is
    /// short.
    pub fn write(&self, packet: &[u8]) -> io::Result<()> {
        rustix::io::write(&self.device, packet)?;
        Ok(())
    }
}

/// The error of opening `/dev/net/tun`. Without permission to open it, the driver may well exist.
fn not_opened(name: &str, errno: Errno) -> TunError {
    match errno {
        Errno::PERM | Errno::ACCESS => TunError::NotPermitted { name: name.to_owned() },
        errno => TunError::NoDriver { errno },
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

const PATH: &str = "/dev/net/tun";
const IFF_TUN: u16 = 0x0001;
const IFF_NO_PI: u16 = 0x1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_file_that_may_not_be_opened_is_no_missing_driver() {
        for errno in [Errno::ACCESS, Errno::PERM] {
            let error = not_opened("t0", errno).to_string();
            assert!(error.starts_with("t0: not permitted"), "{error}");
        }
        assert!(not_opened("t0", Errno::NOENT).to_string().contains("load the kernel's module"));
    }
}
