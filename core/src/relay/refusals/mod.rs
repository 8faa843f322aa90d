//! RSTs of targets that carry no timestamps, and so no tag to map them by.
//!
//! They wait here, under the service and the egress address and port that they were sent to. The
//! next client segment that maps there is answered with the RST, if it answers that very segment
//! (RFC 9293, section 3.10.7.1): a RST|ACK must acknowledge the segment's end, a RST must have the
//! segment's acknowledgment number as its own number. Bounded, shared by a POP's workers, lost
//! without harm: then a client times out instead of being told.

mod atomic;
mod slots;

use slots::{Slots, WAYS};

use crate::seq::SeqNum;
use crate::time::Instant;

/// How long a RST waits for the segment that it answers.
pub const LIFETIME_MS: u64 = 30_000;

/// Where a RST was sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The number of the service whose target sent it, below 2^14.
    pub service: u16,
    /// Egress address.
    pub address: u32,
    /// Egress port.
    pub port: u16,
}

/// A target's RST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rst {
    /// RST without ACK: answers a segment that acknowledged `seq`.
    Bare {
        /// Its sequence number.
        seq: SeqNum,
    },
    /// RST with ACK: answers a segment that ended at `ack`.
    Acknowledging {
        /// Its sequence number.
        seq: SeqNum,
        /// Its acknowledgment number.
        ack: SeqNum,
    },
}

/// What a client segment must say to be answered.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// Its acknowledgment number, when it has ACK.
    pub ack: Option<SeqNum>,
    /// The number after its last byte or mark.
    pub end: SeqNum,
}

/// The table.
#[derive(Debug)]
pub struct PendingRsts {
    slots: Slots,
}

impl PendingRsts {
    /// A table of `slots` slots, at least 4.
    pub fn new(slots: usize) -> Self {
        PendingRsts { slots: Slots::new(slots.max(WAYS)) }
    }

    /// Keeps a RST; the oldest of its slots gives way when none is free.
    pub fn keep(&self, now: Instant, place: Place, rst: Rst) {
        let (key, numbers) = encode(place, rst);
        self.slots.keep(key, numbers, now.as_millis() + LIFETIME_MS);
    }

    /// Whether there is nothing to look for.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Takes out the RST that answers `segment`, sent through `place`.
    pub fn take(&self, now: Instant, place: Place, segment: Segment) -> Option<Rst> {
        [false, true].into_iter().find_map(|bare| {
            let answers = |numbers| answers(decode(bare, numbers), segment);
            let numbers = self.slots.take(key(place, bare), now.as_millis(), answers)?;
            Some(decode(bare, numbers))
        })
    }

    /// Frees the slots of RSTs that nobody asked for in time.
    pub fn expire(&self, now: Instant) {
        self.slots.expire(now.as_millis());
    }
}

fn answers(rst: Rst, segment: Segment) -> bool {
    match rst {
        Rst::Acknowledging { ack, .. } => ack == segment.end,
        Rst::Bare { seq } => segment.ack == Some(seq),
    }
}

fn key(place: Place, bare: bool) -> u64 {
    let service = u64::from(place.service) & 0x3fff;
    1 << 63
        | u64::from(bare) << 62
        | service << 48
        | u64::from(place.address) << 16
        | u64::from(place.port)
}

fn encode(place: Place, rst: Rst) -> (u64, u64) {
    match rst {
        Rst::Bare { seq } => (key(place, true), u64::from(seq.0) << 32),
        Rst::Acknowledging { seq, ack } => {
            (key(place, false), u64::from(seq.0) << 32 | u64::from(ack.0))
        }
    }
}

fn decode(bare: bool, numbers: u64) -> Rst {
    let seq = SeqNum((numbers >> 32) as u32);
    if bare { Rst::Bare { seq } } else { Rst::Acknowledging { seq, ack: SeqNum(numbers as u32) } }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_millis(1000);

    fn place(port: u16) -> Place {
        Place { service: 3, address: 0x0a00_0001, port }
    }

    fn segment(ack: Option<u32>, end: u32) -> Segment {
        Segment { ack: ack.map(SeqNum), end: SeqNum(end) }
    }

    #[test]
    fn a_closed_port_is_told_to_the_syn_that_hit_it() {
        let table = PendingRsts::new(16);
        let rst = Rst::Acknowledging { seq: SeqNum(0), ack: SeqNum(8) };
        table.keep(NOW, place(5000), rst);
        assert_eq!(table.take(NOW, place(5001), segment(None, 8)), None);
        assert_eq!(table.take(NOW, place(5000), segment(None, 9)), None);
        assert_eq!(table.take(NOW, place(5000), segment(None, 8)), Some(rst));
        assert!(table.is_empty());
        assert_eq!(table.take(NOW, place(5000), segment(None, 8)), None);
    }

    #[test]
    fn a_vanished_socket_is_told_to_the_segment_that_hit_it() {
        let table = PendingRsts::new(16);
        let rst = Rst::Bare { seq: SeqNum(77) };
        table.keep(NOW, place(5000), rst);
        assert_eq!(table.take(NOW, place(5000), segment(None, 77)), None);
        assert_eq!(table.take(NOW, place(5000), segment(Some(78), 77)), None);
        assert_eq!(table.take(NOW, place(5000), segment(Some(77), 1)), Some(rst));
    }

    #[test]
    fn old_ones_are_forgotten() {
        let table = PendingRsts::new(16);
        table.keep(NOW, place(1), Rst::Bare { seq: SeqNum(1) });
        table.keep(NOW, place(2), Rst::Bare { seq: SeqNum(2) });
        let later = NOW.plus_millis(LIFETIME_MS + 1);
        assert_eq!(table.take(later, place(1), segment(Some(1), 0)), None);
        table.expire(later);
        assert!(table.is_empty());
    }

    #[test]
    fn it_is_bounded_and_the_newest_stay() {
        let table = PendingRsts::new(8);
        for port in 0..1000u16 {
            let now = NOW.plus_millis(port.into());
            table.keep(now, place(port), Rst::Bare { seq: SeqNum(port.into()) });
        }
        let held = (0..1000u16).filter(|&port| {
            let segment = segment(Some(port.into()), 0);
            port != 999 && table.take(NOW, place(port), segment).is_some()
        });
        assert!(held.count() < 8);
        let last = Rst::Bare { seq: SeqNum(999) };
        assert_eq!(table.take(NOW, place(999), segment(Some(999), 0)), Some(last));
        assert!(table.is_empty());
    }
}
