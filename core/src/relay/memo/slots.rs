//! A table of the memo: two words under each key, shared by the workers without a lock.
//!
//! A slot's key doubles as a try-lock: a worker that changes a slot, or takes out what it holds,
//! sets the key to `LOCKED` first, and no other worker writes the slot or relies on what it reads
//! there. So words are never taken for those of another key, and none are given out twice. Nobody
//! waits: a worker that finds a slot locked leaves it alone.
//!
//! `core/tests/loom.rs` runs this file under every order of its loads and stores that the memory
//! model allows; that is why it takes atomics from the module above.

use super::atomic::{AtomicU32, AtomicU64, Ordering};

/// Slots that a key may be in.
pub const WAYS: usize = 4;

/// Slots that one sweep looks at.
pub const SWEEP: u32 = 4096;

/// Nothing is in the slot.
const FREE: u64 = 0;
/// A worker changes the slot.
const LOCKED: u64 = 1;

/// The slots.
#[derive(Debug)]
pub struct Slots {
    slots: Box<[Slot]>,
    // How many slots are in use, so that an empty table costs one load. Never less than there are.
    used: AtomicU32,
    // Where the next sweep begins.
    swept: AtomicU32,
}

#[derive(Debug, Default)]
struct Slot {
    key: AtomicU64,
    words: [AtomicU64; 2],
    expires_ms: AtomicU64,
}

impl Slots {
    /// So many free slots, at least one.
    pub fn new(slots: usize) -> Self {
        let slots = (0..slots.max(1)).map(|_| Slot::default()).collect();
        Slots { slots, used: AtomicU32::new(0), swept: AtomicU32::new(0) }
    }

    /// Keeps `words` under `key`, which is above 1, until after `expires_ms`, in place of what was
    /// kept under it. The oldest of the key's slots gives way when none is free.
    pub fn keep(&self, key: u64, words: [u64; 2], expires_ms: u64) {
        // Its own slot may be behind one that has become free: what is older would stay there.
        let mut own = self.ways(key).filter(|slot| slot.key.load(Ordering::Relaxed) == key);
        if own.any(|slot| self.fill(slot, key, key, words, expires_ms)) {
            return;
        }
        let mut oldest: Option<(&Slot, u64, u64)> = None;
        for slot in self.ways(key) {
            let held = slot.key.load(Ordering::Relaxed);
            if held == key || held == FREE {
                if self.fill(slot, held, key, words, expires_ms) {
                    return;
                }
            } else if held != LOCKED {
                let expires_ms = slot.expires_ms.load(Ordering::Relaxed);
                if oldest.is_none_or(|(.., first)| expires_ms < first) {
                    oldest = Some((slot, held, expires_ms));
                }
            }
        }
        if let Some((slot, held, _)) = oldest {
            self.fill(slot, held, key, words, expires_ms);
        }
    }

    /// Whether there is nothing to look for.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.used.load(Ordering::Relaxed) == 0
    }

    /// How many slots are in use, at most.
    pub fn used(&self) -> u32 {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether `words` are kept under `key` until `expires_ms` or longer. While another worker
    /// changes the slot the answer may be wrong.
    pub fn holds(&self, key: u64, words: [u64; 2], expires_ms: u64) -> bool {
        self.ways(key).any(|slot| {
            slot.key.load(Ordering::Relaxed) == key
                && slot.words() == words
                && slot.expires_ms.load(Ordering::Relaxed) >= expires_ms
        })
    }

    /// Takes words out that are kept under `key` and that `answers` says yes to; what is too old is
    /// thrown away.
    pub fn take(
        &self,
        key: u64,
        now_ms: u64,
        answers: impl Fn([u64; 2]) -> bool,
    ) -> Option<[u64; 2]> {
        for slot in self.ways(key) {
            // A first look, without the lock, so that what does not answer costs little.
            if slot.key.load(Ordering::Relaxed) != key
                || !(slot.is_over(now_ms) || answers(slot.words()))
                || !slot.lock(key)
            {
                continue;
            }
            let words = slot.words();
            let is_over = slot.is_over(now_ms);
            let found = !is_over && answers(words);
            self.unlock(slot, key, is_over || found);
            if found {
                return Some(words);
            }
        }
        None
    }

    /// The words that are kept under `key`, and in their place what `change` makes of them; their
    /// time does not change. What is too old is thrown away. `None` where there are none, or while
    /// another worker has them.
    pub fn read(
        &self,
        key: u64,
        now_ms: u64,
        change: impl Fn([u64; 2]) -> Option<[u64; 2]>,
    ) -> Option<[u64; 2]> {
        for slot in self.ways(key) {
            if slot.key.load(Ordering::Relaxed) != key || !slot.lock(key) {
                continue;
            }
            let words = slot.words();
            let is_over = slot.is_over(now_ms);
            if !is_over && let Some(changed) = change(words) {
                slot.set_words(changed);
            }
            self.unlock(slot, key, is_over);
            if !is_over {
                return Some(words);
            }
        }
        None
    }

    /// Frees slots of what is too old: of the next [`SWEEP`] slots, so that a large table does not
    /// hold up the worker that sweeps it.
    pub fn expire(&self, now_ms: u64) {
        if self.is_empty() {
            return;
        }
        let first = self.swept.fetch_add(SWEEP, Ordering::Relaxed) as usize % self.slots.len();
        let count = self.slots.len().min(SWEEP as usize);
        for slot in self.slots.iter().cycle().skip(first).take(count) {
            let key = slot.key.load(Ordering::Relaxed);
            if key > LOCKED && slot.is_over(now_ms) && slot.lock(key) {
                self.unlock(slot, key, slot.is_over(now_ms));
            }
        }
    }

    /// Gives the slot, which holds `held`, to `key`; false when another worker was faster.
    fn fill(&self, slot: &Slot, held: u64, key: u64, words: [u64; 2], expires_ms: u64) -> bool {
        if !slot.lock(held) {
            return false;
        }
        slot.set_words(words);
        slot.expires_ms.store(expires_ms, Ordering::Relaxed);
        if held == FREE {
            self.used.fetch_add(1, Ordering::Relaxed);
        }
        slot.key.store(key, Ordering::Release);
        true
    }

    /// Unlocks a slot that held `key`, free or as it was.
    fn unlock(&self, slot: &Slot, key: u64, is_free: bool) {
        slot.key.store(if is_free { FREE } else { key }, Ordering::Release);
        if is_free {
            self.used.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn ways(&self, key: u64) -> impl Iterator<Item = &Slot> {
        let hash = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let count = self.slots.len();
        let start = hash as usize % count;
        (0..WAYS.min(count)).filter_map(move |way| self.slots.get((start + way) % count))
    }
}

impl Slot {
    /// Locks the slot if it holds `held`: what was written before it was unlocked is seen from here
    /// on, and no other worker changes it.
    fn lock(&self, held: u64) -> bool {
        self.key.compare_exchange(held, LOCKED, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    fn words(&self) -> [u64; 2] {
        let [first, second] = &self.words;
        [first.load(Ordering::Relaxed), second.load(Ordering::Relaxed)]
    }

    fn set_words(&self, words: [u64; 2]) {
        for (place, word) in self.words.iter().zip(words) {
            place.store(word, Ordering::Relaxed);
        }
    }

    fn is_over(&self, now_ms: u64) -> bool {
        self.expires_ms.load(Ordering::Relaxed) < now_ms
    }
}
