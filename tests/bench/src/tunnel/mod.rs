//! Measures what a POP spends on a datagram of a tunnel, beside a segment of a relay: the same POP
//! with both services, the same ports and number of frames, in turn. And what a flood of SYNs does.

pub mod capture;
pub mod flood;

use std::path::Path;

use anyhow::Context;
use anyrelay_core::net::Family;
use anyrelay_kit::config::{self, Table};
use anyrelay_kit::tunnel::{VIP4, VIP6};
use serde_json::{Map, Value, json};

pub use capture::tenants;

use crate::config::Services;
use crate::packets::{Arguments, PACKETS, Setting};
use crate::relay;
use crate::stats::{Spread, rounded};
use capture::{Maker, TICK_MS};

/// A datagram that is measured.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Its name.
    pub key: &'static str,
    /// The family of the agents.
    pub family: Family,
    /// Bytes of a body.
    pub body_bytes: usize,
    /// Beside the smallest segments of a relay, not the largest.
    small: bool,
}

/// Bodies of 64 bytes, and the largest.
pub const CASES: [Case; 4] = [
    Case { key: "v4_64", family: Family::V4, body_bytes: 64, small: true },
    Case { key: "v6_64", family: Family::V6, body_bytes: 64, small: true },
    Case { key: "v4_max", family: Family::V4, body_bytes: 1400 - 84, small: false },
    Case { key: "v6_max", family: Family::V6, body_bytes: 1400 - 136, small: false },
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
    println!("{:<10} {:>8} {:>8}  tunnel / relay (min, max)", "", "tunnel", "relay");
    for Case { key, family, body_bytes, small } in CASES {
        let input = &relays[usize::from(!small)];
        let (mut of_tunnel, mut of_relay) = (Vec::new(), Vec::new());
        for number in 1..=rounds {
            let maker = Maker::new()?;
            let frames = (0..PACKETS).map(|number| maker.data(family, number, body_bytes));
            capture::write(&made, frames)?;
            let tunnel = relay::run(&setting(&made)).context(key)?.mpps;
            let relay = relay::run(&setting(input)).context("relay")?.mpps;
            eprintln!("{key} round {number}: tunnel {tunnel:.2}, relay {relay:.2}");
            of_tunnel.push(tunnel);
            of_relay.push(relay);
        }
        let spread = |values: &[f64]| Spread::of(values.iter().copied());
        let ratio =
            Spread::of(of_tunnel.iter().zip(&of_relay).map(|(tunnel, relay)| tunnel / relay));
        let (tunnel, relay) = (spread(&of_tunnel).median, spread(&of_relay).median);
        let Spread { min, median, max, .. } = ratio;
        println!("{key:<10} {tunnel:>8.2} {relay:>8.2}  {median:.3} ({min:.3}, {max:.3})");
        let case = json!({
            "body_bytes": body_bytes,
            "mpps_per_cpu_s": rounded(tunnel),
            "relay_mpps_per_cpu_s": rounded(relay),
            "ratio": rounded(median),
            "ratio_min": rounded(min),
            "ratio_max": rounded(max),
        });
        result.insert(key.to_owned(), case);
    }
    let flood = flood::measure(&setting(&made), &made)?;
    result.insert("syn_flood".to_owned(), flood);
    Ok(result.into())
}

/// The tunnel service, in the config.
pub fn table() -> Table {
    config::tunnel("tun", &[VIP4, VIP6]).with("tick_ms", TICK_MS)
}
