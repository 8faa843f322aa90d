//! Hardware addresses of neighbours: soft state that is shared by the workers, without a lock.

mod slot;

use std::sync::atomic;

pub(super) use slot::Neighbour;
use slot::{Found, Key, Slot};

use super::{ASK_INTERVAL_MS, EXPIRE_MS, HOSTS_MAX, REFRESH_MS};
use crate::net::Address;
use crate::net::PortIndex;

/// Stations on the links, found by port and address; a bounded table. When it is full, the station
/// that was silent for longest makes room.
#[derive(Debug)]
pub(super) struct Stations {
    slots: Box<[Slot]>,
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
        self.ways(key).iter().min_by_key(|slot| slot.rank())?.claim(key)
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

/// Slots that an on-link station may be in.
const WAYS: usize = 8;

const _: () = assert!(HOSTS_MAX.is_multiple_of(WAYS));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Instant;
    use crate::wire::MacAddr;

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
        let one = Key::new(PORT, 1_u32);
        let slot = stations.ways(one).iter().find(|slot| slot.holding(one).is_some()).unwrap();
        slot.claim(Key::new(PORT, 2_u32)).unwrap();
        old.learn(at(0), mac_of(1), true);
        let held = slot.holding(Key::new(PORT, 2_u32)).unwrap();
        assert_eq!(held.resolve(at(0)), (None, true));
        assert!(slot.holding(Key::new(PORT, 1_u32)).is_none());
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
