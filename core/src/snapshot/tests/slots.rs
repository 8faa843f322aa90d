//! The slots of counters, which follow the names of services.

use super::*;
use crate::net::MAX_SERVICES;

#[test]
fn a_reload_keeps_the_slots_of_names() {
    let before = snapshot(&GOOD);
    let slots = |snapshot: &Snapshot| -> Vec<_> {
        snapshot.relays().map(|relay| (relay.name.clone(), relay.slot.0)).collect()
    };
    assert_eq!(slots(&before), [("web".into(), 0), ("mail".into(), 1), ("raw".into(), 2)]);
    // "new" replaces "web" in the file.
    let after = build(&with("\"web\"", "\"new\""), &keys(), &tenants(), Some(&before));
    assert_eq!(slots(&after), [("new".into(), 3), ("mail".into(), 1), ("raw".into(), 2)]);
    let again = Snapshot::build(&good(), &keys(), &tenants(), Some(&after)).unwrap();
    assert_eq!(slots(&again), [("web".into(), 0), ("mail".into(), 1), ("raw".into(), 2)]);
}

#[test]
fn slots_differ_when_all_are_in_use() {
    let text = |name: &str, kept: usize| {
        let head = GOOD.split("[[relay]]").next().unwrap();
        let relays =
            (0..MAX_SERVICES).map(|i| relay_number(if i < kept { "kept" } else { name }, i));
        relays.fold(head.to_owned(), |text, relay| text + &relay)
    };
    let before = snapshot(&text("old", 100));
    let after = build(&text("new", 100), &keys(), &tenants(), Some(&before));
    let mut slots: Vec<_> = after.services().iter().map(|service| service.slot().0).collect();
    assert_eq!(
        slots[..100],
        before.services().iter().map(|s| s.slot().0).collect::<Vec<_>>()[..100]
    );
    slots.sort_unstable();
    slots.dedup();
    assert_eq!(slots.len(), MAX_SERVICES);
}

#[test]
fn relays_and_tunnels_keep_their_slots() {
    let before = snapshot(&tunnelling());
    let slots = |snapshot: &Snapshot| -> Vec<_> {
        snapshot.services().iter().map(|of| (of.name().to_owned(), of.slot().0)).collect()
    };
    let want = [("web", 0), ("mail", 1), ("raw", 2), ("tun", 3), ("second", 4)];
    assert_eq!(slots(&before), want.map(|(name, slot)| (name.to_owned(), slot)));
    let changed = tunnelling().replace("\"mail\"", "\"post\"").replace("\"tun\"", "\"nut\"");
    let after = build(&changed, &keys(), &tenants(), Some(&before));
    let want = [("web", 0), ("post", 5), ("raw", 2), ("nut", 6), ("second", 4)];
    assert_eq!(slots(&after), want.map(|(name, slot)| (name.to_owned(), slot)));
}
