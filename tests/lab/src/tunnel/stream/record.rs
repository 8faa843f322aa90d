//! Which datagrams of a direction arrived.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::datagram::{Header, hash_holds};

/// What became of one direction's datagrams.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Sent.
    pub sent: u64,
    /// Arrived at least once.
    pub received: u64,
    /// Arrived again.
    pub duplicates: u64,
    /// Arrived with a wrong hash, or were never sent.
    pub corrupted: u64,
    /// When those were sent that never arrived, since the flow was started, in order.
    pub lost: Vec<Duration>,
    /// The longest time from one arrival to the next, while something was sent.
    pub longest_gap: Duration,
}

impl Report {
    /// How many were lost that were not sent within any of these times since the flow was started.
    #[must_use]
    pub fn lost_outside(&self, windows: &[Range<Duration>]) -> u64 {
        let inside = |sent: &Duration| windows.iter().any(|window| window.contains(sent));
        self.lost.iter().filter(|sent| !inside(sent)).count() as u64
    }
}

/// One direction's datagrams, by number.
#[derive(Debug, Default)]
pub struct Record {
    /// When each was sent, since the flow was started.
    pub sent: Vec<Duration>,
    arrived: Vec<bool>,
    /// Arrived at least once.
    pub received: u64,
    /// Arrived again.
    pub duplicates: u64,
    /// Arrived with a wrong hash, or were never sent.
    pub corrupted: u64,
    last: Option<Duration>,
    longest_gap: Duration,
}

impl Record {
    /// Counts a datagram that arrived.
    pub fn take(&mut self, start: Instant, direction: u8, datagram: &[u8]) {
        let number = Header::read(datagram)
            .filter(|header| header.direction == direction && hash_holds(datagram))
            .and_then(|header| usize::try_from(header.number).ok())
            .filter(|number| *number < self.sent.len());
        let Some(number) = number else {
            self.corrupted += 1;
            return;
        };
        if self.arrived.len() <= number {
            self.arrived.resize(number + 1, false);
        }
        let first = !std::mem::replace(&mut self.arrived[number], true);
        self.received += u64::from(first);
        self.duplicates += u64::from(!first);
        let now = start.elapsed();
        if let Some(last) = self.last {
            self.longest_gap = self.longest_gap.max(now.saturating_sub(last));
        }
        self.last = Some(now);
    }

    /// When the newest one was sent that has arrived.
    pub fn newest_arrived(&self) -> Duration {
        let newest = self.arrived.len().checked_sub(1).and_then(|newest| self.sent.get(newest));
        newest.copied().unwrap_or_default()
    }

    /// What became of all so far.
    pub fn report(&self) -> Report {
        let arrived = |number: usize| self.arrived.get(number).copied().unwrap_or(false);
        let lost = (0..self.sent.len()).filter(|number| !arrived(*number));
        Report {
            sent: self.sent.len() as u64,
            received: self.received,
            duplicates: self.duplicates,
            corrupted: self.corrupted,
            lost: lost.map(|number| self.sent[number]).collect(),
            longest_gap: self.longest_gap,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::datagram::{DOWN, MIN_BYTES, UP, seal};
    use super::*;

    #[test]
    fn lost_duplicated_and_damaged_are_told_apart() {
        let start = Instant::now();
        let mut record =
            Record { sent: (0..5).map(Duration::from_secs).collect(), ..Record::default() };
        let datagram = |number: u64| {
            let mut datagram = vec![7; MIN_BYTES + 3];
            datagram[4] = UP;
            datagram[5..13].copy_from_slice(&number.to_be_bytes());
            seal(&mut datagram);
            datagram
        };
        for number in [0, 2, 2, 4, 5] {
            record.take(start, UP, &datagram(number));
        }
        let mut damaged = datagram(1);
        damaged[14] ^= 1;
        record.take(start, UP, &damaged);
        record.take(start, DOWN, &datagram(1));
        let report = record.report();
        assert_eq!((report.sent, report.received, report.duplicates), (5, 3, 1));
        assert_eq!(report.corrupted, 3, "number 5 was never sent, one damaged, one mirrored");
        assert_eq!(report.lost, [1, 3].map(Duration::from_secs));
        let window = Duration::from_secs(3)..Duration::from_secs(4);
        assert_eq!(report.lost_outside(std::slice::from_ref(&window)), 1);
    }
}
