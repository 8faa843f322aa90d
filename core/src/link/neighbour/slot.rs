//! One hardware address, and a slot that holds one host after another: words that workers share
//! without a lock.
//!
//! A slot may be reused for another host while other workers read it. The slot's word carries a
//! generation and a bit that is set while the key changes, so that a reader never takes one host's
//! hardware address for another's. This is a sequence lock (Boehm, "Can seqlocks get along with
//! programming language memory models?") that never waits: a reader that meets a change finds no
//! host.
//!
//! `core/tests/loom.rs` runs this file under every order of its loads and stores that the memory
//! model allows; that is why it takes atomics from the module above.

use super::atomic::{AtomicU64, Ordering};
use crate::link::times::{ASK_INTERVAL_MS, EXPIRE_MS, REFRESH_MS};
use crate::time::Instant;
use crate::wire::MacAddr;

/// A host's hardware address, or the state of the query for it.
#[derive(Debug, Default)]
pub struct Neighbour {
    // Hardware address in the low 48 bits, then the bits below.
    word: AtomicU64,
    seen_ms: AtomicU64,
    // Time of the last query plus one; 0 when none was sent.
    asked_ms: AtomicU64,
}

/// The hardware address is known.
const KNOWN: u64 = 1 << 48;
/// The slot's key is being changed.
const CLAIMED: u64 = 1 << 49;
/// Counts the hosts that the slot has held, in the bits from here on.
const GENERATION: u64 = 1 << 50;

impl Neighbour {
    /// The address, when it is known and not expired; and whether a query is due, which then counts
    /// as sent.
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

    /// Whether the address is known and not expired.
    pub fn is_known(&self, now: Instant) -> bool {
        self.known_word(now, self.word.load(Ordering::Acquire)).0.is_some()
    }

    /// The address, when it is known and not expired; and its age in milliseconds.
    #[inline]
    fn known_word(&self, now: Instant, word: u64) -> (Option<MacAddr>, u64) {
        let age_ms = now.as_millis().saturating_sub(self.seen_ms.load(Ordering::Relaxed));
        let usable = word & KNOWN != 0 && age_ms < EXPIRE_MS;
        (usable.then(|| MacAddr::from_u64(word)), age_ms)
    }

    /// Whether a query may be sent now; then it counts as sent.
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

    /// Keeps the address of the host's answer. An address that is in use stays unless the answer
    /// `replaces` it (the override flag of RFC 4861, 7.2.5).
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
        // A failure means that another worker learned the same, or that the slot was reused.
        let _ = self.word.compare_exchange(word, learned, Ordering::AcqRel, Ordering::Relaxed);
    }
}

/// The place of a host in the table, a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct HostSlot {
    neighbour: Neighbour,
    // The port plus one; 0 when free.
    port: AtomicU64,
    high: AtomicU64,
    low: AtomicU64,
}

/// A host's slot, at the generation in which it was found.
#[derive(Clone, Copy, Debug)]
pub struct HostEntry<'a> {
    neighbour: &'a Neighbour,
    word: u64,
}

impl HostEntry<'_> {
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

/// The key of a host: its port and address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostKey {
    /// The port plus one.
    pub port: u64,
    /// High half of the address.
    pub high: u64,
    /// Low half of the address.
    pub low: u64,
}

impl HostSlot {
    /// The neighbour in this slot, if it is that of `key`.
    #[inline]
    pub fn holding(&self, key: HostKey) -> Option<HostEntry<'_>> {
        let word = self.neighbour.word.load(Ordering::Acquire);
        let held = HostKey {
            port: self.port.load(Ordering::Acquire),
            high: self.high.load(Ordering::Acquire),
            low: self.low.load(Ordering::Acquire),
        };
        // A reader that saw a part of a new key sees here that the slot was claimed.
        let again = self.neighbour.word.load(Ordering::Relaxed);
        let stayed = (word ^ again) & !(CLAIMED - 1) == 0 && word & CLAIMED == 0;
        (held == key && stayed).then_some(HostEntry { neighbour: &self.neighbour, word })
    }

    /// Whether it is in use, and when its host was last heard: the least is evicted first.
    pub fn rank(&self) -> (bool, u64) {
        let is_used = self.port.load(Ordering::Relaxed) != 0;
        (is_used, self.neighbour.seen_ms.load(Ordering::Relaxed))
    }

    /// Gives the slot to `key`; `None` when another worker is changing it.
    pub fn claim(&self, key: HostKey) -> Option<HostEntry<'_>> {
        let HostSlot { neighbour, .. } = self;
        let word = neighbour.word.load(Ordering::Acquire);
        if word & CLAIMED != 0 {
            return None;
        }
        let next = (word & !(GENERATION - 1)).wrapping_add(GENERATION);
        let claimed = next | CLAIMED;
        neighbour.word.compare_exchange(word, claimed, Ordering::AcqRel, Ordering::Relaxed).ok()?;
        // The claim bit is a try-lock: until the last store no other worker writes the key.
        self.port.store(key.port, Ordering::Release);
        self.high.store(key.high, Ordering::Release);
        self.low.store(key.low, Ordering::Release);
        neighbour.seen_ms.store(0, Ordering::Relaxed);
        neighbour.asked_ms.store(0, Ordering::Relaxed);
        neighbour.word.store(next, Ordering::Release);
        Some(HostEntry { neighbour, word: next })
    }
}
