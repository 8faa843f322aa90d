//! How much of what waits each network has, so that none has so much that others have no room.
//!
//! A network (an IPv4 /24, an IPv6 /56) gets no more once it has a third of what is left for all (the
//! dynamic thresholds of shared buffers: Choudhury and Hahne, IEEE/ACM Transactions on Networking 6(2),
//! 1998). So one network has a quarter at most, and each that comes after takes a quarter of the rest:
//! of N, n networks leave (3/4)^n * (N + 3) - 3 or more. Four that each had a quarter for its own
//! would leave nothing.
//!
//! Networks are counted in two tables, at places that nobody without the key can choose, and the
//! smaller count is theirs (a count-min sketch): it is never too small, and too large only where both
//! places are shared with others that have something waiting.

use crate::bucket::{BUCKETS, BucketPlace};
use crate::verdict::DropReason;

/// What waits of a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Datagrams that are not whole, refused ones whose time is not up among them.
    pub datagrams: u32,
    /// Frames that are kept of them.
    pub frames: u32,
}

/// What waits of all networks there are.
#[derive(Debug)]
pub(super) struct Shares([Box<[Waiting]>; 2]);

impl Shares {
    /// Nothing waits.
    pub(super) fn new() -> Self {
        Shares([(); 2].map(|()| vec![Waiting::default(); BUCKETS].into_boxed_slice()))
    }

    /// Bytes that they take.
    pub(super) const fn memory() -> usize {
        2 * BUCKETS * size_of::<Waiting>()
    }

    /// What waits of the network at `places`, or more.
    pub(super) fn of(&self, places: [BucketPlace; 2]) -> Waiting {
        let [one, other] = &self.0;
        let [at, other_at] = places.map(BucketPlace::index);
        let one = one.get(at).copied().unwrap_or_default();
        let other = other.get(other_at).copied().unwrap_or_default();
        Waiting {
            datagrams: one.datagrams.min(other.datagrams),
            frames: one.frames.min(other.frames),
        }
    }

    /// More waits of the network.
    pub(super) fn add(&mut self, places: [BucketPlace; 2], more: Waiting) {
        self.each(places, |waiting| {
            waiting.datagrams += more.datagrams;
            waiting.frames += more.frames;
        });
    }

    /// No longer waits what was added before.
    pub(super) fn remove(&mut self, places: [BucketPlace; 2], gone: Waiting) {
        self.each(places, |waiting| {
            waiting.datagrams -= gone.datagrams;
            waiting.frames -= gone.frames;
        });
    }

    fn each(&mut self, places: [BucketPlace; 2], change: impl Fn(&mut Waiting)) {
        for (table, place) in self.0.iter_mut().zip(places) {
            if let Some(waiting) = table.get_mut(place.index()) {
                change(waiting);
            }
        }
    }

    /// What each table has in all.
    #[cfg(test)]
    pub(super) fn sums(&self) -> [Waiting; 2] {
        [0, 1].map(|table: usize| Waiting {
            datagrams: self.0[table].iter().map(|waiting| waiting.datagrams).sum(),
            frames: self.0[table].iter().map(|waiting| waiting.frames).sum(),
        })
    }
}

/// Of what is left, for each that a network has: its share of N is N / (1 + this).
pub(crate) const LEFT_FOR_EACH: usize = 3;

/// Why a network that has `waiting` gets no more, if so, where `free` are left for all.
pub(super) fn refusal(waiting: u32, free: usize) -> Option<DropReason> {
    match free {
        0 => Some(DropReason::FragmentTableFull),
        _ if waiting as usize * LEFT_FOR_EACH >= free => Some(DropReason::FragmentShare),
        _ => None,
    }
}
