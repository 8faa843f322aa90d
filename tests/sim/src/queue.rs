//! What is to happen, in the order of simulated time; of two at the same time, the one that was put
//! in first.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// A queue of events.
#[derive(Debug)]
pub struct Queue<E> {
    heap: BinaryHeap<Entry<E>>,
    count: u64,
}

#[derive(Debug)]
struct Entry<E> {
    at_us: u64,
    number: u64,
    event: E,
}

impl<E> Queue<E> {
    pub fn new() -> Self {
        Queue { heap: BinaryHeap::new(), count: 0 }
    }

    pub fn push(&mut self, at_us: u64, event: E) {
        self.count += 1;
        self.heap.push(Entry { at_us, number: self.count, event });
    }

    /// The next event, and its time.
    pub fn pop(&mut self) -> Option<(u64, E)> {
        self.heap.pop().map(|entry| (entry.at_us, entry.event))
    }
}

impl<E> Entry<E> {
    fn order(&self) -> (u64, u64) {
        (self.at_us, self.number)
    }
}

// The greatest is the earliest, as the heap gives out the greatest first.
impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.order().cmp(&self.order())
    }
}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl<E> Eq for Entry<E> {}
