//! Hardware addresses of neighbours: soft state that is shared by the workers, without a lock.

mod atomic;
mod slot;

pub(super) use slot::Neighbour;
use slot::{HostEntry, HostKey, HostSlot};

use super::times::HOSTS_MAX;
use crate::net::{Address, PortIndex};

/// The hosts on the links by port and address: a bounded table. When a set is full, the host that
/// was silent for longest is evicted.
#[derive(Debug)]
pub(super) struct Hosts {
    slots: Box<[HostSlot]>,
}

impl HostKey {
    #[inline]
    fn new<A: Address>(port: PortIndex, ip: A) -> HostKey {
        let number = ip.number();
        HostKey { port: u64::from(port.0) + 1, high: (number >> 64) as u64, low: number as u64 }
    }
}

impl Hosts {
    /// An empty table of [`HOSTS_MAX`] slots.
    pub fn new() -> Self {
        Hosts { slots: (0..HOSTS_MAX).map(|_| HostSlot::default()).collect() }
    }

    /// The host, if the POP queried it.
    #[inline]
    pub fn find<A: Address>(&self, port: PortIndex, ip: A) -> Option<HostEntry<'_>> {
        let key = HostKey::new(port, ip);
        self.ways(key).iter().find_map(|slot| slot.holding(key))
    }

    /// Evicts a host for this one; `None` when another worker is changing the same slot.
    pub fn claim<A: Address>(&self, port: PortIndex, ip: A) -> Option<HostEntry<'_>> {
        let key = HostKey::new(port, ip);
        self.ways(key).iter().min_by_key(|slot| slot.rank())?.claim(key)
    }

    /// The slots of the set that a host may be in.
    #[inline]
    fn ways(&self, key: HostKey) -> &[HostSlot] {
        let number = key.low ^ key.high.rotate_left(32) ^ key.port << 48;
        let hash = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        let start = hash as usize % (HOSTS_MAX / WAYS) * WAYS;
        self.slots.get(start..start + WAYS).unwrap_or_default()
    }
}

/// Slots in a set (associativity).
const WAYS: usize = 8;

const _: () = assert!(HOSTS_MAX.is_multiple_of(WAYS));

#[cfg(test)]
mod tests {
    use super::super::times::{EXPIRE_MS, REFRESH_MS};
    use super::*;
    use crate::time::Instant;
    use crate::wire::MacAddr;

    const PORT: PortIndex = PortIndex(3);

    /// A hardware address that only this host has.
    fn mac_of(ip: u128) -> MacAddr {
        MacAddr::from_u64(0x02 << 40 | (ip >> 64 ^ ip) as u64 & 0xffff_ffff)
    }

    fn at(ms: u64) -> Instant {
        Instant::from_millis(1_000_000 + ms)
    }

    #[test]
    fn a_host_is_found_by_all_of_its_key() {
        let hosts = Hosts::new();
        let ip = 0x2001_0db8_u128 << 96 | 7;
        hosts.claim(PORT, ip).unwrap().learn(at(0), mac_of(ip), true);
        assert_eq!(hosts.find(PORT, ip).unwrap().resolve(at(1)), (Some(mac_of(ip)), false));
        assert!(hosts.find(PortIndex(2), ip).is_none());
        for bit in 0..128 {
            assert!(hosts.find(PORT, ip ^ 1 << bit).is_none(), "{bit}");
        }
    }

    #[test]
    fn an_entry_found_before_its_slot_was_reused_learns_nothing() {
        let hosts = Hosts::new();
        let old = hosts.claim(PORT, 1_u32).unwrap();
        let one = HostKey::new(PORT, 1_u32);
        let slot = hosts.ways(one).iter().find(|slot| slot.holding(one).is_some()).unwrap();
        slot.claim(HostKey::new(PORT, 2_u32)).unwrap();
        old.learn(at(0), mac_of(1), true);
        let held = slot.holding(HostKey::new(PORT, 2_u32)).unwrap();
        assert_eq!(held.resolve(at(0)), (None, true));
        assert!(slot.holding(HostKey::new(PORT, 1_u32)).is_none());
    }

    #[test]
    fn an_address_in_use_is_replaced_only_by_an_answer_that_says_so() {
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

    /// Threads that contend for one set of slots never see another host's hardware address.
    #[test]
    fn no_host_gets_the_address_of_another() {
        let hosts = Hosts::new();
        let first = HostKey::new(PORT, 0_u128);
        // More hosts than slots, all in the same set.
        let home = hosts.ways(first).as_ptr();
        let rivals: Vec<u128> = (0..1 << 20)
            .map(|number| (number << 64) | (number * 7919))
            .filter(|ip| hosts.ways(HostKey::new(PORT, *ip)).as_ptr() == home)
            .take(3 * WAYS)
            .collect();
        assert_eq!(rivals.len(), 3 * WAYS);
        let seen: u64 = std::thread::scope(|scope| {
            let work = |thread: usize| {
                let (hosts, rivals) = (&hosts, &rivals);
                move || {
                    let mut seen = 0;
                    for turn in 0..100_000 {
                        let ip = rivals[(turn * 7 + thread * 5) % rivals.len()];
                        let found = hosts.find(PORT, ip).or_else(|| hosts.claim(PORT, ip));
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
