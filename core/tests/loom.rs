//! The files of core that have atomics of their own, under every order of their loads and stores
//! that the memory model allows (`loom`).
//!
//! They name atomics by the module above them, which here is this program with loom's; nothing of
//! core is built in another way for it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use anyrelay_core::{link, time, wire};
use loom::sync::Arc;
use loom::sync::atomic;
use loom::thread;

#[path = "../src/link/neighbour/slot.rs"]
#[allow(dead_code)]
mod slot;
#[path = "../src/relay/memo/slots.rs"]
#[allow(dead_code)]
mod slots;

use slot::{HostKey, HostSlot, Neighbour, Told};
use slots::Slots;
use time::Instant;
use wire::MacAddr;

/// Keys, and the words that are kept under each.
const KEYS: [u64; 3] = [1 << 63 | 5, 1 << 63 | 6, 1 << 63 | 7];
const NUMBERS: [[u64; 2]; 3] = [[55, 5], [66, 6], [77, 7]];
const LATE_MS: u64 = 2000;
const EXPIRES_MS: u64 = 1000;

/// Runs `work` in every order that takes a processor away from a thread in its midst so many times
/// at most: mistakes need no more, and it takes seconds.
fn model(work: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(work);
}

/// Does `work` with what is shared on a thread of its own.
fn beside<S: 'static, T: 'static>(
    shared: &Arc<S>,
    work: impl FnOnce(&S) -> T + 'static,
) -> thread::JoinHandle<T> {
    let shared = Arc::clone(shared);
    thread::spawn(move || work(&shared))
}

/// A table of one slot, which all keys fight for, with the first one's numbers in it.
fn contended() -> Arc<Slots> {
    let slots = Slots::new(1);
    slots.keep(KEYS[0], NUMBERS[0], EXPIRES_MS);
    Arc::new(slots)
}

/// Takes whatever is kept under the key, and checks that it was kept under that one.
fn take(slots: &Slots, key: usize) -> usize {
    let taken = slots.take(KEYS[key], 0, |_| true);
    assert!(taken.is_none_or(|numbers| numbers == NUMBERS[key]), "{taken:?} under the key {key}");
    taken.iter().len()
}

/// The table's account of itself after all, with nobody about it.
fn settle(slots: &Slots) -> usize {
    let left = (0..KEYS.len()).map(|key| take(slots, key)).sum();
    assert!(slots.is_empty(), "what is not there is counted");
    left
}

#[test]
fn no_rst_is_given_for_another_ones() {
    model(|| {
        let slots = contended();
        let keeper = beside(&slots, |slots| slots.keep(KEYS[1], NUMBERS[1], EXPIRES_MS));
        let taker = beside(&slots, |slots| take(slots, 0));
        let taken = take(&slots, 1) + taker.join().unwrap();
        keeper.join().unwrap();
        assert!(taken + settle(&slots) <= 2);
    });
}

#[test]
fn two_that_fight_for_a_slot_leave_one_of_them_whole() {
    model(|| {
        let slots = contended();
        let keeper = beside(&slots, |slots| slots.keep(KEYS[1], NUMBERS[1], EXPIRES_MS));
        slots.keep(KEYS[2], NUMBERS[2], EXPIRES_MS);
        keeper.join().unwrap();
        assert_eq!(settle(&slots), 1);
    });
}

#[test]
fn a_rst_is_given_once() {
    model(|| {
        let slots = contended();
        let takers = [(); 2].map(|()| beside(&slots, |slots| take(slots, 0)));
        let taken: usize = takers.into_iter().map(|taker| taker.join().unwrap()).sum();
        // One of them has it: the other one leaves it alone only while it does.
        assert_eq!((taken, settle(&slots)), (1, 0));
    });
}

#[test]
fn one_that_is_kept_again_is_given_once_as_it_is_now() {
    const NEWER: [u64; 2] = [56, 8];
    model(|| {
        let slots = contended();
        let keeper = beside(&slots, |slots| slots.keep(KEYS[0], NEWER, EXPIRES_MS));
        // A segment that only the older one answers, and one that only the newer one does.
        let taker = beside(&slots, |slots| slots.take(KEYS[0], 0, |numbers| numbers == NUMBERS[0]));
        let newer = slots.take(KEYS[0], 0, |numbers| numbers == NEWER);
        let older = taker.join().unwrap();
        keeper.join().unwrap();
        assert!(older.is_none_or(|numbers| numbers == NUMBERS[0]));
        assert!(newer.is_none_or(|numbers| numbers == NEWER));
        let left = slots.take(KEYS[0], 0, |_| true);
        assert!(left.is_none() || newer.is_none() || left == Some(NUMBERS[0]));
        assert!(slots.is_empty());
    });
}

#[test]
fn what_is_changed_where_it_is_stays_that_of_its_key() {
    const NEWER: [u64; 2] = [56, 8];
    model(|| {
        let slots = contended();
        let keeper = beside(&slots, |slots| slots.keep(KEYS[1], NUMBERS[1], EXPIRES_MS));
        let changer = beside(&slots, |slots| slots.read(KEYS[0], 0, |_| Some(NEWER)));
        let read = slots.read(KEYS[0], 0, |_| None);
        let of_other = slots.read(KEYS[1], 0, |_| None);
        let changed = changer.join().unwrap();
        keeper.join().unwrap();
        assert!(changed.is_none_or(|numbers| numbers == NUMBERS[0]));
        assert!(read.is_none_or(|numbers| numbers == NUMBERS[0] || numbers == NEWER));
        assert!(of_other.is_none_or(|numbers| numbers == NUMBERS[1]));
        let left = slots.take(KEYS[0], 0, |_| true);
        assert!(left.is_none() || left == Some(NEWER) || changed.is_none());
        assert!(left.is_none_or(|numbers| numbers == NUMBERS[0] || numbers == NEWER));
        let other = slots.take(KEYS[1], 0, |_| true);
        assert!(other.is_none_or(|numbers| numbers == NUMBERS[1]));
        assert!(slots.is_empty());
    });
}

#[test]
fn what_is_old_is_thrown_away_once_and_nothing_else() {
    model(|| {
        let slots = contended();
        let sweepers = [(); 2].map(|()| beside(&slots, |slots| slots.expire(EXPIRES_MS + 1)));
        slots.keep(KEYS[1], NUMBERS[1], LATE_MS);
        sweepers.into_iter().for_each(|sweeper| sweeper.join().unwrap());
        assert_eq!(slots.take(KEYS[0], EXPIRES_MS + 1, |_| true), None);
        let kept = slots.take(KEYS[1], EXPIRES_MS + 1, |_| true);
        assert!(kept.is_none_or(|numbers| numbers == NUMBERS[1]));
        assert!(slots.is_empty());
    });
}

const HOSTS: [HostKey; 2] =
    [HostKey { port: 1, high: 2, low: 3 }, HostKey { port: 1, high: 2, low: 4 }];
const NOW: Instant = Instant::from_millis(1_000_000);

fn mac_of(host: usize) -> MacAddr {
    MacAddr::from_u64(0x0200_0000_0001 + host as u64)
}

/// Resolves a host, which finds its own address or none; then the slot learns its address.
fn ask_and_tell(slot: &HostSlot, host: usize) {
    let Some(found) = slot.holding(HOSTS[host]) else { return };
    let (known, _) = found.resolve(NOW);
    assert!(known.is_none_or(|mac| mac == mac_of(host)), "{host} has {known:?}");
    found.learn(NOW, mac_of(host), Told::ANSWER);
}

/// A slot with the first host and its address.
fn inhabited() -> Arc<HostSlot> {
    let slot = HostSlot::default();
    slot.claim(HOSTS[0]).unwrap().learn(NOW, mac_of(0), Told::ANSWER);
    Arc::new(slot)
}

#[test]
fn no_host_gets_the_address_of_another_while_a_slot_is_reused() {
    model(|| {
        let slot = inhabited();
        let giver = beside(&slot, |slot| {
            slot.claim(HOSTS[1]).unwrap();
        });
        let teller = beside(&slot, |slot| ask_and_tell(slot, 0));
        ask_and_tell(&slot, 1);
        giver.join().unwrap();
        teller.join().unwrap();
        ask_and_tell(&slot, 1);
        assert!(slot.holding(HOSTS[0]).is_none());
    });
}

#[test]
fn a_slot_is_given_to_one_at_a_time() {
    model(|| {
        let slot = inhabited();
        let other = beside(&slot, |slot| slot.claim(HOSTS[0]).is_some());
        let claimed = slot.claim(HOSTS[1]).is_some();
        let others = other.join().unwrap();
        assert!(claimed || others);
        let held = HOSTS.map(|host| slot.holding(host).is_some());
        assert_eq!(held.iter().filter(|held| **held).count(), 1, "its key is made of two");
    });
}

/// Whether a query is due.
fn asks(neighbour: &Neighbour) -> bool {
    neighbour.find(NOW, &link::times::ProbeTimes::HOST, true).due
}

#[test]
fn one_query_is_sent_at_a_time() {
    model(|| {
        let neighbour = Arc::new(Neighbour::default());
        let other = beside(&neighbour, asks);
        let asks = [asks(&neighbour), other.join().unwrap()];
        assert_eq!(asks.iter().filter(|asks| **asks).count(), 1);
    });
}
