//! The targets of a service, and which of them a client's segment may have to go to at a time.

use std::sync::Arc;

use arrayvec::ArrayVec;

use crate::config::{self, ChooseBy, MAX_TARGETS, TargetList};
use crate::net::IpEndpoint;
use crate::relay::keys::RelayKeys;
use crate::relay::mapping::BURST;
use crate::relay::targets::candidates::{Candidates, Chosen, TargetIndex, TargetSlot};
use crate::relay::targets::rendezvous::{Choice, ClientHash, Hashes, Member, TargetHash, mix};
use crate::time::UnixTime;

/// The targets of a service and the choice among them.
#[derive(Clone, Debug)]
pub struct Targets {
    hashes: Arc<Hashes>,
    vip: IpEndpoint,
    all: Vec<IpEndpoint>,
    slots: Vec<TargetSlot>,
    epochs: Vec<Epoch>,
    /// Of a list before, within its memory.
    kept: Vec<Epoch>,
    memory_ms: u64,
    skew_ms: u64,
    choose_by: ChooseBy,
}

/// An epoch, ready for use.
#[derive(Clone, Debug)]
struct Epoch {
    from: UnixTime,
    until: UnixTime,
    choice: Choice<Dated>,
}

/// A target, and from when on it is not asked.
#[derive(Clone, Copy, Debug)]
struct Dated {
    index: TargetIndex,
    gone: UnixTime,
}

impl Targets {
    /// The choice among the targets of `list` of the service at `vip`; `kept` are
    /// epochs of a list before whose connections go on. Counter slots are those of `before` for
    /// the targets that it has.
    pub fn new(
        keys: &RelayKeys,
        vip: IpEndpoint,
        list: &TargetList,
        kept: &[config::Epoch],
        before: Option<&Targets>,
    ) -> Self {
        let hashes = Arc::clone(&keys.hashes);
        let of_kept = kept.iter().flat_map(|epoch| &epoch.members);
        let mut all: Vec<_> = list.addresses().map(IpEndpoint::from).collect();
        for address in of_kept.map(|target| target.address.into()) {
            if !all.contains(&address) && all.len() < MAX_TARGETS {
                all.push(address);
            }
        }
        all.sort_unstable();
        all.truncate(MAX_TARGETS);
        let compile = |epochs: &[config::Epoch]| -> Vec<Epoch> {
            epochs
                .iter()
                .map(|epoch| Epoch::new(epoch, &all, |target| hashes.target(vip, target)))
                .collect()
        };
        // Of several lists before: those that end first are first.
        let mut old = compile(kept);
        old.sort_by_key(|epoch| epoch.until);
        Targets {
            epochs: compile(&list.epochs()),
            kept: old,
            slots: slots(&all, before),
            memory_ms: list.memory_ms,
            skew_ms: list.skew_ms,
            choose_by: ChooseBy::Endpoint,
            hashes,
            vip,
            all,
        }
    }

    /// The same, where that decides which target a client has.
    #[must_use]
    pub fn choosing_by(self, choose_by: ChooseBy) -> Self {
        Targets { choose_by, ..self }
    }

    /// C of each of `clients`: of their addresses alone, all have the port 0.
    #[inline]
    fn client_hashes(&self, clients: &[IpEndpoint], out: &mut [ClientHash]) {
        match self.choose_by {
            ChooseBy::Endpoint => self.hashes.clients(clients, out),
            ChooseBy::Address => {
                let hosts = clients.iter().take(BURST).map(|client| client.with_port(0));
                self.hashes.clients(&hosts.collect::<ArrayVec<_, BURST>>(), out);
            }
        }
    }

    /// All targets, ascending: those that take new connections at any time.
    #[inline(always)]
    pub fn all(&self) -> &[IpEndpoint] {
        &self.all
    }

    /// The target in that place.
    #[inline(always)]
    pub fn at(&self, index: TargetIndex) -> Option<&IpEndpoint> {
        self.all.get(usize::from(index.0))
    }

    /// The place of the counters of the target in that place.
    #[inline(always)]
    pub fn slot(&self, index: TargetIndex) -> TargetSlot {
        self.slots.get(usize::from(index.0)).copied().unwrap_or(TargetSlot(0))
    }

    /// All targets and the places of their counters.
    pub fn with_slots(&self) -> impl Iterator<Item = (&IpEndpoint, TargetSlot)> {
        self.all.iter().zip(self.slots.iter().copied())
    }

    /// The place of `target`.
    pub fn index_of(&self, target: &IpEndpoint) -> Option<TargetIndex> {
        self.all.binary_search(target).ok().map(|index| TargetIndex(index as u8))
    }

    /// What is chosen from at `now`.
    #[inline]
    pub fn window(&self, now: UnixTime) -> Window<'_> {
        if let [only] = self.epochs.as_slice()
            && self.kept.is_empty()
        {
            return Window {
                targets: self,
                now,
                present: Some(only),
                epochs: &self.epochs,
                kept: &[],
            };
        }
        self.dated_window(now)
    }

    fn dated_window(&self, now: UnixTime) -> Window<'_> {
        let (from, until) = (now.minus_millis(self.memory_ms), now.plus_millis(self.skew_ms));
        let first = self.epochs.iter().take_while(|epoch| epoch.until <= from).count();
        let after = self.epochs.iter().take_while(|epoch| epoch.from <= until).count();
        let kept = self.kept.iter().take_while(|epoch| epoch.until <= from).count();
        let holds = |epoch: &&Epoch| epoch.from <= now && now < epoch.until;
        Window {
            targets: self,
            now,
            present: self.epochs.iter().find(holds),
            epochs: self.epochs.get(first..after).unwrap_or_default(),
            kept: self.kept.get(kept..).unwrap_or_default(),
        }
    }

    /// The periods in which no client has more than one candidate, ascending, and the choice in
    /// each among what `of` makes of targets.
    pub fn settled<U>(
        &self,
        of: impl Fn(TargetIndex) -> Option<U>,
    ) -> impl Iterator<Item = (UnixTime, UnixTime, Choice<U>)> {
        let forgotten = |epoch: &Epoch| epoch.until.plus_millis(self.memory_ms);
        let first = self.kept.iter().map(forgotten).max().unwrap_or_default();
        self.epochs.iter().enumerate().filter_map(move |(place, epoch)| {
            let (before, after) = self.epochs.split_at(place);
            let from = before.iter().map(forgotten).fold(first.max(epoch.from), UnixTime::max);
            let seen = |later: &Epoch| later.from.minus_millis(self.skew_ms);
            let later = after.iter().skip(1).map(seen);
            let until = later.fold(epoch.until, UnixTime::min);
            let choice = epoch.choice.map(|target| of(target.index))?;
            (from < until).then_some((from, until, choice))
        })
    }

    /// What is chosen for `client` at `now`.
    pub fn choose(&self, client: &IpEndpoint, now: UnixTime) -> Chosen {
        let mut out = [Chosen::default()];
        self.window(now).choose(&[*client], &mut out);
        let [chosen] = out;
        chosen
    }

    /// The target of `client` among those that take new connections at `now` and are not `but`:
    /// where a POP that does not know of a change may find a connection.
    #[cold]
    pub fn next(&self, client: &IpEndpoint, now: UnixTime, but: Candidates) -> Option<TargetIndex> {
        let mut hashes = [ClientHash::default()];
        self.client_hashes(&[*client], &mut hashes);
        let [hash] = hashes;
        let next = self.window(now).present?.choice.best(hash, |target| !but.has(target.index));
        next.map(|target| target.index)
    }
}

impl Targets {
    /// The hash by which `target` is chosen for `client`: among equal weights the highest wins, of
    /// equal ones the first. `None` for what is no target.
    pub fn hash(&self, client: IpEndpoint, target: IpEndpoint) -> Option<u64> {
        self.index_of(&target)?;
        let mut hashes = [ClientHash::default()];
        self.client_hashes(&[client], &mut hashes);
        let [hash] = hashes;
        Some(mix(hash, self.hashes.target(self.vip, target)))
    }
}

/// The slot of each of `all`: its own of before, else one that was not in use, else one of a target
/// that is gone.
fn slots(all: &[IpEndpoint], before: Option<&Targets>) -> Vec<TargetSlot> {
    let of_before: Vec<_> = before.into_iter().flat_map(Targets::with_slots).collect();
    let kept =
        |at: &IpEndpoint| of_before.iter().find(|(old, _)| *old == at).map(|(_, slot)| *slot);
    let taken: Vec<_> = all.iter().filter_map(kept).collect();
    let free = (0..MAX_TARGETS as u8).map(TargetSlot).filter(|slot| !taken.contains(slot));
    let (reused, mut unused): (Vec<_>, Vec<_>) =
        free.partition(|slot| of_before.iter().any(|(_, old)| old == slot));
    unused.extend(reused);
    let mut unused = unused.into_iter();
    let slot = |at: &IpEndpoint| kept(at).or_else(|| unused.next()).unwrap_or(TargetSlot(0));
    all.iter().map(slot).collect()
}

impl Epoch {
    fn new(
        epoch: &config::Epoch,
        all: &[IpEndpoint],
        hash: impl Fn(IpEndpoint) -> TargetHash,
    ) -> Self {
        let member = |target: &config::Target| {
            let address = target.address.into();
            let index = TargetIndex(all.binary_search(&address).ok()? as u8);
            let dated = Dated { index, gone: target.gone };
            Some(Member { hash: hash(address), weight: target.weight, target: dated })
        };
        let members = epoch.members.iter().filter_map(member).collect();
        Epoch { from: epoch.from, until: epoch.until, choice: Choice::new(members) }
    }
}

/// What is chosen from at a time.
#[derive(Clone, Copy, Debug)]
pub struct Window<'a> {
    targets: &'a Targets,
    now: UnixTime,
    present: Option<&'a Epoch>,
    /// Those in which connections of segments that arrive now may have begun.
    epochs: &'a [Epoch],
    kept: &'a [Epoch],
}

impl Window<'_> {
    /// Whether no client has more than one candidate.
    #[inline]
    pub fn is_settled(&self) -> bool {
        self.kept.is_empty() && self.epochs.len() == 1
    }

    /// The target of all clients, where there is but one that they can have.
    #[inline]
    fn only(&self) -> Option<TargetIndex> {
        let only = self.present.and_then(|epoch| epoch.choice.only())?;
        self.is_settled().then_some(only.index)
    }

    /// Puts what is chosen for each of `clients`, which are of one family, into the same place of
    /// `out`, up to [`BURST`].
    #[inline]
    pub fn choose(&self, clients: &[IpEndpoint], out: &mut [Chosen]) {
        let count = clients.len().min(out.len()).min(BURST);
        let (clients, out) = (clients.split_at(count).0, out.split_at_mut(count).0);
        if let Some(only) = self.only() {
            return out.fill(Chosen { new: Some(only), candidates: Candidates::only(only) });
        }
        let mut hashes = [ClientHash::default(); BURST];
        self.targets.client_hashes(clients, &mut hashes);
        match self.present {
            Some(present) if self.is_settled() => {
                for (out, hash) in out.iter_mut().zip(hashes) {
                    let new = present.choice.winner(hash).map(|target| target.index);
                    *out =
                        Chosen { new, candidates: new.map(Candidates::only).unwrap_or_default() };
                }
            }
            _ => {
                for (out, hash) in out.iter_mut().zip(hashes) {
                    *out = self.of_client(hash);
                }
            }
        }
    }

    fn of_client(&self, client: ClientHash) -> Chosen {
        let new = self.present.and_then(|epoch| epoch.choice.winner(client));
        let new = new.map(|target| target.index);
        let winners = self.epochs.iter().chain(self.kept);
        let winners = winners.filter_map(|epoch| epoch.choice.winner(client));
        let asked = winners.filter(|target| self.now < target.gone);
        let mut candidates = asked
            .fold(Candidates::default(), |all, target| all.and(Candidates::only(target.index)));
        if candidates.is_empty() {
            // All are gone: the target of new connections says that it knows nothing.
            candidates = new.map(Candidates::only).unwrap_or_default();
        }
        Chosen { new, candidates }
    }
}

#[cfg(test)]
mod tests;
