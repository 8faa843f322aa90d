//! `struct ifreq` and the ioctls that take it: all of this crate's `unsafe`.
#![allow(unsafe_code)]

use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::ioctl::{Opcode, Updater, ioctl};

/// `struct ifreq` of `linux/if.h`: a name, and a union that is 24 bytes long where pointers are 64
/// bits and 16 bytes where they are 32; the longer does for both.
#[repr(C, align(8))]
#[derive(Debug)]
pub struct Ifreq {
    name: [u8; NAME_LEN],
    union: [u8; 24],
}

/// `IFNAMSIZ`, the terminating zero counted.
pub const NAME_LEN: usize = 16;

impl Ifreq {
    /// A request for the device `name`; `None` when no device can have that name.
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

    /// Sets `ifr_mtu` or another of the union's integers.
    pub fn set_int(&mut self, value: i32) {
        self.union[..4].copy_from_slice(&value.to_ne_bytes());
    }
}

/// Makes the file `device` the TUN device of `request`.
pub fn tunsetiff(device: impl AsFd, request: &mut Ifreq) -> Result<(), Errno> {
    // SAFETY: the kernel takes TUNSETIFF's argument for a pointer to a `struct ifreq`, which it
    // reads and writes whole; `request` is one, aligned, at least as long, and borrowed mutably
    // for the call. Any bytes in it are valid for both sides. On a file that is no TUN device the
    // call fails and touches nothing.
    unsafe { ioctl(device, Updater::<TUNSETIFF, Ifreq>::new(request)) }
}

/// Sets the MTU of the device that `request` names.
pub fn siocsifmtu(socket: impl AsFd, request: &mut Ifreq) -> Result<(), Errno> {
    // SAFETY: as for TUNSETIFF: SIOCSIFMTU takes a pointer to a `struct ifreq`.
    unsafe { ioctl(socket, Updater::<SIOCSIFMTU, Ifreq>::new(request)) }
}

/// `_IOW('T', 202, int)`; what it really takes is a `struct ifreq`.
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
