//! The decision on every fragment, and the account of which datagrams are incomplete.
//!
//! [`ReassemblyTable`] holds no frame: the caller keeps the frames of the fragments that it admits
//! and frees the others. Its rules are stricter than those of a table of buffers, and each refusal
//! has a reason:
//!
//! - An overlap, two ends, bytes beyond the end, another protocol, CE beside Not-ECT, a port of the
//!   other side, and too many fragments each end the whole datagram: what arrives of it later is
//!   refused until it expires. An exact duplicate alone is refused ([`partial`](super::partial)).
//! - Time, datagrams and frames are bounded, and a network of clients gets only a share of the last
//!   two ([`shares`](super::shares)). A datagram's time begins with its first fragment, so that no
//!   datagram can be kept alive.
//!
//! It does not allocate after its construction. Datagrams are found by a keyed hash, so that
//! collisions cannot be chosen.

use std::net::IpAddr;

use super::decision::{Admitted, FragmentArrival};
use super::entries::Entries;
use super::hash::FragmentHash;
use super::limits::FragmentLimits;
use super::partial::{AddError, Partial};
use super::read::{DatagramKey, Fragment};
use super::shares::{Shares, Waiting, refusal};
use crate::bucket::{BucketHash, BucketPlace, Purpose};
use crate::counters::Counters;
use crate::net::Side;
use crate::time::Instant;
use crate::verdict::DropReason;

/// Most datagrams that one call of [`ReassemblyTable::expire`] removes.
pub const EXPIRE_MAX: usize = 32;

/// The incomplete datagrams of one worker.
#[derive(Debug)]
pub struct ReassemblyTable {
    limits: FragmentLimits,
    frame_len_max: usize,
    hash: FragmentHash,
    networks: BucketHash,
    pub(super) entries: Entries,
    /// Frames that the caller keeps, of all networks, and the share of each.
    kept: usize,
    pub(super) shares: Shares,
}

impl ReassemblyTable {
    /// An empty table. Datagrams must fit, with all headers, into frames of `frame_len_max` bytes.
    pub fn new(
        limits: FragmentLimits,
        frame_len_max: usize,
        hash: FragmentHash,
        networks: BucketHash,
    ) -> Self {
        ReassemblyTable {
            limits,
            frame_len_max,
            hash,
            networks,
            entries: Entries::new(limits.datagrams),
            kept: 0,
            shares: Shares::new(),
        }
    }

    /// Bytes that a table with these limits takes.
    pub fn memory(limits: &FragmentLimits) -> usize {
        Entries::memory(limits.datagrams) + Shares::memory()
    }

    /// Decides on a fragment, and counts all drops that follow.
    pub fn admit(
        &mut self,
        at: FragmentArrival,
        fragment: &Fragment,
        counters: &Counters,
    ) -> Admitted {
        let refuse = |reason| {
            counters.count_drop(at.port, None, reason);
            Admitted::Refused
        };
        if let Err(reason) = fragment.check(self.frame_len_max) {
            return refuse(reason);
        }
        let index = match self.find_or_begin(at, fragment, counters) {
            Ok(index) => index,
            Err(reason) => return refuse(reason),
        };
        let network = self.entries.get(index).map(|partial| partial.network);
        let no_room = network.and_then(|network| self.lacks_frames(at.side, network));
        let Some(partial) = self.entries.get_mut(index) else {
            return refuse(DropReason::FragmentTableFull);
        };
        match partial.add(at, fragment, usize::from(self.limits.per_datagram), no_room) {
            Ok(reassembled) => {
                self.kept += 1;
                self.shares.add(partial.network, Waiting { datagrams: 0, frames: 1 });
                let Some(reassembled) = reassembled else { return Admitted::Waits };
                self.remove(index);
                Admitted::Completes(reassembled)
            }
            Err(AddError::Fragment(reason)) => refuse(reason),
            Err(AddError::Datagram(reason)) => {
                partial.discard(reason, counters);
                refuse(reason)
            }
        }
    }

    /// Gives up a datagram whose frames the caller freed because it had no room for an admitted
    /// fragment: counts its fragments, and refuses the rest of it until it expires.
    pub fn discard(&mut self, key: &DatagramKey, counters: &Counters) {
        let index = self.entries.find(self.hash.of(key), key);
        let Some(partial) = index.and_then(|index| self.entries.get_mut(index)) else { return };
        partial.discard(DropReason::FragmentTableFull, counters);
        let frames = u32::from(partial.kept);
        partial.kept = 0;
        self.shares.remove(partial.network, Waiting { datagrams: 0, frames });
        self.kept -= frames as usize;
    }

    /// Removes expired datagrams, at most [`EXPIRE_MAX`], and counts their fragments.
    pub fn expire(&mut self, now: Instant, counters: &Counters) {
        for _ in 0..EXPIRE_MAX {
            let expired = self.entries.oldest().filter(|&oldest| self.is_expired(oldest, now));
            let Some(oldest) = expired else { return };
            self.time_out(oldest, counters);
        }
    }

    /// Whether no datagram is incomplete.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.entries.oldest().is_none()
    }

    /// Frames that the caller keeps, by the table's account.
    pub fn kept(&self) -> usize {
        self.kept
    }

    /// The account of the network of `src`: never too low, and too high only where the network
    /// shares both of its places with others.
    pub fn waiting_of(&self, src: IpAddr) -> Waiting {
        self.shares.of(self.network(src))
    }

    /// The datagram of `fragment`, which begins here if it is not known or has expired.
    fn find_or_begin(
        &mut self,
        at: FragmentArrival,
        fragment: &Fragment,
        counters: &Counters,
    ) -> Result<u32, DropReason> {
        let hash = self.hash.of(&fragment.key);
        if let Some(found) = self.entries.find(hash, &fragment.key) {
            if !self.is_expired(found, at.now) {
                return Ok(found);
            }
            self.time_out(found, counters);
        }
        let network = self.network(fragment.key.src);
        let lacks_frames = || self.lacks_frames(at.side, network);
        if let Some(reason) = self.lacks_datagrams(at.side, network).or_else(lacks_frames) {
            return Err(reason);
        }
        let index = self.entries.insert(hash, Partial::new(at, fragment, network));
        let index = index.ok_or(DropReason::FragmentTableFull)?;
        self.shares.add(network, Waiting { datagrams: 1, frames: 0 });
        Ok(index)
    }

    fn network(&self, src: IpAddr) -> [BucketPlace; 2] {
        self.networks.both(Purpose::Fragments, 0, src)
    }

    /// The account that counts against a network's share: empty on a port of targets alone, where
    /// few targets may send to very many clients.
    fn charged(&self, side: Side, network: [BucketPlace; 2]) -> Waiting {
        if side == Side::Target { Waiting::default() } else { self.shares.of(network) }
    }

    /// The reason not to keep a further frame of the network, if there is one.
    fn lacks_frames(&self, side: Side, network: [BucketPlace; 2]) -> Option<DropReason> {
        let free = (self.limits.buffers as usize).saturating_sub(self.kept);
        refusal(self.charged(side, network).frames, free)
    }

    /// The reason not to begin a further datagram of the network, if there is one.
    fn lacks_datagrams(&self, side: Side, network: [BucketPlace; 2]) -> Option<DropReason> {
        refusal(self.charged(side, network).datagrams, self.entries.room())
    }

    fn is_expired(&self, index: u32, now: Instant) -> bool {
        let timeout_ns = u64::from(self.limits.timeout_ms) * 1_000_000;
        let partial = self.entries.get(index);
        partial.is_none_or(|partial| now.nanos_since(partial.started) > timeout_ns)
    }

    fn time_out(&mut self, index: u32, counters: &Counters) {
        if let Some(partial) = self.entries.get_mut(index) {
            partial.discard(DropReason::FragmentTimeout, counters);
        }
        self.remove(index);
    }

    fn remove(&mut self, index: u32) {
        let Some(&Partial { key, network, kept, .. }) = self.entries.get(index) else { return };
        self.kept -= usize::from(kept);
        self.shares.remove(network, Waiting { datagrams: 1, frames: kept.into() });
        self.entries.remove(self.hash.of(&key), index);
    }
}
