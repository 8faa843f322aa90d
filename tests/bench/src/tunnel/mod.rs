//! Measures what a POP spends on a datagram of a tunnel, and on an open packet up and down, beside
//! a segment of a relay: the same POP with both services, the same ports and number of frames, in
//! turn; and testpmd on the datagrams. And what a flood of SYNs does.

pub mod capture;
pub mod flood;

use std::path::Path;

use anyhow::Context;
use anyrelay_core::net::Family;
use anyrelay_kit::config::{self, PopConfig, Table};
use anyrelay_kit::tunnel::{OPEN_PREFIX, VIP4, VIP6};
use serde_json::{Map, Value};

pub use capture::tenants;

use crate::config::Services;
use crate::packets::{Arguments, PACKETS, Setting};
use crate::stats::{Spread, rounded};
use crate::{relay, testpmd};
use capture::{Maker, TICK_MS};

/// A datagram that is measured.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Its name.
    pub key: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Bytes of a body; of an open packet, of what is behind its IPv6 header.
    pub body_bytes: usize,
    /// Beside the smallest segments of a relay, not the largest.
    small: bool,
}

/// A kind of datagrams.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// From an agent to another, both of this family.
    Data(Family),
    /// A packet from an agent to a host outside of the tunnel.
    OpenUp,
    /// A packet from such a host to an agent.
    OpenDown,
}

/// Bodies of 64 bytes, and the largest.
pub const CASES: [Case; 6] = [
    Case { key: "v4_64", kind: Kind::Data(Family::V4), body_bytes: 64, small: true },
    Case { key: "v6_64", kind: Kind::Data(Family::V6), body_bytes: 64, small: true },
    Case { key: "open_up_64", kind: Kind::OpenUp, body_bytes: 64, small: true },
    Case { key: "open_down_64", kind: Kind::OpenDown, body_bytes: 64, small: true },
    Case { key: "v4_max", kind: Kind::Data(Family::V4), body_bytes: 1400 - 84, small: false },
    Case { key: "v6_max", kind: Kind::Data(Family::V6), body_bytes: 1400 - 136, small: false },
];

/// Makes all rounds; gives the result as JSON.
///
/// # Errors
/// When the POP does not run, or drops what it must not.
pub fn measure(arguments: &Arguments, folder: &Path, rounds: u32) -> anyhow::Result<Value> {
    let made = folder.join("tunnel.pcap");
    let relays = ["min_65536", "1514_65536"].map(|name| arguments.capture(name, "in"));
    let base = arguments.setting(&made, folder)?;
    let setting = |input| Setting { input, services: Services::PoolAndTunnel, ..base };
    let mut result = Map::new();
    println!("millions of packets per CPU-second of the forwarding thread, medians");
    println!(
        "{:<13} {:>8} {:>8} {:>8}  tunnel / relay (min, max)  / 5tswap (min, max)",
        "", "tunnel", "relay", "5tswap"
    );
    for case in CASES {
        let Case { key, body_bytes, small, .. } = case;
        let input = &relays[usize::from(!small)];
        let (mut of_tunnel, mut of_relay, mut of_testpmd) = (Vec::new(), Vec::new(), Vec::new());
        for number in 1..=rounds {
            let maker = Maker::new()?;
            let frames: anyhow::Result<Vec<_>> =
                (0..PACKETS).map(|number| maker.datagram(&case, number)).collect();
            capture::write(&made, frames?.into_iter())?;
            let tunnel = relay::run(&setting(&made)).context(key)?.mpps;
            let relay = relay::run(&setting(input)).context("relay")?.mpps;
            let testpmd = testpmd::run(&setting(&made), "5tswap").context("5tswap")?;
            eprintln!(
                "{key} round {number}: tunnel {tunnel:.2}, relay {relay:.2}, 5tswap {testpmd:.2}"
            );
            of_tunnel.push(tunnel);
            of_relay.push(relay);
            of_testpmd.push(testpmd);
        }
        let median = |values: &[f64]| Spread::of(values.iter().copied()).median;
        let to =
            |others: &[f64]| Spread::of(of_tunnel.iter().zip(others).map(|(own, it)| own / it));
        let (tunnel, relay, testpmd) = (median(&of_tunnel), median(&of_relay), median(&of_testpmd));
        let (ratio, ratio_5tswap) = (to(&of_relay), to(&of_testpmd));
        let say = |it: &Spread| format!("{:.3} ({:.3}, {:.3})", it.median, it.min, it.max);
        println!(
            "{key:<13} {tunnel:>8.2} {relay:>8.2} {testpmd:>8.2}  {:<25}  {}",
            say(&ratio),
            say(&ratio_5tswap)
        );
        let mut figures = Map::new();
        figures.insert("body_bytes".to_owned(), body_bytes.into());
        for (name, mpps) in [("", tunnel), ("relay_", relay), ("5tswap_", testpmd)] {
            figures.insert(format!("{name}mpps_per_cpu_s"), rounded(mpps).into());
        }
        ratio.add_to(&mut figures, "ratio");
        ratio_5tswap.add_to(&mut figures, "ratio_5tswap");
        result.insert(key.to_owned(), figures.into());
    }
    let flood = flood::measure(&setting(&made), &made)?;
    result.insert("syn_flood".to_owned(), flood);
    Ok(result.into())
}

/// The tunnel service, in the config, whose limits it leaves far behind.
pub fn in_config(config: PopConfig) -> PopConfig {
    let open = Table::default().with("prefix", OPEN_PREFIX).with("to", ["2000::/3"]);
    let open = open.with("icmp_source", "2001:db8::1");
    let table = config::tunnel("tun", &[VIP4, VIP6]).with("tick_ms", TICK_MS).with("open", &open);
    config.limit("open_per_service_per_second", 1_000_000_000).tunnel(table)
}
