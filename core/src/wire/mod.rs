//! Headers as they are on the wire, one file each.
//!
//! A header has up to two levels. The checked view is a small `Copy` struct of the fields that the
//! packet path reads; it exists only if the bytes contain the whole header with consistent lengths.
//! The second struct has all fields that matter, and its `write` is the inverse of its `parse`.
//! Where the fields are few, one struct is both. Offsets are named in each file's `mod field`.
//!
//! This module depends on [`crate::net`] and [`crate::seq`] alone.

pub mod arp;
pub mod checksum;
mod datagram;
pub mod ethernet;
pub mod gue;
pub mod icmp;
pub mod icmp_error;
pub mod icmpv6;
pub mod ip;
pub mod ipv4;
pub mod ipv6;
mod mac;
pub mod nd;
pub mod tcp;
pub mod udp;

pub use datagram::{Datagram, Ipv6Datagram};
pub use mac::{MacAddr, ParseMacError};

/// The big-endian 16-bit word at `at`; 0 past the end.
#[inline(always)]
pub(crate) fn get_u16(bytes: &[u8], at: usize) -> u16 {
    match bytes.get(at..at + 2) {
        Some(&[a, b]) => u16::from_be_bytes([a, b]),
        _ => 0,
    }
}

/// The big-endian 32-bit word at `at`; 0 past the end.
#[inline(always)]
pub(crate) fn get_u32(bytes: &[u8], at: usize) -> u32 {
    match bytes.get(at..at + 4) {
        Some(&[a, b, c, d]) => u32::from_be_bytes([a, b, c, d]),
        _ => 0,
    }
}

/// The big-endian 64-bit word at `at`; 0 past the end.
#[inline(always)]
pub(crate) fn get_u64(bytes: &[u8], at: usize) -> u64 {
    match bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        Some(word) => u64::from_be_bytes(*word),
        None => 0,
    }
}

/// Writes `value` big-endian at `at`; nothing past the end.
#[inline(always)]
pub(crate) fn put_u64(bytes: &mut [u8], at: usize, value: u64) {
    if let Some(place) = bytes.get_mut(at..at + 8) {
        place.copy_from_slice(&value.to_be_bytes());
    }
}

/// Writes `value` big-endian at `at`; nothing past the end.
#[inline(always)]
pub(crate) fn put_u16(bytes: &mut [u8], at: usize, value: u16) {
    if let Some(place) = bytes.get_mut(at..at + 2) {
        place.copy_from_slice(&value.to_be_bytes());
    }
}

/// Writes `value` big-endian at `at`; nothing past the end.
#[inline(always)]
pub(crate) fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    if let Some(place) = bytes.get_mut(at..at + 4) {
        place.copy_from_slice(&value.to_be_bytes());
    }
}
