//! Targets that change while connections live.

use std::net::{IpAddr, SocketAddr};
use std::thread::JoinHandle;
use std::time::Duration;

use anyrelay_core::config::{Target, TargetList};
use anyrelay_core::time::UnixTime;
use anyrelay_lab::config::TARGET_PORT;
use anyrelay_lab::fleet::{End, Kind, Life};
use anyrelay_lab::targets::{Choice, TargetsFile, unix_now};
use anyrelay_lab::{Egress, Lab, Result, Service, topology};

use super::{metric, milliseconds};

/// How long old targets are asked: longer than any test.
const MEMORY_MS: u64 = 600_000;
/// As in the default: clocks of POPs may be so far apart.
pub const SKEW_MS: u64 = 3000;
/// Where clocks are alike, so that changes come soon.
pub const SMALL_SKEW_MS: u64 = 200;

/// The address of the target with this number, 0 to 7, where `egress` leads.
pub fn address(egress: Egress, n: u8) -> SocketAddr {
    let ip = match egress {
        Egress::Prefix | Egress::Pool6(_) => {
            let mut octets = topology::TARGET6.octets();
            octets[15] += n;
            IpAddr::from(octets)
        }
        Egress::Pool | Egress::Transparent | Egress::Tunnel(..) => {
            let mut octets = topology::TARGET.octets();
            octets[3] += n;
            IpAddr::from(octets)
        }
    };
    SocketAddr::new(ip, TARGET_PORT)
}

/// A service with this egress; its targets are in a file.
pub fn service(egress: Egress) -> Service {
    match egress {
        Egress::Prefix => Service::prefix(),
        Egress::Pool | Egress::Transparent | Egress::Tunnel(..) => {
            Service { egress, ..Service::default() }
        }
        Egress::Pool6(prefix_len) => Service::pool6_of(prefix_len),
    }
}

/// Targets without dates.
pub fn list(skew_ms: u64, targets: &[SocketAddr]) -> TargetList {
    let entries = targets.iter().map(|address| Target::always(*address, 1)).collect();
    TargetList { serial: 1, memory_ms: MEMORY_MS, skew_ms, entries }
}

/// Has `anyrelay targets` change the list, at a date that the last POP has read it by; the date.
pub fn change(file: &TargetsFile, arguments: &[&str]) -> UnixTime {
    change_at(file, arguments, None)
}

fn change_at(file: &TargetsFile, arguments: &[&str], at: Option<UnixTime>) -> UnixTime {
    let before = file.read().unwrap().events();
    let at = at.map(anyrelay_core::time::format_time);
    // A POP looks once a second.
    let when = match &at {
        Some(at) => ["--at", at],
        None => ["--lead", "1500ms"],
    };
    file.change(&[arguments, &when, &["--json"]].concat()).unwrap();
    let after = file.read().unwrap().events();
    let new = after.iter().find(|event| !before.contains(event)).copied();
    new.or(after.last().copied()).unwrap()
}

/// All clients move from one target to another one; returns at the date.
pub fn replace(lab: &Lab, from: SocketAddr, to: SocketAddr) {
    let file = lab.targets_file();
    let date = change(&file, &["add", &to.to_string()]);
    change_at(&file, &["drain", &from.to_string()], Some(date));
    wait_until(date);
}

/// Sleeps until it is that late, and a moment longer.
pub fn wait_until(date: UnixTime) {
    let left = date.as_millis().saturating_sub(unix_now().as_millis());
    std::thread::sleep(milliseconds(left + 50));
}

/// Asserts that no POP took a list late, or refused one.
pub fn assert_in_time(lab: &Lab) {
    for pop in &lab.pops {
        let log = pop.log();
        assert!(log.contains("targets reloaded"), "{log}");
        assert!(!log.contains("late;") && !log.contains("refused"), "{log}");
    }
}

/// What became of a fleet.
#[derive(Debug, Clone, Copy)]
pub struct Tally {
    pub lives: usize,
    pub moved: usize,
    pub longest_stall: Duration,
}

/// Waits for all connections of a fleet.
pub fn join(sailing: Vec<JoinHandle<Result<Vec<Life>>>>) -> Vec<Life> {
    sailing.into_iter().flat_map(|worker| worker.join().unwrap().unwrap()).collect()
}

/// Waits for all connections of a fleet, and asserts that each one came to its end with the right
/// bytes, at the target that was its client's when it began, give or take the clocks of POPs.
pub fn all_whole(lab: &Lab, sailing: Vec<JoinHandle<Result<Vec<Life>>>>, skew_ms: u64) -> Tally {
    let lives = join(sailing);
    let choice = Choice::of(&lab.pops[0].config).unwrap();
    let dates = lab.targets_file().read().unwrap().events();
    let mut tally = Tally { lives: lives.len(), moved: 0, longest_stall: Duration::ZERO };
    let mut wrong = Vec::new();
    for life in &lives {
        let has_moved = life.has_moved(&choice, &dates);
        tally.moved += usize::from(has_moved);
        tally.longest_stall = tally.longest_stall.max(life.longest_stall);
        if life.end != End::Whole {
            wrong.push(format!("moved: {has_moved}, {life:?}"));
            continue;
        }
        let client = life.client.unwrap();
        // A SYN that is lost is sent again 1 s later, and 2 s after that.
        let around = [life.began.minus_millis(skew_ms), life.began.plus_millis(skew_ms + 3000)];
        let times = dates.iter().filter(|date| (around[0]..around[1]).contains(*date));
        let mut times = times.copied().chain(around);
        assert!(times.any(|time| choice.target(client, time) == life.target), "{life:?}");
    }
    let of_kind = |kind| lives.iter().filter(|life| life.kind == kind).count();
    println!("{tally:?}; of each kind: {:?}", Kind::ALL.map(of_kind));
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), lives.len(), wrong.join("\n"));
    tally
}

/// How many copies of clients' segments went to targets beside the first.
pub fn copies(lab: &Lab) -> f64 {
    metric(lab, "anyrelay_service_copies_total", &[])
}
