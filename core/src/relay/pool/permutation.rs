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
//! the rest, under K = HKDF(relay secret, "permutation"), with the service's VIP << 16 | port as
//! the tweak. Every y has a place, so that every client has an egress side. The way back rebuilds
//! y, refuses r >= 2^46, and accepts x < 2^48 with a client port that is not 0; a random tag passes
//! with a chance of about 2^-(k-1), so whoever decodes one checks the client's address too.
//!
//! This mapping is frozen: `tests/vectors/relay-v2.json`, written by a second implementation,
//! holds it. Changing it breaks live connections in a rolling upgrade.

use std::sync::Arc;

use cpu_vector::{Isa, Job, RoundKeys, Vector, all, bits, lane_mask, pick};

use super::feistel::{self, LaneNetworks, Network};
use crate::config::PoolBits;
use crate::net::Endpoint;
use crate::relay::keys::RelayKeys;
use crate::relay::mapping::{FIRST_PORT, PORTS, REST_BITS, Tag};

pub use super::feistel::{BURST, Numbers};

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
    keys: Arc<RoundKeys>,
    isa: Isa,
    network: Network,
    bits: PoolBits,
}

impl Permutation {
    /// The mapping of the service at `vip` into a pool of 2^`bits` addresses, under the key that
    /// all services share.
    pub fn new(keys: &RelayKeys, vip: Endpoint, bits: PoolBits) -> Self {
        let (network, isa) = (network_of(vip, bits), keys.isa);
        Permutation { keys: Arc::clone(&keys.permutation), isa, network, bits }
    }

    /// The pool's size.
    pub fn bits(&self) -> PoolBits {
        self.bits
    }

    /// Calls `place` with what stands for each of `clients`, in their order, up to [`BURST`].
    #[inline]
    pub fn forward(
        &self,
        clients: impl ExactSizeIterator<Item = Endpoint>,
        mut place: impl FnMut(Mapped),
    ) {
        let (mut numbers, count) = (Numbers([0; BURST]), clients.len());
        let inputs = clients.map(to_number);
        numbers.0.iter_mut().zip(inputs).for_each(|(number, client)| *number = client);
        self.map(0, &mut numbers, count);
        numbers.0.iter().take(count).for_each(|packed| place(Mapped::unpack(*packed)));
    }

    /// Calls `place` with the client that each of `mapped` stands for, in their order, up to
    /// [`BURST`]; with `None` for what stands for none.
    ///
    /// Whether the client's address can be one is not checked here.
    #[inline]
    pub fn inverse(
        &self,
        mapped: impl ExactSizeIterator<Item = Mapped>,
        mut place: impl FnMut(Option<Endpoint>),
    ) {
        let (mut numbers, count) = (Numbers([0; BURST]), mapped.len());
        let inputs = mapped.map(Mapped::pack);
        numbers.0.iter_mut().zip(inputs).for_each(|(number, mapped)| *number = mapped);
        let good = self.map(u64::MAX, &mut numbers, count);
        for (lane, x) in numbers.0.iter().enumerate().take(count) {
            let client = Endpoint { ip: (x >> 16) as u32, port: *x as u16 };
            place((good >> lane & 1 == 1).then_some(client));
        }
    }

    #[inline]
    fn map(&self, inverse: u64, numbers: &mut Numbers, count: usize) -> u64 {
        map(&self.keys, &self.network, self.isa, inverse, numbers, count)
    }
}

/// The network of the service at `vip` with a pool of 2^`bits` addresses.
#[inline(always)]
pub fn network_of(vip: Endpoint, bits: PoolBits) -> Network {
    Network { bits: (REST_BITS + u32::from(bits.get())).into(), tweak: to_number(vip) }
}

/// Maps the first `count` of `numbers`: an [x](to_number) to what stands for the client, as
/// [`Mapped::pack`] has it, and the other way in the lanes that have a bit in `inverse`. Gives back
/// the lanes whose outcome means anything: all, but for those of what stands for no client.
#[inline]
pub fn map<W: LaneNetworks>(
    keys: &RoundKeys,
    networks: &W,
    isa: Isa,
    inverse: u64,
    numbers: &mut Numbers,
    count: usize,
) -> u64 {
    isa.run(Map { keys, networks, inverse, numbers, count })
}

/// The mapping of some numbers, as a job of its own.
struct Map<'a, W> {
    keys: &'a RoundKeys,
    networks: &'a W,
    inverse: u64,
    numbers: &'a mut Numbers,
    count: usize,
}

impl<W: LaneNetworks> Job for Map<'_, W> {
    type Output = u64;

    #[inline(always)]
    fn run<V: Vector>(self, vector: V) -> u64 {
        let Map { keys, networks, inverse, numbers, count } = self;
        let pool_bits = |lane| networks.bits(lane).wrapping_sub(REST_BITS.into());
        let mut good = [0; BURST];
        for (lane, good) in good.iter_mut().enumerate() {
            let back = lane_mask(inverse, lane);
            let number = numbers.0[lane];
            let (joined, fits) = join(number, pool_bits(lane));
            numbers.0[lane] = pick(back, joined, number);
            *good = fits | !back;
        }
        feistel::permute(vector, keys, networks, inverse, numbers, count);
        for (lane, good) in good.iter_mut().enumerate() {
            let back = lane_mask(inverse, lane);
            let number = numbers.0[lane];
            let is_client = all(number >> CLIENT_BITS == 0) & all(number & 0xffff != 0);
            numbers.0[lane] = pick(back, number, split(number, pool_bits(lane)));
            *good &= is_client | !back;
        }
        bits(&good)
    }
}

impl Mapped {
    /// As one number: index, port and tag, from the highest bits down.
    #[inline(always)]
    pub fn pack(self) -> u64 {
        u64::from(self.index) << 48 | u64::from(self.port) << 32 | u64::from(self.tag.0)
    }

    /// Of what [`Mapped::pack`] made.
    #[inline(always)]
    pub fn unpack(packed: u64) -> Self {
        let (index, port) = ((packed >> 48) as u16, (packed >> 32) as u16);
        Mapped { tag: Tag(packed as u32), port, index }
    }
}

/// x of a client.
#[inline(always)]
pub fn to_number(client: Endpoint) -> u64 {
    u64::from(client.ip) << 16 | u64::from(client.port)
}

/// Tag, port and index of a y, packed.
#[inline(always)]
fn split(y: u64, pool_bits: u64) -> u64 {
    let (index, rest) = (y & ((1 << pool_bits) - 1), y >> pool_bits);
    let tag = div_ports(rest & ((1 << REST_BITS) - 1));
    let port = rest.wrapping_sub((tag << 16).wrapping_sub(tag << 10)) + u64::from(FIRST_PORT);
    index << 48 | (port & 0xffff) << 32 | (tag + 1)
}

/// The y of tag, port and index, and whether they are in their ranges, as a mask; if not, it means
/// nothing.
#[inline(always)]
fn join(packed: u64, pool_bits: u64) -> (u64, u64) {
    let (index, port, tag) = (packed >> 48, packed >> 32 & 0xffff, packed & LOW32);
    let (tag, port) = (tag.wrapping_sub(1), port.wrapping_sub(u64::from(FIRST_PORT)));
    let rest = (tag << 16).wrapping_sub(tag << 10).wrapping_add(port);
    let beyond = tag >> 32 | port >> 32 | rest >> REST_BITS | index >> pool_bits;
    (rest << pool_bits | index, all(beyond == 0))
}

/// `rest` / 64512, of a rest of 46 bits, in products that every vector unit has.
#[inline(always)]
const fn div_ports(rest: u64) -> u64 {
    // 64512 = 63 * 2^10, and 2^16 = 1040 * 63 + 16.
    let (high, low) = (rest >> 26, rest >> 10 & 0xffff);
    let left = 16 * high + low;
    // Rounded up, 2^37 / 63; right for all below 2^31.
    let by_63 = (left & LOW32).wrapping_mul(2_181_570_691) >> 37;
    1040 * (high & LOW32) + by_63
}

const LOW32: u64 = 0xffff_ffff;

/// Bits of a client: address and port.
const CLIENT_BITS: u32 = 48;

const _: () = assert!(PORTS == 64512);
// All clients fit into the smallest pool, and the largest pool fits into the network.
const _: () = assert!(REST_BITS + PoolBits::MIN.get() as u32 >= CLIENT_BITS);
const _: () = assert!(REST_BITS + PoolBits::MAX.get() as u32 <= 64);

/// The slow twin: one client at a time, by [`super::feistel::reference`].
pub mod reference {
    use super::{Mapped, Permutation};
    use crate::net::Endpoint;
    use crate::relay::mapping::Tag;
    use crate::relay::pool::feistel::reference;

    /// What stands for `client`.
    pub fn forward(permutation: &Permutation, client: Endpoint) -> Mapped {
        let x = u64::from(client.ip) << 16 | u64::from(client.port);
        let y = reference::permute(&permutation.keys, permutation.network, false, x);
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
        let x = reference::permute(&permutation.keys, permutation.network, true, y);
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
        let packed = split(largest << 2 | 3, 2);
        let mapped = Mapped { tag: Tag(1_090_785_346), port: 2047, index: 3 };
        assert_eq!(Mapped::unpack(packed), mapped);
        assert_eq!(join(packed, 2), (largest << 2 | 3, u64::MAX));
        for beyond in [
            Mapped { port: mapped.port + 1, ..mapped },
            Mapped { port: 1023, ..mapped },
            Mapped { tag: Tag(mapped.tag.0 + 1), port: 1024, ..mapped },
            Mapped { tag: Tag(u32::MAX), port: u16::MAX, ..mapped },
            Mapped { tag: Tag(0), ..mapped },
            Mapped { index: 4, ..mapped },
        ] {
            assert_eq!(join(beyond.pack(), 2).1, 0, "{beyond:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_split_is_joined_again(bits in 2..=16u64, y: u64) {
            let y = y & ((1 << (u64::from(REST_BITS) + bits)) - 1);
            prop_assert_eq!(join(split(y, bits), bits), (y, u64::MAX));
        }

        #[test]
        fn rests_are_divided_exactly(rest in 0u64..1 << 46, tag in 0u64..1_090_785_346) {
            prop_assert_eq!(div_ports(rest), rest / 64512);
            for rest in [tag * 64512, tag * 64512 + 64511] {
                prop_assert_eq!(div_ports(rest), tag);
            }
        }
    }
}
