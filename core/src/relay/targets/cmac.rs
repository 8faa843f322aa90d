//! Which of a service's IPv6 targets a client belongs to: [`one_block`](super::one_block) over
//! addresses that are too long for one block of the cipher.
//!
//! ```text
//! weight = first 8 bytes, big-endian, of AES-CMAC_K(m)           (RFC 4493)
//!      m = client ip 4 or 16 | client port 2 | target ip 16 | target port 2
//! ```
//!
//! with K = HKDF(relay secret, "rendezvous", VIP, port), and the same rules for who wins. All
//! clients of a service are of one family, so that no two of them have the same m.

use crate::config::MAX_TARGETS;
use crate::crypto::{Block, Cmac, Key128};
use crate::net::{Endpoint6, IpEndpoint};

/// The choice among the IPv6 targets of one service.
#[derive(Clone, Debug)]
pub struct Rendezvous {
    cmac: Cmac,
    targets: Vec<Endpoint6>,
}

impl Rendezvous {
    /// The choice under `key` among the first [`MAX_TARGETS`] of `targets`, in any order.
    pub fn new(key: &Key128, targets: &[Endpoint6]) -> Self {
        let mut targets: Vec<_> = targets.iter().take(MAX_TARGETS).copied().collect();
        targets.sort_unstable();
        Rendezvous { cmac: Cmac::new(key), targets }
    }

    /// The targets, in ascending order.
    pub fn targets(&self) -> &[Endpoint6] {
        &self.targets
    }

    /// The index of the target of a client of either family; 0 where there are no targets.
    #[inline]
    pub fn choose(&self, client: IpEndpoint) -> u16 {
        match client {
            // 24 bytes: the first 16 end within the target's address.
            IpEndpoint::V4(client) => {
                let client = u128::from(client.ip) << 16 | u128::from(client.port);
                self.highest(|target| {
                    let first = client << 80 | target.ip >> 48;
                    [first, target.ip << 80 | u128::from(target.port) << 64 | END >> 64]
                })
            }
            // 36 bytes: the client's address, its port and most of the target's address, the rest.
            IpEndpoint::V6(client) => {
                let port = u128::from(client.port) << 112;
                self.highest(|target| {
                    let last = target.ip << 112 | u128::from(target.port) << 96 | END >> 32;
                    [client.ip, port | target.ip >> 16, last]
                })
            }
        }
    }

    /// The index of the target whose message, padded, has the highest weight.
    #[inline]
    fn highest<const BLOCKS: usize>(&self, message: impl Fn(&Endpoint6) -> [u128; BLOCKS]) -> u16 {
        let (mut best, mut chosen) = (0, 0);
        if self.targets.len() < 2 {
            return chosen;
        }
        let mut index = 0;
        for targets in self.targets.chunks(SIDE_BY_SIDE) {
            let mut messages = [[0; BLOCKS]; SIDE_BY_SIDE];
            let mut macs: [Block; SIDE_BY_SIDE] = [[0; 16]; SIDE_BY_SIDE];
            messages.iter_mut().zip(targets).for_each(|(place, target)| *place = message(target));
            let messages = messages.get(..targets.len()).unwrap_or_default();
            self.cmac.macs_of_padded(messages, &mut macs);
            for mac in macs.iter().take(targets.len()) {
                let weight = high_half(mac);
                // Targets ascend, so an equal weight leaves the lower one chosen.
                if weight > best {
                    (best, chosen) = (weight, index);
                }
                index += 1;
            }
        }
        chosen
    }

    /// The weight of `target` for `client`: the definition.
    pub fn weight(&self, client: IpEndpoint, target: Endpoint6) -> u64 {
        let ip = match client {
            IpEndpoint::V4(client) => client.ip.to_be_bytes().to_vec(),
            IpEndpoint::V6(client) => client.ip.to_be_bytes().to_vec(),
        };
        let (port, target_ip) = (client.port().to_be_bytes(), target.ip.to_be_bytes());
        let message = [&ip[..], &port, &target_ip, &target.port.to_be_bytes()].concat();
        high_half(&self.cmac.mac(&message))
    }
}

#[inline]
fn high_half(block: &Block) -> u64 {
    (u128::from_be_bytes(*block) >> 64) as u64
}

/// What follows a message that ends within a block, at the block's start.
const END: u128 = 1 << 127;

/// Targets whose weights are computed together.
const SIDE_BY_SIDE: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Endpoint;

    const KEY: Key128 = Key128::new(*b"rendezvous tests");

    fn targets(count: u16) -> Vec<Endpoint6> {
        let net = 0x2001_0db8_0005 << 80;
        (0..count).map(|i| Endpoint { ip: net | u128::from(i / 2), port: 80 + i % 2 }).collect()
    }

    fn clients(count: u32) -> Vec<(Endpoint, Endpoint6)> {
        let port = |i: u32| (i * 13 % 60_000) as u16 + 1024;
        let client = |i: u32| {
            let ip = 0x0102_0304 + i / 7;
            let ip6 = 0x2600_0000_0000_0005 << 64 | u128::from(ip) << 31 | u128::from(i);
            (Endpoint { ip, port: port(i) }, Endpoint { ip: ip6, port: port(i) })
        };
        (0..count).map(client).collect()
    }

    fn chosen(rendezvous: &Rendezvous, client: impl Into<IpEndpoint>) -> Option<Endpoint6> {
        rendezvous.targets().get(usize::from(rendezvous.choose(client.into()))).copied()
    }

    #[test]
    fn the_highest_weight_wins_whatever_the_number_of_targets() {
        for count in [1, 2, 3, 7, 8, 9, 63, 64, 65] {
            let rendezvous = Rendezvous::new(&KEY, &targets(count));
            assert_eq!(rendezvous.targets().len(), usize::from(count).min(MAX_TARGETS));
            for (client4, client6) in clients(50) {
                let best = |weight: &dyn Fn(Endpoint6) -> u64| {
                    let targets = rendezvous.targets().iter().rev().copied();
                    targets.max_by_key(|target| weight(*target))
                };
                let best4 = best(&|target| rendezvous.weight(client4.into(), target));
                let best6 = best(&|target| rendezvous.weight(client6.into(), target));
                assert_eq!(chosen(&rendezvous, client4), best4, "{count}");
                assert_eq!(chosen(&rendezvous, client6), best6, "{count}");
            }
        }
    }

    #[test]
    fn the_order_of_the_list_does_not_matter() {
        let list = targets(5);
        let reversed: Vec<_> = list.iter().rev().copied().collect();
        let (one, other) = (Rendezvous::new(&KEY, &list), Rendezvous::new(&KEY, &reversed));
        for (client4, client6) in clients(100) {
            assert_eq!(chosen(&one, client4), chosen(&other, client4));
            assert_eq!(chosen(&one, client6), chosen(&other, client6));
        }
    }

    #[test]
    fn a_new_target_takes_its_share_and_nothing_else_moves() {
        let list = targets(8);
        let (before, after) = (Rendezvous::new(&KEY, &list[..7]), Rendezvous::new(&KEY, &list));
        let mut moved = [0; 2];
        for (client4, client6) in clients(40_000) {
            for (count, old, new) in [
                (0, chosen(&before, client4), chosen(&after, client4)),
                (1, chosen(&before, client6), chosen(&after, client6)),
            ] {
                assert!(old == new || new == Some(list[7]));
                moved[count] += u32::from(old != new);
            }
        }
        // 5000 expected, standard deviation 66.
        assert!(moved.iter().all(|count| (4600..5400).contains(count)), "{moved:?} moved");
    }
}
