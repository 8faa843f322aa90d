//! Which of a service's targets a client belongs to: rendezvous hashing (Thaler and Ravishankar
//! 1998), so that every POP chooses the same one without asking anybody.
//!
//! ```text
//! weight = first 8 bytes, big-endian, of
//!          AES-128_K(client ip 4 | client port 2 | target ip 4 | target port 2 | four zero bytes)
//! ```
//!
//! with K = HKDF(relay secret, "rendezvous", VIP, port). The highest weight wins; of equal ones the
//! lowest target address, then the lowest port. Adding a target to n moves 1/(n+1) of the clients,
//! all of them to it. Targets of IPv6 are the matter of [`cmac`](super::cmac).

use crate::config::MAX_TARGETS;
use crate::crypto::{Aes128, Block, Cipher, CipherJob, Key128};
use crate::net::Endpoint;

/// The choice among the targets of one service.
#[derive(Clone, Debug)]
pub struct Rendezvous {
    aes: Aes128,
    targets: Vec<Endpoint>,
}

impl Rendezvous {
    /// The choice under `key` among the first [`MAX_TARGETS`] of `targets`, in any order.
    pub fn new(key: &Key128, targets: &[Endpoint]) -> Self {
        let mut targets: Vec<_> = targets.iter().take(MAX_TARGETS).copied().collect();
        targets.sort_unstable();
        Rendezvous { aes: Aes128::new(key), targets }
    }

    /// The targets, in ascending order: what the choice is an index into.
    pub fn targets(&self) -> &[Endpoint] {
        &self.targets
    }

    /// Puts the index of the target of each of `clients` into the same place of `out`. The shorter
    /// of the two slices says how many. Without targets every index is 0.
    pub fn choose(&self, clients: &[Endpoint], out: &mut [u16]) {
        out.iter_mut().zip(clients).for_each(|(out, _)| *out = 0);
        if self.targets.len() < 2 {
            return;
        }
        for (clients, out) in clients.chunks(SIDE_BY_SIDE).zip(out.chunks_mut(SIDE_BY_SIDE)) {
            self.aes.run(Choice { rendezvous: self, clients, out });
        }
    }

    /// The weight of the target `target` for `client`: the definition, one at a time.
    pub fn weight(&self, client: Endpoint, target: Endpoint) -> u64 {
        high_half(&self.aes.encrypt_block(&to_block(client, target)))
    }
}

/// The choice for up to [`SIDE_BY_SIDE`] clients.
struct Choice<'a> {
    rendezvous: &'a Rendezvous,
    clients: &'a [Endpoint],
    out: &'a mut [u16],
}

impl CipherJob for Choice<'_> {
    #[inline(always)]
    fn run<C: Cipher>(self, cipher: &C) {
        let (mut blocks, mut encrypted) = ([[0; 16]; SIDE_BY_SIDE], [[0; 16]; SIDE_BY_SIDE]);
        let mut best = [0; SIDE_BY_SIDE];
        for (index, target) in self.rendezvous.targets.iter().enumerate() {
            for (block, client) in blocks.iter_mut().zip(self.clients) {
                *block = to_block(*client, *target);
            }
            cipher.encrypt(&blocks, &mut encrypted);
            for ((encrypted, best), out) in encrypted.iter().zip(&mut best).zip(&mut *self.out) {
                let weight = high_half(encrypted);
                // Targets ascend, so an equal weight leaves the lower one chosen.
                if weight > *best {
                    (*best, *out) = (weight, index as u16);
                }
            }
        }
    }
}

#[inline(always)]
fn to_block(client: Endpoint, target: Endpoint) -> Block {
    let endpoint = |endpoint: Endpoint| u128::from(endpoint.ip) << 16 | u128::from(endpoint.port);
    (endpoint(client) << 80 | endpoint(target) << 32).to_be_bytes()
}

#[inline(always)]
fn high_half(block: &Block) -> u64 {
    (u128::from_be_bytes(*block) >> 64) as u64
}

/// Clients whose weights are computed together. Targets follow each other without waiting, so more
/// would gain nothing (`benches/permutation.rs`).
const SIDE_BY_SIDE: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key128 = Key128::new(*b"rendezvous tests");

    fn targets(count: u32) -> Vec<Endpoint> {
        (0..count)
            .map(|i| Endpoint { ip: 0xc633_6401 + i / 2, port: 80 + (i % 2) as u16 })
            .collect()
    }

    fn clients(count: u32) -> Vec<Endpoint> {
        (0..count)
            .map(|i| Endpoint { ip: 0x0102_0304 + i / 7, port: (i * 13 % 60_000) as u16 + 1024 })
            .collect()
    }

    fn choose(rendezvous: &Rendezvous, clients: &[Endpoint]) -> Vec<Endpoint> {
        let mut out = vec![u16::MAX; clients.len()];
        rendezvous.choose(clients, &mut out);
        out.iter().map(|&index| rendezvous.targets()[usize::from(index)]).collect()
    }

    #[test]
    fn the_highest_weight_wins_at_every_burst_length() {
        for count in [1, 2, 3, 64] {
            let rendezvous = Rendezvous::new(&KEY, &targets(count));
            for len in [0, 1, 2, 7, 8, 9, 15, 16, 17, 63, 64, 65, 200] {
                let clients = clients(len);
                for (client, chosen) in clients.iter().zip(choose(&rendezvous, &clients)) {
                    let best = rendezvous.targets().iter().rev().copied();
                    let best = best.max_by_key(|target| rendezvous.weight(*client, *target));
                    assert_eq!(Some(chosen), best, "{count} {len}");
                }
            }
        }
    }

    #[test]
    fn the_order_of_the_list_does_not_matter() {
        let (list, clients) = (targets(5), clients(100));
        let reversed: Vec<_> = list.iter().rev().copied().collect();
        let chosen = choose(&Rendezvous::new(&KEY, &list), &clients);
        assert_eq!(chosen, choose(&Rendezvous::new(&KEY, &reversed), &clients));
    }

    #[test]
    fn targets_get_equal_shares() {
        let (list, clients) = (targets(8), clients(40_000));
        let chosen = choose(&Rendezvous::new(&KEY, &list), &clients);
        for target in list {
            let share = chosen.iter().filter(|chosen| **chosen == target).count();
            // 5000 expected, standard deviation 66.
            assert!((4600..5400).contains(&share), "{target} has {share}");
        }
    }

    #[test]
    fn a_new_target_takes_its_share_and_nothing_else_moves() {
        let (list, clients) = (targets(8), clients(40_000));
        let before = choose(&Rendezvous::new(&KEY, &list[..7]), &clients);
        let after = choose(&Rendezvous::new(&KEY, &list), &clients);
        let moved: Vec<_> = before.iter().zip(&after).filter(|(a, b)| a != b).collect();
        assert!(moved.iter().all(|(_, after)| **after == list[7]));
        println!("{} of {} clients moved to the eighth target", moved.len(), clients.len());
        assert!((4600..5400).contains(&moved.len()), "{} moved", moved.len());
    }
}
