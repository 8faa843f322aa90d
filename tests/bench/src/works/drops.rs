//! What a packet costs that the relay drops, beside one that it forwards: the worker's CPU time,
//! all of it, with receiving.
//!
//! A run is void unless each frame was dropped for the reason that it was made for, or forwarded.
//! SYNs within the limits are forwarded, and a few random tags are of some client: these are taken
//! out of the time at what a forwarded packet costs in the same round.

use std::path::Path;

use anyhow::{Context, ensure};
use anyrelay_kit::frames::{ACK, Segment, fragments, timestamps};
use serde_json::{Map, Value, json};

use crate::flood;
use crate::packets::{Arguments, Setting};
use crate::relay::{self, Observed};
use crate::stats::{Spread, rounded};
use crate::tunnel::capture;
use crate::tunnel::flood::one;

/// Frames that are dropped.
pub struct Case {
    /// Its name.
    pub key: &'static str,
    /// Makes each of them.
    pub frame: fn(u32) -> Vec<u8>,
    reason: &'static str,
}

/// All kinds.
pub const CASES: [Case; 4] = [
    Case { key: "fragments", frame: fragment, reason: "fragment" },
    Case { key: "unknown_port", frame: to_unknown_port, reason: "unserved_port" },
    Case { key: "syn_flood", frame: |number| flood::syn(one(number)), reason: "rate_syn_prefix" },
    Case { key: "random_tags", frame: flood::made_up_tag, reason: "bad_tag" },
];

/// Makes all rounds; gives the result as JSON.
///
/// # Errors
/// When something does not run, or a run is void.
pub fn measure(arguments: &Arguments, folder: &Path, rounds: u32) -> anyhow::Result<Value> {
    let valid = arguments.capture("min_512", "in");
    let made = CASES.map(|case| folder.join(format!("{}.pcap", case.key)));
    for (case, path) in CASES.iter().zip(&made) {
        capture::write(path, (0..PACKETS).map(case.frame))?;
    }
    let base = arguments.setting(&valid, folder)?;
    let mut forwarded = Vec::new();
    let mut dropped = CASES.map(|_| Vec::new());
    for number in 1..=rounds {
        let ns = 1e3 / relay::run(&base).context("drops: forwarded")?.mpps;
        let mut line = format!("drops round {number}: forwarded {ns:.1}");
        forwarded.push(ns);
        for ((case, path), dropped) in CASES.iter().zip(&made).zip(&mut dropped) {
            let observed = relay::observe(&Setting { input: path, ..base }).context(case.key)?;
            let cost = cost(case, &observed, ns).context(case.key)?;
            line += &format!(", {} {cost:.1}", case.key);
            dropped.push(cost);
        }
        eprintln!("{line} ns per packet");
    }
    let mut result = Map::new();
    let of_forwarded = Spread::of(forwarded.iter().copied()).median;
    println!("ns of CPU time per packet: forwarded {of_forwarded:.1}");
    result.insert("packets_in_file".to_owned(), PACKETS.into());
    result.insert("forwarded_ns".to_owned(), rounded(of_forwarded).into());
    for (case, dropped) in CASES.iter().zip(&dropped) {
        let ns = Spread::of(dropped.iter().copied()).median;
        let ratio = Spread::of(dropped.iter().zip(&forwarded).map(|(drop, sent)| drop / sent));
        let Spread { min, median, max, .. } = ratio;
        println!(
            "  {:<13} {ns:>6.1}  dropped / forwarded {median:.3} ({min:.3}, {max:.3}), \
             rounds agree within 5%: {}",
            case.key,
            ratio.agreement()
        );
        let mut of_case = Map::new();
        of_case.insert("ns".to_owned(), rounded(ns).into());
        of_case.insert("reason".to_owned(), case.reason.into());
        of_case.insert("agrees".to_owned(), ratio.agrees().into());
        ratio.add_to(&mut of_case, "ratio_forwarded");
        result.insert(case.key.to_owned(), of_case.into());
    }
    Ok(json!(result))
}

/// Nanoseconds of CPU time per dropped packet.
fn cost(case: &Case, observed: &Observed, forwarded_ns: f64) -> anyhow::Result<f64> {
    let frames = observed.grown("anyrelay_port_packets_total{direction=\"rx\",port=\"in\"");
    let dropped = observed.grown("anyrelay_drops_total{");
    let reason = format!("anyrelay_drops_total{{port=\"in\",reason=\"{}\"", case.reason);
    let expected = observed.grown(&reason);
    ensure!(expected > 0.0, "void: nothing was dropped as {}", case.reason);
    ensure!(dropped == expected, "void: {} frames dropped otherwise", dropped - expected);
    let totals = observed.totals;
    ensure!(
        totals.forwarded + totals.dropped == totals.received && totals.sent == totals.forwarded,
        "void: {totals:?}: some frames were neither forwarded nor dropped"
    );
    // The pages are not of one instant: it may be a burst more or less.
    let passed = (frames - dropped).max(0.0);
    ensure!(passed <= frames * PASSED_MAX, "void: {passed} of {frames} frames were forwarded");
    Ok((observed.cpu_ns as f64 - passed * forwarded_ns) / dropped)
}

/// The first part of a client's segment, or the rest.
fn fragment(number: u32) -> Vec<u8> {
    let options = timestamps(1, 2);
    let whole = Segment { ack: 2, options, data: vec![7; 32], ..client(number, flood::vip()) };
    let mut parts = fragments(&whole.from_host(), &[32], 0);
    capture::framed_in(&parts.swap_remove(number as usize % 2))
}

/// A client's segment to a port of the VIP where nothing is served.
fn to_unknown_port(number: u32) -> Vec<u8> {
    let mut vip = flood::vip();
    vip.set_port(9);
    capture::frame(Segment { ack: 2, options: timestamps(1, 2), ..client(number, vip) })
}

fn client(number: u32, to: std::net::SocketAddr) -> Segment {
    Segment::new(one(number), to, ACK)
}

/// Frames of each capture.
pub const PACKETS: u32 = 512;
/// The share of frames that may be forwarded.
const PASSED_MAX: f64 = 0.05;
