//! Two-way traffic through tunnels while the POPs change under it, behind all kinds of boxes:
//! nothing is lost but by full queues or by those boxes, and strict NATs find nothing wrong.

use std::time::Duration;

use crate::common::tunnel::{TAIL, Tap, Tunnels};
use crate::common::{full, milliseconds};
use anyrelay_lab::middlebox::Trouble;
use anyrelay_lab::tunnel::stream::Plan;
use anyrelay_lab::tunnel::{Family, Site, TunnelLab, TunnelLabBuilder};

const FLIP: Duration = Duration::from_millis(200);

fn seconds(shortened: u64, stated: u64) -> Duration {
    Duration::from_secs(if full() { stated } else { shortened })
}

/// POPs whose clocks are one tick apart; short ticks where the run is short, so that there are
/// many.
fn lab(tick_ms: u32) -> TunnelLabBuilder {
    TunnelLab::builder().tick_ms(tick_ms).clock_offsets_ms(&[0, tick_ms.into()])
}

fn tick() -> u32 {
    if full() { 8000 } else { 1000 }
}

/// Datagrams a second each way where the rate is not the point.
fn rate() -> u32 {
    if full() { 5_000 } else { 2_000 }
}

fn sites(first: Site, second: Site) -> Vec<Site> {
    vec![first, second]
}

/// Flows of this many datagrams a second each way, while all routes flip.
fn carries(tunnels: &mut Tunnels, per_second: u32, length: Duration) {
    let flows: Vec<_> = (0..tunnels.connecting.len())
        .map(|connecting| tunnels.flow_of(connecting, Plan::both(per_second)))
        .collect();
    tunnels.lab.flip_for(length, FLIP).unwrap();
    let reports: Vec<_> = flows.into_iter().map(|flow| flow.finish(TAIL)).collect();
    for (up, down) in &reports {
        let least = (length.as_secs_f64() * f64::from(per_second) * 0.8) as u64;
        assert!(up.sent > least && down.sent > least, "{} {} sent", up.sent, down.sent);
    }
    tunnels.assert_arrived(&reports, &[]);
}

#[test]
fn pops_flip_and_nothing_is_lost() {
    let mut tunnels = Tunnels::start(lab(tick()).build().unwrap());
    carries(&mut tunnels, 10_000, seconds(6, 60));
    tunnels.assert_nothing_invalid();
}

#[test]
fn every_packet_to_another_pop() {
    let mut tunnels = Tunnels::start(lab(tick()).pops(3).build().unwrap());
    for agent in 0..2 {
        tunnels.lab.routes.spray(agent, &[0, 1, 2]).unwrap();
    }
    let flow = tunnels.flow(Plan::both(rate()));
    std::thread::sleep(seconds(4, 30));
    tunnels.assert_arrived(&[flow.finish(TAIL)], &[]);
    tunnels.assert_nothing_invalid();
}

#[test]
fn behind_boxes_that_rewrite_initial_sequence_numbers() {
    let inside = Site { inside: Some(Trouble::ISN), ..Site::default() };
    let outside = Site { outside: Some(Trouble::ISN), ..Site::default() };
    let mut tunnels = Tunnels::start(lab(tick()).sites(sites(inside, outside)).build().unwrap());
    carries(&mut tunnels, rate(), seconds(4, 60));
    tunnels.assert_nothing_invalid();
}

#[test]
fn behind_a_synproxy() {
    let proxied = Site { synproxy: true, ..Site::default() };
    let lab = lab(tick()).sites(sites(proxied.clone(), Site::default()));
    let mut tunnels = Tunnels::start(lab.build().unwrap());
    carries(&mut tunnels, rate(), seconds(4, 60));
    tunnels.assert_nothing_invalid();
}

#[test]
fn over_bad_paths() {
    let bad = |seed| Some(Trouble { seed, ..Trouble::BAD_PATH });
    let inside = Site { inside: bad(1), ..Site::default() };
    let outside = Site { outside: bad(2), ..Site::default() };
    let mut tunnels = Tunnels::start(lab(tick()).sites(sites(inside, outside)).build().unwrap());
    carries(&mut tunnels, rate(), seconds(4, 60));
    tunnels.assert_nothing_invalid();
}

#[test]
fn three_senders_to_one_agent() {
    let lab = lab(tick()).sites(vec![Site::default(); 4]);
    let mut tunnels = Tunnels::start(lab.build().unwrap());
    carries(&mut tunnels, if full() { 3_000 } else { 1_500 }, seconds(4, 60));
    tunnels.assert_nothing_invalid();
}

#[test]
fn over_ipv6() {
    let mut tunnels = Tunnels::start(lab(tick()).family(Family::V6).build().unwrap());
    carries(&mut tunnels, rate(), seconds(4, 60));
    tunnels.assert_nothing_invalid();
}

/// Both sides' numbers pass 2^32 during the run: the agent's base is put into its state file, and
/// its port is chosen so that the POPs' numbers for it do.
#[test]
fn across_the_wrap_of_both_sides_numbers() {
    let mut wrap = crate::common::wrap::find(100);
    let lab = lab(wrap.tick_ms).keys(&wrap.keys).build().unwrap();
    let mut tunnels = wrap.start(lab);
    let tap = Tap::open(&tunnels.lab, 1);
    let flow = tunnels.flow(Plan::both(2_000));
    let first = (tap.data_up(milliseconds(100)), tap.data_down(milliseconds(100)));
    tunnels.lab.flip_for(wrap.remaining() + Duration::from_secs(2), FLIP).unwrap();
    let last = (tap.data_up(milliseconds(100)), tap.data_down(milliseconds(100)));
    tunnels.assert_arrived(&[flow.finish(TAIL)], &[]);
    tunnels.assert_nothing_invalid();
    for (name, first, last) in [("up", &first.0, &last.0), ("down", &first.1, &last.1)] {
        let (first, last) = (first[0].seq, last.last().unwrap().seq);
        assert!(first > 0xff00_0000 && last < 0x0100_0000, "{name}: {first:#x} to {last:#x}");
    }
}
