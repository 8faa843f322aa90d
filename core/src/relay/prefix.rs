//! Egress mode `prefix`: an IPv4 client appears as an IPv6 address of a prefix. This is stateless
//! NAT46 (RFC 7915) with an algorithmic mapping, both ways without a table.
//!
//! ```text
//!   p bits    96 - p - c   32 bits      c bits
//! +---------+-----------+-----------+---------+        32 <= p <= 80
//! | prefix  | zeros     | client ip | check   |        c = min(32, 96 - p)
//! +---------+-----------+-----------+---------+
//!
//! check = the first c bits of AES-128_K(client ip 4 | VIP 4 | VIP port 2 | six zero bytes)
//! ```
//!
//! with K = HKDF(relay secret, "prefix check"). The client's port is kept. One client is
//! one address, so that a target can log it and limit its rate. An address that somebody made up
//! passes with a chance of 2^-c at best.

use std::sync::Arc;

use arrayvec::ArrayVec;

use super::keys::RelayKeys;
use super::mapping::{BURST, EgressMode, EgressSide};
use crate::config::Prefix;
use crate::crypto::{Aes128, Cipher, CipherJob};
use crate::net::{Endpoint, Endpoint6, IpEndpoint};
use crate::verdict::DropReason;

/// A service in prefix mode.
#[derive(Clone, Debug)]
pub struct PrefixMode(PrefixMap);

impl PrefixMode {
    /// The mode of the service at `vip`, which appears to its targets as addresses of `prefix`.
    pub fn new(keys: &RelayKeys, vip: Endpoint, prefix: Prefix) -> Self {
        PrefixMode(PrefixMap::new(Arc::clone(&keys.prefix_check), vip, prefix))
    }
}

impl EgressMode for PrefixMode {
    fn name(&self) -> &'static str {
        "prefix"
    }

    fn outward(&self, clients: &[IpEndpoint], out: &mut [Result<EgressSide, DropReason>]) {
        // Others than clients of IPv4 come to no service in prefix mode.
        let ip = |client: &IpEndpoint| match client {
            IpEndpoint::V4(client) => client.ip,
            IpEndpoint::V6(_) => 0,
        };
        let ips: ArrayVec<u32, BURST> = clients.iter().take(BURST).map(ip).collect();
        let mut addresses = [0; BURST];
        self.0.addresses(&ips, &mut addresses);
        for ((out, client), ip) in out.iter_mut().zip(clients).zip(addresses) {
            match *client {
                IpEndpoint::V4(Endpoint { port, .. }) => {
                    *out = Ok(EgressSide { egress: Endpoint6 { ip, port }.into(), tag: None });
                }
                IpEndpoint::V6(_) => *out = Err(DropReason::UnservedPort),
            }
        }
    }

    fn inward(&self, sides: &[EgressSide], out: &mut [Result<IpEndpoint, DropReason>]) {
        let shown = |side: &EgressSide| match side.egress {
            IpEndpoint::V4(_) => 0,
            IpEndpoint::V6(at) => self.0.shown(at.ip),
        };
        let clients: ArrayVec<u32, BURST> = sides.iter().take(BURST).map(shown).collect();
        let mut addresses = [0; BURST];
        self.0.addresses(&clients, &mut addresses);
        for (((out, side), ip), address) in out.iter_mut().zip(sides).zip(clients).zip(addresses) {
            match side.egress {
                IpEndpoint::V6(at) if at.ip == address => {
                    *out = Ok(Endpoint { ip, port: at.port }.into());
                }
                _ => *out = Err(DropReason::BadTag),
            }
        }
    }
}

/// What stands for the clients of one service in its prefix.
#[derive(Clone, Debug)]
pub struct PrefixMap {
    prefix: Prefix,
    aes: Arc<Aes128>,
    vip: Endpoint,
}

impl PrefixMap {
    /// The mapping of the service at `vip`, under the key that all services share.
    pub fn new(aes: Arc<Aes128>, vip: Endpoint, prefix: Prefix) -> Self {
        PrefixMap { prefix, aes, vip }
    }

    /// The prefix.
    pub fn prefix(&self) -> Prefix {
        self.prefix
    }

    /// Puts the address that stands for each of `clients` into the same place of `out`. The shorter
    /// of the two slices says how many.
    #[inline]
    pub fn addresses(&self, clients: &[u32], out: &mut [u128]) {
        self.aes.run(Addresses { map: self, clients, out });
    }

    /// The address that stands for `client`.
    pub fn address(&self, client: u32) -> u128 {
        let mut out = [0];
        self.addresses(&[client], &mut out);
        let [address] = out;
        address
    }

    /// The client that `address` stands for; `None` when it stands for nobody.
    pub fn client(&self, address: u128) -> Option<u32> {
        let client = self.shown(address);
        // Prefix, zeros and check, all at once.
        (self.address(client) == address).then_some(client)
    }

    /// The client that `address` shows, whether or not its check holds.
    #[inline(always)]
    fn shown(&self, address: u128) -> u32 {
        (address >> self.prefix.len.check_bits()) as u32
    }
}

/// The addresses of clients.
struct Addresses<'a> {
    map: &'a PrefixMap,
    clients: &'a [u32],
    out: &'a mut [u128],
}

impl CipherJob for Addresses<'_> {
    #[inline(always)]
    fn run<C: Cipher>(self, cipher: &C) {
        let Addresses { map: PrefixMap { prefix, vip, .. }, clients, out } = self;
        let service = u128::from(vip.ip) << 64 | u128::from(vip.port) << 48;
        let check_bits = prefix.len.check_bits();
        let (mut blocks, mut encrypted) = ([[0; 16]; SIDE_BY_SIDE], [[0; 16]; SIDE_BY_SIDE]);
        for (clients, out) in clients.chunks(SIDE_BY_SIDE).zip(out.chunks_mut(SIDE_BY_SIDE)) {
            for (block, client) in blocks.iter_mut().zip(clients) {
                *block = (u128::from(*client) << 96 | service).to_be_bytes();
            }
            cipher.encrypt(&blocks, &mut encrypted);
            for ((out, client), block) in out.iter_mut().zip(clients).zip(&encrypted) {
                let check = u128::from_be_bytes(*block) >> (128 - check_bits);
                *out = prefix.first | u128::from(*client) << check_bits | check;
            }
        }
    }
}

/// Clients whose checks are computed together.
const SIDE_BY_SIDE: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PrefixLen;
    use crate::crypto::Key128;
    use proptest::prelude::*;

    const KEY: Key128 = Key128::new(*b"prefix mode test");
    const VIP: Endpoint = Endpoint { ip: 0xcb00_710a, port: 443 };

    fn map(key: &Key128, len: u8) -> PrefixMap {
        let first = 0x2001_0db8_0064_a1b2_c3d4 << 48 & !(u128::MAX >> len);
        let aes = Arc::new(Aes128::new(key));
        PrefixMap::new(aes, VIP, Prefix { first, len: PrefixLen::new(len).unwrap() })
    }

    #[test]
    fn lengths_and_checks_are_as_the_protocol_says() {
        for (len, check_bits) in
            [(32, 32), (48, 32), (63, 32), (64, 32), (65, 31), (70, 26), (79, 17), (80, 16)]
        {
            assert_eq!(PrefixLen::new(len).unwrap().check_bits(), check_bits, "{len}");
        }
        for len in [0, 31, 81, 96, 128, 255] {
            assert_eq!(PrefixLen::new(len), None);
        }
    }

    #[test]
    fn fields_are_where_the_protocol_has_them() {
        let client = 0xc612_0509_u32;
        let vip = [203, 0, 113, 10, 1, 187];
        let block = [&client.to_be_bytes()[..], &vip, &[0; 6]].concat();
        let sealed = Aes128::new(&KEY).encrypt_block(&block.try_into().unwrap());
        let sealed = u32::from_be_bytes(*sealed.first_chunk().unwrap());
        for len in PrefixLen::MIN..=PrefixLen::MAX {
            let map = map(&KEY, len);
            let check_bits = map.prefix().len.check_bits();
            let address = map.address(client);
            assert_eq!(address & !(u128::MAX >> len), map.prefix().first);
            let rest = address & (u128::MAX >> len);
            assert_eq!((rest >> check_bits) as u32, client);
            assert_eq!(rest >> check_bits >> 32, 0);
            let check = rest & ((1 << check_bits) - 1);
            assert_eq!(check, u128::from(sealed) >> (32 - check_bits), "{len}");
        }
    }

    #[test]
    fn made_up_addresses_pass_as_seldom_as_the_check_is_long() {
        let map = map(&KEY, 80);
        // Any client, any check: one in 65536.
        let passed = (0..1 << 20).filter(|tried: &u128| {
            let made_up = map.prefix().first | ((tried * 0x9e37_79b9_7f4b) % (1 << 48));
            map.client(made_up).is_some()
        });
        let passed = passed.count();
        // 16 expected, standard deviation 4.
        assert!((2..=36).contains(&passed), "{passed} passed");
    }

    #[test]
    fn addresses_do_not_depend_on_their_neighbours() {
        let map = map(&KEY, 64);
        for count in [0, 1, 7, 8, 9, 31, 64] {
            let clients: Vec<u32> = (0..count).map(|i| 0xc612_0000 + i * 77).collect();
            let mut addresses = vec![0; clients.len()];
            map.addresses(&clients, &mut addresses);
            for (client, address) in clients.iter().zip(addresses) {
                assert_eq!(address, map.address(*client));
            }
        }
    }

    proptest! {
        #[test]
        fn clients_come_back(client: u32, len in PrefixLen::MIN..=PrefixLen::MAX) {
            let map = map(&KEY, len);
            let address = map.address(client);
            prop_assert!(map.prefix().contains(address));
            prop_assert_eq!(map.client(address), Some(client));
        }

        #[test]
        fn no_bit_can_be_changed(
            client: u32, len in PrefixLen::MIN..=PrefixLen::MAX, bit in 0..128,
        ) {
            let map = map(&KEY, len);
            let changed = map.address(client) ^ (1_u128 << bit);
            let check_bits = map.prefix().len.check_bits() as i32;
            // A changed client has another check, but for a chance of 2^-16 at worst.
            if !(check_bits..check_bits + 32).contains(&bit) {
                prop_assert_eq!(map.client(changed), None);
            }
        }

        #[test]
        fn another_service_has_other_checks(client: u32) {
            let (one, other) = (map(&KEY, 64), map(&Key128::new([7; 16]), 64));
            prop_assert!(other.client(one.address(client)).is_none());
        }
    }
}
