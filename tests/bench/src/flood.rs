//! Floods at a relay: of SYNs at its VIP, and of segments with made-up tags at its egress
//! addresses, with segments of established connections among them.
//!
//! What must hold: every segment of an established connection goes on, no more SYNs than the limits
//! let through, nothing else is dropped than what floods, and the POP's memory does not grow. A run
//! is void otherwise.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::ensure;
use anyrelay_kit::frames::{ACK, SYN, Segment, linux_syn_options, timestamps};
use serde_json::{Map, Value, json};

use crate::packets::{Arguments, PACKETS};
use crate::relay::{self, Observed, Page};
use crate::stats::rounded;
use crate::tunnel::capture;
use crate::tunnel::flood::{EACH, GROWTH_MAX, any, one};

/// A flood.
struct Case {
    key: &'static str,
    frame: fn(u32) -> Vec<u8>,
    /// The only reasons that its frames are dropped for.
    reasons: &'static [&'static str],
    /// How many of its frames go on, in a second, at most.
    most_per_s: Option<f64>,
}

const CASES: [Case; 3] = [
    Case {
        key: "one_network",
        frame: |number| syn(one(number)),
        reasons: &["rate_syn_prefix"],
        most_per_s: Some(5000.0),
    },
    Case {
        key: "all_networks",
        frame: |number| syn(any(number)),
        reasons: &["rate_syn_prefix", "rate_syn_service"],
        most_per_s: Some(200_000.0),
    },
    // Of a pool of 2^8 addresses, one made-up tag in 128 is somebody's.
    Case { key: "made_up_tags", frame: made_up_tag, reasons: &["bad_tag"], most_per_s: None },
];

/// Measures each flood.
///
/// # Errors
/// When the POP does not run, or does what it must not.
pub fn measure(arguments: &Arguments, folder: &Path) -> anyhow::Result<Value> {
    let made = folder.join("flood.pcap");
    let setting = arguments.setting(&made, folder)?;
    let mut result = Map::new();
    println!("floods at a relay with one segment of an established connection in {EACH} frames");
    for case in &CASES {
        let frames = (0..PACKETS).map(|number| match number % EACH {
            0 => established(number),
            _ => (case.frame)(number),
        });
        capture::write(&made, frames)?;
        let observed = relay::observe(&setting)?;
        let judged = judge(case, &observed)?;
        println!("{}: {judged}", case.key);
        result.insert(case.key.to_owned(), judged);
    }
    Ok(result.into())
}

fn judge(case: &Case, observed: &Observed) -> anyhow::Result<Value> {
    let seconds = observed.elapsed.as_secs_f64();
    let frames = observed.grown("anyrelay_port_packets_total{direction=\"rx\",port=\"in\"");
    let dropped = observed.grown("anyrelay_drops_total{");
    let expected = |reason: &&str| {
        observed.grown(&format!("anyrelay_drops_total{{port=\"in\",reason=\"{reason}\""))
    };
    let limited: f64 = case.reasons.iter().map(expected).sum();
    ensure!(frames > 0.0 && limited > 0.0, "void: nothing was limited");
    ensure!(dropped == limited, "void: {} frames dropped for other reasons", dropped - limited);
    // What is not dropped went on. Established segments are none of those that may be dropped, so
    // all of them did.
    let totals = observed.totals;
    let gone = totals.forwarded + totals.dropped;
    ensure!(gone == totals.received, "void: {gone} of {} frames accounted for", totals.received);
    let established = frames / f64::from(EACH);
    let flooded = frames - established;
    let passed = frames - dropped - established;
    if let Some(most) = case.most_per_s {
        // The first second's worth of tokens may fall into the window.
        ensure!(
            passed <= most * (seconds + 1.1) + 65.0,
            "void: {passed} SYNs went on in {seconds} s"
        );
    }
    let rss = |page: &Page| page.sum("process_resident_memory_bytes");
    let [before, after] = &observed.pages;
    let (before, after) = (rss(before), rss(after));
    ensure!(after <= before + GROWTH_MAX, "void: memory grew to {after} bytes");
    Ok(json!({
        "frames_per_cpu_s": (frames * 1e9 / observed.cpu_ns as f64).round(),
        "flood_per_s": (flooded / seconds).round(),
        "flood_sent_on_per_s": (passed / seconds).round(),
        "established_per_s": (established / seconds).round(),
        "established_lost": 0,
        "rss_growth_bytes": after - before,
        "rss_mib": rounded(after / f64::from(1 << 20)),
    }))
}

/// A SYN of Linux to the VIP.
pub fn syn(from: SocketAddr) -> Vec<u8> {
    segment(from, vip(), SYN, linux_syn_options(1460, 1, 0))
}

/// A client's, with timestamps; outside of the networks that flood.
fn established(number: u32) -> Vec<u8> {
    let ip = Ipv4Addr::from_bits(0xc613_0000 + number.wrapping_mul(7919) % 65_536);
    let from = (ip, 1024 + (number.wrapping_mul(40503) % 64512) as u16).into();
    segment(from, vip(), ACK, timestamps(1, 2))
}

/// A target's, whose tag is anything.
pub fn made_up_tag(number: u32) -> Vec<u8> {
    let egress = Ipv4Addr::from_bits(0x6440_0800 + number % 256);
    let to = (egress, 1024 + (number.wrapping_mul(40503) % 64512) as u16).into();
    let target = (Ipv4Addr::new(198, 51, 100, 10), 8443).into();
    segment(target, to, ACK, timestamps(1, number.wrapping_mul(0x9e37_79b1) | 1))
}

/// The frame of a segment.
pub fn segment(src: SocketAddr, dst: SocketAddr, flags: u8, options: Vec<u8>) -> Vec<u8> {
    capture::frame(Segment { ack: 2, options, ..Segment::new(src, dst, flags) })
}

/// The relay's.
pub fn vip() -> SocketAddr {
    (Ipv4Addr::new(203, 0, 113, 10), 443).into()
}
