//! The share of each network in the reassembly table, so that no network takes the room of others.
//!
//! A network (an IPv4 /24, an IPv6 /56) gets no more once it has a third of what is free (dynamic
//! thresholds of shared buffers: Choudhury and Hahne, IEEE/ACM Transactions on Networking 6(2),
//! 1998). So one network has at most a quarter, and each later one a quarter of the rest: of N, n
//! networks leave (3/4)^n * (N + 3) - 3 or more. Fixed quarters would leave nothing after four
//! networks.
//!
//! Networks are counted in two tables, at places that cannot be chosen without the key, and the
//! smaller of the two counts is used (a count-min sketch). It is never too small, and too large
//! only for a network that shares both places with others that have fragments waiting.

use crate::bucket::{BUCKETS, BucketPlace};
use crate::verdict::DropReason;

/// The fragments of a network that wait for others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Incomplete datagrams, with those that were given up and have not expired.
    pub datagrams: u32,
    /// Frames of them that are kept.
    pub frames: u32,
}

/// The account of every network.
#[derive(Debug)]
pub(super) struct Shares([Box<[Waiting]>; 2]);

impl Shares {
    /// No network has anything waiting.
    pub(super) fn new() -> Self {
        Shares([(); 2].map(|()| vec![Waiting::default(); BUCKETS].into_boxed_slice()))
    }

    /// Bytes that the tables take.
    pub(super) const fn memory() -> usize {
        2 * BUCKETS * size_of::<Waiting>()
    }

    /// The account of the network at `places`. It may be too high, and is never too low.
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

    /// Adds `more` to the network's account.
    pub(super) fn add(&mut self, places: [BucketPlace; 2], more: Waiting) {
        self.each(places, |waiting| {
            waiting.datagrams += more.datagrams;
            waiting.frames += more.frames;
        });
    }

    /// Removes `gone`, which was added before.
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

    /// The sum of each table.
    #[cfg(test)]
    pub(super) fn sums(&self) -> [Waiting; 2] {
        [0, 1].map(|table: usize| Waiting {
            datagrams: self.0[table].iter().map(|waiting| waiting.datagrams).sum(),
            frames: self.0[table].iter().map(|waiting| waiting.frames).sum(),
        })
    }
}

/// How many must be free for each that a network has: alone, it gets at most N / (1 + this) of N.
pub(crate) const LEFT_FOR_EACH: usize = 3;

/// The reason that a network with `waiting` gets no more while `free` are left, if there is one.
pub(super) fn refusal(waiting: u32, free: usize) -> Option<DropReason> {
    match free {
        0 => Some(DropReason::FragmentTableFull),
        _ if waiting as usize * LEFT_FOR_EACH >= free => Some(DropReason::FragmentShare),
        _ => None,
    }
}
