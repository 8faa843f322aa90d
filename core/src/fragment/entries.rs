//! A bounded arena of partial datagrams, found by hash and key, and listed by age.
//!
//! Both lists are links by index within one allocation. An entry that is not in use is on the free
//! list, which shares the links of the hash chains.

use super::partial::Partial;
use super::read::DatagramKey;

#[derive(Clone, Copy, Debug)]
struct PartialEntry {
    partial: Partial,
    /// The next entry of the hash chain, or of the free list.
    next: u32,
    older: u32,
    newer: u32,
}

/// The partial datagrams of one worker.
#[derive(Debug)]
pub(super) struct Entries {
    heads: Box<[u32]>,
    entries: Box<[PartialEntry]>,
    free: u32,
    oldest: u32,
    newest: u32,
    len: usize,
}

impl Entries {
    /// Room for `capacity` datagrams, at least one.
    pub(super) fn new(capacity: u32) -> Self {
        let count = capacity.max(1);
        let unused = |next| PartialEntry::unused(if next < count { next } else { NONE });
        Entries {
            heads: vec![NONE; count.next_power_of_two() as usize].into_boxed_slice(),
            entries: (1..=count).map(unused).collect(),
            free: 0,
            oldest: NONE,
            newest: NONE,
            len: 0,
        }
    }

    /// Bytes that room for `capacity` datagrams takes.
    pub(super) fn memory(capacity: u32) -> usize {
        let (entries, heads) = (capacity.max(1), capacity.next_power_of_two());
        entries as usize * size_of::<PartialEntry>() + heads as usize * size_of::<u32>()
    }

    /// Datagrams in it.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Datagrams that there is still room for.
    pub(super) fn room(&self) -> usize {
        self.entries.len().saturating_sub(self.len)
    }

    /// The datagram that has been in it for longest.
    #[inline]
    pub(super) fn oldest(&self) -> Option<u32> {
        (self.oldest != NONE).then_some(self.oldest)
    }

    pub(super) fn get(&self, index: u32) -> Option<&Partial> {
        self.entries.get(index as usize).map(|entry| &entry.partial)
    }

    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut Partial> {
        self.entries.get_mut(index as usize).map(|entry| &mut entry.partial)
    }

    /// The datagram with this key, whose hash is `hash`.
    pub(super) fn find(&self, hash: u64, key: &DatagramKey) -> Option<u32> {
        let mut index = self.heads.get(self.chain(hash)).copied().unwrap_or(NONE);
        // At most as many steps as entries, and a few under a keyed hash.
        while let Some(entry) = self.entries.get(index as usize) {
            if entry.partial.key == *key {
                return Some(index);
            }
            index = entry.next;
        }
        None
    }

    /// Adds a datagram, whose hash is `hash`, as the newest; `None` when there is no room.
    pub(super) fn insert(&mut self, hash: u64, partial: Partial) -> Option<u32> {
        let (index, newest) = (self.free, self.newest);
        let chain = self.chain(hash);
        let head = self.heads.get_mut(chain)?;
        let entry = self.entries.get_mut(index as usize)?;
        self.free = entry.next;
        *entry = PartialEntry { partial, next: *head, older: newest, newer: NONE };
        *head = index;
        match self.entries.get_mut(newest as usize) {
            Some(entry) => entry.newer = index,
            None => self.oldest = index,
        }
        self.newest = index;
        self.len += 1;
        Some(index)
    }

    /// Removes the datagram at `index`, whose hash is `hash`.
    pub(super) fn remove(&mut self, hash: u64, index: u32) {
        let Some(&entry) = self.entries.get(index as usize) else { return };
        self.len -= 1;
        self.unchain(hash, index, entry.next);
        match self.entries.get_mut(entry.older as usize) {
            Some(older) => older.newer = entry.newer,
            None => self.oldest = entry.newer,
        }
        match self.entries.get_mut(entry.newer as usize) {
            Some(newer) => newer.older = entry.older,
            None => self.newest = entry.older,
        }
        if let Some(place) = self.entries.get_mut(index as usize) {
            *place = PartialEntry::unused(self.free);
            self.free = index;
        }
    }

    fn unchain(&mut self, hash: u64, index: u32, next: u32) {
        let chain = self.chain(hash);
        let Some(head) = self.heads.get_mut(chain) else { return };
        if *head == index {
            *head = next;
            return;
        }
        let mut at = *head;
        while let Some(before) = self.entries.get_mut(at as usize) {
            if before.next == index {
                before.next = next;
                return;
            }
            at = before.next;
        }
    }

    fn chain(&self, hash: u64) -> usize {
        hash as usize & (self.heads.len() - 1)
    }
}

impl PartialEntry {
    const fn unused(next: u32) -> PartialEntry {
        PartialEntry { partial: Partial::UNUSED, next, older: NONE, newer: NONE }
    }
}

/// No entry.
const NONE: u32 = u32::MAX;
