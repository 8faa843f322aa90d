//! Weighted rendezvous hashing (Thaler and Ravishankar 1998; Schindelhauer and Schomaker 2005):
//! every POP chooses the same target for a client without asking.
//!
//! ```text
//! C = AES-CMAC_K(one byte 0 | client ip 4 or 16 | client port 2)         (RFC 4493)
//! T = AES-CMAC_K(one byte 1 | VIP 16 | VIP port 2 | target ip 16 | target port 2)
//! p = (high half of C ^ T) * (low half of C ^ T)                         128 bits
//! h = high half of p ^ low half of p                                     64 bits
//! ```
//!
//! with K = HKDF(relay secret, "rendezvous"), and IPv4 addresses in T as ::ffff:0:0/96 has them.
//! C is of a client alone: a burst of many services takes one key. Target a beats b when
//! L(h_a) * weight_b < L(h_b) * weight_a, where [L](log) is a logarithm in integers; of
//! equal ones the higher h wins, then the lower address, then the lower port.
//!
//! A client costs one use of the cipher whatever the number of targets: T is computed once. With
//! equal weights the highest h wins, and nothing else is computed. Adding a target to n of the same
//! weight moves 1/(n+1) of the clients, all of them to it.

use cpu_vector::{Blocks, Isa, RoundKeys};

use crate::crypto::{Block, Cmac, Key128};
use crate::net::IpEndpoint;
use crate::relay::mapping::BURST;
use crate::relay::targets::log::log;

/// Hashes clients and targets.
#[derive(Clone, Debug)]
pub struct Hashes {
    cmac: Cmac,
    keys: RoundKeys,
}

/// C of a client.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClientHash(u128);

/// T of a target.
#[derive(Clone, Copy, Debug)]
pub struct TargetHash(u128);

impl Hashes {
    /// The hashes under `key`.
    pub fn new(key: &Key128) -> Self {
        Hashes { cmac: Cmac::new(key), keys: RoundKeys::new(key.as_bytes()) }
    }

    /// The block whose encryption is C of the IPv4 client with this address and port, 48 bits: see
    /// [`Hashes::of_messages`].
    #[inline]
    pub fn message(&self, client: u64) -> [u64; 2] {
        // A byte 0, six of the client, and the padding.
        let message = u128::from(client << 8 | 0x80) << 64;
        let padded = message ^ u128::from_be_bytes(*self.cmac.padded());
        [(padded >> 64) as u64, padded as u64].map(u64::to_be)
    }

    /// C of each of the first `count` clients with these messages, all at once.
    #[inline]
    pub fn of_messages(&self, isa: Isa, messages: &Blocks, count: usize) -> ClientHashes {
        ClientHashes(self.keys.encrypt_blocks(isa, messages, count))
    }

    /// T of `target` of the service at `vip`.
    pub fn target(&self, vip: IpEndpoint, target: IpEndpoint) -> TargetHash {
        TargetHash(u128::from_be_bytes(self.cmac.mac(&target_message(vip, target))))
    }

    /// C of each of `clients`, which are all of one family, into the same place of `out`. The
    /// shorter of the two slices says how many, up to [`BURST`].
    #[inline]
    pub fn clients(&self, clients: &[IpEndpoint], out: &mut [ClientHash]) {
        let count = clients.len().min(out.len()).min(BURST);
        let (clients, out) = (clients.split_at(count).0, out.split_at_mut(count).0);
        let mut macs = [[0; 16]; BURST];
        let macs = macs.split_at_mut(count).0;
        match clients.first() {
            Some(IpEndpoint::V4(_)) => self.macs(clients, macs, ipv4_blocks),
            _ => self.macs(clients, macs, ipv6_blocks),
        }
        for (out, mac) in out.iter_mut().zip(macs) {
            *out = ClientHash(u128::from_be_bytes(*mac));
        }
    }

    #[inline(always)]
    fn macs<const BLOCKS: usize>(
        &self,
        clients: &[IpEndpoint],
        out: &mut [Block],
        blocks: impl Fn(&IpEndpoint) -> [u128; BLOCKS],
    ) {
        let mut messages = [[0; BLOCKS]; BURST];
        messages.iter_mut().zip(clients).for_each(|(message, client)| *message = blocks(client));
        self.cmac.macs_of_padded(messages.get(..clients.len()).unwrap_or_default(), out);
    }
}

/// C of a client in each lane.
#[derive(Debug)]
pub struct ClientHashes(Blocks);

impl ClientHashes {
    /// C of the client in `lane`.
    #[inline]
    pub fn of(&self, lane: usize) -> ClientHash {
        let [high, low] = self.0.0[lane % BURST].map(u64::from_be);
        ClientHash(u128::from(high) << 64 | u128::from(low))
    }
}

/// A target that may be chosen.
#[derive(Clone, Copy, Debug)]
pub struct Member<T> {
    /// T of it.
    pub hash: TargetHash,
    /// How many clients it gets in proportion to the others, 1 or more.
    pub weight: u16,
    /// What the choice gives back.
    pub target: T,
}

/// The choice among some targets.
#[derive(Clone, Debug)]
pub struct Choice<T> {
    members: Box<[Member<T>]>,
    weights_differ: bool,
}

impl<T: Copy> Choice<T> {
    /// The choice among `members`, which ascend by address and port.
    pub fn new(members: Vec<Member<T>>) -> Self {
        let weights_differ = members.windows(2).any(|pair| pair[0].weight != pair[1].weight);
        Choice { members: members.into(), weights_differ }
    }

    /// The same choice among what `of` makes of the targets; `None` if it makes nothing of one.
    pub fn map<U>(&self, of: impl Fn(T) -> Option<U>) -> Option<Choice<U>> {
        let member = |&Member { hash, weight, target }: &Member<T>| {
            Some(Member { hash, weight, target: of(target)? })
        };
        let members = self.members.iter().map(member).collect::<Option<_>>()?;
        Some(Choice { members, weights_differ: self.weights_differ })
    }

    /// The target of all clients, where there is but one.
    #[inline(always)]
    pub fn only(&self) -> Option<T> {
        match &*self.members {
            [only] => Some(only.target),
            _ => None,
        }
    }

    /// The target of a client; `None` where there are no targets.
    #[inline(always)]
    pub fn winner(&self, client: ClientHash) -> Option<T> {
        match &*self.members {
            [only] => Some(only.target),
            _ if self.weights_differ => self.best(client, |_| true),
            members => highest(client, members),
        }
    }

    /// The target of a client among those that `may_win`.
    pub fn best(&self, client: ClientHash, may_win: impl Fn(T) -> bool) -> Option<T> {
        let mut best: Option<((u64, u64, u64), T)> = None;
        for member in self.members.iter().filter(|member| may_win(member.target)) {
            let hash = mix(client, member.hash);
            let this = (u64::from(log(hash)), u64::from(member.weight.max(1)), hash);
            // Members ascend, so an equal one leaves the lower one chosen.
            if best.is_none_or(|(best, _)| beats(this, best)) {
                best = Some((this, member.target));
            }
        }
        best.map(|(_, target)| target)
    }
}

/// The target with the highest h: the winner among equal weights.
#[inline(always)]
fn highest<T: Copy>(client: ClientHash, members: &[Member<T>]) -> Option<T> {
    let mut chosen = members.first()?;
    let mut best = mix(client, chosen.hash);
    for member in members.get(1..)? {
        let hash = mix(client, member.hash);
        if hash > best {
            (best, chosen) = (hash, member);
        }
    }
    Some(chosen.target)
}

/// Whether (L, weight, h) of one target beats that of another, which has a higher address.
#[inline(always)]
fn beats(one: (u64, u64, u64), other: (u64, u64, u64)) -> bool {
    let (one_weighted, other_weighted) = (one.0 * other.1, other.0 * one.1);
    one_weighted < other_weighted || one_weighted == other_weighted && one.2 > other.2
}

/// h of C and T.
#[inline(always)]
pub fn mix(ClientHash(client): ClientHash, TargetHash(target): TargetHash) -> u64 {
    let mixed = client ^ target;
    let product = (mixed >> 64) * (mixed & u128::from(u64::MAX));
    (product >> 64) as u64 ^ product as u64
}

/// What T is the MAC of.
fn target_message(vip: IpEndpoint, target: IpEndpoint) -> Vec<u8> {
    [&[1][..], &vip.to_mapped_bytes(), &target.to_mapped_bytes()].concat()
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
mod tests;
