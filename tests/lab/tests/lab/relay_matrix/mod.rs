//! Every mode through one list of what applications see, row by row: a stock client and a stock
//! server see through POPs what they see when they are joined without ("direct").
//!
//! A row is a function that runs on both, at the same time, and says what its sockets saw. What is
//! seen directly is written down beside it, so that a row cannot pass because both are broken.
//! Routes flip between two POPs all the time; POPs tell each other of refusals. Each mode prints
//! its line of the table in docs/reliability.md.

mod closes;
mod paths;
mod rows;
mod world;

use crate::common::flaps::{while_flipping, while_open_flips};
use crate::common::open::Opened;
use anyrelay_lab::tunnel::TunnelLab;
use anyrelay_lab::{Egress, Encapsulation, Service};
use rows::{ROWS, Row};
use world::{Direct, Paths, ThroughPops, World};

#[test]
fn pool_ipv4() {
    is_as_direct("pool, IPv4", &[Service::default()]);
}

#[test]
fn pool_ipv6() {
    is_as_direct("pool, IPv6", &[Service::pool6()]);
}

#[test]
fn prefix() {
    is_as_direct("prefix", &[Service::prefix()]);
}

#[test]
fn transparent_ipv4() {
    let service = Service { egress: Egress::Transparent, ..Service::default() };
    is_as_direct("transparent, IPv4", &[service]);
}

#[test]
fn transparent_ipv6() {
    is_as_direct("transparent, IPv6", &[Service::transparent6()]);
}

#[test]
fn ipip_through() {
    is_as_direct("`ipip`, `through`", &tunnels(Encapsulation::Ipip, [false, false]));
}

#[test]
fn gue_through() {
    is_as_direct("`gue`, `through`", &tunnels(Encapsulation::Gue, [true, true]));
}

#[test]
fn ipip_direct() {
    let services = tunnels(Encapsulation::Ipip, [true, false]).into_iter().map(Service::direct);
    is_as_direct("`ipip`, `direct`", &services.collect::<Vec<_>>());
}

#[test]
fn gue_direct() {
    let services = tunnels(Encapsulation::Gue, [false, true]).into_iter().map(Service::direct);
    is_as_direct("`gue`, `direct`", &services.collect::<Vec<_>>());
}

/// Between clients and a target of all families, or of these, which say whether each is of IPv6.
fn tunnels(encapsulation: Encapsulation, short: [bool; 2]) -> Vec<Service> {
    let all = [[false, false], [true, false], [false, true], [true, true]];
    let chosen = all.into_iter().filter(|families| crate::common::full() || *families == short);
    chosen.map(|families| Service::tunnel(encapsulation, families)).collect()
}

/// From the host of an agent to a host outside, through the open side of a tunnel.
#[test]
fn open_out() {
    open_is_as_direct("open tunnel, out", false);
}

/// The other way around.
#[test]
fn open_in() {
    open_is_as_direct("open tunnel, in", true);
}

/// Runs all rows with services of one mode.
fn is_as_direct(mode: &str, services: &[Service]) {
    let mut cells = Cells::default();
    for service in services {
        for paths in Paths::ALL {
            let port = service.targets[0].port();
            let direct = Direct::build(service.vip.is_ipv6(), port, paths);
            let mut through = ThroughPops::build(service, paths);
            let net = through.lab.topology.clone();
            let world = through.world(&net);
            while_flipping(&mut through.lab.routes, || cells.fill(paths, &direct.world(), &world));
        }
    }
    cells.judge(mode);
}

/// Runs all rows but those of fragments through an open tunnel, whose segments are never cut.
fn open_is_as_direct(mode: &str, is_inward: bool) {
    let lab = TunnelLab::builder().open().tick_ms(1000).build().unwrap();
    let mut opened = Opened::start(lab);
    let net = opened.lab.topology.clone();
    let world = World::open(&net, opened.address(0), is_inward);
    let direct = Direct::build(true, 8443, Paths::Whole);
    let mut cells = Cells::default();
    while_open_flips(&mut opened.lab.routes, opened.lab.pops.len(), || {
        cells.fill(Paths::Whole, &direct.world(), &world)
    });
    opened.assert_nothing_invalid();
    cells.judge(mode);
}

/// How each row that was run differs from what is seen directly.
#[derive(Default)]
struct Cells([Option<Vec<String>>; ROWS.len()]);

impl Cells {
    /// Runs the rows of such paths.
    fn fill(&mut self, paths: Paths, direct: &World<'_>, through: &World<'_>) {
        let rows = ROWS.iter().zip(&mut self.0).filter(|(row, _)| row.paths == paths);
        for (row, cell) in rows {
            cell.get_or_insert_default().extend(differences(row, direct, through));
        }
    }

    /// Prints a mode's line of the table, and asserts that each cell is as direct.
    fn judge(&self, mode: &str) {
        let line: Vec<String> = self.0.iter().map(|cell| text(cell.as_deref())).collect();
        let names: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
        println!("| mode | {} |", names.join(" | "));
        println!("| {mode} | {} |", line.join(" | "));
        assert!(self.0.iter().flatten().all(Vec::is_empty), "{mode}: not as direct");
    }
}

fn text(differences: Option<&[String]>) -> String {
    match differences {
        None => "-".to_owned(),
        Some([]) => "as direct".to_owned(),
        Some(all) => all.join("; "),
    }
}

/// What is seen through POPs and not directly, or not as it is written down.
fn differences(row: &Row, direct: &World<'_>, through: &World<'_>) -> Vec<String> {
    let start = std::time::Instant::now();
    let [direct, through] = std::thread::scope(|scope| {
        let running = [direct, through].map(|world| scope.spawn(|| (row.run)(world)));
        running.map(|thread| thread.join().unwrap_or_else(|_| vec!["a panic".to_owned()]))
    });
    println!("{}: {:.1?}", row.name, start.elapsed());
    assert_eq!(direct, row.expected, "{}: directly", row.name);
    let pairs = direct.iter().zip(&through);
    let mut all: Vec<String> = pairs
        .filter(|(direct, through)| direct != through)
        .map(|(direct, through)| format!("{through}, not {direct}"))
        .collect();
    if direct.len() != through.len() {
        all.push(format!("{through:?}"));
    }
    all
}
