//! Which targets a client's segments go to, computed a second time from `docs/protocol.md`,
//! sections 5 and 19: slow, from the entries as they are written, at each question anew.

use std::net::{IpAddr, SocketAddr};

use anyrelay_core::crypto::Cmac;
use anyrelay_core::keys::{Secret, rendezvous_key};

/// A target for a time, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub address: SocketAddr,
    pub weight: u16,
    pub since_ms: u64,
    pub until_ms: u64,
    pub gone_ms: u64,
}

impl Entry {
    /// One without dates.
    pub fn always(address: SocketAddr, weight: u16) -> Self {
        Entry { address, weight, since_ms: 0, until_ms: NEVER, gone_ms: NEVER }
    }
}

/// A time between two dates, and who takes new connections in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epoch {
    pub from_ms: u64,
    pub until_ms: u64,
    pub members: Vec<Entry>,
}

/// The targets of a service, as a POP knows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetList {
    pub memory_ms: u64,
    pub skew_ms: u64,
    pub entries: Vec<Entry>,
    /// Of a list that the POP had before, and that others did not have as long.
    pub kept: Vec<Epoch>,
}

/// The hashes of a service.
#[derive(Clone, Debug)]
pub struct Hashes {
    mac: Cmac,
    vip: SocketAddr,
}

/// What is chosen for a client at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The target of a new connection.
    pub new: Option<SocketAddr>,
    /// Where other segments may have to go.
    pub candidates: Vec<SocketAddr>,
    /// The target that is asked after all candidates.
    pub next: Option<SocketAddr>,
}

impl Choice {
    /// Whether the client's segments may go to `target`.
    pub fn has(&self, target: SocketAddr) -> bool {
        self.new == Some(target) || self.candidates.contains(&target)
    }
}

impl TargetList {
    /// Targets without dates.
    pub fn always(targets: &[SocketAddr]) -> Self {
        let entries = targets.iter().map(|target| Entry::always(*target, 1)).collect();
        TargetList { memory_ms: 86_400_000, skew_ms: 3000, entries, kept: Vec::new() }
    }

    /// The list `new`, which takes the place of this one at `now_ms`: if that is too late, the
    /// epochs of this one go on to count.
    pub fn replaced(&self, new: TargetList, now_ms: u64) -> Self {
        let (from, until) = (now_ms.saturating_sub(self.memory_ms), now_ms + self.skew_ms);
        let differs = |entry: &Entry| {
            let same =
                |old: &&Entry| (old.address, old.since_ms) == (entry.address, entry.since_ms);
            match self.entries.iter().find(same) {
                Some(old) if old.until_ms == entry.until_ms => NEVER,
                Some(old) => old.until_ms.min(entry.until_ms),
                None => entry.since_ms,
            }
        };
        let is_late = new.entries.iter().map(differs).any(|date| date <= until);
        let mut kept = self.kept.clone();
        if is_late {
            let epochs = self.window(now_ms).into_iter();
            kept.extend(epochs.map(|at| Epoch { until_ms: at.until_ms.min(until), ..at }));
        }
        kept.retain(|epoch| epoch.until_ms > from);
        TargetList { kept, ..new }
    }

    pub fn epochs(&self) -> Vec<Epoch> {
        let mut dates: Vec<_> =
            self.entries.iter().flat_map(|entry| [entry.since_ms, entry.until_ms]).collect();
        dates.extend([0, NEVER]);
        dates.sort_unstable();
        dates.dedup();
        let epoch = |pair: &[u64]| {
            let takes = |entry: &&Entry| entry.since_ms <= pair[0] && pair[0] < entry.until_ms;
            let members = self.entries.iter().filter(takes).copied().collect();
            Epoch { from_ms: pair[0], until_ms: pair[1], members }
        };
        dates.windows(2).map(epoch).collect()
    }

    /// The epochs that have a part within the memory and the skew around `now_ms`.
    pub fn window(&self, now_ms: u64) -> Vec<Epoch> {
        let (from, until) = (now_ms.saturating_sub(self.memory_ms), now_ms + self.skew_ms);
        let mut epochs = self.epochs();
        epochs.retain(|epoch| epoch.until_ms > from && epoch.from_ms <= until);
        epochs
    }

    /// Whether there is such a target.
    pub fn names(&self, target: SocketAddr) -> bool {
        let of_kept = self.kept.iter().flat_map(|epoch| &epoch.members);
        self.entries.iter().chain(of_kept).any(|entry| entry.address == target)
    }

    /// Whether `client` may get a target that is given up with its connections.
    pub fn may_give_up(&self, hashes: &Hashes, client: SocketAddr) -> bool {
        let epochs = self.epochs();
        let mut winners = epochs.iter().filter_map(|at| hashes.winner(client, &at.members));
        winners.any(|entry| entry.gone_ms != NEVER)
    }

    /// What is chosen for `client` at `now_ms`.
    pub fn choose(&self, hashes: &Hashes, client: SocketAddr, now_ms: u64) -> Choice {
        let from = now_ms.saturating_sub(self.memory_ms);
        let (epochs, kept) = (self.window(now_ms), self.kept.iter());
        let kept: Vec<_> = kept.filter(|epoch| epoch.until_ms > from).cloned().collect();
        let present = epochs.iter().find(|at| at.from_ms <= now_ms && now_ms < at.until_ms);
        let present = present.map_or(&[][..], |epoch| &epoch.members);
        let new = hashes.winner(client, present).map(|entry| entry.address);
        let mut candidates: Vec<_> = epochs
            .iter()
            .chain(&kept)
            .filter_map(|epoch| hashes.winner(client, &epoch.members))
            .filter(|entry| now_ms < entry.gone_ms)
            .map(|entry| entry.address)
            .collect();
        candidates.sort_unstable();
        candidates.dedup();
        if candidates.is_empty() {
            candidates.extend(new);
        }
        let others: Vec<_> =
            present.iter().filter(|at| !candidates.contains(&at.address)).copied().collect();
        let next = hashes.winner(client, &others).map(|entry| entry.address);
        Choice { new, candidates, next }
    }
}

impl Hashes {
    pub fn new(relay: &Secret, vip: SocketAddr) -> Result<Self, String> {
        let key = rendezvous_key(relay).map_err(|error| error.to_string())?;
        Ok(Hashes { mac: Cmac::new(&key), vip })
    }

    fn of_client(&self, at: SocketAddr) -> u128 {
        let address = match at.ip() {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        self.mac(&[&[0], &address[..], &at.port().to_be_bytes()].concat())
    }

    fn of_target(&self, at: SocketAddr) -> u128 {
        let field = |at: SocketAddr| {
            let address = match at.ip() {
                IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                IpAddr::V6(ip) => ip,
            };
            [&address.octets()[..], &at.port().to_be_bytes()].concat()
        };
        self.mac(&[vec![1], field(self.vip), field(at)].concat())
    }

    fn mac(&self, message: &[u8]) -> u128 {
        u128::from_be_bytes(self.mac.mac(message))
    }

    fn winner(&self, client: SocketAddr, members: &[Entry]) -> Option<Entry> {
        let client = self.of_client(client);
        let mut best: Option<(u64, Entry)> = None;
        for entry in members {
            let both = client ^ self.of_target(entry.address);
            let product = u128::from((both >> 64) as u64) * u128::from(both as u64);
            let hash = (product >> 64) as u64 ^ product as u64;
            if best.is_none_or(|best| beats((hash, *entry), best)) {
                best = Some((hash, *entry));
            }
        }
        best.map(|(_, entry)| entry)
    }
}

fn beats(one: (u64, Entry), other: (u64, Entry)) -> bool {
    let left = u128::from(logarithm(one.0)) * u128::from(other.1.weight);
    let right = u128::from(logarithm(other.0)) * u128::from(one.1.weight);
    let order = left.cmp(&right).then(other.0.cmp(&one.0));
    order.then(one.1.address.cmp(&other.1.address)).is_lt()
}

/// -log2(hash / 2^64), in units of 2^-24, with a straight line between 64 points.
fn logarithm(hash: u64) -> u64 {
    let point = |i: u64| ((1.0 + i as f64 / 64.0).log2() * f64::from(1 << 24)).round() as u64;
    if hash == 0 {
        return 65 << 24;
    }
    let zeros = hash.leading_zeros();
    let behind = hash.checked_shl(zeros + 1).unwrap_or(0);
    let (i, f) = (behind >> 58, (behind >> 42) & 0xffff);
    let (low, high) = (point(i), point(i + 1));
    ((u64::from(zeros) + 1) << 24) - low - (((high - low) * f) >> 16)
}

/// A date that never comes.
pub const NEVER: u64 = u64::MAX;
