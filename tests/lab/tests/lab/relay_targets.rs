//! Targets that come and go by a targets file, with kernels at both ends: connections that live on
//! while their clients' targets are others, in every egress mode.

use std::time::Duration;

use crate::common::flaps::while_flipping;
use crate::common::refusals::Ways;
use crate::common::targets::{
    SKEW_MS, SMALL_SKEW_MS, address, all_whole, assert_in_time, change, copies, join, list,
    replace, service,
};
use crate::common::{VIP, full, milliseconds};
use anyrelay_core::config::TargetList;
use anyrelay_lab::firewall::Firewall;
use anyrelay_lab::fleet::{End, Fleet, Watch};
use anyrelay_lab::{Egress, Lab, Nginx, Service};

/// Clocks of POPs that are 2 s apart.
const CLOCKS_MS: [i64; 3] = [0, 1000, -1000];

#[test]
fn live_connections_survive_changes_in_pool_mode() {
    survive_changes(Egress::Pool);
}

#[test]
fn live_connections_survive_changes_in_prefix_mode() {
    survive_changes(Egress::Prefix);
}

#[test]
fn live_connections_survive_changes_in_pool_mode_over_ipv6() {
    survive_changes(Service::pool6().egress);
}

#[test]
fn live_connections_survive_changes_in_transparent_mode() {
    survive_changes(Egress::Transparent);
}

/// Targets are added, weighed, drained and added again, each change while those before are within
/// the memory, routes flip all the time, and a POP is killed and restarted.
fn survive_changes(egress: Egress) {
    let at = |n| address(egress, n);
    let mut lab = Lab::builder()
        .service(service(egress))
        .targets(list(SKEW_MS, &[at(0), at(1), at(2)]))
        .clock_offsets_ms(&CLOCKS_MS)
        .build()
        .unwrap();
    let nginx = Nginx::start(&lab.topology.target, lab.work()).unwrap();
    // Each connection lives through three changes.
    let (count, lasts, between) = if full() { (150, 60_000, 20_000) } else { (45, 6000, 2000) };
    let vip = service(egress).vip;
    let fleet = Fleet::new(&lab.topology.client, vip, &nginx, milliseconds(lasts)).unwrap();
    let file = lab.targets_file();
    let changes: [&[&str]; 6] = [
        &["add", &at(3).to_string()],
        &["weight", &at(0).to_string(), "3"],
        &["drain", &at(1).to_string()],
        &["add", &at(1).to_string()],
        &["weight", &at(0).to_string(), "1"],
        &["drain", &at(2).to_string()],
    ];
    let steps = u32::try_from(changes.len()).unwrap();
    // The last change comes into force some 9 s after it is written.
    let length = milliseconds(between) * steps + Duration::from_secs(10);
    let sailing = fleet.sail(count, length, &Watch::nobody()).unwrap();
    let Lab { routes, pops, .. } = &mut lab;
    while_flipping(routes, || {
        for (step, arguments) in changes.into_iter().enumerate() {
            change(&file, arguments);
            if step == 3 {
                pops[1].kill9();
                std::thread::sleep(milliseconds(300));
                pops[1].restart().unwrap();
            }
            std::thread::sleep(milliseconds(between));
        }
        std::thread::sleep(Duration::from_secs(10));
    });
    let tally = all_whole(&lab, sailing, SKEW_MS);
    assert_in_time(&lab);
    assert!(tally.moved * 4 > tally.lives, "many moved: {tally:?}");
}

/// Every client moves to another target while its connection lives. Where the routes meet, or POPs
/// have hints, targets without the connection are soon no longer sent its segments.
#[test]
fn copies_end_where_pops_learn_who_owns_a_connection() {
    let same = Lab::builder().pops(2);
    let hinted = Lab::builder().pops(2).hints();
    let blind = Lab::builder().pops(2);
    for (name, builder, ways, limits) in [
        ("one POP", same, Ways::SAME, 0.0..0.05),
        ("two POPs, hints", hinted, Ways::DIFFERENT, 0.0..0.05),
        ("two POPs, no hints", blind, Ways::DIFFERENT, 0.5..1.01),
    ] {
        let at = |n| address(Egress::Pool, n);
        let list = list(SMALL_SKEW_MS, &[at(0)]);
        let mut lab = builder.service(service(Egress::Pool)).targets(list).build().unwrap();
        ways.take(&mut lab);
        let nginx = Nginx::start(&lab.topology.target, lab.work()).unwrap();
        let lasts = Duration::from_secs(if full() { 60 } else { 10 });
        let mut fleet = Fleet::new(&lab.topology.client, VIP.into(), &nginx, lasts).unwrap();
        // All of them before the change, and none after it.
        fleet.spread = Duration::from_secs(1);
        let sailing = fleet.sail(45, fleet.spread, &Watch::nobody()).unwrap();
        std::thread::sleep(fleet.spread);
        replace(&lab, at(0), at(1));
        let router = Firewall::new(&lab.topology.target_router).unwrap();
        for n in 0..2 {
            let ip = at(n).ip();
            router.count(&format!("to_{n}"), &format!("ip daddr {ip} tcp dport 8080")).unwrap();
        }
        let before = copies(&lab);
        let tally = all_whole(&lab, sailing, SMALL_SKEW_MS);
        let [to_owner, to_other] =
            [0, 1].map(|n| router.packets(&format!("to_{n}")).unwrap() as f64);
        let share = to_other / to_owner;
        println!("{name}: {to_owner} segments, {to_other} to another: {:.2}%", share * 100.0);
        assert_in_time(&lab);
        assert_eq!(tally.moved, tally.lives, "{name}");
        assert!(to_owner > 2000.0, "{name}: {to_owner} segments");
        assert!(limits.contains(&share), "{name}: {share}");
        // The POPs' own count says the same, but for what came between the two readings.
        let counted = copies(&lab) - before;
        assert!((counted - to_other).abs() < 0.1 * to_other + 20.0, "{counted} {to_other}");
    }
}

/// What the tests above would notice: with a short memory, connections that have moved break.
#[test]
fn connections_that_are_older_than_the_memory_break() {
    let at = |n| address(Egress::Pool, n);
    let list = TargetList { memory_ms: 1000, ..list(SMALL_SKEW_MS, &[at(0)]) };
    let lab = Lab::builder().service(service(Egress::Pool)).targets(list).build().unwrap();
    let nginx = Nginx::start(&lab.topology.target, lab.work()).unwrap();
    let lasts = Duration::from_secs(9);
    let mut fleet = Fleet::new(&lab.topology.client, VIP.into(), &nginx, lasts).unwrap();
    fleet.spread = Duration::from_secs(1);
    let sailing = fleet.sail(12, fleet.spread, &Watch::nobody()).unwrap();
    replace(&lab, at(0), at(1));
    let lives = join(sailing);
    assert_eq!(lives.len(), 12);
    assert!(lives.iter().all(|life| matches!(life.end, End::Broken(_))), "{lives:?}");
}
