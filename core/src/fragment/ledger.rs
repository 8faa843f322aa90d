//! What is known of datagrams that are not whole yet: which bytes of them are there.
//!
//! [`Ledger`] decides on every fragment before it is kept, and says when a datagram is whole. It
//! holds no frame: whoever does asks it first. Its rules are stricter than a table of buffers could
//! be, and of each it can be told why (RFC 5722; RFC 8200, section 4.5; RFC 3168, section 5.3):
//!
//! - an overlap ends the whole datagram, and what comes of it afterwards is refused until its time is
//!   up; an exact duplicate alone is refused;
//! - so do two ends, bytes beyond the end, another protocol, CE beside Not-ECT, the other side's
//!   port, and more fragments than a datagram may have;
//! - time, datagrams and frames are bounded, and of the last two each network of clients has a share only
//!   ([`Shares`]). A datagram's time begins with its first fragment, so none can be kept alive.
//!
//! Nothing here allocates once it is made. Datagrams are found by a keyed hash: nobody can choose
//! ones that are hard to tell apart.

use std::net::IpAddr;

use crate::bucket::{BucketHash, BucketPlace, Purpose};
use crate::counters::Counters;
use crate::crypto::{Aes128, HkdfError};
use crate::fragment::FragmentLimits;
use crate::keys::Secret;
use crate::net::PortIndex;
use crate::net::Side;
use crate::time::Instant;
use crate::verdict::DropReason;

use super::read::{Fragment, Key};
use super::shares::{Shares, Waiting, refusal};

/// Fragments of one datagram at most.
pub const PER_DATAGRAM_MAX: usize = 8;

/// A keyed hash of datagrams: which worker puts one together, and its place there.
#[derive(Clone, Debug)]
pub struct FragmentHash(Aes128);

impl FragmentHash {
    /// The hash under a key made of `secret`.
    pub fn new(secret: &Secret) -> Result<Self, HkdfError> {
        Ok(FragmentHash(Aes128::new(&secret.derive("fragments", &[])?)))
    }

    /// The datagram's hash.
    pub fn of(&self, key: &Key) -> u64 {
        // A chain of blocks, whose number is fixed for each family.
        let mut state = [0; 16];
        let mut mix = |block: u128| {
            state = self.0.encrypt_block(&(u128::from_be_bytes(state) ^ block).to_be_bytes());
        };
        match (key.src, key.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let addresses = u128::from(src.to_bits()) << 32 | u128::from(dst.to_bits());
                mix(4 << 120 | addresses << 32 | u128::from(key.id));
            }
            (src, dst) => {
                mix(6 << 120 | u128::from(key.id));
                mix(bits(src));
                mix(bits(dst));
            }
        }
        u128::from_be_bytes(state) as u64
    }

    /// Which of `workers` puts the datagram together.
    pub fn worker(&self, key: &Key, workers: usize) -> usize {
        (((self.of(key) >> 32) * workers as u64) >> 32) as usize
    }
}

fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_bits().into(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

/// Where a fragment came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// When.
    pub now: Instant,
    /// The port.
    pub port: PortIndex,
    /// Whose frames the port takes.
    pub side: Side,
}

/// What is to be done with a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// It is to be kept.
    Waits,
    /// With it the datagram is whole.
    Completes(Finished),
    /// It is counted, and to be freed.
    Refused,
}

/// A datagram that is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// The port that its first fragment, whose Ethernet and IP header it has, came in through.
    pub port: PortIndex,
    /// How many there were.
    pub fragments: usize,
    /// Bytes of its payload.
    pub len: usize,
    /// Whether a router marked one of them (CE).
    pub is_marked: bool,
}

/// Bytes of a datagram that are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Piece {
    from: u16,
    to: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Collecting,
    /// Nothing more of it is kept.
    Discarding(DropReason),
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    key: Key,
    /// Where its source's network is counted.
    network: [BucketPlace; 2],
    started: Instant,
    port: PortIndex,
    side: Side,
    protocol: u8,
    /// A bit for each codepoint seen.
    ecn: u8,
    state: State,
    pieces: [Piece; PER_DATAGRAM_MAX],
    /// Frames of it that are kept: as many of the pieces are there.
    kept: u8,
    end: Option<u16>,
    // Lists through the entries, by index: of its hash, and by age; `next` also of free ones.
    next: u32,
    older: u32,
    newer: u32,
}

/// The datagrams that are not whole yet.
#[derive(Debug)]
pub struct Ledger {
    limits: FragmentLimits,
    frame_len_max: usize,
    hash: FragmentHash,
    heads: Box<[u32]>,
    entries: Box<[Entry]>,
    free: u32,
    oldest: u32,
    newest: u32,
    /// Datagrams, and the frames that are kept of them: all, and those of each network.
    pub(super) count: usize,
    kept: usize,
    networks: BucketHash,
    pub(super) shares: Shares,
}

impl Ledger {
    /// Empty. Datagrams must fit, with all headers, into frames of `frame_len_max` bytes.
    pub fn new(
        limits: FragmentLimits,
        frame_len_max: usize,
        hash: FragmentHash,
        networks: BucketHash,
    ) -> Self {
        let count = limits.datagrams.max(1);
        let entries = (1..=count).map(|next| Entry::free(if next < count { next } else { NONE }));
        Ledger {
            limits,
            frame_len_max,
            hash,
            heads: vec![NONE; count.next_power_of_two() as usize].into_boxed_slice(),
            entries: entries.collect(),
            free: 0,
            oldest: NONE,
            newest: NONE,
            count: 0,
            kept: 0,
            networks,
            shares: Shares::new(),
        }
    }

    /// Bytes that a ledger with these limits takes.
    pub fn memory(limits: &FragmentLimits) -> usize {
        let (entries, heads) = (limits.datagrams.max(1), limits.datagrams.next_power_of_two());
        let lists = entries as usize * size_of::<Entry>() + heads as usize * size_of::<u32>();
        lists + Shares::memory()
    }

    /// Decides on a fragment, and counts all drops that follow.
    pub fn admit(&mut self, at: Arrival, fragment: &Fragment, counters: &Counters) -> Admitted {
        let refuse = |reason| {
            counters.count_drop(at.port, None, reason);
            Admitted::Refused
        };
        if let Err(reason) = fragment.check(self.frame_len_max) {
            return refuse(reason);
        }
        let head = self.head(&fragment.key);
        let found = self.find(head, &fragment.key);
        let live = found.filter(|&index| !self.is_over(index, at.now));
        let index = match (live, found) {
            (Some(index), _) => index,
            (None, found) => {
                if let Some(old) = found {
                    self.time_out(old, counters);
                }
                match self.begin(head, at, fragment) {
                    Ok(index) => index,
                    Err(reason) => return refuse(reason),
                }
            }
        };
        let network = self.entries.get(index as usize).map(|entry| entry.network);
        let no_room = network.and_then(|network| self.lacks_frames(at.side, network));
        let Some(entry) = self.entries.get_mut(index as usize) else {
            return refuse(DropReason::FragmentTableFull);
        };
        match entry.add(at, fragment, usize::from(self.limits.per_datagram), no_room) {
            Ok(finished) => {
                self.kept += 1;
                self.shares.add(entry.network, Waiting { datagrams: 0, frames: 1 });
                let Some(finished) = finished else { return Admitted::Waits };
                self.remove(index);
                Admitted::Completes(finished)
            }
            Err(Refusal::Fragment(reason)) => refuse(reason),
            Err(Refusal::Datagram(reason)) => {
                entry.discard(reason, counters);
                refuse(reason)
            }
        }
    }

    /// Says that whoever keeps frames refused one that was to wait, and freed its datagram's: counts
    /// them, and refuses what comes of it afterwards.
    pub fn refused(&mut self, key: &Key, counters: &Counters) {
        let index = self.find(self.head(key), key);
        let Some(entry) = index.and_then(|index| self.entries.get_mut(index as usize)) else {
            return;
        };
        entry.discard(DropReason::FragmentTableFull, counters);
        self.kept -= usize::from(entry.kept);
        let frames = u32::from(entry.kept);
        self.shares.remove(entry.network, Waiting { datagrams: 0, frames });
        entry.kept = 0;
    }

    /// Forgets datagrams whose time is up, [`EXPIRE_MAX`] at most, and counts their fragments.
    pub fn expire(&mut self, now: Instant, counters: &Counters) {
        for _ in 0..EXPIRE_MAX {
            if self.oldest == NONE || !self.is_over(self.oldest, now) {
                return;
            }
            self.time_out(self.oldest, counters);
        }
    }

    /// Whether it knows of no datagram.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.oldest == NONE
    }

    /// Frames that are kept, by its own account.
    pub fn kept(&self) -> usize {
        self.kept
    }

    /// What waits of the network of `src`, by its own account: never less than there is, and more
    /// where others share its places.
    pub fn waiting_of(&self, src: IpAddr) -> Waiting {
        self.shares.of(self.network(src))
    }

    fn network(&self, src: IpAddr) -> [BucketPlace; 2] {
        self.networks.both(Purpose::Fragments, 0, src)
    }

    /// What a network is held to have. Where only targets are, of which few may send to very many
    /// clients, none is short of its share.
    fn charged(&self, side: Side, network: [BucketPlace; 2]) -> Waiting {
        if side == Side::Target { Waiting::default() } else { self.shares.of(network) }
    }

    /// Why no frame more of the network may be kept, if so.
    fn lacks_frames(&self, side: Side, network: [BucketPlace; 2]) -> Option<DropReason> {
        let free = (self.limits.buffers as usize).saturating_sub(self.kept);
        refusal(self.charged(side, network).frames, free)
    }

    /// Why no datagram more of the network may wait, if so.
    fn lacks_datagrams(&self, side: Side, network: [BucketPlace; 2]) -> Option<DropReason> {
        let free = self.entries.len().saturating_sub(self.count);
        refusal(self.charged(side, network).datagrams, free)
    }

    fn is_over(&self, index: u32, now: Instant) -> bool {
        let timeout_ns = u64::from(self.limits.timeout_ms) * 1_000_000;
        let entry = self.entries.get(index as usize);
        entry.is_none_or(|entry| now.nanos_since(entry.started) > timeout_ns)
    }

    fn head(&self, key: &Key) -> usize {
        self.hash.of(key) as usize & (self.heads.len() - 1)
    }

    fn find(&self, head: usize, key: &Key) -> Option<u32> {
        let mut index = self.heads.get(head).copied().unwrap_or(NONE);
        // No longer than the table, and a few steps under a keyed hash.
        while let Some(entry) = self.entries.get(index as usize) {
            if entry.key == *key {
                return Some(index);
            }
            index = entry.next;
        }
        None
    }

    /// Takes up a datagram of which nothing is known, if there is room for it.
    fn begin(&mut self, head: usize, at: Arrival, fragment: &Fragment) -> Result<u32, DropReason> {
        let network = self.network(fragment.key.src);
        let lacks_frames = || self.lacks_frames(at.side, network);
        match self.lacks_datagrams(at.side, network).or_else(lacks_frames) {
            Some(reason) => Err(reason),
            None => self.insert(head, at, fragment, network).ok_or(DropReason::FragmentTableFull),
        }
    }

    fn insert(
        &mut self,
        head: usize,
        at: Arrival,
        fragment: &Fragment,
        network: [BucketPlace; 2],
    ) -> Option<u32> {
        let (index, newest) = (self.free, self.newest);
        let first = self.heads.get_mut(head)?;
        let entry = self.entries.get_mut(index as usize)?;
        self.free = entry.next;
        *entry = Entry {
            key: fragment.key,
            network,
            started: at.now,
            port: at.port,
            side: at.side,
            protocol: fragment.protocol,
            next: *first,
            older: newest,
            ..Entry::free(NONE)
        };
        *first = index;
        match self.entries.get_mut(newest as usize) {
            Some(entry) => entry.newer = index,
            None => self.oldest = index,
        }
        self.newest = index;
        self.count += 1;
        self.shares.add(network, Waiting { datagrams: 1, frames: 0 });
        Some(index)
    }

    fn time_out(&mut self, index: u32, counters: &Counters) {
        if let Some(entry) = self.entries.get_mut(index as usize) {
            entry.discard(DropReason::FragmentTimeout, counters);
        }
        self.remove(index);
    }

    fn remove(&mut self, index: u32) {
        let Some(&entry) = self.entries.get(index as usize) else { return };
        self.count -= 1;
        self.kept -= usize::from(entry.kept);
        let frames = u32::from(entry.kept);
        self.shares.remove(entry.network, Waiting { datagrams: 1, frames });
        let head = self.head(&entry.key);
        let mut at = self.heads.get(head).copied().unwrap_or(NONE);
        if at == index {
            if let Some(first) = self.heads.get_mut(head) {
                *first = entry.next;
            }
        } else {
            while let Some(before) = self.entries.get_mut(at as usize) {
                if before.next == index {
                    before.next = entry.next;
                    break;
                }
                at = before.next;
            }
        }
        match self.entries.get_mut(entry.older as usize) {
            Some(older) => older.newer = entry.newer,
            None => self.oldest = entry.newer,
        }
        match self.entries.get_mut(entry.newer as usize) {
            Some(newer) => newer.older = entry.older,
            None => self.newest = entry.older,
        }
        if let Some(place) = self.entries.get_mut(index as usize) {
            *place = Entry::free(self.free);
            self.free = index;
        }
    }
}

/// What a fragment is refused with.
enum Refusal {
    /// It alone.
    Fragment(DropReason),
    /// All of its datagram.
    Datagram(DropReason),
}

impl Entry {
    const fn free(next: u32) -> Entry {
        let nobody = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
        Entry {
            key: Key { src: nobody, dst: nobody, id: 0 },
            network: [BucketPlace::FIRST; 2],
            started: Instant::from_nanos(0),
            port: PortIndex(0),
            side: Side::Both,
            protocol: 0,
            ecn: 0,
            state: State::Collecting,
            pieces: [Piece { from: 0, to: 0 }; PER_DATAGRAM_MAX],
            kept: 0,
            end: None,
            next,
            older: NONE,
            newer: NONE,
        }
    }

    fn pieces(&self) -> &[Piece] {
        self.pieces.get(..usize::from(self.kept)).unwrap_or_default()
    }

    /// Adds a fragment, whose bytes [`Fragment::check`] found to be below 2^16.
    fn add(
        &mut self,
        at: Arrival,
        fragment: &Fragment,
        per_datagram: usize,
        no_room: Option<DropReason>,
    ) -> Result<Option<Finished>, Refusal> {
        if let State::Discarding(reason) = self.state {
            return Err(Refusal::Fragment(reason));
        }
        let piece = Piece { from: fragment.offset as u16, to: fragment.end() as u16 };
        let ends_here = self.end == Some(piece.to);
        if self.pieces().contains(&piece) && ends_here != fragment.more {
            return Err(Refusal::Fragment(DropReason::FragmentDuplicate));
        }
        let conflict = Err(Refusal::Datagram(DropReason::FragmentConflict));
        if self.protocol != fragment.protocol || self.side != at.side {
            return conflict;
        }
        if self.pieces().iter().any(|other| piece.from < other.to && other.from < piece.to) {
            return conflict;
        }
        match (self.end, fragment.more) {
            (Some(_), false) => return conflict,
            (Some(end), true) if piece.to >= end => return conflict,
            (None, false) if self.pieces().iter().any(|other| other.to > piece.from) => {
                return conflict;
            }
            _ => {}
        }
        let ecn = self.ecn | 1 << fragment.ecn;
        if ecn & (CE | NOT_ECT) == CE | NOT_ECT {
            return conflict;
        }
        if let Some(reason) = no_room {
            return Err(Refusal::Datagram(reason));
        }
        // The first and the last one have a place, whenever they come.
        let kept = usize::from(self.kept);
        let to_come = usize::from(piece.from != 0 && self.pieces().iter().all(|p| p.from != 0))
            + usize::from(fragment.more && self.end.is_none());
        let place = self.pieces.get_mut(kept).filter(|_| kept + to_come < per_datagram);
        let Some(place) = place else {
            return Err(Refusal::Datagram(DropReason::FragmentTooMany));
        };
        *place = piece;
        self.kept += 1;
        if piece.from == 0 {
            // The whole has the Ethernet header of this one, which is for this port's station.
            self.port = at.port;
        }
        self.ecn = ecn;
        if !fragment.more {
            self.end = Some(piece.to);
        }
        Ok(self.finished())
    }

    /// The datagram, if all of its bytes are there: pieces do not overlap, so they are when there
    /// are as many as its end says.
    fn finished(&self) -> Option<Finished> {
        let len = usize::from(self.end?);
        let there: usize =
            self.pieces().iter().map(|piece| usize::from(piece.to - piece.from)).sum();
        (there == len).then_some(Finished {
            port: self.port,
            fragments: usize::from(self.kept),
            len,
            is_marked: self.ecn & CE != 0,
        })
    }

    /// Gives up what is there, counted; frames that are kept stay so until its time is up.
    fn discard(&mut self, reason: DropReason, counters: &Counters) {
        if self.state == State::Collecting {
            for _ in self.pieces() {
                counters.count_drop(self.port, None, reason);
            }
            self.state = State::Discarding(reason);
        }
    }
}

/// Datagrams that one call of [`Ledger::expire`] forgets at most.
pub const EXPIRE_MAX: usize = 32;

/// No entry.
const NONE: u32 = u32::MAX;

/// Bits of the codepoints in [`Entry::ecn`].
const NOT_ECT: u8 = 1;
const CE: u8 = 1 << 3;
