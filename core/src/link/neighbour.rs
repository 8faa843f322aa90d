//! Hardware addresses of neighbours: soft state that is shared by the workers, without a lock.
//!
//! A slot of the table of stations may be given to another station while others read it. Its word
//! decides: it says who wrote last (a generation) and whether its key is being changed, so that
//! nobody takes one station's hardware address for another's (a sequence lock as in Boehm, "Can
//! seqlocks get along with programming language memory models?", but nobody ever waits).

use std::sync::atomic::{AtomicU64, Ordering};

use super::{ASK_INTERVAL_MS, EXPIRE_MS, HOSTS_MAX, REFRESH_MS};
use crate::config::Address;
use crate::time::Instant;
use crate::verdict::PortIndex;
use crate::wire::MacAddr;

/// A station's hardware address, or the wish for it.
#[derive(Debug, Default)]
pub(super) struct Neighbour {
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

/// Stations on the links, found by port and address; a bounded table. When it is full, the station
/// that was silent for longest makes room.
#[derive(Debug)]
pub(super) struct Stations {
    slots: Box<[Slot]>,
}

/// A place for a station, in a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Slot {
    neighbour: Neighbour,
    // The port plus one; 0 when free.
    port: AtomicU64,
    high: AtomicU64,
    low: AtomicU64,
}

/// A slot of a station, as it was when it was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<'a> {
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
struct Key {
    port: u64,
    high: u64,
    low: u64,
}

impl Key {
    #[inline]
    fn new<A: Address>(port: PortIndex, ip: A) -> Key {
        let number = ip.number();
        Key { port: u64::from(port.0) + 1, high: (number >> 64) as u64, low: number as u64 }
    }
}

impl Stations {
    /// Room for [`HOSTS_MAX`] stations.
    pub fn new() -> Self {
        Stations { slots: (0..HOSTS_MAX).map(|_| Slot::default()).collect() }
    }

    /// The station, if it was asked for.
    #[inline]
    pub fn find<A: Address>(&self, port: PortIndex, ip: A) -> Option<Found<'_>> {
        let key = Key::new(port, ip);
        self.ways(key).iter().find_map(|slot| slot.holding(key))
    }

    /// Makes room for the station; `None` when another worker is about the same slot.
    pub fn claim<A: Address>(&self, port: PortIndex, ip: A) -> Option<Found<'_>> {
        let key = Key::new(port, ip);
        let seen = |slot: &&Slot| {
            let used = slot.port.load(Ordering::Relaxed) != 0;
            (used, slot.neighbour.seen_ms.load(Ordering::Relaxed))
        };
        self.ways(key).iter().min_by_key(seen)?.claim(key)
    }

    /// The slots that a station may be in.
    #[inline]
    fn ways(&self, key: Key) -> &[Slot] {
        let number = key.low ^ key.high.rotate_left(32) ^ key.port << 48;
        let hash = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        let start = hash as usize % (HOSTS_MAX / WAYS) * WAYS;
        self.slots.get(start..start + WAYS).unwrap_or_default()
    }
}

impl Slot {
    /// The neighbour in this slot, if it is that of `key`.
    #[inline]
    fn holding(&self, key: Key) -> Option<Found<'_>> {
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

    /// Gives the slot to `key`, unless somebody else is doing so.
    fn claim(&self, key: Key) -> Option<Found<'_>> {
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

/// Slots that an on-link station may be in.
const WAYS: usize = 8;

const _: () = assert!(HOSTS_MAX.is_multiple_of(WAYS));

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: PortIndex = PortIndex(3);

    /// A hardware address that only this station has.
    fn mac_of(ip: u128) -> MacAddr {
        MacAddr::from_u64(0x02 << 40 | (ip >> 64 ^ ip) as u64 & 0xffff_ffff)
    }

    fn at(ms: u64) -> Instant {
        Instant::from_millis(1_000_000 + ms)
    }

    #[test]
    fn a_station_is_found_by_all_of_its_key() {
        let stations = Stations::new();
        let ip = 0x2001_0db8_u128 << 96 | 7;
        stations.claim(PORT, ip).unwrap().learn(at(0), mac_of(ip), true);
        assert_eq!(stations.find(PORT, ip).unwrap().resolve(at(1)), (Some(mac_of(ip)), false));
        assert!(stations.find(PortIndex(2), ip).is_none());
        for bit in 0..128 {
            assert!(stations.find(PORT, ip ^ 1 << bit).is_none(), "{bit}");
        }
    }

    #[test]
    fn what_was_found_before_a_slot_was_given_away_teaches_nothing() {
        let stations = Stations::new();
        let old = stations.claim(PORT, 1_u32).unwrap();
        let slot = stations.ways(Key::new(PORT, 1_u32)).iter();
        let slot = slot.clone().find(|slot| slot.low.load(Ordering::Relaxed) == 1).unwrap();
        slot.claim(Key::new(PORT, 2_u32)).unwrap();
        old.learn(at(0), mac_of(1), true);
        let held = slot.holding(Key::new(PORT, 2_u32)).unwrap();
        assert_eq!(held.resolve(at(0)), (None, true));
        assert!(slot.holding(Key::new(PORT, 1_u32)).is_none());
    }

    #[test]
    fn a_slot_in_other_hands_is_left_alone() {
        let slot = Slot::default();
        slot.neighbour.word.store(CLAIMED, Ordering::Relaxed);
        assert!(slot.claim(Key::new(PORT, 1_u32)).is_none());
        assert!(slot.holding(Key { port: 0, high: 0, low: 0 }).is_none());
    }

    #[test]
    fn an_address_in_use_is_replaced_only_by_who_says_so() {
        let neighbour = Neighbour::default();
        neighbour.learn(at(0), mac_of(1), false);
        neighbour.learn(at(REFRESH_MS), mac_of(2), false);
        assert_eq!(neighbour.resolve(at(REFRESH_MS)), (Some(mac_of(1)), true), "not refreshed");
        neighbour.learn(at(REFRESH_MS), mac_of(1), false);
        assert_eq!(neighbour.resolve(at(REFRESH_MS)), (Some(mac_of(1)), false));
        neighbour.learn(at(REFRESH_MS), mac_of(2), true);
        assert_eq!(neighbour.resolve(at(REFRESH_MS)), (Some(mac_of(2)), false));
        neighbour.learn(at(REFRESH_MS + EXPIRE_MS), mac_of(1), false);
        let found = neighbour.resolve(at(REFRESH_MS + EXPIRE_MS));
        assert_eq!(found, (Some(mac_of(1)), false), "the old one was not in use");
    }

    /// Threads that fight over one set of slots never see another station's hardware address.
    #[test]
    fn no_station_gets_anothers_address() {
        let stations = Stations::new();
        let first = Key::new(PORT, 0_u128);
        // More stations than slots, all in the same set.
        let home = stations.ways(first).as_ptr();
        let rivals: Vec<u128> = (0..1 << 20)
            .map(|number| (number << 64) | (number * 7919))
            .filter(|ip| stations.ways(Key::new(PORT, *ip)).as_ptr() == home)
            .take(3 * WAYS)
            .collect();
        assert_eq!(rivals.len(), 3 * WAYS);
        let seen: u64 = std::thread::scope(|scope| {
            let work = |thread: usize| {
                let (stations, rivals) = (&stations, &rivals);
                move || {
                    let mut seen = 0;
                    for turn in 0..100_000 {
                        let ip = rivals[(turn * 7 + thread * 5) % rivals.len()];
                        let found = stations.find(PORT, ip).or_else(|| stations.claim(PORT, ip));
                        let Some(found) = found else { continue };
                        if let (Some(mac), _) = found.resolve(at(0)) {
                            assert_eq!(mac, mac_of(ip));
                            seen += 1;
                        }
                        found.learn(at(0), mac_of(ip), turn % 2 == 0);
                    }
                    seen
                }
            };
            let threads: Vec<_> = (0..4).map(|thread| scope.spawn(work(thread))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert!(seen > 100, "{seen}");
    }
}
