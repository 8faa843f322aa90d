//! Weighted rendezvous hashing (Thaler and Ravishankar 1998; Schindelhauer and Schomaker 2005):
//! every POP chooses the same target for a client without asking.
//!
//! ```text
//! C = AES-CMAC_K(one byte 0 | client ip 4 or 16 | client port 2)         (RFC 4493)
//! T = AES-CMAC_K(one byte 1 | target ip 4 or 16 | target port 2)
//! p = (high half of C ^ T) * (low half of C ^ T)                         128 bits
//! h = high half of p ^ low half of p                                     64 bits
//! ```
//!
//! with K = HKDF(relay secret, "rendezvous", VIP, port). Target a beats b when
//! L(h_a) * weight_b < L(h_b) * weight_a, where [L](super::log::log) is a logarithm in integers; of
//! equal ones the higher h wins, then the lower address, then the lower port.
//!
//! A client costs one use of the cipher whatever the number of targets: T is computed once. With
//! equal weights the highest h wins, and nothing else is computed. Adding a target to n of the same
//! weight moves 1/(n+1) of the clients, all of them to it.

use super::log::log;
use crate::config::MAX_TARGETS;
use crate::crypto::{Block, Cmac, Key128};
use crate::net::IpEndpoint;
use crate::relay::mapping::BURST;

/// A target, and how many clients it gets in proportion to the others, 1 or more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Weighted {
    /// The target.
    pub target: IpEndpoint,
    /// Its weight.
    pub weight: u16,
}

/// The choice among the targets of one service.
#[derive(Clone, Debug)]
pub struct Rendezvous {
    cmac: Cmac,
    /// Ascending.
    targets: Vec<IpEndpoint>,
    /// T and the weight of each.
    candidates: Vec<Candidate>,
    weights_differ: bool,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    key: u128,
    weight: u64,
}

impl Rendezvous {
    /// The choice under `key` among the first [`MAX_TARGETS`] of `targets`, in any order.
    pub fn new(key: &Key128, targets: &[Weighted]) -> Self {
        let mut targets: Vec<_> = targets.iter().take(MAX_TARGETS).copied().collect();
        targets.sort_unstable();
        let cmac = Cmac::new(key);
        let candidate = |at: &Weighted| Candidate {
            key: u128::from_be_bytes(cmac.mac(&message(TARGET, at.target))),
            weight: at.weight.max(1).into(),
        };
        Rendezvous {
            weights_differ: targets.windows(2).any(|pair| pair[0].weight != pair[1].weight),
            candidates: targets.iter().map(candidate).collect(),
            targets: targets.iter().map(|at| at.target).collect(),
            cmac,
        }
    }

    /// The targets, ascending: what the choice is an index into.
    #[inline(always)]
    pub fn targets(&self) -> &[IpEndpoint] {
        &self.targets
    }

    /// Puts the index of the target of each of `clients` into the same place of `out`. The shorter
    /// of the two slices says how many, up to [`BURST`]. Without targets every index is 0.
    #[inline]
    pub fn choose(&self, clients: &[IpEndpoint], out: &mut [u16]) {
        if self.targets.len() < 2 {
            return out.fill(0);
        }
        let count = clients.len().min(out.len()).min(BURST);
        let (clients, out) = (clients.split_at(count).0, out.split_at_mut(count).0);
        let mut hashes = [[0; 16]; BURST];
        let hashes = hashes.split_at_mut(count).0;
        match clients.first() {
            Some(IpEndpoint::V4(_)) => self.hash_clients(clients, hashes, ipv4_blocks),
            _ => self.hash_clients(clients, hashes, ipv6_blocks),
        }
        for (out, hash) in out.iter_mut().zip(hashes) {
            let hash = u128::from_be_bytes(*hash);
            *out = if self.weights_differ { self.winner(hash) } else { self.highest(hash) };
        }
    }

    /// C of each of `clients`, which are all of one family, into the same place of `out`.
    #[inline(always)]
    fn hash_clients<const BLOCKS: usize>(
        &self,
        clients: &[IpEndpoint],
        out: &mut [Block],
        blocks: impl Fn(&IpEndpoint) -> [u128; BLOCKS],
    ) {
        let mut messages = [[0; BLOCKS]; BURST];
        messages.iter_mut().zip(clients).for_each(|(message, client)| *message = blocks(client));
        self.cmac.macs_of_padded(messages.get(..clients.len()).unwrap_or_default(), out);
    }

    /// The index of the highest h: the winner among equal weights.
    #[inline(always)]
    fn highest(&self, client: u128) -> u16 {
        let (mut best, mut chosen) = (0, 0);
        for (index, candidate) in (0..).zip(&self.candidates) {
            let hash = mix(client, candidate.key);
            // Targets ascend, so an equal one leaves the lower one chosen.
            if hash > best {
                (best, chosen) = (hash, index);
            }
        }
        chosen
    }

    fn winner(&self, client: u128) -> u16 {
        let (mut best, mut chosen) = (None, 0);
        for (index, candidate) in (0..).zip(&self.candidates) {
            let hash = mix(client, candidate.key);
            let this = (u64::from(log(hash)), candidate.weight, hash);
            if best.is_none_or(|best| beats(this, best)) {
                (best, chosen) = (Some(this), index);
            }
        }
        chosen
    }

    /// h of `target` for `client`: the definition. `None` for what is no target.
    pub fn hash(&self, client: IpEndpoint, target: IpEndpoint) -> Option<u64> {
        let index = self.targets.binary_search(&target).ok()?;
        let client = u128::from_be_bytes(self.cmac.mac(&message(CLIENT, client)));
        Some(mix(client, self.candidates.get(index)?.key))
    }
}

/// Whether (L, weight, h) of one target beats that of another, which has a higher address.
#[inline(always)]
fn beats(one: (u64, u64, u64), other: (u64, u64, u64)) -> bool {
    let (one_weighted, other_weighted) = (one.0 * other.1, other.0 * one.1);
    one_weighted < other_weighted || one_weighted == other_weighted && one.2 > other.2
}

/// h of C and T.
#[inline(always)]
fn mix(client: u128, target: u128) -> u64 {
    let mixed = client ^ target;
    let product = (mixed >> 64) * (mixed & u128::from(u64::MAX));
    (product >> 64) as u64 ^ product as u64
}

const CLIENT: u8 = 0;
const TARGET: u8 = 1;

/// What C or T is the MAC of.
fn message(kind: u8, at: IpEndpoint) -> Vec<u8> {
    let port = at.port().to_be_bytes();
    match at {
        IpEndpoint::V4(at) => [&[kind], &at.ip.to_be_bytes()[..], &port].concat(),
        IpEndpoint::V6(at) => [&[kind], &at.ip.to_be_bytes()[..], &port].concat(),
    }
}

/// The message of C of an IPv4 client, padded: 7 bytes.
#[inline(always)]
fn ipv4_blocks(client: &IpEndpoint) -> [u128; 1] {
    let IpEndpoint::V4(client) = client else { return [0] };
    [u128::from(client.ip) << 88 | u128::from(client.port) << 72 | 1 << 71]
}

/// The message of C of an IPv6 client, padded: 19 bytes, whose first block ends within the address.
#[inline(always)]
fn ipv6_blocks(client: &IpEndpoint) -> [u128; 2] {
    let IpEndpoint::V6(client) = client else { return [0; 2] };
    [client.ip >> 8, client.ip << 120 | u128::from(client.port) << 104 | 1 << 103]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Endpoint;
    use proptest::prelude::*;

    const KEY: Key128 = Key128::new(*b"rendezvous tests");

    /// Targets of IPv4 or IPv6 with weights that follow each other in a cycle.
    fn targets(ipv6: bool, count: u16, weights: &[u16]) -> Vec<Weighted> {
        let net = 0x2001_0db8_0005 << 80;
        let target = |(i, weight): (u16, &u16)| {
            let port = 80 + i % 2;
            let target = match ipv6 {
                false => Endpoint { ip: 0xc633_6401 + u32::from(i / 2), port }.into(),
                true => Endpoint { ip: net | u128::from(i / 2), port }.into(),
            };
            Weighted { target, weight: *weight }
        };
        (0..count).zip(weights.iter().cycle()).map(target).collect()
    }

    fn clients(ipv6: bool, count: u32) -> Vec<IpEndpoint> {
        let client = |i: u32| {
            let (ip, port) = (0x0102_0304 + i / 7, (i * 13 % 60_000) as u16 + 1024);
            match ipv6 {
                false => Endpoint { ip, port }.into(),
                true => Endpoint { ip: 0x26 << 120 | u128::from(ip) << 31 | 5, port }.into(),
            }
        };
        (0..count).map(client).collect()
    }

    fn choose(rendezvous: &Rendezvous, clients: &[IpEndpoint]) -> Vec<IpEndpoint> {
        let mut chosen = Vec::new();
        for clients in clients.chunks(BURST) {
            let mut out = [u16::MAX; BURST];
            rendezvous.choose(clients, &mut out);
            let target = |index: &u16| rendezvous.targets()[usize::from(*index)];
            chosen.extend(out[..clients.len()].iter().map(target));
        }
        chosen
    }

    /// The slow twin: the definition, for one client.
    fn best(rendezvous: &Rendezvous, list: &[Weighted], client: IpEndpoint) -> IpEndpoint {
        let mut list = list.to_vec();
        list.sort_by(|a, b| {
            let hash = |at: &Weighted| rendezvous.hash(client, at.target).unwrap();
            let weighted = |at: &Weighted, other: &Weighted| {
                u64::from(log(hash(at))) * u64::from(other.weight)
            };
            let by_log = weighted(a, b).cmp(&weighted(b, a));
            by_log.then(hash(b).cmp(&hash(a))).then(a.target.cmp(&b.target))
        });
        list[0].target
    }

    #[test]
    fn the_best_target_wins_at_every_burst_length_and_with_any_weights() {
        for ipv6 in [false, true] {
            for weights in [&[1][..], &[7], &[1, 2, 3], &[1, u16::MAX, 40]] {
                for count in [1, 2, 3, 64] {
                    let list = targets(ipv6, count, weights);
                    let rendezvous = Rendezvous::new(&KEY, &list);
                    for len in [0, 1, 2, 7, 16, 63, 64] {
                        let clients = clients(ipv6, len);
                        for (client, chosen) in clients.iter().zip(choose(&rendezvous, &clients)) {
                            let best = best(&rendezvous, &list, *client);
                            assert_eq!(chosen, best, "{count} {len} {weights:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_order_of_the_list_does_not_matter_and_the_list_is_bounded() {
        let list = targets(false, 65, &[1, 2]);
        let reversed: Vec<_> = list[..5].iter().rev().copied().collect();
        let clients = clients(false, 100);
        let chosen = choose(&Rendezvous::new(&KEY, &list[..5]), &clients);
        assert_eq!(chosen, choose(&Rendezvous::new(&KEY, &reversed), &clients));
        assert_eq!(Rendezvous::new(&KEY, &list).targets().len(), MAX_TARGETS);
    }

    /// The share of each target, in standard deviations from what its weight promises.
    fn deviations(rendezvous: &Rendezvous, list: &[Weighted], clients: &[IpEndpoint]) -> Vec<f64> {
        let chosen = choose(rendezvous, clients);
        let all: f64 = list.iter().map(|at| f64::from(at.weight)).sum();
        let deviation = |at: &Weighted| {
            let (n, p) = (clients.len() as f64, f64::from(at.weight) / all);
            let got = chosen.iter().filter(|chosen| **chosen == at.target).count() as f64;
            (got - n * p) / (n * p * (1.0 - p)).sqrt()
        };
        list.iter().map(deviation).collect()
    }

    #[test]
    fn targets_get_shares_by_their_weights() {
        for ipv6 in [false, true] {
            let clients = clients(ipv6, 60_000);
            for (count, weights) in [
                (2, &[1][..]),
                (8, &[1]),
                (64, &[1]),
                (2, &[1, 9]),
                (8, &[1, 2, 5]),
                (3, &[1, 100]),
            ] {
                let list = targets(ipv6, count, weights);
                let found = deviations(&Rendezvous::new(&KEY, &list), &list, &clients);
                assert!(
                    found.iter().all(|found| found.abs() < 4.5),
                    "{count} {weights:?} {found:?}"
                );
            }
        }
    }

    #[test]
    fn a_new_target_takes_its_share_and_nothing_else_moves() {
        for ipv6 in [false, true] {
            let (list, clients) = (targets(ipv6, 8, &[1, 3]), clients(ipv6, 40_000));
            let before = choose(&Rendezvous::new(&KEY, &list[..7]), &clients);
            let after = choose(&Rendezvous::new(&KEY, &list), &clients);
            let moved: Vec<_> = before.iter().zip(&after).filter(|(a, b)| a != b).collect();
            assert!(moved.iter().all(|(_, after)| **after == list[7].target));
            // 3 of 16: 7500 expected, standard deviation 78.
            assert!((7150..7850).contains(&moved.len()), "{} moved", moved.len());
        }
    }

    #[test]
    fn a_weight_that_rises_moves_clients_to_its_target_only() {
        let (mut list, clients) = (targets(false, 5, &[10]), clients(false, 20_000));
        let before = choose(&Rendezvous::new(&KEY, &list), &clients);
        list[2].weight = 20;
        let after = choose(&Rendezvous::new(&KEY, &list), &clients);
        for (before, after) in before.iter().zip(&after) {
            assert!(before == after || *after == list[2].target);
        }
    }

    proptest! {
        #[test]
        fn the_padded_messages_are_those_of_the_definition(ip: u128, port: u16) {
            let rendezvous = Rendezvous::new(&KEY, &targets(false, 2, &[1]));
            for client in [
                IpEndpoint::V4(Endpoint { ip: ip as u32, port }),
                IpEndpoint::V6(Endpoint { ip, port }),
            ] {
                let mut hashed = [[0; 16]];
                match client {
                    IpEndpoint::V4(_) => {
                        rendezvous.hash_clients(&[client], &mut hashed, ipv4_blocks);
                    }
                    IpEndpoint::V6(_) => {
                        rendezvous.hash_clients(&[client], &mut hashed, ipv6_blocks);
                    }
                }
                prop_assert_eq!(hashed, [rendezvous.cmac.mac(&message(CLIENT, client))]);
            }
        }
    }
}
