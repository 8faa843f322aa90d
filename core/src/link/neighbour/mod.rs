//! Hardware addresses of neighbours: soft state that is shared by the workers, without a lock.

mod atomic;
mod slot;

pub use slot::Told;
pub(super) use slot::{Found, Neighbour};
use slot::{HostEntry, HostKey, HostSlot};

use super::times::HOSTS_MAX;
use crate::net::{Address, PortIndex};

/// The hosts on the links by port and address: a bounded table. When a set is full, the host that
/// was silent for longest is evicted. By default a table of no slots, in which no host is found.
#[derive(Debug, Default)]
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
    use super::super::times::{ASK_INTERVAL_MS, EXPIRE_MS, PROBES, ProbeTimes, REFRESH_MS};
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
        hosts.claim(PORT, ip).unwrap().learn(at(0), mac_of(ip), Told::ANSWER);
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
        old.learn(at(0), mac_of(1), Told::ANSWER);
        let held = slot.holding(HostKey::new(PORT, 2_u32)).unwrap();
        assert_eq!(held.resolve(at(0)), (None, true));
        assert!(slot.holding(HostKey::new(PORT, 1_u32)).is_none());
    }

    const OFFER: Told = Told { replaces: false, confirms: true };

    /// The address and whether it answers, without a question.
    fn known(neighbour: &Neighbour, ms: u64) -> (Option<MacAddr>, bool) {
        let found = neighbour.find(at(ms), &ProbeTimes::HOST, false);
        (found.mac, found.answers)
    }

    fn learn(neighbour: &Neighbour, ms: u64, mac: u128, told: Told) -> bool {
        neighbour.learn(at(ms), mac_of(mac), told, &ProbeTimes::HOST)
    }

    /// Whether a question is due.
    fn asks(neighbour: &Neighbour, ms: u64) -> bool {
        neighbour.find(at(ms), &ProbeTimes::HOST, true).due
    }

    #[test]
    fn an_address_in_use_is_replaced_only_by_an_answer_that_says_so() {
        let neighbour = Neighbour::default();
        assert!(learn(&neighbour, 0, 1, OFFER));
        assert!(!learn(&neighbour, REFRESH_MS, 2, OFFER));
        assert_eq!(known(&neighbour, REFRESH_MS), (Some(mac_of(1)), true));
        assert!(asks(&neighbour, REFRESH_MS), "not refreshed");
        assert!(learn(&neighbour, REFRESH_MS, 1, OFFER));
        assert!(!asks(&neighbour, 2 * REFRESH_MS - 1));
        assert!(learn(&neighbour, REFRESH_MS, 2, Told::ANSWER));
        assert_eq!(known(&neighbour, REFRESH_MS), (Some(mac_of(2)), true));
        assert!(learn(&neighbour, REFRESH_MS + EXPIRE_MS, 1, OFFER), "it was not in use");
        assert_eq!(known(&neighbour, REFRESH_MS + EXPIRE_MS), (Some(mac_of(1)), true));
    }

    #[test]
    fn a_silent_neighbours_address_is_replaced_by_any_answer() {
        let neighbour = Neighbour::default();
        learn(&neighbour, 0, 1, Told::ANSWER);
        for probe in 0..PROBES {
            let now = REFRESH_MS + probe * ASK_INTERVAL_MS;
            assert!(!learn(&neighbour, now, 2, OFFER));
            assert!(asks(&neighbour, now) && !asks(&neighbour, now + ASK_INTERVAL_MS - 1));
        }
        let silent = REFRESH_MS + PROBES * ASK_INTERVAL_MS;
        assert_eq!(known(&neighbour, silent - 1), (Some(mac_of(1)), true));
        assert_eq!(known(&neighbour, silent), (Some(mac_of(1)), false));
        assert!(learn(&neighbour, silent, 2, OFFER));
        assert_eq!(known(&neighbour, silent), (Some(mac_of(2)), true));
    }

    #[test]
    fn what_is_announced_is_used_and_old() {
        for start in [0, 1_000_000] {
            let neighbour = Neighbour::default();
            let at = |ms| Instant::from_millis(start + ms);
            let learn =
                |ms, mac, told| neighbour.learn(at(ms), mac_of(mac), told, &ProbeTimes::HOST);
            assert!(learn(0, 1, Told::ANNOUNCEMENT));
            assert!(!learn(1, 1, Told::ANNOUNCEMENT), "nothing new");
            let found = neighbour.find(at(1), &ProbeTimes::HOST, true);
            assert_eq!(found, Found { mac: Some(mac_of(1)), answers: true, due: true });
            let expired = EXPIRE_MS - REFRESH_MS;
            assert!(neighbour.find(at(expired - 1), &ProbeTimes::HOST, false).mac.is_some());
            assert!(neighbour.find(at(expired), &ProbeTimes::HOST, false).mac.is_none());
            assert!(learn(expired, 1, Told::ANSWER));
            assert!(!neighbour.find(at(expired + 1), &ProbeTimes::HOST, true).due);
        }
    }

    #[test]
    fn questions_that_were_not_sent_do_not_count() {
        let neighbour = Neighbour::default();
        neighbour.take_back();
        learn(&neighbour, 0, 1, Told::ANSWER);
        let last = REFRESH_MS + 9 * ASK_INTERVAL_MS;
        for now in (REFRESH_MS..=last).step_by(ASK_INTERVAL_MS as usize) {
            assert!(asks(&neighbour, now));
            neighbour.take_back();
        }
        assert_eq!(known(&neighbour, last + ASK_INTERVAL_MS), (Some(mac_of(1)), true));
    }

    #[test]
    fn very_many_unanswered_questions_do_not_reach_the_time() {
        let neighbour = Neighbour::default();
        for number in 0..1000 {
            let now = number * ASK_INTERVAL_MS;
            assert!(asks(&neighbour, now) && !asks(&neighbour, now + ASK_INTERVAL_MS - 1));
        }
        assert!(!neighbour.has_answered());
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
                        let told = Told { replaces: turn % 2 == 0, confirms: true };
                        found.learn(at(0), mac_of(ip), told);
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
