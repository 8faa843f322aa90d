//! The stateless mapping of relay mode's `pool`: a client to an egress address, port and tag, and
//! back, without a table.
//!
//! For a pool of 2^k egress addresses, 2 <= k <= 16:
//!
//! ```text
//! N   = (2^32 - 1) * 64512 * 2^k
//! x   = absent << 48 | client_ip << 16 | client_port            (49 bits)
//! y   = P(x), P(P(x)), ... until y < N                          (at most 64 steps)
//! tag = 1 + y % (2^32 - 1);  y /= 2^32 - 1
//! egress_port = 1024 + y % 64512;  y /= 64512
//! egress_index = y                                              (which address of the pool)
//! ```
//!
//! `absent` is 1 for a client without TCP timestamps ([`ClientTimestamps`]), 0 for one with them.
//!
//! P is the Feistel network of [`super::feistel`] over n = 48 + k bits, A = the high floor(n/2)
//! bits and B the rest, under K = HKDF(relay secret, "permutation", VIP, port). The way back
//! rebuilds y, walks the inverse until x < N, and accepts x < 2^49 with a client port that is not
//! 0; a random tag passes with a chance of 2^-(k-1), so whoever decodes one checks the client's
//! address too.
//!
//! This mapping is frozen: `tests/vectors/relay-v1.json`, written by a second implementation,
//! holds it. Changing it breaks live connections in a rolling upgrade.

use super::feistel::{Direction, Feistel, lanes};
use crate::config::PoolBits;
use crate::crypto::Key128;

pub use super::feistel::BURST;

/// Whether the client's segments carry TCP timestamps (RFC 7323). The value is the bit that the
/// mapping has for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ClientTimestamps {
    /// The tag replaces the client's TSval.
    #[default]
    Present = 0,
    /// The option that carries the tag is inserted.
    Absent = 1,
}

/// A client as the mapping sees it: 49 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Client {
    /// Whether its segments carry timestamps.
    pub timestamps: ClientTimestamps,
    /// Its IPv4 address, as the number that the dotted form stands for.
    pub ip: u32,
    /// Its TCP port. Port 0 can be mapped, but is refused on the way back.
    pub port: u16,
}

/// What stands for a client on the way to the target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Mapped {
    /// The TSval of the client's segments, 1..=2^32-1.
    pub tag: u32,
    /// The source port, 1024..=65535.
    pub port: u16,
    /// Which address of the pool is the source address, below 2^k.
    pub index: u16,
}

/// What came back from a target does not stand for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// No client has this tag here.
    #[error("no client has this tag here")]
    BadTag,
    /// The cycle walk exceeded its limit of steps.
    #[error("the cycle walk exceeded its limit of steps")]
    CycleLimit,
}

/// The cycle walk for a client exceeded its limit of steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cycle walk exceeded its limit of steps")]
pub struct CycleLimit;

/// The mapping of one service.
#[derive(Clone, Debug)]
pub struct Permutation {
    feistel: Feistel,
    bits: PoolBits,
}

impl Permutation {
    /// The mapping under `key` into a pool of 2^`bits` addresses.
    pub fn new(key: &Key128, bits: PoolBits) -> Self {
        let feistel = Feistel::new(key, 48 + u32::from(bits.get()), bits.combinations());
        Permutation { feistel, bits }
    }

    /// A mapping whose every cycle walk exceeds its limit: no config can bring that about.
    #[cfg(test)]
    pub(crate) fn endless(bits: PoolBits) -> Self {
        let key = Key128::new([0; 16]);
        Permutation { feistel: Feistel::new(&key, 48 + u32::from(bits.get()), 0), bits }
    }

    /// The pool's size.
    pub fn bits(&self) -> PoolBits {
        self.bits
    }

    /// Maps each of `clients` into the same place of `out`. The shorter of the two slices says how
    /// many; all are done, [`BURST`] at a time.
    pub fn forward(&self, clients: &[Client], out: &mut [Result<Mapped, CycleLimit>]) {
        for (clients, out) in clients.chunks(BURST).zip(out.chunks_mut(BURST)) {
            let mut numbers = [0; BURST];
            for (number, client) in numbers.iter_mut().zip(clients) {
                *number = to_number(client);
            }
            let count = clients.len().min(out.len());
            let failed = self.feistel.permute(Direction::Forward, &mut numbers, count);
            out.iter_mut().zip(numbers).take(count).for_each(|(out, y)| *out = Ok(split(y)));
            mark(out, failed, Err(CycleLimit));
        }
    }

    /// Finds the client that each of `mapped` stands for, into the same place of `out`. The shorter
    /// of the two slices says how many; all are done, [`BURST`] at a time.
    ///
    /// Whether the client's address can be one is not checked here.
    pub fn inverse(&self, mapped: &[Mapped], out: &mut [Result<Client, DecodeError>]) {
        for (mapped, out) in mapped.chunks(BURST).zip(out.chunks_mut(BURST)) {
            let mut numbers = [0; BURST];
            let mut bad = 0;
            for (lane, (number, mapped)) in numbers.iter_mut().zip(mapped).enumerate() {
                match join(mapped, self.bits) {
                    Some(joined) => *number = joined,
                    None => bad |= 1u64 << lane,
                }
            }
            let count = mapped.len().min(out.len());
            let failed = self.feistel.permute(Direction::Inverse, &mut numbers, count);
            out.iter_mut().zip(numbers).take(count).for_each(|(out, x)| *out = to_client(x));
            mark(out, failed, Err(DecodeError::CycleLimit));
            mark(out, bad, Err(DecodeError::BadTag));
        }
    }
}

/// Puts `value` into the lanes of `out` that are set in `which`: none, but for hostile input.
#[inline(always)]
fn mark<T: Copy>(out: &mut [T], which: u64, value: T) {
    for lane in lanes(which) {
        if let Some(out) = out.get_mut(lane) {
            *out = value;
        }
    }
}

/// x of a client.
#[inline(always)]
fn to_number(client: &Client) -> u64 {
    (client.timestamps as u64) << 48 | u64::from(client.ip) << 16 | u64::from(client.port)
}

/// The client whose x it is, if it is one's.
#[inline(always)]
fn to_client(x: u64) -> Result<Client, DecodeError> {
    let (ip, port) = ((x >> 16) as u32, x as u16);
    if x >> 49 != 0 || port == 0 {
        return Err(DecodeError::BadTag);
    }
    let timestamps =
        if x >> 48 & 1 == 0 { ClientTimestamps::Present } else { ClientTimestamps::Absent };
    Ok(Client { timestamps, ip, port })
}

/// Tag, port and index of a y below N.
#[inline(always)]
fn split(y: u64) -> Mapped {
    // y = high * 2^32 + low = high * TAGS + (high + low), and high + low is less than 2 * TAGS for
    // every y below 2^64 - 1: a division by TAGS is a comparison.
    let (high, low) = (y >> 32, y & TAGS);
    let sum = high + low;
    let wrap = u64::from(sum >= TAGS);
    let (tag, rest) = (sum - (TAGS & wrap.wrapping_neg()), (high + wrap) as u32);
    let (port, index) = (rest % PORTS as u32, rest / PORTS as u32);
    Mapped {
        tag: (tag as u32).wrapping_add(1),
        port: FIRST_PORT + port as u16,
        index: index as u16,
    }
}

/// The y of tag, port and index, if they are in their ranges.
#[inline(always)]
fn join(mapped: &Mapped, bits: PoolBits) -> Option<u64> {
    let tag = u64::from(mapped.tag.checked_sub(1)?);
    let port = u64::from(mapped.port.checked_sub(FIRST_PORT)?);
    let index = u64::from(mapped.index);
    (index >> bits.get() == 0).then_some((index * PORTS + port) * TAGS + tag)
}

const TAGS: u64 = u32::MAX as u64;
const FIRST_PORT: u16 = 1024;
const PORTS: u64 = 65536 - FIRST_PORT as u64;

const _: () = assert!(PORTS == 64512);
// All clients fit into the smallest domain, and the largest domain into its 64 bits.
const _: () = assert!(PoolBits::MIN.combinations() >= 1 << 49);
const _: () = assert!(TAGS * PORTS <= u64::MAX >> 16);

/// The slow twin: one client at a time, by [`super::feistel::reference`].
pub mod reference {
    use super::{Client, CycleLimit, DecodeError, Direction, Mapped, Permutation};
    use crate::relay::pool::feistel::reference;

    /// What stands for `client`.
    ///
    /// # Errors
    /// When the walk reaches its limit.
    pub fn forward(permutation: &Permutation, client: Client) -> Result<Mapped, CycleLimit> {
        let x =
            (client.timestamps as u64) << 48 | u64::from(client.ip) << 16 | u64::from(client.port);
        let mut y =
            reference::permute(&permutation.feistel, Direction::Forward, x).ok_or(CycleLimit)?;
        let tag = 1 + y % 0xffff_ffff;
        y /= 0xffff_ffff;
        let port = 1024 + y % 64512;
        y /= 64512;
        Ok(Mapped { tag: tag as u32, port: port as u16, index: y as u16 })
    }

    /// The client that `mapped` stands for.
    ///
    /// # Errors
    /// When no client has this tag, or the walk reaches its limit.
    pub fn inverse(permutation: &Permutation, mapped: Mapped) -> Result<Client, DecodeError> {
        let Mapped { tag, port, index } = mapped;
        if tag == 0 || port < 1024 || u32::from(index) >= permutation.bits.addresses() {
            return Err(DecodeError::BadTag);
        }
        let y = u64::from(index) * 64512 + u64::from(port - 1024);
        let y = y * 0xffff_ffff + u64::from(tag - 1);
        let x = reference::permute(&permutation.feistel, Direction::Inverse, y)
            .ok_or(DecodeError::CycleLimit)?;
        super::to_client(x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn by_division(y: u64) -> Mapped {
        let (tag, rest) = (1 + y % TAGS, y / TAGS);
        Mapped { tag: tag as u32, port: (1024 + rest % PORTS) as u16, index: (rest / PORTS) as u16 }
    }

    #[test]
    fn the_split_is_the_division_at_its_edges() {
        for quotient in [0, 1, 2, PORTS - 1, PORTS, (PORTS << 16) - 2, (PORTS << 16) - 1] {
            for rest in [0, 1, 2, TAGS / 2, TAGS - 2, TAGS - 1] {
                let y = quotient * TAGS + rest;
                assert_eq!(split(y), by_division(y), "{y}");
                assert_eq!(join(&split(y), PoolBits::MAX), Some(y));
            }
        }
    }

    proptest! {
        #[test]
        fn the_split_is_the_division(y in 0..PoolBits::MAX.combinations()) {
            prop_assert_eq!(split(y), by_division(y));
        }
    }
}
