//! A bounded map that evicts the least recently used entry.

use std::collections::HashMap;
use std::hash::Hash;

/// At most `capacity` values, each in a slot with a small, stable number.
#[derive(Debug)]
pub(super) struct Lru<K, V> {
    slots: Vec<Slot<K, V>>,
    indices: HashMap<K, usize>,
    newest: usize,
    oldest: usize,
    capacity: usize,
}

#[derive(Debug)]
struct Slot<K, V> {
    key: K,
    value: V,
    /// The slot used next after this one.
    newer: usize,
    /// The slot used last before this one.
    older: usize,
}

impl<K: Copy + Eq + Hash, V> Lru<K, V> {
    /// An empty map for `capacity` values, at least one.
    pub(super) fn new(capacity: usize) -> Self {
        Lru {
            slots: Vec::new(),
            indices: HashMap::new(),
            newest: NONE,
            oldest: NONE,
            capacity: capacity.max(1),
        }
    }

    /// The number of values.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The slot of `key`, which becomes the newest.
    pub(super) fn find(&mut self, key: &K) -> Option<usize> {
        let index = *self.indices.get(key)?;
        self.touch(index);
        Some(index)
    }

    /// The value in a slot.
    pub(super) fn get(&self, index: usize) -> Option<&V> {
        self.slots.get(index).map(|slot| &slot.value)
    }

    /// The value in a slot, mutable.
    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut V> {
        self.slots.get_mut(index).map(|slot| &mut slot.value)
    }

    /// The key of a slot.
    pub(super) fn key(&self, index: usize) -> Option<K> {
        self.slots.get(index).map(|slot| slot.key)
    }

    /// Whether the next key evicts another one.
    pub(super) fn is_full(&self) -> bool {
        self.slots.len() >= self.capacity
    }

    /// Inserts a key that is not in the map, and evicts the oldest one if it is full. Returns the
    /// slot, and its previous entry.
    pub(super) fn insert(&mut self, key: K, value: V) -> (usize, Option<(K, V)>) {
        if self.is_full() {
            return (self.oldest, self.replace(self.oldest, key, value));
        }
        let index = self.slots.len();
        self.slots.push(Slot { key, value, newer: NONE, older: NONE });
        self.indices.insert(key, index);
        self.link(index);
        (index, None)
    }

    /// Stores a key that is not in the map in a slot; returns the slot's previous entry.
    pub(super) fn replace(&mut self, index: usize, key: K, value: V) -> Option<(K, V)> {
        self.unlink(index);
        let slot = self.slots.get_mut(index)?;
        let old = std::mem::replace(slot, Slot { key, value, newer: NONE, older: NONE });
        self.indices.remove(&old.key);
        self.indices.insert(key, index);
        self.link(index);
        Some((old.key, old.value))
    }

    /// The least recently used slot among those whose key is `wanted`.
    pub(super) fn oldest_of(&self, wanted: impl Fn(&K) -> bool) -> Option<usize> {
        let mut index = self.oldest;
        loop {
            let slot = self.slots.get(index)?;
            if wanted(&slot.key) {
                return Some(index);
            }
            index = slot.newer;
        }
    }

    /// Makes a slot the most recently used one.
    pub(super) fn touch(&mut self, index: usize) {
        if self.newest != index && index < self.slots.len() {
            self.unlink(index);
            self.link(index);
        }
    }

    fn unlink(&mut self, index: usize) {
        let Some(slot) = self.slots.get(index) else { return };
        let (newer, older) = (slot.newer, slot.older);
        match self.slots.get_mut(newer) {
            Some(slot) => slot.older = older,
            None => self.newest = older,
        }
        match self.slots.get_mut(older) {
            Some(slot) => slot.newer = newer,
            None => self.oldest = newer,
        }
    }

    fn link(&mut self, index: usize) {
        let newest = self.newest;
        if let Some(slot) = self.slots.get_mut(index) {
            (slot.newer, slot.older) = (NONE, newest);
        }
        match self.slots.get_mut(newest) {
            Some(slot) => slot.newer = index,
            None => self.oldest = index,
        }
        self.newest = index;
    }
}

/// The number of no slot.
const NONE: usize = usize::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    /// The slow reference: a list in order of use.
    #[test]
    fn agrees_with_a_list() {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        for capacity in [1, 2, 3, 8] {
            let (mut lru, mut list) = (Lru::new(capacity), Vec::<(u64, u64)>::new());
            for step in 0..5000u64 {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let key = (state >> 33) % 12;
                let at = list.iter().position(|(known, _)| *known == key);
                let found = lru.find(&key);
                let value = found.and_then(|index| lru.get(index)).copied();
                assert_eq!(value, at.map(|at| list[at].1), "capacity {capacity} step {step}");
                if let Some(at) = at {
                    let pair = list.remove(at);
                    list.push(pair);
                    continue;
                }
                if let Some(&(odd, _)) = list.iter().find(|(key, _)| key % 2 == 1) {
                    let index = lru.oldest_of(|key| key % 2 == 1);
                    assert_eq!(index.and_then(|index| lru.key(index)), Some(odd));
                }
                let gone = (list.len() == capacity).then(|| list.remove(0));
                list.push((key, step));
                let (index, evicted) = lru.insert(key, step);
                assert_eq!(evicted, gone, "capacity {capacity} step {step}");
                assert_eq!((lru.key(index), lru.len()), (Some(key), list.len()));
            }
        }
    }
}
