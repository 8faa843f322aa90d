//! A flood of SYNs at a tunnel's VIP, with datagrams of established tunnels among them.
//!
//! What must hold: every datagram goes on, SYN-ACKs are held to the limit of each network, and the
//! POP's memory does not grow. A run is void otherwise.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::ensure;
use anyrelay_core::net::Family;
use serde_json::{Map, Value, json};

use super::capture::{self, Maker};
use crate::packets::{PACKETS, Setting};
use crate::relay::{self, Observed};
use crate::stats::rounded;

/// Measures floods from all networks and from a single one.
///
/// # Errors
/// When the POP does not run, or does what it must not.
pub fn measure(setting: &Setting<'_>, made: &Path) -> anyhow::Result<Value> {
    let mut result = Map::new();
    println!("floods of SYNs with one datagram in {EACH} frames");
    for (key, sources) in [("all_networks", any as fn(u32) -> SocketAddr), ("one_network", one)] {
        let maker = Maker::new()?;
        let frame = |number| match number % EACH {
            0 => Ok(maker.data(Family::V4, number, 64)),
            _ => maker.syn(sources(number)),
        };
        let frames: anyhow::Result<Vec<_>> = (0..PACKETS).map(frame).collect();
        capture::write(made, frames?.into_iter())?;
        let observed = relay::observe(setting)?;
        let case = judge(&observed)?;
        println!("{key}: {case}");
        result.insert(key.to_owned(), case);
    }
    Ok(result.into())
}

fn judge(observed: &Observed) -> anyhow::Result<Value> {
    let seconds = observed.elapsed.as_secs_f64();
    let [before, after] = &observed.pages;
    let syn_acks = observed.grown("anyrelay_replies_total{kind=\"syn_ack\"");
    let limited = observed.grown("anyrelay_drops_total{port=\"in\",reason=\"rate_syn_ack\"");
    let dropped = observed.grown("anyrelay_drops_total{");
    let datagrams = observed.grown("anyrelay_service_packets_total{direction=\"up\"");
    let frames = observed.grown("anyrelay_port_packets_total{direction=\"rx\",port=\"in\"");
    let rss = |page: &relay::Page| page.sum("process_resident_memory_bytes");
    let (rss_before, rss_after) = (rss(before), rss(after));
    ensure!(
        frames > 0.0 && limited > 0.0,
        "void: nothing was limited: {}",
        observed.totals.dropped
    );
    ensure!(dropped == limited, "void: {} frames dropped for other reasons", dropped - limited);
    // Over the whole run: every frame is a SYN, or a datagram that went on.
    let totals = observed.totals;
    let (expected, went_on) = (totals.received / u64::from(EACH), totals.forwarded / 2);
    ensure!(went_on.abs_diff(expected) <= 64, "void: {went_on} of {expected} datagrams went on");
    ensure!(rss_after <= rss_before + GROWTH_MAX, "void: memory grew to {rss_after} bytes");
    Ok(json!({
        "frames_per_cpu_s": (frames * 1e9 / observed.cpu_ns as f64).round(),
        "syns_per_s": ((frames - datagrams) / seconds).round(),
        "syn_acks_per_s": (syn_acks / seconds).round(),
        "datagrams_per_s": (datagrams / seconds).round(),
        "datagrams_lost": 0,
        "rss_growth_bytes": rss_after - rss_before,
        "rss_mib": rounded(rss_after / f64::from(1 << 20)),
    }))
}

/// Addresses all over the unicast space.
pub fn any(number: u32) -> SocketAddr {
    let first = 20 + number % 60;
    let rest = number.wrapping_mul(0x9e37_79b1) >> 8;
    (Ipv4Addr::from_bits(first << 24 | rest), 1024 + (number % 60_000) as u16).into()
}

/// One /24.
pub fn one(number: u32) -> SocketAddr {
    let ip = Ipv4Addr::new(192, 0, 2, (number % 250) as u8 + 1);
    (ip, 1024 + (number.wrapping_mul(40503) % 64512) as u16).into()
}

/// One datagram in so many frames.
pub const EACH: u32 = 16;
/// What counts as flat: pages that were not touched before.
pub const GROWTH_MAX: f64 = 1_048_576.0;
