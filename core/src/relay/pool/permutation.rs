//! The stateless mapping of relay mode's `pool`: a client to an egress address, port and tag, and
//! back, without a table.
//!
//! For a pool of 2^k egress addresses, 2 <= k <= 16:
//!
//! ```text
//! x   = client ip << 16 | client port                           48 bits
//! y   = P(x)                                                    n = 46 + k bits
//! egress index = y mod 2^k                                      which address of the pool
//! r   = y div 2^k                                               46 bits
//! egress port  = 1024 + r mod 64512
//! tag          = 1 + r div 64512                                1 .. 1,090,785,346: 31 bits
//! ```
//!
//! P is the Feistel network of [`super::feistel`] over n bits, A = the high floor(n/2) bits and B
//! the rest, under K = HKDF(relay secret, "permutation", VIP, port). Every y has a place, so that
//! every client has an egress side. The way back rebuilds y, refuses r >= 2^46, and accepts
//! x < 2^48 with a client port that is not 0; a random tag passes with a chance of about 2^-(k-1),
//! so whoever decodes one checks the client's address too.
//!
//! This mapping is frozen: `tests/vectors/relay-v2.json`, written by a second implementation,
//! holds it. Changing it breaks live connections in a rolling upgrade.

use super::feistel::{Direction, Feistel};
use crate::config::PoolBits;
use crate::crypto::Key128;
use crate::net::Endpoint;
use crate::relay::mapping::Tag;

pub use super::feistel::BURST;

/// What stands for a client on the way to the target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Mapped {
    /// The tag, which is never 0.
    pub tag: Tag,
    /// The source port, 1024..=65535.
    pub port: u16,
    /// Which address of the pool is the source address, below 2^k.
    pub index: u16,
}

/// The mapping of one service.
#[derive(Clone, Debug)]
pub struct Permutation {
    feistel: Feistel,
    bits: PoolBits,
}

impl Permutation {
    /// The mapping under `key` into a pool of 2^`bits` addresses.
    pub fn new(key: &Key128, bits: PoolBits) -> Self {
        Permutation { feistel: Feistel::new(key, REST_BITS + u32::from(bits.get())), bits }
    }

    /// The pool's size.
    pub fn bits(&self) -> PoolBits {
        self.bits
    }

    /// Calls `place` with what stands for each of `clients`, in their order, up to [`BURST`].
    #[inline(always)]
    pub fn forward(
        &self,
        clients: impl ExactSizeIterator<Item = Endpoint>,
        mut place: impl FnMut(Mapped),
    ) {
        let (mut numbers, count) = ([0; BURST], clients.len());
        numbers.iter_mut().zip(clients).for_each(|(number, client)| *number = to_number(client));
        self.feistel.permute(Direction::Forward, &mut numbers, count);
        numbers.iter().take(count).for_each(|y| place(split(*y, self.bits)));
    }

    /// Calls `place` with the client that each of `mapped` stands for, in their order, up to
    /// [`BURST`]; with `None` for what stands for none.
    ///
    /// Whether the client's address can be one is not checked here.
    #[inline(always)]
    pub fn inverse(
        &self,
        mapped: impl ExactSizeIterator<Item = Mapped>,
        mut place: impl FnMut(Option<Endpoint>),
    ) {
        let (mut numbers, count) = ([0; BURST], mapped.len());
        let mut good = 0u64;
        for (lane, (number, mapped)) in numbers.iter_mut().zip(mapped).enumerate() {
            let joined = join(&mapped, self.bits);
            good |= u64::from(joined.is_some()) << lane;
            *number = joined.unwrap_or_default();
        }
        self.feistel.permute(Direction::Inverse, &mut numbers, count);
        for (lane, x) in numbers.iter().enumerate().take(count) {
            place(to_client(*x).filter(|_| good >> lane & 1 == 1));
        }
    }
}

/// x of a client.
#[inline(always)]
fn to_number(client: Endpoint) -> u64 {
    u64::from(client.ip) << 16 | u64::from(client.port)
}

/// The client whose x it is, if it is one's.
#[inline(always)]
fn to_client(x: u64) -> Option<Endpoint> {
    let client = Endpoint { ip: (x >> 16) as u32, port: x as u16 };
    (x >> CLIENT_BITS == 0 && client.port != 0).then_some(client)
}

/// Tag, port and index of a y.
#[inline(always)]
fn split(y: u64, bits: PoolBits) -> Mapped {
    let (index, rest) = (y as u32 & (bits.addresses() - 1), y >> bits.get());
    let (port, tag) = (rest % PORTS, rest / PORTS);
    Mapped { tag: Tag(1 + tag as u32), port: FIRST_PORT + port as u16, index: index as u16 }
}

/// The y of tag, port and index, if they are in their ranges.
#[inline(always)]
fn join(mapped: &Mapped, bits: PoolBits) -> Option<u64> {
    let tag = u64::from(mapped.tag.0.checked_sub(1)?);
    let port = u64::from(mapped.port.checked_sub(FIRST_PORT)?);
    let (rest, index) = (tag * PORTS + port, u64::from(mapped.index));
    let fits = rest >> REST_BITS == 0 && index >> bits.get() == 0;
    fits.then_some(rest << bits.get() | index)
}

/// Bits of a client: address and port.
const CLIENT_BITS: u32 = 48;
/// Bits that tag and port hold together.
const REST_BITS: u32 = 46;
const FIRST_PORT: u16 = 1024;
const PORTS: u64 = 65536 - FIRST_PORT as u64;

const _: () = assert!(PORTS == 64512);
// All clients fit into the smallest pool, every rest has a tag of 31 bits, and the largest pool
// fits into the network.
const _: () = assert!(REST_BITS + PoolBits::MIN.get() as u32 >= CLIENT_BITS);
const _: () = assert!(1 + ((1 << REST_BITS) - 1) / PORTS < 1 << 31);
const _: () = assert!(REST_BITS + PoolBits::MAX.get() as u32 <= 64);

/// The slow twin: one client at a time, by [`super::feistel::reference`].
pub mod reference {
    use super::{Direction, Mapped, Permutation};
    use crate::net::Endpoint;
    use crate::relay::mapping::Tag;
    use crate::relay::pool::feistel::reference;

    /// What stands for `client`.
    pub fn forward(permutation: &Permutation, client: Endpoint) -> Mapped {
        let x = u64::from(client.ip) << 16 | u64::from(client.port);
        let y = reference::permute(&permutation.feistel, Direction::Forward, x);
        let addresses = u64::from(permutation.bits.addresses());
        let (index, r) = (y % addresses, y / addresses);
        Mapped {
            tag: Tag((1 + r / 64512) as u32),
            port: (1024 + r % 64512) as u16,
            index: index as u16,
        }
    }

    /// The client that `mapped` stands for.
    pub fn inverse(permutation: &Permutation, mapped: Mapped) -> Option<Endpoint> {
        let Mapped { tag: Tag(tag), port, index } = mapped;
        let addresses = permutation.bits.addresses();
        if tag == 0 || port < 1024 || u32::from(index) >= addresses {
            return None;
        }
        let r = u64::from(tag - 1) * 64512 + u64::from(port - 1024);
        if r >= 1 << 46 {
            return None;
        }
        let y = r * u64::from(addresses) + u64::from(index);
        let x = reference::permute(&permutation.feistel, Direction::Inverse, y);
        let (ip, port) = (x >> 16, x & 0xffff);
        if x >= 1 << 48 || port == 0 {
            return None;
        }
        Some(Endpoint { ip: ip as u32, port: port as u16 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_largest_rest_has_the_largest_tag() {
        let largest = (1 << REST_BITS) - 1;
        let mapped = split(largest << 2 | 3, PoolBits::MIN);
        assert_eq!(mapped, Mapped { tag: Tag(1_090_785_346), port: 2047, index: 3 });
        assert_eq!(join(&mapped, PoolBits::MIN), Some(largest << 2 | 3));
        for beyond in [
            Mapped { port: mapped.port + 1, ..mapped },
            Mapped { tag: Tag(mapped.tag.0 + 1), port: 1024, ..mapped },
            Mapped { tag: Tag(u32::MAX), port: u16::MAX, ..mapped },
        ] {
            assert_eq!(join(&beyond, PoolBits::MIN), None, "{beyond:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_split_is_joined_again(bits in 2..=16u8, y: u64) {
            let bits = PoolBits::new(bits).unwrap();
            let y = y & ((1 << (REST_BITS + u32::from(bits.get()))) - 1);
            prop_assert_eq!(join(&split(y, bits), bits), Some(y));
        }
    }
}
