//! The reassembly table's rules, slowly: every datagram is a table of its bytes, and is searched
//! for one by one.

use std::collections::HashMap;

use anyrelay_core::fragment::FragmentLimits;
use anyrelay_core::verdict::DropReason;

/// A fragment.
#[derive(Clone, Debug)]
pub struct Piece {
    pub key: Key,
    pub port: u8,
    pub protocol: u8,
    pub offset: usize,
    pub len: usize,
    pub more: bool,
    pub ecn: u8,
    /// What the first one's TCP header says of its length, in words.
    pub header_words: u8,
    pub has_options: bool,
    pub is_tagged: bool,
}

impl Piece {
    fn end(&self) -> usize {
        self.offset + self.len
    }

    fn headers_len(&self) -> usize {
        match (self.key.is_six, self.has_options) {
            (true, _) => 48,
            (false, true) => 24,
            (false, false) => 20,
        }
    }

    /// Why no datagram has such a fragment.
    fn refusal(&self, frame_len_max: usize) -> Option<DropReason> {
        if self.len == 0 || (self.more && !self.len.is_multiple_of(8)) {
            return Some(DropReason::FragmentMalformed);
        }
        let l3 = if self.is_tagged { 18 } else { 14 };
        let counted = if self.key.is_six { 0 } else { self.headers_len() };
        if counted + self.end() > 65_535 || l3 + self.headers_len() + self.end() > frame_len_max {
            return Some(DropReason::FragmentTooLong);
        }
        let header_len = if self.len > 12 { usize::from(self.header_words) * 4 } else { 0 };
        let is_tiny = match self.offset {
            0 => self.len < header_len.max(20),
            at => at < 20,
        };
        (self.protocol == 6 && is_tiny).then_some(DropReason::FragmentTiny)
    }
}

/// What tells datagrams apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    pub is_six: bool,
    /// The network that the source is in.
    pub network: u8,
    pub id: u32,
    pub dst: u8,
}

impl Key {
    fn same_network(self, other: Key) -> bool {
        (self.is_six, self.network) == (other.is_six, other.network)
    }
}

/// What is to be done with a fragment.
#[derive(Debug)]
pub enum Decision {
    Waits,
    Whole(Whole),
    Refused,
}

/// A datagram that is whole.
#[derive(Debug)]
pub struct Whole {
    pub port: u8,
    pub len: usize,
    pub fragments: usize,
    pub is_marked: bool,
}

struct Datagram {
    key: Key,
    started_ms: u64,
    port: u8,
    protocol: u8,
    pieces: Vec<Piece>,
    /// How often each byte is there.
    bytes: Vec<u8>,
    spoilt: Option<DropReason>,
    /// Frames that are kept of it.
    kept: usize,
}

impl Datagram {
    fn end(&self) -> Option<usize> {
        self.pieces.iter().find(|piece| !piece.more).map(Piece::end)
    }

    /// Whether the fragment contradicts what is there.
    fn contradicts(&self, piece: &Piece) -> bool {
        let same_side = |a: u8, b: u8| (a == 2) == (b == 2);
        let there = self.bytes.len();
        let ecn = |wanted| piece.ecn == wanted || self.pieces.iter().any(|p| p.ecn == wanted);
        piece.protocol != self.protocol
            || !same_side(piece.port, self.port)
            || self.bytes.iter().take(piece.end()).skip(piece.offset).any(|count| *count > 0)
            || (!piece.more && (self.end().is_some() || there > piece.end()))
            || (piece.more && self.end().is_some_and(|end| piece.end() >= end))
            || (ecn(0) && ecn(3))
    }

    /// Ends of the datagram that would still be missing with the fragment.
    fn missing_ends(&self, piece: &Piece) -> usize {
        let with = || self.pieces.iter().chain([piece]);
        usize::from(with().all(|piece| piece.offset != 0))
            + usize::from(with().all(|piece| piece.more))
    }
}

/// The slow reassembly table.
pub struct Twin {
    pub limits: FragmentLimits,
    frame_len_max: usize,
    /// The oldest comes first.
    datagrams: Vec<Datagram>,
    drops: HashMap<(u8, DropReason), u64>,
    /// Fragments that came, and those of whole datagrams.
    pub admitted: u64,
    pub passed: u64,
}

impl Twin {
    pub fn new(limits: FragmentLimits, frame_len_max: usize) -> Twin {
        let (datagrams, drops) = (Vec::new(), HashMap::new());
        Twin { limits, frame_len_max, datagrams, drops, admitted: 0, passed: 0 }
    }

    pub fn kept(&self) -> usize {
        self.datagrams.iter().map(|datagram| datagram.kept).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }

    pub fn drops(&self, port: u8, reason: DropReason) -> u64 {
        self.drops.get(&(port, reason)).copied().unwrap_or_default()
    }

    pub fn dropped(&self) -> u64 {
        self.drops.values().sum()
    }

    /// Datagrams and frames that wait of the network that the key's source is in.
    pub fn waiting(&self, key: Key) -> (usize, usize) {
        let same = |of: &&Datagram| of.key.same_network(key);
        let of_network = || self.datagrams.iter().filter(same);
        (of_network().count(), of_network().map(|datagram| datagram.kept).sum())
    }

    /// Whether something waits of the network that came in where targets are.
    pub fn of_targets(&self, key: Key) -> bool {
        self.datagrams.iter().any(|of| of.key.same_network(key) && of.port == 2)
    }

    /// Why one more is refused to a network of which `waiting` are there, where `free` are left.
    fn no_room(waiting: usize, free: usize) -> Option<DropReason> {
        if free == 0 {
            Some(DropReason::FragmentTableFull)
        } else if waiting * 3 >= free {
            Some(DropReason::FragmentShare)
        } else {
            None
        }
    }

    fn drop(&mut self, port: u8, reason: DropReason) -> Decision {
        *self.drops.entry((port, reason)).or_default() += 1;
        Decision::Refused
    }

    /// Counts what is there of a datagram, unless it was counted.
    fn spoil(&mut self, at: usize, reason: DropReason) {
        let datagram = &mut self.datagrams[at];
        if datagram.spoilt.is_none() {
            datagram.spoilt = Some(reason);
            let (port, count) = (datagram.port, datagram.kept);
            for _ in 0..count {
                self.drop(port, reason);
            }
        }
    }

    fn is_over(&self, datagram: &Datagram, now_ms: u64) -> bool {
        now_ms - datagram.started_ms > u64::from(self.limits.timeout_ms)
    }

    pub fn expire(&mut self, now_ms: u64) {
        while self.datagrams.first().is_some_and(|oldest| self.is_over(oldest, now_ms)) {
            self.spoil(0, DropReason::FragmentTimeout);
            self.datagrams.remove(0);
        }
    }

    pub fn discard(&mut self, key: Key) {
        if let Some(at) = self.datagrams.iter().position(|datagram| datagram.key == key) {
            self.spoil(at, DropReason::FragmentTableFull);
            self.datagrams[at].kept = 0;
        }
    }

    pub fn admit(&mut self, now_ms: u64, piece: &Piece) -> Decision {
        self.admitted += 1;
        if let Some(reason) = piece.refusal(self.frame_len_max) {
            return self.drop(piece.port, reason);
        }
        let mut found = self.datagrams.iter().position(|datagram| datagram.key == piece.key);
        if let Some(at) = found.filter(|at| self.is_over(&self.datagrams[*at], now_ms)) {
            self.spoil(at, DropReason::FragmentTimeout);
            self.datagrams.remove(at);
            found = None;
        }
        // Targets are held to no share.
        let (datagrams, frames) = if piece.port == 2 { (0, 0) } else { self.waiting(piece.key) };
        let no_frame = Self::no_room(frames, self.limits.buffers as usize - self.kept());
        if found.is_none() {
            let free = self.limits.datagrams as usize - self.datagrams.len();
            if let Some(reason) = Self::no_room(datagrams, free).or(no_frame) {
                return self.drop(piece.port, reason);
            }
            self.datagrams.push(Datagram {
                key: piece.key,
                started_ms: now_ms,
                port: piece.port,
                protocol: piece.protocol,
                pieces: Vec::new(),
                bytes: Vec::new(),
                spoilt: None,
                kept: 0,
            });
        }
        let at = found.unwrap_or(self.datagrams.len() - 1);
        let datagram = &mut self.datagrams[at];
        if let Some(reason) = datagram.spoilt {
            return self.drop(piece.port, reason);
        }
        let same = |other: &Piece| {
            (other.offset, other.len, other.more) == (piece.offset, piece.len, piece.more)
        };
        if datagram.pieces.iter().any(same) {
            return self.drop(piece.port, DropReason::FragmentDuplicate);
        }
        let most = usize::from(self.limits.per_datagram);
        let reason = if datagram.contradicts(piece) {
            Some(DropReason::FragmentConflict)
        } else if no_frame.is_some() {
            no_frame
        } else if datagram.pieces.len() + 1 + datagram.missing_ends(piece) > most {
            Some(DropReason::FragmentTooMany)
        } else {
            None
        };
        if let Some(reason) = reason {
            self.spoil(at, reason);
            return self.drop(piece.port, reason);
        }
        let longest = datagram.bytes.len().max(piece.end());
        datagram.bytes.resize(longest, 0);
        datagram.bytes[piece.offset..piece.end()].iter_mut().for_each(|count| *count += 1);
        if piece.offset == 0 {
            // The whole comes in where its header did.
            datagram.port = piece.port;
        }
        datagram.pieces.push(piece.clone());
        datagram.kept += 1;
        let is_whole = datagram.end() == Some(datagram.bytes.len())
            && datagram.bytes.iter().all(|count| *count == 1);
        if !is_whole {
            return Decision::Waits;
        }
        let datagram = self.datagrams.remove(at);
        self.passed += datagram.kept as u64;
        Decision::Whole(Whole {
            port: datagram.port,
            len: datagram.bytes.len(),
            fragments: datagram.pieces.len(),
            is_marked: datagram.pieces.iter().any(|piece| piece.ecn == 3),
        })
    }
}
