//! One datagram of which fragments are missing: the byte ranges that arrived, and the rules for the
//! next fragment (RFC 5722; RFC 8200, section 4.5; RFC 3168, section 5.3).

use std::net::{IpAddr, Ipv4Addr};

use super::decision::{FragmentArrival, Reassembled};
use super::read::{DatagramKey, Fragment};
use crate::bucket::BucketPlace;
use crate::counters::Counters;
use crate::net::{PortIndex, Side};
use crate::time::Instant;
use crate::verdict::DropReason;

/// Most fragments of one datagram.
pub const PER_DATAGRAM_MAX: usize = 8;

/// A range of bytes of a datagram's payload that arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Piece {
    from: u16,
    to: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PartialState {
    Collecting,
    /// The datagram was given up for this reason: no fragment of it is kept any more.
    Discarding(DropReason),
}

/// A datagram that is being reassembled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Partial {
    pub(super) key: DatagramKey,
    /// The places of its source's network in [`Shares`](super::shares::Shares).
    pub(super) network: [BucketPlace; 2],
    /// When its first fragment arrived.
    pub(super) started: Instant,
    /// Frames of it that the caller keeps; as many of `pieces` are used.
    pub(super) kept: u8,
    port: PortIndex,
    side: Side,
    protocol: u8,
    /// A bit for each ECN codepoint seen.
    ecn: u8,
    state: PartialState,
    pieces: [Piece; PER_DATAGRAM_MAX],
    end: Option<u16>,
}

/// Why a fragment is refused, and how much with it.
pub(super) enum AddError {
    /// The fragment alone.
    Fragment(DropReason),
    /// All of its datagram.
    Datagram(DropReason),
}

impl Partial {
    /// The contents of an unused entry.
    pub(super) const UNUSED: Partial = {
        let unspecified = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        Partial {
            key: DatagramKey { src: unspecified, dst: unspecified, id: 0 },
            network: [BucketPlace::FIRST; 2],
            started: Instant::from_nanos(0),
            kept: 0,
            port: PortIndex(0),
            side: Side::Both,
            protocol: 0,
            ecn: 0,
            state: PartialState::Collecting,
            pieces: [Piece { from: 0, to: 0 }; PER_DATAGRAM_MAX],
            end: None,
        }
    };

    /// The datagram of `fragment`, with no fragment added yet.
    pub(super) fn new(
        at: FragmentArrival,
        fragment: &Fragment,
        network: [BucketPlace; 2],
    ) -> Partial {
        Partial {
            key: fragment.key,
            network,
            started: at.now,
            port: at.port,
            side: at.side,
            protocol: fragment.protocol,
            ..Partial::UNUSED
        }
    }

    fn pieces(&self) -> &[Piece] {
        self.pieces.get(..usize::from(self.kept)).unwrap_or_default()
    }

    /// Adds a fragment, whose end [`Fragment::check`] found to be below 2^16, to at most
    /// `per_datagram` of them. `no_room` is the reason if no further frame may be kept. Returns the
    /// datagram if it is complete.
    ///
    /// # Errors
    /// When the fragment repeats or contradicts what arrived before, or there is no room for it.
    pub(super) fn add(
        &mut self,
        at: FragmentArrival,
        fragment: &Fragment,
        per_datagram: usize,
        no_room: Option<DropReason>,
    ) -> Result<Option<Reassembled>, AddError> {
        if let PartialState::Discarding(reason) = self.state {
            return Err(AddError::Fragment(reason));
        }
        let piece = Piece { from: fragment.offset as u16, to: fragment.end() as u16 };
        let ends_here = self.end == Some(piece.to);
        if self.pieces().contains(&piece) && ends_here != fragment.more {
            return Err(AddError::Fragment(DropReason::FragmentDuplicate));
        }
        let ecn = self.ecn | 1 << fragment.ecn;
        let is_other = self.protocol != fragment.protocol || self.side != at.side;
        if is_other || self.contradicts(piece, fragment.more) || is_ecn_conflict(ecn) {
            return Err(AddError::Datagram(DropReason::FragmentConflict));
        }
        if let Some(reason) = no_room {
            return Err(AddError::Datagram(reason));
        }
        if !self.keep(piece, fragment.more, per_datagram) {
            return Err(AddError::Datagram(DropReason::FragmentTooMany));
        }
        if piece.from == 0 {
            // The datagram gets the Ethernet header of its first fragment, and so must enter
            // through that fragment's port.
            self.port = at.port;
        }
        self.ecn = ecn;
        if !fragment.more {
            self.end = Some(piece.to);
        }
        Ok(self.reassembled())
    }

    /// Whether a piece overlaps another, or contradicts the datagram's end.
    fn contradicts(&self, piece: Piece, more: bool) -> bool {
        if self.pieces().iter().any(|other| piece.from < other.to && other.from < piece.to) {
            return true;
        }
        match (self.end, more) {
            (Some(_), false) => true,
            (Some(end), true) => piece.to >= end,
            (None, false) => self.pieces().iter().any(|other| other.to > piece.from),
            (None, true) => false,
        }
    }

    /// Adds the piece, unless the datagram has too many. Room is reserved for the first and the
    /// last fragment until they arrive.
    fn keep(&mut self, piece: Piece, more: bool, per_datagram: usize) -> bool {
        let kept = usize::from(self.kept);
        let lacks_first = piece.from != 0 && self.pieces().iter().all(|other| other.from != 0);
        let lacks_last = more && self.end.is_none();
        let reserved = usize::from(lacks_first) + usize::from(lacks_last);
        let free = self.pieces.get_mut(kept).filter(|_| kept + reserved < per_datagram);
        let Some(free) = free else { return false };
        *free = piece;
        self.kept += 1;
        true
    }

    /// The datagram, if all of its bytes arrived. Pieces do not overlap, so that they have when
    /// their lengths add up to the datagram's.
    fn reassembled(&self) -> Option<Reassembled> {
        let len = usize::from(self.end?);
        let arrived: usize =
            self.pieces().iter().map(|piece| usize::from(piece.to - piece.from)).sum();
        (arrived == len).then_some(Reassembled {
            port: self.port,
            fragments: usize::from(self.kept),
            len,
            is_marked: self.ecn & CE != 0,
        })
    }

    /// Gives the datagram up and counts its fragments. Their frames stay kept until it expires.
    pub(super) fn discard(&mut self, reason: DropReason, counters: &Counters) {
        if self.state == PartialState::Collecting {
            for _ in self.pieces() {
                counters.count_drop(self.port, None, reason);
            }
            self.state = PartialState::Discarding(reason);
        }
    }
}

/// CE beside Not-ECT: no sender and no router marks the fragments of one datagram so.
fn is_ecn_conflict(seen: u8) -> bool {
    seen & (CE | NOT_ECT) == CE | NOT_ECT
}

/// Bits of the ECN codepoints seen.
const NOT_ECT: u8 = 1;
const CE: u8 = 1 << 3;
