//! The rules for the option that tells targets the address of a client (TOA).

use std::net::IpAddr;

use anyrelay_kit::frames::SYN;

use super::{Passed, require};
use crate::setup::MTU;

/// Whether the segment to a target has the option where it is to be and nowhere else; gives back
/// its options without it.
pub(super) fn without_client_address(passed: &Passed<'_>) -> Result<Vec<u8>, String> {
    let Passed { setup, service, from, to, .. } = passed;
    let mut options = to.options.to_vec();
    if !setup.services[*service].tells_clients() || !(from.has(SYN) || from.data.is_empty()) {
        return Ok(options);
    }
    let stamps = if from.timestamps().is_none() { 12 } else { 0 };
    let len = from.options.len() + stamps + LEN;
    if len > 40 || 40 + len + from.data.len() > usize::from(MTU) {
        return Ok(options);
    }
    let IpAddr::V4(ip) = from.src.ip() else { return Err("a client over IPv6".into()) };
    let port = from.src.port().to_be_bytes();
    let wanted = [&[254, LEN as u8][..], &port, &ip.octets()].concat();
    let at = if options.starts_with(&[1, 1, 8, 10]) { 12 } else { 0 };
    require(options.get(at..at + LEN) == Some(&wanted[..]), "the client's address is not told")?;
    options.drain(at..at + LEN);
    Ok(options)
}

/// Bytes of the option for a client over IPv4.
const LEN: usize = 8;
