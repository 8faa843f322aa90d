//! The stateless mapping of relay mode's `pool` over IPv6: a client of 2000::/3 to an egress
//! address, port and tag, and back, without a table.
//!
//! For a pool of prefix length p, 8 <= p <= 28, with h = 128 - p bits behind it:
//!
//! ```text
//! x   = low 125 bits of the client's ip << 16 | client port     141 bits
//! y   = P(x)                                                    n = 46 + h bits: 146 .. 166
//! egress index = y mod 2^h                                      which address of the pool
//! r   = y div 2^h                                               46 bits
//! egress port  = 1024 + r mod 64512
//! tag          = 1 + r div 64512                                1 .. 1,090,785,346: 31 bits
//! ```
//!
//! P is the Feistel network of [`crate::crypto::Feistel`] over n bits, under K = HKDF(relay secret,
//! "permutation ipv6"), with the first 42 bits of HKDF(relay secret, "permutation ipv6 tweak", VIP)
//! as the tweak: what tells services apart under one key.
//!
//! Every y has a place. The way back refuses r >= 2^46, x >= 2^141 and a client port of 0; a random
//! tag passes with a chance of about 2^-(34-p), so whoever decodes one checks the client's address
//! too. `tests/vectors/relay-v2.json` holds this mapping, as that of IPv4.

use std::sync::Arc;

use crate::config::Pool6Len;
use crate::crypto::{Aes128, Cipher, CipherJob, Feistel, Halves, HkdfError, low};
use crate::keys::permutation6_tweak;
use crate::net::Endpoint6;
use crate::relay::keys::RelayKeys;
use crate::relay::mapping::{FIRST_PORT, PORTS, REST_BITS, Tag};

/// What stands for a client on the way to the target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Mapped {
    /// The tag, which is never 0.
    pub tag: Tag,
    /// The source port, 1024..=65535.
    pub port: u16,
    /// Which address of the pool is the source address, below 2^h.
    pub index: u128,
}

/// The mapping of one service.
#[derive(Clone, Debug)]
pub struct Permutation {
    aes: Arc<Aes128>,
    feistel: Feistel,
    len: Pool6Len,
}

impl Permutation {
    /// The mapping of the service at `vip` into a pool of this prefix length, under the key that
    /// all services share.
    ///
    /// # Errors
    /// When the tweak of the service cannot be derived.
    pub fn new(keys: &RelayKeys, vip: Endpoint6, len: Pool6Len) -> Result<Self, HkdfError> {
        let tweak = permutation6_tweak(&keys.secret, vip.into())?;
        let tweak = u128::from_be_bytes(*tweak.as_bytes()) >> (u128::BITS - Feistel::TWEAK_BITS);
        let feistel = Feistel::new(REST_BITS + len.host_bits(), tweak as u64);
        Ok(Permutation { aes: Arc::clone(&keys.permutation6), feistel, len })
    }

    /// Calls `place` with what stands for each of `clients`, in their order; with `None` for those
    /// that are not of 2000::/3.
    #[inline]
    pub fn forward(&self, clients: &[Endpoint6], place: impl FnMut(Option<Mapped>)) {
        self.aes.run(Forward { permutation: self, clients, place });
    }

    /// Calls `place` with the client that each of `mapped` stands for, in their order; with `None`
    /// for what stands for none.
    ///
    /// Whether the client's address can be one is not checked here.
    #[inline]
    pub fn inverse(&self, mapped: &[Mapped], place: impl FnMut(Option<Endpoint6>)) {
        self.aes.run(Inverse { permutation: self, mapped, place });
    }

    /// Bits of the low half, the larger one: 73 to 83.
    #[inline(always)]
    fn low_bits(&self) -> u32 {
        self.feistel.low_bits()
    }

    /// x of a client, in halves; `None` for a client that is not of 2000::/3.
    #[inline(always)]
    fn halves_of(&self, client: Endpoint6) -> Option<Halves> {
        let low_bits = self.low_bits();
        let ip = client.ip & low(CLIENT_IP_BITS);
        let x = ip << PORT_BITS | u128::from(client.port);
        let halves = Halves { high: ip >> (low_bits - PORT_BITS), low: x & low(low_bits) };
        (client.ip >> CLIENT_IP_BITS == CLIENTS).then_some(halves)
    }

    /// The client whose x this is; `None` for what is no client's.
    #[inline(always)]
    fn client_of(&self, Halves { high, low }: Halves) -> Option<Endpoint6> {
        let low_bits = self.low_bits();
        let ip = high << (low_bits - PORT_BITS) | low >> PORT_BITS;
        let client = Endpoint6 { ip: CLIENTS << CLIENT_IP_BITS | ip, port: low as u16 };
        (high >> (CLIENT_BITS - low_bits) == 0 && client.port != 0).then_some(client)
    }

    /// Tag, port and index of a y.
    #[inline(always)]
    fn split(&self, y: Halves) -> Mapped {
        let (host_bits, low_bits) = (self.len.host_bits(), self.low_bits());
        // The index has all of the low half, and the low bits of the high one.
        let index = (y.high << low_bits | y.low) & low(host_bits);
        let rest = (y.high >> (host_bits - low_bits)) as u64;
        let (tag, port) = ((1 + rest / PORTS) as u32, FIRST_PORT + (rest % PORTS) as u16);
        Mapped { tag: Tag(tag), port, index }
    }

    /// The y of tag, port and index; `None` where they are not in their ranges.
    #[inline(always)]
    fn join(&self, Mapped { tag, port, index }: Mapped) -> Option<Halves> {
        let (host_bits, low_bits) = (self.len.host_bits(), self.low_bits());
        let (tag, port) = (tag.0.checked_sub(1)?, port.checked_sub(FIRST_PORT)?);
        let rest = u64::from(tag) * PORTS + u64::from(port);
        let high = u128::from(rest) << (host_bits - low_bits) | index >> low_bits;
        let halves = Halves { high, low: index & low(low_bits) };
        (rest >> REST_BITS == 0 && index >> host_bits == 0).then_some(halves)
    }
}

/// What stands for clients.
struct Forward<'a, P> {
    permutation: &'a Permutation,
    clients: &'a [Endpoint6],
    place: P,
}

impl<P: FnMut(Option<Mapped>)> CipherJob for Forward<'_, P> {
    #[inline(always)]
    fn run<C: Cipher>(self, cipher: &C) {
        let Forward { permutation, clients, mut place } = self;
        for clients in clients.chunks(SIDE_BY_SIDE) {
            let mut found = [None; SIDE_BY_SIDE];
            for (found, client) in found.iter_mut().zip(clients) {
                *found = permutation.halves_of(*client);
            }
            let mut numbers = found.map(Option::unwrap_or_default);
            permutation.feistel.permute(cipher, false, &mut numbers);
            for (number, found) in numbers.iter().zip(found).take(clients.len()) {
                place(found.map(|_| permutation.split(*number)));
            }
        }
    }
}

/// The clients of what stands for them.
struct Inverse<'a, P> {
    permutation: &'a Permutation,
    mapped: &'a [Mapped],
    place: P,
}

impl<P: FnMut(Option<Endpoint6>)> CipherJob for Inverse<'_, P> {
    #[inline(always)]
    fn run<C: Cipher>(self, cipher: &C) {
        let Inverse { permutation, mapped, mut place } = self;
        for mapped in mapped.chunks(SIDE_BY_SIDE) {
            let mut found = [None; SIDE_BY_SIDE];
            for (found, mapped) in found.iter_mut().zip(mapped) {
                *found = permutation.join(*mapped);
            }
            let mut numbers = found.map(Option::unwrap_or_default);
            permutation.feistel.permute(cipher, true, &mut numbers);
            for (number, found) in numbers.iter().zip(found).take(mapped.len()) {
                place(found.and_then(|_| permutation.client_of(*number)));
            }
        }
    }
}

/// Numbers that are permuted together.
const SIDE_BY_SIDE: usize = 8;

/// The prefix of clients, 2000::/3, and the bits behind it.
const CLIENTS: u128 = 1;
const CLIENT_IP_BITS: u32 = 125;
const PORT_BITS: u32 = 16;
/// Bits of a client: address and port.
const CLIENT_BITS: u32 = CLIENT_IP_BITS + PORT_BITS;

// All clients fit into the smallest pool, the largest one into the network, and the index holds all
// of the low half.
const _: () = assert!(REST_BITS + Pool6Len::host_bits_of(Pool6Len::MAX) >= CLIENT_BITS);
const _: () = assert!(REST_BITS + Pool6Len::host_bits_of(Pool6Len::MIN) <= Feistel::BITS_MAX);
const _: () = assert!(Pool6Len::host_bits_of(Pool6Len::MAX) >= REST_BITS);

/// The slow twin: one client at a time, in strings of bits, written as the definition reads.
pub mod reference {
    use super::{Mapped, Permutation};
    use crate::net::Endpoint6;
    use crate::relay::mapping::Tag;

    /// What stands for `client`.
    pub fn forward(permutation: &Permutation, client: Endpoint6) -> Option<Mapped> {
        let ip = bits(client.ip, 128);
        if ip[..3] != [false, false, true] {
            return None;
        }
        let hosts = 128 - usize::from(permutation.len.get());
        let x = [&vec![false; 46 + hosts - 141], &ip[3..], &bits(client.port.into(), 16)].concat();
        let y = permute(permutation, false, &x);
        let (r, index) = (number(&y[..46]), number(&y[46..]));
        Some(Mapped { tag: Tag((1 + r / 64512) as u32), port: (1024 + r % 64512) as u16, index })
    }

    /// The client that `mapped` stands for.
    pub fn inverse(permutation: &Permutation, mapped: Mapped) -> Option<Endpoint6> {
        let Mapped { tag: Tag(tag), port, index } = mapped;
        let hosts = 128 - usize::from(permutation.len.get());
        if tag == 0 || port < 1024 || index >> hosts != 0 {
            return None;
        }
        let r = u128::from(tag - 1) * 64512 + u128::from(port - 1024);
        if r >= 1 << 46 {
            return None;
        }
        let x = permute(permutation, true, &[bits(r, 46), bits(index, hosts)].concat());
        let (above, client) = x.split_at(x.len() - 141);
        let (ip, port) = ([&[false, false, true], &client[..125]].concat(), number(&client[125..]));
        if above.contains(&true) || port == 0 {
            return None;
        }
        Some(Endpoint6 { ip: number(&ip), port: port as u16 })
    }

    fn permute(permutation: &Permutation, is_inverse: bool, x: &[bool]) -> Vec<bool> {
        let (a, b) = x.split_at(x.len() / 2);
        let (mut a, mut b) = (a.to_vec(), b.to_vec());
        for step in 0..8 {
            let i = if is_inverse { 7 - step } else { step };
            match i % 2 {
                0 => xor(&mut a, &f(permutation, i, &b)),
                _ => xor(&mut b, &f(permutation, i, &a)),
            }
        }
        [a, b].concat()
    }

    fn f(permutation: &Permutation, i: u8, v: &[bool]) -> Vec<bool> {
        let tweak = bits(permutation.feistel.tweak().into(), 42);
        let block = [bits(i.into(), 3), tweak, bits(number(v), 83)].concat();
        let encrypted = permutation.aes.encrypt_block(&number(&block).to_be_bytes());
        bits(u128::from_be_bytes(encrypted), 128)
    }

    /// `half` and as many of the last bits of `output`.
    fn xor(half: &mut [bool], output: &[bool]) {
        let last = &output[output.len() - half.len()..];
        half.iter_mut().zip(last).for_each(|(bit, other)| *bit ^= other);
    }

    /// The last `count` bits of a number, the highest first.
    fn bits(number: u128, count: usize) -> Vec<bool> {
        (0..count).rev().map(|bit| number >> bit & 1 == 1).collect()
    }

    fn number(bits: &[bool]) -> u128 {
        bits.iter().fold(0, |number, bit| number << 1 | u128::from(*bit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Secret;
    use cpu_vector::Isa;
    use proptest::prelude::*;

    fn permutation(len: u8) -> Permutation {
        let keys = RelayKeys::new(&Secret::new([6; 32]), Isa::best()).unwrap();
        let vip = Endpoint6 { ip: 0x2001_0db8 << 96 | 0x10, port: 443 };
        Permutation::new(&keys, vip, Pool6Len::new(len).unwrap()).unwrap()
    }

    #[test]
    fn the_largest_rest_has_the_largest_tag() {
        for len in Pool6Len::MIN..=Pool6Len::MAX {
            let permutation = permutation(len);
            let (high, low_half) =
                (low(permutation.feistel.high_bits()), low(permutation.low_bits()));
            let largest = Halves { high, low: low_half };
            let index = low(permutation.len.host_bits());
            let mapped = Mapped { tag: Tag(1_090_785_346), port: 2047, index };
            assert_eq!(permutation.split(largest), mapped);
            assert_eq!(permutation.join(mapped), Some(largest));
            for beyond in [
                Mapped { port: mapped.port + 1, ..mapped },
                Mapped { port: 1023, ..mapped },
                Mapped { tag: Tag(mapped.tag.0 + 1), port: 1024, ..mapped },
                Mapped { tag: Tag(u32::MAX), port: u16::MAX, ..mapped },
                Mapped { tag: Tag(0), ..mapped },
                Mapped { index: index + 1, ..mapped },
            ] {
                assert_eq!(permutation.join(beyond), None, "{beyond:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_split_is_joined_again(
            len in Pool6Len::MIN..=Pool6Len::MAX, a: u128, b: u128,
        ) {
            let permutation = permutation(len);
            let feistel = &permutation.feistel;
            let (high_mask, low_mask) = (low(feistel.high_bits()), low(feistel.low_bits()));
            let halves = Halves { high: a & high_mask, low: b & low_mask };
            prop_assert_eq!(permutation.join(permutation.split(halves)), Some(halves));
        }
    }
}
