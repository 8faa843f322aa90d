//! What a relay inserts into TCP options: timestamps, the address of a client, or both, as one
//! piece of whole words.
//!
//! The address is in the layout that TOA modules of targets' kernels read: a kind, a length, the
//! port and the address, in network byte order (`docs/protocol.md`, section 7).

use super::{INSERTED_LEN, TimestampsOption, begin_with_timestamps};
use crate::net::{Family, IpEndpoint};
use crate::wire::put_u16;
use crate::wire::tcp::{OPTIONS_LEN_MAX, kind};

/// Length in bytes of the option with an IPv4 address.
pub const CLIENT_ADDRESS_LEN: usize = 8;
/// Length in bytes of the option with an IPv6 address.
pub const CLIENT_ADDRESS6_LEN: usize = 20;

/// Options to be inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inserted {
    bytes: [u8; LEN_MAX],
    len: usize,
}

const LEN_MAX: usize = INSERTED_LEN + CLIENT_ADDRESS6_LEN;

const _: () = assert!(LEN_MAX <= OPTIONS_LEN_MAX);
const _: () =
    assert!(CLIENT_ADDRESS_LEN.is_multiple_of(4) && CLIENT_ADDRESS6_LEN.is_multiple_of(4));

impl Inserted {
    /// `NOP NOP TS`, and behind it the address and port of the client, those that are given.
    #[inline]
    pub fn new(timestamps: Option<TimestampsOption>, client: Option<IpEndpoint>) -> Self {
        let mut inserted = Inserted { bytes: [0; LEN_MAX], len: 0 };
        if let Some(timestamps) = timestamps {
            inserted.push(&timestamps.aligned());
        }
        match client {
            Some(IpEndpoint::V4(client)) => {
                inserted.push(&head(kind::EXPERIMENT_2, CLIENT_ADDRESS_LEN, client.port));
                inserted.push(&client.ip.to_be_bytes());
            }
            Some(IpEndpoint::V6(client)) => {
                inserted.push(&head(kind::EXPERIMENT_1, CLIENT_ADDRESS6_LEN, client.port));
                inserted.push(&client.ip.to_be_bytes());
            }
            None => {}
        }
        inserted
    }

    /// The options.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn push(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        if let Some(room) = self.bytes.get_mut(self.len..end) {
            room.copy_from_slice(bytes);
            self.len = end;
        }
    }
}

/// What stands before the address of a client.
fn head(kind: u8, len: usize, port: u16) -> [u8; 4] {
    let mut head = [kind, len as u8, 0, 0];
    put_u16(&mut head, 2, port);
    head
}

/// Length in bytes of the option with the address of a client of `family`.
#[inline]
pub const fn client_address_len(family: Family) -> usize {
    match family {
        Family::V4 => CLIENT_ADDRESS_LEN,
        Family::V6 => CLIENT_ADDRESS6_LEN,
    }
}

/// Where the address of a client is inserted into `options`: behind timestamps that they begin
/// with, where hosts look for these first, else in front. An end of the list cannot hide it.
#[inline]
pub fn place_of_client_address(options: &[u8]) -> usize {
    if begin_with_timestamps(options) { INSERTED_LEN } else { 0 }
}
