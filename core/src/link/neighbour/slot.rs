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
use crate::link::times::{EXPIRE_MS, ProbeTimes};
use crate::time::Instant;
use crate::wire::MacAddr;

/// A host's hardware address, or the state of the query for it.
#[derive(Debug, Default)]
pub struct Neighbour {
    // Hardware address in the low 48 bits, then the bits below.
    word: AtomicU64,
    // Time of the last answer. Wraps: an address that was only announced is made to look old.
    seen_ms: AtomicU64,
    // Queries since the last answer in the low bits, then the time of the last one plus one; 0 when
    // none was sent.
    asked: AtomicU64,
}

/// What is known of a neighbour at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its address, when it is known and not expired.
    pub mac: Option<MacAddr>,
    /// Whether the address is known, and queries about it do not go unanswered.
    pub answers: bool,
    /// Whether a query is due, which then counts as asked.
    pub due: bool,
}

/// How a hardware address was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// Whether it replaces another one that is in use (the override flag of RFC 4861, 7.2.5).
    pub replaces: bool,
    /// Whether it shows that the neighbour hears the POP: an answer, or a question about the
    /// port's own address. What is announced to all does not (RFC 4861, 7.3.1).
    pub confirms: bool,
}

impl Told {
    /// As an answer, of ARP or with the override flag.
    pub const ANSWER: Told = Told { replaces: true, confirms: true };
    /// To all, unasked: gratuitous ARP, or an unsolicited advertisement with the override flag.
    pub const ANNOUNCEMENT: Told = Told { replaces: true, confirms: false };
}

/// The hardware address is known.
const KNOWN: u64 = 1 << 48;
/// The slot's key is being changed.
const CLAIMED: u64 = 1 << 49;
/// Counts the hosts that the slot has held, in the bits from here on.
const GENERATION: u64 = 1 << 50;
/// The bits of [`Neighbour::asked`] that count.
const COUNT_BITS: u32 = 8;
const COUNT: u64 = (1 << COUNT_BITS) - 1;

impl Neighbour {
    /// What is known; with `asks`, a query that is due counts as asked.
    #[inline]
    pub fn find(&self, now: Instant, times: &ProbeTimes, asks: bool) -> Found {
        self.find_word(now, self.word.load(Ordering::Acquire), times, asks)
    }

    #[inline]
    fn find_word(&self, now: Instant, word: u64, times: &ProbeTimes, asks: bool) -> Found {
        let (mac, age_ms) = self.known_word(now, word);
        if mac.is_some() && age_ms < times.refresh_ms {
            return Found { mac, answers: true, due: false };
        }
        let answers = mac.is_some() && !self.is_silent(now, times);
        Found { mac, answers, due: asks && self.ask(now, times) }
    }

    /// Whether it has told an address, at any time.
    pub fn has_answered(&self) -> bool {
        self.word.load(Ordering::Acquire) & KNOWN != 0
    }

    /// The address, when it is known and not expired; and its age in milliseconds.
    #[inline]
    fn known_word(&self, now: Instant, word: u64) -> (Option<MacAddr>, u64) {
        // Another worker's answer may be of a later time.
        let age = now.as_millis().wrapping_sub(self.seen_ms.load(Ordering::Relaxed));
        let age_ms = age.cast_signed().max(0).cast_unsigned();
        let usable = word & KNOWN != 0 && age_ms < EXPIRE_MS;
        (usable.then(|| MacAddr::from_u64(word)), age_ms)
    }

    /// Whether enough queries went unanswered, of which each had its time.
    fn is_silent(&self, now: Instant, times: &ProbeTimes) -> bool {
        let asked = self.asked.load(Ordering::Relaxed);
        let count = asked & COUNT;
        // A further one is sent only after that time.
        count > times.probes || count == times.probes && has_passed(now, asked, times)
    }

    /// Whether a query may be sent now; then it counts as asked, and as unanswered.
    fn ask(&self, now: Instant, times: &ProbeTimes) -> bool {
        let asked = self.asked.load(Ordering::Relaxed);
        if asked != 0 && !has_passed(now, asked, times) {
            return false;
        }
        let count = (asked & COUNT).saturating_add(1).min(COUNT);
        let asked_now = (now.as_millis() + 1) << COUNT_BITS | count;
        self.asked.compare_exchange(asked, asked_now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Takes back that a query counts as unanswered: it could not be sent.
    pub fn take_back(&self) {
        let asked = self.asked.load(Ordering::Relaxed);
        if asked & COUNT > 0 {
            // A failure means that an answer came, or that another query went out.
            let (to, from) = (asked - 1, asked);
            let _ = self.asked.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Keeps the address that was told; whether that changed anything or showed a sign of life. An
    /// address that is in use stays unless the new one replaces it.
    pub fn learn(&self, now: Instant, mac: MacAddr, told: Told, times: &ProbeTimes) -> bool {
        self.learn_word(now, self.word.load(Ordering::Acquire), mac, told, times)
    }

    /// As [`Neighbour::learn`], of an answer of the station `mac` that does not tell an address: a
    /// sign of life of the neighbour if that is its address.
    pub fn confirm(&self, now: Instant, mac: MacAddr, times: &ProbeTimes) -> bool {
        self.confirm_word(now, self.word.load(Ordering::Acquire), mac, times)
    }

    fn confirm_word(&self, now: Instant, word: u64, mac: MacAddr, times: &ProbeTimes) -> bool {
        let is_its_own = self.known_word(now, word).0 == Some(mac);
        is_its_own && self.learn_word(now, word, mac, Told::ANSWER, times)
    }

    fn learn_word(
        &self,
        now: Instant,
        word: u64,
        mac: MacAddr,
        told: Told,
        times: &ProbeTimes,
    ) -> bool {
        let (known, _) = self.known_word(now, word);
        let is_new = known != Some(mac);
        let is_kept = is_new && !told.replaces && known.is_some() && !self.is_silent(now, times);
        if is_kept || !(is_new || told.confirms) {
            return false;
        }
        // One that is only announced is used at once, and asked about at once.
        let age_ms = if told.confirms { 0 } else { times.refresh_ms };
        self.seen_ms.store(now.as_millis().wrapping_sub(age_ms), Ordering::Relaxed);
        self.asked.fetch_and(!COUNT, Ordering::Relaxed);
        let learned = word & !(GENERATION - 1) | KNOWN | mac.to_u64();
        // A failure means that another worker learned the same, or that the slot was reused.
        let _ = self.word.compare_exchange(word, learned, Ordering::AcqRel, Ordering::Relaxed);
        true
    }
}

/// Whether the last query had its time.
fn has_passed(now: Instant, asked: u64, times: &ProbeTimes) -> bool {
    now.as_millis() + 1 >= (asked >> COUNT_BITS) + times.interval_ms
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
    /// The address, when it is known and not expired; and whether a query is due, which then counts
    /// as asked.
    #[inline]
    pub fn resolve(&self, now: Instant) -> (Option<MacAddr>, bool) {
        let found = self.neighbour.find_word(now, self.word, &ProbeTimes::HOST, true);
        (found.mac, found.due)
    }

    /// See [`Neighbour::confirm`].
    pub fn confirm(&self, now: Instant, mac: MacAddr) -> bool {
        self.neighbour.confirm_word(now, self.word, mac, &ProbeTimes::HOST)
    }

    /// See [`Neighbour::learn`].
    pub fn learn(&self, now: Instant, mac: MacAddr, told: Told) -> bool {
        self.neighbour.learn_word(now, self.word, mac, told, &ProbeTimes::HOST)
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
    pub fn rank(&self) -> (bool, i64) {
        let is_used = self.port.load(Ordering::Relaxed) != 0;
        (is_used, self.neighbour.seen_ms.load(Ordering::Relaxed).cast_signed())
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
        neighbour.asked.store(0, Ordering::Relaxed);
        neighbour.word.store(next, Ordering::Release);
        Some(HostEntry { neighbour, word: next })
    }
}
