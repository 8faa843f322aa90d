//! What each target of each service got and answered, and what POPs must agree on.

use std::sync::atomic::Ordering;

use anyrelay_core::counters::TargetCounters;
use anyrelay_core::net::IpEndpoint;
use anyrelay_core::relay::Relay;
use anyrelay_core::relay::targets::TargetSlot;
use anyrelay_core::snapshot::Snapshot;

use super::Telemetry;
use super::collector::Page;
use super::families::*;
use crate::worker::unix_now;

/// Adds the counts of all targets, of all workers together, to the page.
pub(super) fn add(page: &mut Page, snapshot: &Snapshot, telemetry: &Telemetry) {
    let now = unix_now(snapshot.config.pop.clock_offset_ms);
    for (relay, config) in snapshot.relays().zip(&snapshot.config.relays) {
        for (target, slot) in relay.targets.with_slots() {
            target_counts(page, telemetry, relay, target, slot);
            let mut entries = config.targets.entries.iter();
            let is_open = entries
                .any(|entry| IpEndpoint::from(entry.address) == *target && entry.takes_new(now));
            let labels = [relay.name.as_str(), &target.to_string()];
            page.count(&TARGET_OPEN, &labels, is_open.into());
        }
        page.count(&TARGETS_SERIAL, &[&relay.name], config.targets.serial);
    }
    page.count(&TARGETS_INFO, &[snapshot.targets_digest()], 1);
    page.count(&TARGETS_IN_FORCE, &[&snapshot.targets_in_force(now)], 1);
    page.count(&TARGETS_LATE, &[], telemetry.late_targets.load(Ordering::Relaxed));
}

fn target_counts(
    page: &mut Page,
    telemetry: &Telemetry,
    relay: &Relay,
    target: &IpEndpoint,
    slot: TargetSlot,
) {
    let sum = |of: &dyn Fn(&TargetCounters) -> u64| -> u64 {
        let workers = telemetry.counters.iter();
        workers.map(|counters| of(counters.service(relay.slot).target(slot.0))).sum()
    };
    let target = target.to_string();
    let labels = [relay.name.as_str(), target.as_str()];
    page.count(&TARGET_SYNS, &labels, sum(&|counts| counts.syns.get()));
    page.count(&TARGET_COPIES, &labels, sum(&|counts| counts.copies.get()));
    page.count(&TARGET_REFUSALS, &labels, sum(&|counts| counts.refusals.get()));
    page.count(&TARGET_OWNERS, &labels, sum(&|counts| counts.owners.get()));
    let [service, target] = labels;
    let (up, down) = ([service, target, "up"], [service, target, "down"]);
    page.count(&TARGET_PACKETS, &up, sum(&|counts| counts.up.packets.get()));
    page.count(&TARGET_PACKETS, &down, sum(&|counts| counts.down.packets.get()));
    page.count(&TARGET_BYTES, &up, sum(&|counts| counts.up.bytes.get()));
    page.count(&TARGET_BYTES, &down, sum(&|counts| counts.down.bytes.get()));
}
