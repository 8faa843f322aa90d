//! One hardware address, and a slot that is given to one station after another: words that workers
//! share without a lock.
//!
//! A slot may be given to another station while others read it. Its word decides: it says who wrote
//! last (a generation) and whether its key is being changed, so that nobody takes one station's
//! hardware address for another's (a sequence lock as in Boehm, "Can seqlocks get along with
//! programming language memory models?", but nobody ever waits).
//!
//! `core/tests/loom.rs` runs this file under every order of its loads and stores that the memory model
//! allows; that is why it takes atomics from the module above.

use super::atomic::{AtomicU64, Ordering};
use super::{ASK_INTERVAL_MS, EXPIRE_MS, REFRESH_MS};
use crate::time::Instant;
use crate::wire::MacAddr;

/// A station's hardware address, or the wish for it.
#[derive(Debug, Default)]
pub struct Neighbour {
    // Hardware address in the low 48 bits, then the bits below.
    word: AtomicU64,
    seen_ms: AtomicU64,
    // Time of the last question plus one, so that 0 is never.
    asked_ms: AtomicU64,
}

/// The hardware address is known.
const KNOWN: u64 = 1 << 48;
/// The slot is being given to another station.
const CLAIMED: u64 = 1 << 49;
/// Counts to whom the slot was given, in the bits from here on.
const GENERATION: u64 = 1 << 50;

impl Neighbour {
    /// The address, when it is known and not too old; and whether a question is due, which then
    /// counts as sent.
    #[inline]
    pub fn resolve(&self, now: Instant) -> (Option<MacAddr>, bool) {
        self.resolve_word(now, self.word.load(Ordering::Acquire))
    }

    #[inline]
    fn resolve_word(&self, now: Instant, word: u64) -> (Option<MacAddr>, bool) {
        let (known, age_ms) = self.known_word(now, word);
        if known.is_some() && age_ms < REFRESH_MS {
            return (known, false);
        }
        (known, self.ask(now))
    }

    /// Whether the address is known and not too old.
    pub fn is_known(&self, now: Instant) -> bool {
        self.known_word(now, self.word.load(Ordering::Acquire)).0.is_some()
    }

    /// The address, when it is known and not too old; and its age.
    #[inline]
    fn known_word(&self, now: Instant, word: u64) -> (Option<MacAddr>, u64) {
        let age_ms = now.as_millis().saturating_sub(self.seen_ms.load(Ordering::Relaxed));
        let usable = word & KNOWN != 0 && age_ms < EXPIRE_MS;
        (usable.then(|| MacAddr::from_u64(word)), age_ms)
    }

    /// Whether a question may be sent now; then it counts as sent.
    fn ask(&self, now: Instant) -> bool {
        let asked = self.asked_ms.load(Ordering::Relaxed);
        if asked != 0 && now.as_millis() + 1 < asked + ASK_INTERVAL_MS {
            return false;
        }
        let asked_now = now.as_millis() + 1;
        self.asked_ms
            .compare_exchange(asked, asked_now, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    /// Keeps what the station told. Unless it `replaces` another address, one that is in use stays.
    pub fn learn(&self, now: Instant, mac: MacAddr, replaces: bool) {
        self.learn_word(now, self.word.load(Ordering::Acquire), mac, replaces);
    }

    fn learn_word(&self, now: Instant, word: u64, mac: MacAddr, replaces: bool) {
        let (known, _) = self.known_word(now, word);
        if !replaces && known.is_some_and(|known| known != mac) {
            return;
        }
        self.seen_ms.store(now.as_millis(), Ordering::Relaxed);
        let learned = word & !(GENERATION - 1) | KNOWN | mac.to_u64();
        // Whoever was faster knows as much, or the slot is another station's by now.
        let _ = self.word.compare_exchange(word, learned, Ordering::AcqRel, Ordering::Relaxed);
    }
}

/// A place for a station, in a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Slot {
    neighbour: Neighbour,
    // The port plus one; 0 when free.
    port: AtomicU64,
    high: AtomicU64,
    low: AtomicU64,
}

/// A slot of a station, as it was when it was found.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    neighbour: &'a Neighbour,
    word: u64,
}

impl Found<'_> {
    /// See [`Neighbour::resolve`].
    #[inline]
    pub fn resolve(&self, now: Instant) -> (Option<MacAddr>, bool) {
        self.neighbour.resolve_word(now, self.word)
    }

    /// See [`Neighbour::learn`].
    pub fn learn(&self, now: Instant, mac: MacAddr, replaces: bool) {
        self.neighbour.learn_word(now, self.word, mac, replaces);
    }
}

/// What a station is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// The port plus one.
    pub port: u64,
    /// High half of the address.
    pub high: u64,
    /// Low half of the address.
    pub low: u64,
}

impl Slot {
    /// The neighbour in this slot, if it is that of `key`.
    #[inline]
    pub fn holding(&self, key: Key) -> Option<Found<'_>> {
        let word = self.neighbour.word.load(Ordering::Acquire);
        let held = Key {
            port: self.port.load(Ordering::Acquire),
            high: self.high.load(Ordering::Acquire),
            low: self.low.load(Ordering::Acquire),
        };
        // Whoever reads a part of a new key sees, here, that the slot was given away.
        let again = self.neighbour.word.load(Ordering::Relaxed);
        let stayed = (word ^ again) & !(CLAIMED - 1) == 0 && word & CLAIMED == 0;
        (held == key && stayed).then_some(Found { neighbour: &self.neighbour, word })
    }

    /// Whether it is in use, and when its station was last heard: who makes room is the least.
    pub fn rank(&self) -> (bool, u64) {
        let is_used = self.port.load(Ordering::Relaxed) != 0;
        (is_used, self.neighbour.seen_ms.load(Ordering::Relaxed))
    }

    /// Gives the slot to `key`, unless somebody else is doing so.
    pub fn claim(&self, key: Key) -> Option<Found<'_>> {
        let Slot { neighbour, .. } = self;
        let word = neighbour.word.load(Ordering::Acquire);
        if word & CLAIMED != 0 {
            return None;
        }
        let next = (word & !(GENERATION - 1)).wrapping_add(GENERATION);
        let claimed = next | CLAIMED;
        neighbour.word.compare_exchange(word, claimed, Ordering::AcqRel, Ordering::Relaxed).ok()?;
        // From here to the last line nobody else writes the key.
        self.port.store(key.port, Ordering::Release);
        self.high.store(key.high, Ordering::Release);
        self.low.store(key.low, Ordering::Release);
        neighbour.seen_ms.store(0, Ordering::Relaxed);
        neighbour.asked_ms.store(0, Ordering::Relaxed);
        neighbour.word.store(next, Ordering::Release);
        Some(Found { neighbour, word: next })
    }
}
