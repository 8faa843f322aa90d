//! `struct ifreq` and its ioctls: all `unsafe` code of this crate.
#![allow(unsafe_code)]

use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::ioctl::{Opcode, Updater, ioctl};

/// `struct ifreq` of `linux/if.h`: a name, and a union of 24 bytes where pointers have 64 bits, and
/// of 16 bytes where they have 32. The longer one serves both.
#[repr(C, align(8))]
#[derive(Debug)]
pub struct Ifreq {
    name: [u8; NAME_LEN],
    union: [u8; 24],
}

/// `IFNAMSIZ`, the terminating zero included.
pub const NAME_LEN: usize = 16;

impl Ifreq {
    /// A request for the device `name`; `None` when that is not a valid name of a device.
    pub fn new(name: &str) -> Option<Ifreq> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        if name.is_empty() || name.len() >= NAME_LEN || !name.bytes().all(allowed) {
            return None;
        }
        if name == "." || name == ".." {
            return None;
        }
        let mut bytes = [0; NAME_LEN];
        bytes.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
        Some(Ifreq { name: bytes, union: [0; 24] })
    }

    /// Sets `ifr_flags`.
    pub fn set_flags(&mut self, flags: u16) {
        let [a, b] = flags.to_ne_bytes();
        self.union[..2].copy_from_slice(&[a, b]);
    }

    /// Sets `ifr_mtu` or another integer of the union.
    pub fn set_int(&mut self, value: i32) {
        self.union[..4].copy_from_slice(&value.to_ne_bytes());
    }
}

/// Turns the open file `device` into the TUN device of `request` (TUNSETIFF).
///
/// # Errors
/// The error of the system call.
pub fn tunsetiff(device: impl AsFd, request: &mut Ifreq) -> Result<(), Errno> {
    // SAFETY: TUNSETIFF's argument is a pointer to a `struct ifreq`, which the kernel reads and
    // writes whole; `request` is one, aligned, at least as long, and borrowed mutably for the call.
    // Any bytes in it are valid for both sides. On a file that is not a TUN device the call fails
    // and changes nothing.
    unsafe { ioctl(device, Updater::<TUNSETIFF, Ifreq>::new(request)) }
}

/// Sets the MTU of the device that `request` names (SIOCSIFMTU).
///
/// # Errors
/// The error of the system call.
pub fn siocsifmtu(socket: impl AsFd, request: &mut Ifreq) -> Result<(), Errno> {
    // SAFETY: as for TUNSETIFF: SIOCSIFMTU's argument is a pointer to a `struct ifreq`.
    unsafe { ioctl(socket, Updater::<SIOCSIFMTU, Ifreq>::new(request)) }
}

/// `_IOW('T', 202, int)`, although its argument is a `struct ifreq`.
const TUNSETIFF: Opcode = rustix::ioctl::opcode::write::<i32>(b'T', 202);
const SIOCSIFMTU: Opcode = 0x8922;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_devices_are_taken() {
        for name in ["a", "anyrelay0", "a.b-c_d", "fifteen-letters"] {
            assert!(Ifreq::new(name).is_some(), "{name}");
        }
        for name in ["", "sixteen--letters", "a/b", "a b", "tun%d", ".", "..", "ü"] {
            assert!(Ifreq::new(name).is_none(), "{name}");
        }
    }

    #[test]
    fn the_opcode_is_that_of_the_header() {
        assert_eq!(TUNSETIFF, 0x4004_54ca);
        assert_eq!(size_of::<Ifreq>(), 40);
    }
}
